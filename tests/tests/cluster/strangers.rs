//! Who comes to a control node and does not belong there: edges that would be control nodes, and whoever opens
//! connections and says nothing. And nodes whose certificates change while they run.

use std::time::Duration;

use evergate_proto::raft::v1::raft_client::RaftClient;
use evergate_proto::raft::v1::{
    Addressee, AppendRequest, ChangeRequest, GreetRequest, InstallHead, InstallRequest, NodeInfo,
    ProposeRequest, ReadIndexRequest, VoteRequest, VoteState, install_request,
};
use evergate_tests::authority::{Authority, Signed, text};
use evergate_tests::controls::{Controls, Plan, wait};
use evergate_tests::figures::value_on;
use evergate_tests::process::binary;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tonic::Code;
use tonic::transport::Channel;

/// Connections that a control node takes at a time.
const PLACES: usize = 1_024;

/// One that no group of a test comes to by itself.
const TERM: u64 = 1_000_000;

/// A group by TLS, whose nodes stand for the host at which they are reached, and one more under which the test meets
/// them.
async fn proven(authority: &Authority, count: usize, more: &[(&str, &str)]) -> (Controls, Signed) {
    let shown = authority.sign("control", &["127.0.0.1", "localhost"]);
    let ca = authority.file();
    let tls = [
        ("control.ca_file", text(&ca)),
        ("control.certificate_file", text(&shown.certificate)),
        ("control.key_file", text(&shown.key)),
    ];
    let plan = tls.iter().chain(more).fold(Plan::of(count), |plan, (key, value)| plan.set(key, value));
    (Controls::start_as(plan).await, shown)
}

async fn raft(controls: &Controls, at: usize, authority: &Authority, by: &Signed) -> RaftClient<Channel> {
    RaftClient::new(authority.channel(controls.address(at), Some(by)).await.expect("connected"))
}

/// `evergate cluster`, by TLS and as an operator.
fn ask(
    controls: &Controls,
    at: usize,
    authority: &Authority,
    by: &Signed,
    arguments: &[&str],
) -> Option<String> {
    let mut command = std::process::Command::new(binary());
    command.args(["cluster", "--server", &format!("https://{}", controls.address(at))]);
    command.args(["--token-file", text(&controls.token()), "--ca", text(&authority.file())]);
    command.args(["--cert", text(&by.certificate), "--cert-key", text(&by.key)]);
    let output =
        command.args(arguments).stdin(std::process::Stdio::null()).output().expect("the binary starts");
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whatever a node could be told by another one, each time as if by node 2 of the group, in a term far above theirs.
async fn every_call(mut client: RaftClient<Channel>, me: &NodeInfo) -> Vec<(&'static str, Code, String)> {
    let from = || Some(NodeInfo { id: 2, ..me.clone() });
    let to = || Some(Addressee { id: 1, incarnation: 0 });
    let vote = || Some(VoteState { term: TERM, node: 2, committed: true });
    let asked = VoteRequest { from: from(), to: to(), vote: vote(), last: None };
    let append = AppendRequest { from: from(), to: to(), vote: vote(), ..AppendRequest::default() };
    let head = InstallHead { from: from(), to: to(), vote: vote(), ..InstallHead::default() };
    let head = InstallRequest { part: Some(install_request::Part::Head(head)) };
    let propose = ProposeRequest { from: from(), to: to(), ..ProposeRequest::default() };
    let answers = [
        ("vote", client.vote(asked).await.err()),
        ("append", client.append(append).await.err()),
        ("install", client.install(tokio_stream::iter([head])).await.err()),
        ("propose", client.propose(propose).await.err()),
        ("read-index", client.read_index(ReadIndexRequest { from: from(), to: to() }).await.err()),
        ("change", client.change(ChangeRequest { from: from(), to: to(), change: None }).await.err()),
    ];
    let told = |(call, error): (&'static str, Option<tonic::Status>)| {
        let error = error.unwrap_or_else(|| tonic::Status::ok("it was done"));
        (call, error.code(), error.message().to_owned())
    };
    answers.into_iter().map(told).collect()
}

async fn term(controls: &Controls) -> f64 {
    controls.figure(0, "evergate_raft_term").await.expect("it is told")
}

#[tokio::test]
async fn an_edge_s_certificate_speaks_for_no_control_node() {
    let authority = Authority::new();
    let (controls, shown) = proven(&authority, 3, &[]).await;
    let edge = authority.sign("edge", &["edge-a.example.com", "spiffe://example.com/edge/a"]);
    let mut by_edge = raft(&controls, 0, &authority, &edge).await;
    // Who somebody is may be asked: whoever is about to join is no member yet. What it needs for a forgery it so has.
    let me = by_edge.greet(GreetRequest { from: None }).await;
    assert_eq!(me.expect_err("nobody asks").code(), Code::FailedPrecondition);
    let asking = NodeInfo {
        cluster: "evergate".to_owned(),
        id: 9,
        protocol: 1,
        format_read: 1_000,
        ..Default::default()
    };
    let greeted = by_edge.greet(GreetRequest { from: Some(asking) }).await.expect("it is told").into_inner();
    let me = greeted.from.expect("who it is");
    assert_eq!(greeted.members.len(), 3, "{:?}", greeted.members);

    for (call, code, why) in every_call(by_edge, &me).await {
        assert_eq!(code, Code::PermissionDenied, "{call}: {why}");
        assert!(
            why.contains("edge-a.example.com") && why.contains("control.raft_identities"),
            "{call}: {why}"
        );
    }
    let strangers = controls.figure(0, "evergate_raft_strangers_total").await;
    assert_eq!(strangers, Some(6.0), "each is counted");
    let told = "a call of the control group was refused";
    wait("what is said of it", async || controls.output(0).contains(told).then_some(())).await;
    assert!(controls.output(0).matches(told).count() < 6, "but not said each time");
    assert!(term(&controls).await < TERM as f64, "nobody was outvoted");

    // Whoever has a node's certificate is judged by what it says, as ever.
    let by_node = raft(&controls, 0, &authority, &shown).await;
    for (call, code, why) in every_call(by_node, &me).await {
        assert_ne!(code, Code::PermissionDenied, "{call}: {why}");
    }
    assert_eq!(controls.figure(0, "evergate_raft_strangers_total").await, Some(6.0));
    // An edge's calls are none of these, and are answered as before.
    wait("a view", async || ask(&controls, 0, &authority, &edge, &["status", "--output", "json"])).await;
}

#[tokio::test]
async fn an_operator_may_say_what_nodes_are_called() {
    let authority = Authority::new();
    let named = authority.sign("named", &["127.0.0.1", "localhost", "spiffe://example.com/control/1"]);
    let ca = authority.file();
    let plan = Plan::of(3)
        .set("control.ca_file", text(&ca))
        .set("control.certificate_file", text(&named.certificate))
        .set("control.key_file", text(&named.key))
        .set("control.raft_identities", "spiffe://example.com/control/*");
    // They are founded, so they take each other for nodes.
    let controls = Controls::start_as(plan).await;
    // One that stands for the very host, but has no such name.
    let neighbour = authority.sign("neighbour", &["127.0.0.1", "spiffe://example.com/edge/1"]);
    let me = NodeInfo { cluster: "evergate".to_owned(), protocol: 1, ..Default::default() };
    for (call, code, why) in every_call(raft(&controls, 0, &authority, &neighbour).await, &me).await {
        assert_eq!(code, Code::PermissionDenied, "{call}: {why}");
    }
    let other = authority.sign("other", &["elsewhere.example.com", "spiffe://example.com/control/9"]);
    for (call, code, why) in every_call(raft(&controls, 0, &authority, &other).await, &me).await {
        assert_ne!(code, Code::PermissionDenied, "{call}: {why}");
    }
}

/// First another authority is believed beside the old one, then nodes have their certificates from it, then the old
/// one is believed no more: nobody is restarted, and the group agrees all the while.
#[tokio::test]
async fn certificates_and_their_authority_are_replaced_under_a_running_group() {
    // By each node twice, as it meets others and is met by them.
    const READ_ANEW: &str = "the control node's certificates were read anew";
    let (authority, next) = (Authority::new(), Authority::new());
    let (mut controls, shown) = proven(&authority, 3, &[]).await;
    let operator = shown.clone();
    let changed = async |controls: &Controls, times: usize| {
        let all = || (0..3).all(|at| controls.output(at).matches(READ_ANEW).count() >= times);
        wait("the new files", async || all().then_some(())).await;
    };
    let agrees = async |controls: &Controls, at: usize, by: &Authority, events: usize| {
        let events = events.to_string();
        let arguments = ["policy", "set", "quote", "--events", &events];
        wait("a change", async || ask(controls, at, by, &operator, &arguments)).await;
    };
    agrees(&controls, 0, &authority, 1).await;

    let (old_root, new_root): (Vec<u8>, Vec<u8>) =
        [&authority, &next].map(|of| std::fs::read(of.file()).expect("readable")).into();
    std::fs::write(authority.file(), [old_root, new_root.clone()].concat()).expect("the folder is ours");
    changed(&controls, 2).await;
    agrees(&controls, 1, &authority, 2).await;

    let renewed = next.sign("control", &["127.0.0.1", "localhost"]);
    renewed.replace(&shown);
    changed(&controls, 4).await;
    agrees(&controls, 2, &authority, 3).await;
    for at in 0..3 {
        let wire =
            next.connect(controls.address(at), &["h2"], Some(&renewed)).await.expect("the new one is shown");
        drop(wire);
    }

    std::fs::write(authority.file(), new_root).expect("the folder is ours");
    changed(&controls, 6).await;
    agrees(&controls, 0, &next, 4).await;
    // Links that were open went on meanwhile; whoever comes anew proves itself by the new certificates alone.
    let leader = wait("who leads", async || {
        let told = ask(&controls, 0, &next, &operator, &["members", "--output", "json"])?;
        let told: serde_json::Value = serde_json::from_str(&told).ok()?;
        usize::try_from(told["leader"].as_u64()?).ok()?.checked_sub(1)
    })
    .await;
    controls.kill(leader);
    let rest = (leader + 1) % 3;
    agrees(&controls, rest, &next, 5).await;
    controls.restart(leader).await;
    agrees(&controls, leader, &next, 6).await;
    let old = authority.sign("late", &["127.0.0.1", "localhost"]);
    assert!(ask(&controls, rest, &next, &old, &["status"]).is_none(), "the old authority vouches for nobody");
}

/// As many as there are places for. Whoever is refused one waits in the queue, and gets it.
#[tokio::test]
async fn who_says_nothing_loses_its_place() {
    let controls = Controls::start(1).await;
    let mut crowd = Vec::new();
    for _ in 0..PLACES {
        crowd.push(TcpStream::connect(controls.address(0)).await.expect("accepted"));
    }
    wait("an answer", async || controls.json(0, &["status"])).await;
    let ended = async {
        for socket in &mut crowd {
            let mut rest = Vec::new();
            // Settings may have come, and a reset.
            let _ = socket.read_to_end(&mut rest).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), ended).await.expect("each is ended");
    let page = controls.page(0, "/metrics").await;
    let silent = value_on(page.text(), "evergate_control_connections_ended_total", "silent");
    assert!((silent - PLACES as f64).abs() < 0.5, "{silent} of {PLACES}: {}", page.text());
}
