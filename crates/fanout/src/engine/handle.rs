//! The engine from outside.

use std::net::TcpStream as StdStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use evergate_domain::{Cursor, PackedCursor};
use evergate_tls::Session;
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::engine::attended::Attended;
use crate::engine::inbox::Inbox;
use crate::engine::shard::Shard;
use crate::engine::trail::Trail;
use crate::figures::{Deliveries, Figures};
use crate::hub::{Hub, Inner};
use crate::subscriber::{End, Parked, Subscriber};

/// Connections on their way into a shard. When it is full, whoever brings one waits.
const ARRIVALS_MAX: usize = 1024;

/// What is held for a connection as long as it lasts, and what its owner has to say at its end.
pub trait Guard: Send + 'static {
    /// The last words.
    fn farewell(&self, end: End, cursor: &Cursor) -> Farewell;

    /// Cancelled when the connection is to end before its time; [`Engine::look_for_cuts`] says that
    /// one was.
    fn cut(&self) -> &CancellationToken;

    /// Whether a connection that is cut gets its last words. If not, it is reset.
    fn dismissed(&self) -> bool {
        false
    }

    /// Whether its [`cut`](Self::cut) is its own, where several share a connection and not all have one.
    fn has_own_cut(&self) -> bool {
        true
    }

    /// Whether it wants to know how far the client has come. Asked once.
    fn follows(&self) -> bool {
        false
    }

    /// Whole frames for the client that are not of its streams, each given once. Asked for after
    /// [`Engine::look_for_cuts`], and when the bell rings.
    fn word(&self) -> Option<Bytes> {
        None
    }

    /// Rings when there is a word, for one that no shard has. Asked by whoever waits for it, one at a time;
    /// `None` where there never is one.
    fn bell(&self) -> Option<Arc<Notify>> {
        None
    }

    /// The client's system has acknowledged everything up to here, some time ago.
    fn passed(&self, _: PackedCursor) {}
}

/// How a stream ends from this side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Farewell {
    /// Frames to send before the end.
    pub bytes: Bytes,
    /// Whether the last chunk is left out, for clients that take a clean end as final.
    pub abort: bool,
}

/// A connection whose answer's head was written, HTTP/1.1 and chunked, and whose body is the
/// engine's from here on.
pub struct Handover {
    /// The socket.
    pub socket: TcpStream,
    /// What lies over it, where its bytes go through TLS.
    pub session: Option<Session>,
    /// The first frames.
    pub first: Bytes,
    /// Where it stands.
    pub subscriber: Subscriber,
    /// What it holds.
    pub guard: Box<dyn Guard>,
}

/// A parked connection on its way into a shard.
pub(super) struct Arrival {
    pub(super) socket: StdStream,
    pub(super) session: Option<Session>,
    pub(super) parked: Parked,
    pub(super) guard: Box<dyn Guard>,
    /// Bytes written so far; wraps.
    pub(super) sent: u32,
    /// Only where its guard follows.
    pub(super) trail: Option<Trail>,
}

/// All connections that were handed over. Cheap to clone.
#[derive(Clone)]
pub struct Engine(pub(super) Arc<Shared>);

pub(super) struct Shared {
    pub(super) hub: Arc<Inner>,
    shards: Vec<Door>,
    /// Attended connections and the shards themselves.
    pub(super) tasks: TaskTracker,
    pub(super) kill: CancellationToken,
}

/// The way into one shard.
struct Door {
    arrivals: mpsc::Sender<Arrival>,
    inbox: Arc<Inbox>,
    load: Arc<AtomicUsize>,
    figures: Arc<Figures>,
}

impl Engine {
    /// An engine with this many shards, at least one. Must be called within a runtime.
    #[must_use]
    pub fn start(hub: &Hub, shards: usize) -> Self {
        let tasks = TaskTracker::new();
        let kill = CancellationToken::new();
        let mut doors = Vec::new();
        let mut rooms = Vec::new();
        for _ in 0..shards.max(1) {
            let (sender, receiver) = mpsc::channel(ARRIVALS_MAX);
            let figures = Arc::new(Figures::new(&hub.inner().common.config.tracer));
            let (inbox, load) = (Inbox::that_hears_of_traces(), Arc::<AtomicUsize>::default());
            doors.push(Door {
                arrivals: sender,
                inbox: Arc::clone(&inbox),
                load: Arc::clone(&load),
                figures: Arc::clone(&figures),
            });
            rooms.push((receiver, inbox, load, figures));
        }
        let hub = hub.inner();
        let engine = Self(Arc::new(Shared { hub, shards: doors, tasks, kill }));
        for (receiver, inbox, load, figures) in rooms {
            let shard = Shard::new(engine.clone(), receiver, inbox, load, figures);
            match shard {
                Ok(shard) => drop(engine.0.tasks.spawn(shard.run())),
                Err(error) => {
                    tracing::error!(%error, "a shard could not be made; its connections stay attended");
                }
            }
        }
        engine
    }

    /// Serves a connection to its end or until it is parked. The caller's task does the work.
    pub async fn serve(&self, handover: Handover) {
        let trail = handover.guard.follows().then(|| Trail::new(handover.subscriber.cursor().pack()));
        Attended::new(self.clone(), handover, trail).run().await;
    }

    /// Puts a connection into the shard with the fewest. Gives it back if no shard takes it.
    pub(super) async fn park(&self, arrival: Arrival) -> Result<(), Arrival> {
        let open = self.0.shards.iter().filter(|door| !door.arrivals.is_closed());
        let Some(door) = open.min_by_key(|door| door.load.load(Ordering::Relaxed)) else {
            return Err(arrival);
        };
        door.load.fetch_add(1, Ordering::Relaxed);
        door.arrivals.send(arrival).await.map_err(|refused| {
            door.load.fetch_sub(1, Ordering::Relaxed);
            refused.0
        })
    }

    /// Has every shard look for connections that are to end, or to be told something.
    pub fn look_for_cuts(&self) {
        for door in &self.0.shards {
            door.inbox.ask_for_cuts();
        }
    }

    /// How many connections are parked.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.0.shards.iter().map(|door| door.load.load(Ordering::Relaxed)).sum()
    }

    /// How often a shard has called `send` so far: what a delivery costs, in the one coin that counts.
    #[must_use]
    pub fn sends(&self) -> u64 {
        self.0.shards.iter().map(|door| door.figures.sends()).sum()
    }

    /// How often a connection was looked at because a stream of its moved on. Those who want other keys
    /// are not.
    #[must_use]
    pub fn visits(&self) -> u64 {
        self.0.shards.iter().map(|door| door.figures.visits()).sum()
    }

    /// What was written to subscribers so far, by shards and by whoever else serves them.
    #[must_use]
    pub fn deliveries(&self) -> Deliveries {
        let mut all = Deliveries::default();
        self.0.hub.common.figures.add_to(&mut all);
        for door in &self.0.shards {
            door.figures.add_to(&mut all);
        }
        all
    }

    /// Waits until every connection has ended; the hub must have been stopped before. Cancel-safe.
    pub async fn emptied(&self) {
        self.0.tasks.close();
        self.0.tasks.wait().await;
    }

    /// Lets go of every connection at once.
    pub fn kill(&self) {
        self.0.kill.cancel();
        self.look_for_cuts();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use evergate_domain::{KeyFilter, Retention, Start, StreamName, StreamPolicies, StreamSet};
    use evergate_eventlog::{MemoryLog, SystemClock};
    use tokio::net::TcpListener;

    use super::*;
    use crate::config::HubConfig;
    use crate::frame::Framing;
    use crate::gzip::Encoding;
    use crate::subscriber::{Begin, HeartbeatKind, SubscribeRequest};

    struct Nothing(CancellationToken);

    impl Guard for Nothing {
        fn farewell(&self, _: End, _: &Cursor) -> Farewell {
            Farewell { bytes: Bytes::new(), abort: false }
        }

        fn cut(&self) -> &CancellationToken {
            &self.0
        }
    }

    async fn open(hub: &Hub, engine: &Engine, listener: &TcpListener) -> TcpStream {
        let address = listener.local_addr().expect("bound");
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        let request = SubscribeRequest {
            streams: StreamSet::new(vec![StreamName::new("s").expect("valid")]).expect("one"),
            filters: [KeyFilter::all()].into(),
            begin: Begin::Start(Start::Latest),
            framing: Framing::Plain,
            encoding: Encoding::Identity,
            heartbeat: (Duration::from_secs(15), HeartbeatKind::Comment),
        };
        let (subscriber, _) = hub.subscribe(request).await.expect("subscribes");
        let socket = server.expect("accepts").0;
        let guard = Box::new(Nothing(CancellationToken::new()));
        let handover = Handover { socket, session: None, first: Bytes::new(), subscriber, guard };
        engine.serve(handover).await;
        client.expect("connects")
    }

    /// Each goes to the shard with the fewest, also after some have left.
    #[tokio::test]
    async fn connections_are_shared_evenly_among_the_shards() {
        const SHARDS: usize = 4;
        let policies = Arc::new(StreamPolicies::open(Retention::FOREVER));
        let hub = Hub::new(Arc::new(MemoryLog::new(policies, Arc::new(SystemClock))), HubConfig::default());
        let engine = Engine::start(&hub, SHARDS);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let loads = || -> Vec<usize> {
            engine.0.shards.iter().map(|door| door.load.load(Ordering::Relaxed)).collect()
        };
        let mut clients = Vec::new();
        for _ in 0..5 * SHARDS {
            clients.push(open(&hub, &engine, &listener).await);
        }
        assert_eq!(loads(), [5; SHARDS]);
        // They went round, so these are all but one of the first shard's.
        let gone: Vec<_> = (0..4).rev().map(|n| clients.remove(n * SHARDS)).collect();
        drop(gone);
        while engine.parked() > clients.len() {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert_eq!(loads(), [1, 5, 5, 5]);
        for _ in 0..4 {
            clients.push(open(&hub, &engine, &listener).await);
        }
        assert_eq!(loads(), [5; SHARDS]);
        engine.kill();
        engine.emptied().await;
    }
}
