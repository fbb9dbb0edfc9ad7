//! What a delivery asks of the allocator, counted: nothing for each follower. A binary of its own, because what is
//! counted is the whole process.

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use evergate_domain::{
    Cursor, EventDraft, KeyFilter, Retention, Start, StreamName, StreamPolicies, StreamSet,
};
use evergate_eventlog::{EventLog, MemoryLog, SystemClock};
use evergate_fanout::{
    Begin, Encoding, End, Engine, Farewell, Framing, Guard, Handover, HeartbeatKind, Hub, HubConfig,
    SubscribeRequest,
};
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

/// The system's, counted.
struct Counted;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

#[global_allocator]
static ALLOCATOR: Counted = Counted;

// An allocator can be counted in no other way; what it is asked it hands on as it is.
#[expect(unsafe_code, reason = "an allocator is unsafe to implement")]
// SAFETY: everything is the system's own allocator's.
unsafe impl GlobalAlloc for Counted {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        // SAFETY: as the caller promises.
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        // SAFETY: as the caller promises.
        unsafe { System.realloc(memory, layout, size) }
    }
}

struct Held(CancellationToken);

impl Guard for Held {
    fn farewell(&self, _: End, _: &Cursor) -> Farewell {
        Farewell { bytes: Bytes::new(), abort: false }
    }

    fn cut(&self) -> &CancellationToken {
        &self.0
    }
}

fn name() -> StreamName {
    StreamName::new("s").expect("valid")
}

/// Followers of a stream in one shard, none of which reads: their sockets have room for all of it.
struct World {
    log: Arc<dyn EventLog>,
    hub: Hub,
    engine: Engine,
    clients: Vec<TcpStream>,
}

impl World {
    async fn of(followers: usize, encoding: Encoding) -> Self {
        let policies = Arc::new(StreamPolicies::open(Retention::FOREVER));
        let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new(policies, Arc::new(SystemClock)));
        let hub = Hub::new(Arc::clone(&log), HubConfig::default());
        let engine = Engine::start(&hub, 1);
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let mut clients = Vec::new();
        for _ in 0..followers {
            let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
            clients.push(client.expect("connects"));
            let request = SubscribeRequest {
                streams: StreamSet::new(vec![name()]).expect("one"),
                filters: [KeyFilter::all()].into(),
                begin: Begin::Start(Start::Latest),
                framing: Framing::Plain,
                encoding,
                heartbeat: (Duration::from_secs(3_600), HeartbeatKind::Comment),
            };
            let (subscriber, _) = hub.subscribe(request).await.expect("subscribes");
            let (socket, first) = (server.expect("accepts").0, Bytes::from_static(b": hello\n"));
            let guard = Box::new(Held(CancellationToken::new()));
            engine.serve(Handover { socket, session: None, first, subscriber, guard }).await;
        }
        let world = Self { log, hub, engine, clients };
        // Whatever is kept for use again is there by then.
        for _ in 0..20 {
            world.deliver(10).await;
        }
        world
    }

    /// Publishes so many events, which are sent together, and counts until everybody was sent them.
    async fn deliver(&self, events: usize) -> u64 {
        let drafts: Vec<_> = (0..events).map(|_| vec![EventDraft::new("x".repeat(100))]).collect();
        let sent = self.engine.sends() + self.clients.len() as u64;
        let before = ALLOCATIONS.load(Ordering::Relaxed);
        for draft in drafts {
            // This log never waits, so on this one thread nothing is sent before the last of them.
            self.log.append(&name(), draft).await.expect("appends");
        }
        while self.engine.sends() < sent {
            tokio::task::yield_now().await;
        }
        let counted = ALLOCATIONS.load(Ordering::Relaxed) - before;
        assert_eq!(self.engine.sends(), sent, "one send each");
        counted
    }

    /// The least of several: a timer may be looked at meanwhile.
    async fn least(&self, events: usize) -> u64 {
        let mut least = u64::MAX;
        for _ in 0..10 {
            least = least.min(self.deliver(events).await);
        }
        least
    }

    async fn end(self) {
        drop(self.clients);
        self.hub.stop(Duration::ZERO);
        self.log.close().await;
        self.engine.emptied().await;
    }
}

#[tokio::test]
async fn a_delivery_asks_for_no_memory_of_its_own() {
    /// What a list of followers may cost that grows beyond what it had room for.
    const SLACK: u64 = 4;
    for encoding in [Encoding::Identity, Encoding::Gzip] {
        let mut counts = Vec::new();
        for followers in [1, 64] {
            let world = World::of(followers, encoding).await;
            counts.push([world.least(1).await, world.least(10).await]);
            world.end().await;
        }
        println!(
            "{encoding:?}: allocations for 1 and for 10 events, with 1 and with 64 followers: {counts:?}"
        );
        let [few, many] = counts[..] else { unreachable!("two") };
        for (few, many) in few.into_iter().zip(many) {
            assert!(many <= few + SLACK, "{encoding:?}: {few} with one follower, {many} with 64");
        }
        // Of an event itself, in the log, the ring and the run, there is something to keep; of each as much.
        assert!(many[1] <= many[0] * 10, "{encoding:?}: {many:?}");
    }
}
