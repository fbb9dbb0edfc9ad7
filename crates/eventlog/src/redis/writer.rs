//! The one task through which appends pass: a lane per stream, one call at a time in each.
//!
//! What arrives while a stream's call is under way rides on the next one, so batches grow with load
//! by themselves, and the order of a stream is the order of its queue whatever is retried.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use evergate_domain::{EventDraft, StreamName};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::Shared;
use super::call::{Batch, Call};

/// Events and bytes of one call, so that none holds Redis up for long. One batch of any size goes.
const CALL_EVENTS_MAX: usize = 1000;
const CALL_BYTES_MAX: u64 = 1 << 20;
/// Lanes that are kept while nothing happens in them.
const IDLE_LANES_MAX: usize = 100_000;

/// What the writer is asked for.
pub(super) enum Request {
    Append(StreamName, Batch),
    /// Commit what is written. May be dropped: it is asked for again.
    Commit(StreamName),
}

#[derive(Default)]
struct Lane {
    queue: VecDeque<Batch>,
    commit: bool,
    busy: bool,
    /// The next number for an event without a producer.
    next_own: u64,
}

pub(super) struct Writer {
    shared: Arc<Shared>,
    lanes: HashMap<StreamName, Lane>,
    /// Where lanes begin to number: above every lane that was let go.
    first_own: u64,
    calls: JoinSet<StreamName>,
}

impl Writer {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self { shared, lanes: HashMap::new(), first_own: 1, calls: JoinSet::new() }
    }

    /// Runs until the queue is closed and everything in it is answered.
    pub(super) async fn run(mut self, mut requests: mpsc::Receiver<Request>) {
        let mut open = true;
        while open || !self.calls.is_empty() {
            tokio::select! {
                biased;
                Some(done) = self.calls.join_next() => match done {
                    Ok(stream) => self.go_on(&stream),
                    // Its callers see their answers dropped. The lane stays shut, because the order
                    // of what comes cannot be told any more.
                    Err(error) => tracing::error!(%error, "an append to Redis broke down"),
                },
                request = requests.recv(), if open => match request {
                    Some(request) => self.take(request),
                    None => open = false,
                },
            }
        }
    }

    fn take(&mut self, request: Request) {
        let first_own = self.first_own;
        let new = || Lane { next_own: first_own, ..Lane::default() };
        let stream = match request {
            Request::Append(stream, batch) => {
                self.lanes.entry(stream.clone()).or_insert_with(new).queue.push_back(batch);
                stream
            }
            Request::Commit(stream) => {
                self.lanes.entry(stream.clone()).or_insert_with(new).commit = true;
                stream
            }
        };
        self.start(&stream);
    }

    fn go_on(&mut self, stream: &StreamName) {
        let many = self.lanes.len() > IDLE_LANES_MAX;
        if let Some(lane) = self.lanes.get_mut(stream) {
            lane.busy = false;
            if lane.queue.is_empty() && !lane.commit && many {
                self.first_own = self.first_own.max(lane.next_own);
                self.lanes.remove(stream);
                return;
            }
        }
        self.start(stream);
    }

    fn start(&mut self, stream: &StreamName) {
        let Some(lane) = self.lanes.get_mut(stream) else { return };
        if lane.busy || (lane.queue.is_empty() && !lane.commit) {
            return;
        }
        let (mut events, mut bytes) = (0, 0);
        let mut batches = Vec::new();
        let mut own = 0;
        while let Some(next) = lane.queue.front() {
            let more_bytes: u64 = next.events.iter().map(EventDraft::bytes).sum();
            let full = events + next.events.len() > CALL_EVENTS_MAX || bytes + more_bytes > CALL_BYTES_MAX;
            if full && !batches.is_empty() {
                break;
            }
            events += next.events.len();
            bytes += more_bytes;
            own += next.events.iter().filter(|event| event.producer.is_none()).count() as u64;
            batches.extend(lane.queue.pop_front());
        }
        lane.commit = false;
        lane.busy = true;
        metrics::histogram!("evergate_redis_call_events").record(events as f64);
        let call = Call { stream: stream.clone(), batches, first_own: lane.next_own };
        lane.next_own += own;
        self.calls.spawn(call.run(Arc::clone(&self.shared)));
    }
}
