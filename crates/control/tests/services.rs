//! Control nodes as their services show them, with real sockets and real members; only the group is made up:
//! one machine that all of them share, led by whichever the test says.
#![allow(missing_docs, reason = "a test")]
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evergate_control::{
    Agreed, Agreement, ChangeError, Keeper, Leadership, Machine, MemberChange, ProposeError, Role, Status,
};
use evergate_domain::cluster::testing::edge;
use evergate_domain::cluster::{ClusterSettings, Command, Lease, Load, Node, Proposal, Ring, View};
use evergate_domain::{NodeName, UnixMillis};
use evergate_member::{Member, MemberSettings, Placement, encode_command, encode_proposal};
use evergate_proto::control::v1 as proto;
use parking_lot::Mutex;
use prost::Message as _;
use proto::admin_client::AdminClient;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tokio_util::sync::CancellationToken;

/// What all control nodes agree on, and who leads.
#[derive(Clone)]
struct Group {
    machine: Arc<Mutex<Agreed>>,
    applied: watch::Sender<u64>,
    leader: watch::Sender<(u64, Option<SocketAddr>)>,
    here: SocketAddr,
}

impl Agreement for Group {
    async fn propose(&self, command: Vec<u8>) -> Result<Vec<u8>, ProposeError> {
        if self.leader.borrow().1.is_none() {
            return Err(ProposeError::NoLeader { why: "there is none".to_owned() });
        }
        let answer = self.machine.lock().apply(&command);
        self.applied.send_modify(|applied| *applied += 1);
        Ok(answer)
    }

    fn look<T>(&self, look: impl FnOnce(&Agreed) -> T) -> T {
        look(&self.machine.lock())
    }

    fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    fn leadership(&self) -> Leadership {
        let (term, leader) = *self.leader.borrow();
        Leadership {
            term,
            is_here: leader == Some(self.here),
            address: leader.map(|leader| leader.to_string()),
        }
    }

    fn status(&self) -> Status {
        let here = u64::from(self.here.port());
        Status {
            id: here,
            role: Role::Follower,
            term: self.leader.borrow().0,
            leader: None,
            last: 0,
            applied: 0,
            snapshot: None,
            silence: None,
            members: Vec::new(),
            stopped: None,
        }
    }

    async fn all_read(&self, _: u32) -> Result<(), ChangeError> {
        Ok(())
    }

    async fn change(&self, change: MemberChange) -> Result<(), ChangeError> {
        if change == MemberChange::Remove(7) {
            return Ok(());
        }
        Err(ChangeError::Refused(format!("{change}: nobody is changed here")))
    }
}

struct Control {
    address: SocketAddr,
    stop: CancellationToken,
    tasks: Vec<JoinHandle<()>>,
}

struct Cluster {
    group: Group,
    controls: Vec<Control>,
}

const SETTINGS: ClusterSettings = ClusterSettings {
    lease_ms: 1_000,
    hysteresis_ms: 1_500,
    drains_at_once: 1,
    drain_share_permille: 500,
    bound_permille: 1_250,
    retry_ms_max: 60_000,
    rebalance_after_ms: 0,
};

impl Cluster {
    async fn start(settings: ClusterSettings) -> Self {
        let group = Group {
            machine: Arc::default(),
            applied: watch::channel(0).0,
            leader: watch::channel((1, None)).0,
            here: SocketAddr::from(([127, 0, 0, 1], 0)),
        };
        let mut controls = Vec::new();
        for number in 0..3 {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let stop = CancellationToken::new();
            let group = Group { here: address, ..group.clone() };
            let node = format!("control-{number}");
            let (keeper, services) = Keeper::new("test".to_owned(), node, group, None, None, stop.clone());
            let serve =
                tonic::transport::Server::builder().add_routes(services.routes).serve_with_incoming_shutdown(
                    TcpListenerStream::new(listener),
                    stop.clone().cancelled_owned(),
                );
            let tasks = vec![tokio::spawn(keeper.run()), tokio::spawn(async move { serve.await.unwrap() })];
            controls.push(Control { address, stop, tasks });
        }
        group.leader.send_replace((1, Some(controls[0].address)));
        let cluster = Self { group, controls };
        cluster.agree(Command::SetSettings(settings)).await;
        cluster
    }

    async fn agree(&self, command: Command) {
        let proposal = Proposal { by: "test".to_owned(), at: UnixMillis::new(0), command };
        let answer = self.group.propose(encode_proposal(&proposal).encode_to_vec()).await.unwrap();
        let answer = proto::Answer::decode(&*answer).unwrap();
        assert_eq!(answer.refusal, None);
    }

    fn settings(&self, node: Node) -> MemberSettings {
        let controls = self.controls.iter().map(|control| control.address.to_string().parse().unwrap());
        MemberSettings { cluster: "test".to_owned(), node, controls: controls.collect(), tls: None }
    }

    fn join(&self, node: Node) -> Member {
        let load = || Load { connections: 7, arrivals_per_second: 0 };
        Member::start(self.settings(node), watch::channel(Arc::default()).0, load)
    }

    fn lead(&self, control: usize) {
        self.group.leader.send_modify(|(term, leader)| {
            (*term, *leader) = (*term + 1, Some(self.controls[control].address));
        });
    }

    async fn stop(&mut self, control: usize) {
        self.controls[control].stop.cancel();
        for task in self.controls[control].tasks.drain(..) {
            task.await.unwrap();
        }
    }
}

/// For what comes by itself, on a machine that others use too.
const PATIENCE: Duration = Duration::from_secs(60);

fn name(text: &str) -> NodeName {
    NodeName::new(text).unwrap()
}

/// Waits until a member's placement is as wanted.
async fn until(member: &Member, what: &str, is: impl Fn(&Placement) -> bool) -> Arc<Placement> {
    let mut placement = member.placement();
    let waiting = placement.wait_for(|placement| is(placement));
    let waited = tokio::time::timeout(PATIENCE, waiting).await;
    let seen = waited.map(|seen| seen.unwrap().clone());
    seen.unwrap_or_else(|_| {
        let view = Arc::clone(&member.placement().borrow().view);
        panic!("never: {what}; the view is at version {} with {} nodes", view.version(), view.nodes().len())
    })
}

fn is_held(view: &View, node: &str) -> Option<bool> {
    view.nodes().get(&name(node)).map(|node| node.lease == Lease::Held)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_killed_leaves_the_ring_and_stays_out_for_a_while() {
    let cluster = Cluster::start(SETTINGS).await;
    let witness = cluster.join(edge("a"));
    let victim = cluster.join(edge("b"));
    // Either may be taken in first.
    let held = |seen: &Placement| ["a", "b"].iter().all(|node| is_held(&seen.view, node) == Some(true));
    let both = until(&witness, "both are there", held).await;
    assert_eq!(both.rings().by_region().values().map(Ring::len).sum::<usize>(), 2);
    until(&witness, "its load is told", |seen| seen.load(&name("b")).connections == 7).await;
    // As by a kill: its streams end, and nothing was said.
    drop(victim);
    let lost = until(&witness, "it is lost", |seen| is_held(&seen.view, "b") == Some(false)).await;
    assert_eq!(lost.rings().by_region().values().map(Ring::len).sum::<usize>(), 1);
    let began = Instant::now();
    let again = cluster.join(Node { incarnation: 2, ..edge("b") });
    until(&witness, "it is back", |seen| is_held(&seen.view, "b") == Some(true)).await;
    assert!(began.elapsed() >= Duration::from_millis(1_500), "back after {:?}", began.elapsed());
    again.leave().await;
    until(&witness, "it has left", |seen| is_held(&seen.view, "b").is_none()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_is_lost_when_control_nodes_go_and_leaders_change() {
    let mut cluster = Cluster::start(SETTINGS).await;
    let members: Vec<_> = ["a", "b", "c", "d"].map(|node| cluster.join(edge(node))).into();
    for member in &members {
        until(member, "all are there", |seen| seen.view.nodes().len() == 4).await;
    }
    for leader in [1, 2] {
        cluster.lead(leader);
        cluster.stop(leader - 1).await;
        // More than a lease, so that whoever lost it would be out.
        tokio::time::sleep(Duration::from_millis(2_500)).await;
    }
    cluster.agree(Command::SetSettings(ClusterSettings { hysteresis_ms: 1_600, ..SETTINGS })).await;
    for member in &members {
        let seen =
            until(member, "what came last is known", |seen| seen.settings().hysteresis_ms == 1_600).await;
        assert_eq!(seen.view.nodes().values().filter(|node| node.lease == Lease::Held).count(), 4);
    }
    let lost = cluster.group.look(|machine| {
        machine.state().audit().entries().filter(|entry| entry.what.starts_with("lost")).count()
    });
    assert_eq!(lost, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_serves_on_by_its_last_view_when_nobody_leads() {
    let cluster = Cluster::start(SETTINGS).await;
    let member = cluster.join(edge("a"));
    let seen = until(&member, "it is there", |seen| is_held(&seen.view, "a") == Some(true)).await;
    cluster.group.leader.send_replace((2, None));
    let mut placement = member.placement();
    let aged = tokio::time::timeout(Duration::from_secs(10), async {
        while placement.borrow_and_update().age().is_none_or(|age| age < Duration::from_secs(2)) {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    });
    aged.await.unwrap();
    assert_eq!(placement.borrow().view, seen.view);
    cluster.lead(1);
    until(&member, "it is fresh again", |seen| seen.age().is_some_and(|age| age < Duration::from_secs(1)))
        .await;
    let seen = until(&member, "it is there", |seen| is_held(&seen.view, "a") == Some(true)).await;
    assert_eq!(seen.rings().by_region().len(), 1);
}

/// Opens a lease by hand and tells what becomes of it.
async fn refused(cluster: &Cluster, of: &str, node: Node) -> tonic::Status {
    let address = format!("http://{}", cluster.controls[1].address);
    let mut client = proto::control_client::ControlClient::connect(address).await.unwrap();
    let hello = proto::lease_request::Hello {
        cluster: of.to_owned(),
        node: Some(evergate_member::encode_node(&node)),
    };
    let what = Some(proto::lease_request::What::Hello(hello));
    let messages = tokio_stream::iter([proto::LeaseRequest { what }]);
    // That somebody is there is said at once; what becomes of the wish, when it is known.
    let mut answers = client.lease(messages).await.unwrap().into_inner();
    answers.message().await.map(drop).expect_err("it is refused")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whoever_does_not_belong_is_told_why() {
    let cluster = Cluster::start(SETTINGS).await;
    let member = cluster.join(Node { format: 2, incarnation: 9, ..edge("a") });
    until(&member, "it is there", |seen| is_held(&seen.view, "a") == Some(true)).await;
    let status = refused(&cluster, "other", edge("b")).await;
    assert_eq!(
        status.message(),
        "this control node belongs to cluster \"test\", and the caller to \"other\""
    );
    let status = refused(&cluster, "test", Node { incarnation: 8, ..edge("a") }).await;
    assert_eq!(
        status.message(),
        "the name a is used by a process that was started later; no two nodes may have one name"
    );
    cluster.agree(Command::RaiseFormat(2)).await;
    let status = refused(&cluster, "test", edge("b")).await;
    assert_eq!(
        status.message(),
        "b understands format 1, and the cluster has agreed on 2: update the node before it joins"
    );
    assert_eq!(status.code(), tonic::Code::FailedPrecondition);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn operators_are_answered_and_may_not_speak_for_nodes() {
    let cluster = Cluster::start(SETTINGS).await;
    let members = ["a", "b"].map(|node| cluster.join(edge(node)));
    until(&members[0], "both are there", |seen| seen.view.nodes().len() == 2).await;
    let address = format!("http://{}", cluster.controls[2].address);
    let mut admin = AdminClient::connect(address).await.unwrap();
    let mut execute = async |command: Command| {
        let request = proto::ExecuteRequest { command: Some(encode_command(&command)) };
        let mut request = tonic::Request::new(request);
        request.metadata_mut().insert("evergate-operator", "ann".parse().unwrap());
        admin.execute(request).await.map(tonic::Response::into_inner)
    };
    let done = execute(Command::Drain { node: name("a"), force: false }).await.unwrap();
    assert_eq!(done.refusal, None);
    tokio::time::timeout(Duration::from_secs(10), members[0].asked_to_drain()).await.unwrap();
    let refused = execute(Command::Drain { node: name("b"), force: false }).await.unwrap();
    assert!(refused.refusal.unwrap().message.starts_with("no other edge of region eu takes clients"));
    let status = execute(Command::Lost { node: name("b"), incarnation: 1 }).await.unwrap_err();
    assert_eq!(status.message(), "lost b: that is said over leases only");
    for command in [
        Command::Rebalanced { node: name("b"), incarnation: 1, plan: 1 },
        Command::Note("somebody else did it".to_owned()),
    ] {
        assert_eq!(execute(command).await.unwrap_err().code(), tonic::Code::InvalidArgument);
    }
    let audit = admin.audit(proto::AuditRequest { max: 1 }).await.unwrap().into_inner().entries;
    assert_eq!((&*audit[0].by, &*audit[0].what), ("operator ann", "drain a"));
    let status = admin.status(proto::StatusRequest {}).await.unwrap().into_inner();
    assert_eq!(status.version, cluster.group.look(|machine| machine.state().view().version()));
    assert_ne!(status.ring_digest, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_changed_the_control_nodes_is_remembered_once_everybody_understands_it() {
    let cluster = Cluster::start(SETTINGS).await;
    let address = format!("http://{}", cluster.controls[1].address);
    let mut admin = AdminClient::connect(address).await.unwrap();
    let mut remove = async |id| {
        let change = Some(proto::change_member_request::Change::Remove(id));
        let mut request = tonic::Request::new(proto::ChangeMemberRequest { change });
        request.metadata_mut().insert("evergate-operator", "ann".parse().unwrap());
        admin.change_member(request).await.map(drop)
    };
    let newest = || {
        cluster.group.look(|machine| {
            let newest = machine.state().audit().entries().next_back().unwrap().clone();
            (newest.by, newest.what)
        })
    };
    remove(7).await.unwrap();
    assert_ne!(newest().1, "remove control node 7");
    cluster.agree(Command::RaiseFormat(2)).await;
    assert_eq!(remove(8).await.unwrap_err().message(), "remove control node 8: nobody is changed here");
    assert_ne!(newest().1, "remove control node 8", "it was not done");
    remove(7).await.unwrap();
    assert_eq!(newest(), ("operator ann".to_owned(), "remove control node 7".to_owned()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebalance_waits_for_the_word_of_every_edge() {
    let cluster = Cluster::start(SETTINGS).await;
    let members = ["a", "b"].map(|node| cluster.join(Node { format: 2, ..edge(node) }));
    until(&members[0], "both are there", |seen| seen.view.nodes().len() == 2).await;
    cluster.agree(Command::RaiseFormat(2)).await;
    cluster.agree(Command::Rebalance("eu".parse().unwrap())).await;
    let runs = |seen: &Placement| seen.view.rebalance().is_some_and(|plan| plan.left.len() == 2);
    let plan = until(&members[0], "it runs", runs).await.view.rebalance().unwrap().plan;
    // Said before it is heard, it is lost: so it is said again.
    let says = |member: usize, left: usize| {
        let (voice, mut placement) = (members[member].voice(), members[member].placement());
        async move {
            loop {
                voice.rebalanced(plan);
                let is_heard =
                    |seen: &Arc<Placement>| seen.view.rebalance().map_or(0, |plan| plan.left.len()) == left;
                let waiting = placement.wait_for(is_heard);
                if tokio::time::timeout(Duration::from_millis(500), waiting).await.is_ok() {
                    return;
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, says(0, 1)).await.unwrap();
    tokio::time::timeout(PATIENCE, says(1, 0)).await.unwrap();
}

/// How long a change takes to reach everybody, told and not judged: it is a busy machine's to say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_reaches_two_hundred_edges() {
    let cluster = Cluster::start(ClusterSettings { lease_ms: 10_000, ..SETTINGS }).await;
    let members: Vec<_> = (0..200).map(|number| cluster.join(edge(&format!("edge-{number}")))).collect();
    for member in &members {
        until(member, "all are there", |seen| seen.view.nodes().len() == 200).await;
    }
    let mut times = Vec::new();
    for round in 1..=10 {
        let hysteresis_ms = 2_000 + round;
        let waiting: Vec<_> = members
            .iter()
            .map(|member| {
                let mut placement = member.placement();
                tokio::spawn(async move {
                    let is = |seen: &Arc<Placement>| seen.settings().hysteresis_ms == hysteresis_ms;
                    placement.wait_for(is).await.unwrap();
                })
            })
            .collect();
        let began = Instant::now();
        cluster
            .agree(Command::SetSettings(ClusterSettings { hysteresis_ms, lease_ms: 10_000, ..SETTINGS }))
            .await;
        for waiting in waiting {
            tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap();
        }
        times.push(began.elapsed());
    }
    times.sort();
    println!("a change reached 200 edges in {:?} (median of 10), {:?} at worst", times[5], times[9]);
    let digests = |member: &Member| member.placement().borrow().rings().digest();
    assert!(members.iter().all(|member| digests(member) == digests(&members[0])));
}
