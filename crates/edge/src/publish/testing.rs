//! A log that fails, waits and counts on demand.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use evergate_domain::{
    AgreedLimits, ClientAddress, Event, EventDraft, Level, Offset, Retention, Start, StreamName,
    StreamPolicies,
};
use evergate_eventlog::{
    AppendError, EventLog, MemoryLog, Page, Placed, ReadError, ReadLimit, StreamStatus, SystemClock, Tail,
};
use evergate_telemetry::Tracer;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};

use super::{ProducerBindings, Publisher, Sender};
use crate::access::Caller;
use crate::config::{PublishLimits, Rates};

/// Limits small enough to be reached.
pub(super) const LIMITS: PublishLimits = PublishLimits {
    payload_bytes_max: 1000,
    batch_events_max: 10,
    batch_bytes_max: 4000,
    stream_window: 8,
    rates: Rates::UNBOUNDED,
};

/// A [`MemoryLog`] whose appends are watched and can be made to wait or fail.
pub(super) struct TestLog {
    memory: MemoryLog,
    state: watch::Sender<Appends>,
    /// What the next appends fail with.
    failures: Mutex<VecDeque<AppendError>>,
    /// A permit for each append that may go on, while they are held.
    gate: Semaphore,
    held: AtomicBool,
}

/// What was seen of the appends.
#[derive(Debug, Clone, Default)]
pub(super) struct Appends {
    /// The data of each batch that was handed in, in that order.
    pub(super) batches: Vec<(StreamName, Vec<String>)>,
    /// Streams with an append under way.
    pub(super) under_way: HashSet<StreamName>,
    /// How many were under way at once, at the most.
    pub(super) peak: usize,
}

impl TestLog {
    pub(super) fn new() -> Arc<Self> {
        Arc::new(Self {
            memory: MemoryLog::new(Arc::new(open()), Arc::new(SystemClock)),
            state: watch::Sender::default(),
            failures: Mutex::default(),
            gate: Semaphore::new(0),
            held: false.into(),
        })
    }

    /// A publisher onto this log.
    pub(super) fn publisher(self: &Arc<Self>, limits: PublishLimits) -> Publisher {
        let log = Arc::clone(self) as Arc<dyn EventLog>;
        let bindings = ProducerBindings::default();
        Publisher::new(
            log,
            Arc::new(open()),
            limits,
            &AgreedLimits::default(),
            bindings,
            Tracer::off(),
            Arc::default(),
        )
    }

    /// The next append that begins and is not failing already fails so, without effect.
    pub(super) fn fail_next(&self, error: AppendError) {
        self.failures.lock().push_back(error);
    }

    /// Appends wait from now on.
    pub(super) fn hold(&self) {
        self.held.store(true, Ordering::SeqCst);
    }

    /// Lets so many appends go on.
    pub(super) fn release(&self, appends: usize) {
        self.gate.add_permits(appends);
    }

    /// Lets all appends go on, now and later.
    pub(super) fn release_all(&self) {
        self.held.store(false, Ordering::SeqCst);
        self.gate.add_permits(10_000);
    }

    /// What was seen so far.
    pub(super) fn seen(&self) -> Appends {
        self.state.borrow().clone()
    }

    /// Waits until the appends are so.
    pub(super) async fn until(&self, condition: impl FnMut(&Appends) -> bool) -> Appends {
        self.state.subscribe().wait_for(condition).await.expect("the log is there").clone()
    }

    /// The events of a stream.
    pub(super) async fn events(&self, stream: &str) -> Vec<Arc<Event>> {
        let limit = ReadLimit { events: usize::MAX, bytes: u64::MAX };
        let stream = StreamName::new(stream).expect("valid");
        let start = self.memory.locate(&stream, Start::Earliest).await.expect("open");
        match self.memory.read(&stream, start, limit).await.expect("open") {
            Page::Events { events, .. } => events,
            Page::Gap(_) | Page::Hold { .. } => Vec::new(),
        }
    }

    /// The payloads of a stream.
    pub(super) async fn data(&self, stream: &str) -> Vec<String> {
        self.events(stream).await.iter().map(|event| event.data.clone()).collect()
    }
}

/// An append that has not ended, nor been dropped.
struct UnderWay<'a> {
    state: &'a watch::Sender<Appends>,
    stream: &'a StreamName,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.state.send_modify(|state| {
            state.under_way.remove(self.stream);
        });
    }
}

/// Every stream exists.
pub(super) fn open() -> StreamPolicies {
    StreamPolicies::open(Retention::default())
}

#[tonic::async_trait]
impl EventLog for TestLog {
    async fn append(&self, stream: &StreamName, batch: Vec<EventDraft>) -> Result<Vec<Placed>, AppendError> {
        self.state.send_modify(|state| {
            let data = batch.iter().map(|event| event.data.clone()).collect();
            state.batches.push((stream.clone(), data));
            assert!(state.under_way.insert(stream.clone()), "two appends to {stream} at once");
            state.peak = state.peak.max(state.under_way.len());
        });
        let _under_way = UnderWay { state: &self.state, stream };
        let failure = self.failures.lock().pop_front();
        if self.held.load(Ordering::SeqCst) {
            self.gate.acquire().await.expect("never closed").forget();
        }
        match failure {
            Some(error) => Err(error),
            None => self.memory.append(stream, batch).await,
        }
    }

    async fn read(&self, stream: &StreamName, after: Offset, limit: ReadLimit) -> Result<Page, ReadError> {
        self.memory.read(stream, after, limit).await
    }

    async fn locate(&self, stream: &StreamName, start: Start) -> Result<Offset, ReadError> {
        self.memory.locate(stream, start).await
    }

    async fn follow(&self, stream: &StreamName) -> Result<Tail, ReadError> {
        self.memory.follow(stream).await
    }

    async fn status(&self, stream: &StreamName) -> Result<StreamStatus, ReadError> {
        self.memory.status(stream).await
    }

    async fn trim(&self) -> Result<(), ReadError> {
        self.memory.trim().await
    }

    fn level(&self, stream: &StreamName) -> Level {
        self.memory.level(stream)
    }

    async fn close(&self) {
        self.memory.close().await;
    }
}

/// Whoever publishes in a test.
pub(super) fn here() -> Sender {
    let from = ClientAddress::resolve(&[], std::net::Ipv4Addr::LOCALHOST.into(), []);
    Sender { from, caller: Caller::anybody(), identity: None }
}
