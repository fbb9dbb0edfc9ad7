//! Leases, between the control node that holds them and the one that leads.

use std::sync::Arc;
use std::time::Duration;

use evergate_domain::NodeName;
use evergate_domain::cluster::{ClusterSettings, Command, Digest, LeaseTable, Load, Rings, Unbalanced, View};
use evergate_proto::control::v1 as proto;
use futures_util::future::join_all;
use parking_lot::Mutex;
use proto::control_client::ControlClient;
use proto::control_server::ControlServer;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;
use tonic::transport::{Channel, Endpoint};

use super::admin::{AdminService, AdminToken};
use super::control::ControlService;
use super::lessees::Lessees;
use crate::agreement::{Agreement, agree};
use crate::network::Connector;

/// How often the leader judges, and the others report to it.
const TICK: Duration = Duration::from_millis(100);

/// A control node that took so much longer to its next turn stood still, and what it has heard of nodes is of
/// another time: it knows of nobody that they were silent.
const STALL: Duration = Duration::from_millis(500);

/// How long a report may take.
const REPORT_TIMEOUT: Duration = Duration::from_millis(500);

/// A control node whose reports fail for so long lets its leases go, so that the nodes find another one
/// before their leases are over.
const REPORT_PATIENCE: Duration = Duration::from_millis(800);

/// A message with a name and three numbers of every node there may be.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// What the leader has heard, and what everybody is told of loads.
pub(super) struct Desk {
    /// Of the term in which this node leads; `None` while it does not.
    table: Mutex<Option<(u64, LeaseTable)>>,
    loads: watch::Sender<Arc<proto::Loads>>,
    /// By what others are compared: the rings' version and digest, as of when somebody told his.
    ring: Mutex<(u64, Digest)>,
    /// Moments are milliseconds since.
    began: Instant,
}

/// Everything that a control node serves for its cluster.
pub struct Services {
    /// To be served beside the group's own.
    pub routes: Routes,
}

/// Tells the leader whose leases this node holds; or, while it leads, has the lost and the returned agreed
/// on. Runs once, until it is stopped.
pub struct Keeper<A> {
    cluster: String,
    group: A,
    lessees: Lessees,
    desk: Arc<Desk>,
    stop: CancellationToken,
    tls: Option<evergate_tls::Client>,
    leader: Option<(String, ControlClient<Channel>)>,
    reported: Instant,
    /// While it leads.
    unbalanced: Unbalanced,
}

impl Desk {
    pub(super) fn loads(&self) -> watch::Receiver<Arc<proto::Loads>> {
        self.loads.subscribe()
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    /// The digest of the rings that follow from what is agreed on here, which is of this version. Made once for all
    /// who tell theirs; they wait for it, which takes some milliseconds for the largest cluster.
    pub(super) fn ring(&self, version: u64, view: impl FnOnce() -> View) -> Option<Digest> {
        let mut ring = self.ring.lock();
        if ring.0 != version {
            let rings = Rings::of(&view());
            *ring = (rings.version(), rings.digest());
        }
        // It may have become another one meanwhile.
        (ring.0 == version).then_some(ring.1)
    }

    /// Hears of another control node's lessees. Whether somebody leads here who hears it.
    pub(super) fn hear(&self, held: &[proto::report_request::Held], settings: &ClusterSettings) -> bool {
        let now_ms = self.now_ms();
        let mut table = self.table.lock();
        let Some((_, table)) = &mut *table else { return false };
        for sign in held {
            // A name that is none belongs to nobody.
            let Ok(node) = NodeName::new(&sign.node) else { continue };
            let load = Load { connections: sign.connections, arrivals_per_second: sign.arrivals_per_second };
            let at_ms = now_ms.saturating_sub(sign.ago_ms.into());
            table.hear(&node, sign.incarnation, at_ms, load, settings);
        }
        true
    }
}

impl<A: Agreement> Keeper<A> {
    /// The keeper of a control node, and the services that go with it.
    pub fn new(
        cluster: String,
        node: String,
        group: A,
        tls: Option<evergate_tls::Client>,
        token: Option<AdminToken>,
        stop: CancellationToken,
    ) -> (Self, Services) {
        let desk = Arc::new(Desk {
            table: Mutex::new(None),
            loads: watch::Sender::new(Arc::default()),
            ring: Mutex::new((0, Digest::new(0))),
            began: Instant::now(),
        });
        let lessees = Lessees::default();
        let control = ControlService {
            cluster: cluster.clone(),
            group: group.clone(),
            lessees: lessees.clone(),
            desk: Arc::clone(&desk),
            stop: stop.clone(),
        };
        let admin = AdminService::new(cluster.clone(), node, group.clone(), token);
        let control = ControlServer::new(control).max_decoding_message_size(MESSAGE_BYTES_MAX);
        let routes = Routes::new(control).add_service(admin.server());
        let reported = Instant::now();
        let unbalanced = Unbalanced::default();
        let keeper = Self { cluster, group, lessees, desk, stop, tls, leader: None, reported, unbalanced };
        (keeper, Services { routes })
    }

    /// Runs until it is stopped.
    pub async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let stop = self.stop.clone();
        let work = async {
            loop {
                let waits = Instant::now();
                tick.tick().await;
                if waits.elapsed() >= TICK + STALL {
                    // Everybody begins with a whole lease, as with a new leader, which there may well be by now.
                    *self.desk.table.lock() = None;
                    self.unbalanced = Unbalanced::default();
                }
                self.turn().await;
            }
        };
        let _: Option<()> = stop.run_until_cancelled(work).await;
    }

    async fn turn(&mut self) {
        metrics::gauge!("evergate_control_leases").set(self.lessees.count() as f64);
        let leadership = self.group.leadership();
        if leadership.is_here {
            self.leader = None;
            self.reported = Instant::now();
            self.judge(leadership.term).await;
            return;
        }
        *self.desk.table.lock() = None;
        self.unbalanced = Unbalanced::default();
        let told = match leadership.address {
            None => Err("nobody leads".to_owned()),
            Some(address) => self.report(&address).await,
        };
        match told {
            Ok(()) => self.reported = Instant::now(),
            Err(why) if self.reported.elapsed() >= REPORT_PATIENCE => {
                let gone = self.lessees.let_go();
                if gone > 0 {
                    tracing::warn!(
                        why,
                        leases = gone,
                        "leases are let go, for the leader cannot be told of them"
                    );
                }
            }
            Err(_) => {}
        }
    }

    /// Has what follows from what was heard agreed on.
    async fn judge(&mut self, term: u64) {
        let view = self.group.look(|machine| machine.state().view().clone());
        let now_ms = self.desk.now_ms();
        let due = {
            let mut table = self.desk.table.lock();
            if table.as_ref().is_none_or(|(known, _)| *known != term) {
                *table = Some((term, LeaseTable::begin(&view, now_ms)));
            }
            let (_, table) = table.as_mut().expect("made just now");
            for sign in self.lessees.signs() {
                let at_ms = now_ms.saturating_sub(u64::try_from(sign.ago.as_millis()).unwrap_or(u64::MAX));
                table.hear(&sign.node, sign.incarnation, at_ms, sign.load, view.settings());
            }
            let due = table.due(&view, now_ms);
            let load = |(node, load): (&NodeName, Load)| proto::loads::Load {
                node: node.to_string(),
                connections: load.connections,
                arrivals_per_second: load.arrivals_per_second,
            };
            self.tell_loads(proto::Loads { loads: table.loads().map(load).collect() });
            due
        };
        let due = due.into_iter().map(|command| ("leases", command));
        let balance = self.unbalanced.due(&view, now_ms).map(|command| ("control", command));
        let group = &self.group;
        let agreeing = due.chain(balance).map(|(by, command)| async move {
            let what = command.to_string();
            if let Command::Rebalance(region) = &command {
                tracing::info!(%region, "edges have come and settled: clients are sent where they belong");
            } else if let Command::Lost { node, .. } = &command {
                tracing::warn!(%node, "a node is lost: it was not heard of for too long");
            } else {
                tracing::info!(what, "a node has been there for long enough");
            }
            match agree(group, by, command).await {
                Ok(answer) => {
                    if let Some(refusal) = answer.refusal {
                        tracing::info!(what, why = refusal.message, "it is not so any more");
                    }
                }
                // It is due again with the next turn.
                Err(status) => tracing::warn!(what, why = status.message(), "it could not be agreed on yet"),
            }
        });
        join_all(agreeing).await;
    }

    fn tell_loads(&self, loads: proto::Loads) {
        self.desk.loads.send_if_modified(|known| {
            let is_new = **known != loads;
            if is_new {
                *known = Arc::new(loads);
            }
            is_new
        });
    }

    async fn report(&mut self, address: &str) -> Result<(), String> {
        let millis = |ago: Duration| u32::try_from(ago.as_millis()).unwrap_or(u32::MAX);
        let held = self.lessees.signs().into_iter().map(|sign| proto::report_request::Held {
            node: sign.node.to_string(),
            incarnation: sign.incarnation,
            connections: sign.load.connections,
            arrivals_per_second: sign.load.arrivals_per_second,
            ago_ms: millis(sign.ago),
        });
        let request = proto::ReportRequest { cluster: self.cluster.clone(), held: held.collect() };
        if self.leader.as_ref().is_none_or(|(known, _)| known != address) {
            let endpoint =
                Endpoint::from_shared(format!("http://{address}")).map_err(|error| error.to_string())?;
            let channel = endpoint.connect_with_connector_lazy(Connector::new(self.tls.clone()));
            let client = ControlClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX);
            self.leader = Some((address.to_owned(), client));
        }
        let (_, client) = self.leader.as_mut().expect("made just now");
        match tokio::time::timeout(REPORT_TIMEOUT, client.report(request)).await {
            Ok(Ok(response)) => {
                self.tell_loads(response.into_inner().loads.unwrap_or_default());
                Ok(())
            }
            Ok(Err(status)) => Err(status.message().to_owned()),
            Err(_) => Err(format!("no answer within {REPORT_TIMEOUT:?}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agreed::Agreed;
    use crate::agreement::{Leadership, MemberChange};
    use crate::group::{ChangeError, ProposeError, Status};
    use crate::machine::Machine as _;
    use evergate_domain::UnixMillis;
    use evergate_domain::cluster::testing::edge;
    use evergate_domain::cluster::{Lease, Proposal};
    use evergate_member::encode_proposal;
    use prost::Message as _;

    /// A group of one, which always leads.
    #[derive(Clone, Default)]
    struct Alone(Arc<Mutex<Agreed>>);

    impl Agreement for Alone {
        async fn propose(&self, command: Vec<u8>) -> Result<Vec<u8>, ProposeError> {
            Ok(self.0.lock().apply(&command))
        }

        fn look<T>(&self, look: impl FnOnce(&Agreed) -> T) -> T {
            look(&self.0.lock())
        }

        fn applied(&self) -> watch::Receiver<u64> {
            watch::channel(0).1
        }

        fn leadership(&self) -> Leadership {
            Leadership { term: 1, is_here: true, address: None }
        }

        fn status(&self) -> Status {
            unreachable!("a keeper does not ask")
        }

        async fn all_read(&self, _: u32) -> Result<(), ChangeError> {
            unreachable!("a keeper does not ask")
        }

        async fn change(&self, _: MemberChange) -> Result<(), ChangeError> {
            unreachable!("a keeper changes nobody")
        }
    }

    impl Alone {
        fn has(&self, node: &NodeName) -> Lease {
            self.look(|machine| machine.state().view().nodes()[node].lease)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_stood_still_takes_nobody_for_silent() {
        let (group, stop) = (Alone::default(), CancellationToken::new());
        let node = edge("a").name;
        let join = Command::Join(Box::new(edge("a")));
        let proposal = Proposal { by: "test".to_owned(), at: UnixMillis::new(0), command: join };
        group.propose(encode_proposal(&proposal).encode_to_vec()).await.expect("it is alone");
        let (keeper, _services) =
            Keeper::new("one".to_owned(), "here".to_owned(), group.clone(), None, None, stop.clone());
        let place = keeper.lessees.enter(node.clone(), 1);
        let keeping = tokio::spawn(keeper.run());
        let beats = async |count: usize| {
            for _ in 0..count {
                place.beat(Load::default());
                tokio::time::sleep(TICK).await;
            }
        };
        beats(20).await;
        // The process stands still, for longer than any lease: nobody is heard, and nothing is done.
        tokio::time::advance(Duration::from_secs(20)).await;
        tokio::time::sleep(TICK * 2).await;
        assert_eq!(group.has(&node), Lease::Held, "its beats lie in the sockets");
        beats(40).await;
        assert_eq!(group.has(&node), Lease::Held);
        // While the leader's own time goes by as it should, silence is silence.
        tokio::time::sleep(Duration::from_secs(3)).await;
        assert_eq!(group.has(&node), Lease::Lost);
        stop.cancel();
        keeping.await.expect("it ends");
    }
}
