//! A log that lives and dies with this process: for tests, simulation and trying things out.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use evergate_domain::{
    Event, EventDraft, Level, Offset, Retention, Seq, Start, StreamName, StreamPolicies, UnixMillis,
};
use parking_lot::{Mutex, RwLock};

use crate::{
    AppendError, Clock, Epochs, EventLog, Page, Placed, ReadError, ReadLimit, Standing, StreamHead,
    StreamStatus, Tail, TailSender,
};

/// The log in memory.
///
/// Each one opens an epoch of its own, so a cursor from an earlier process is told that its
/// position is unknown instead of being matched with another history.
#[derive(Debug)]
pub struct MemoryLog {
    epochs: Epochs,
    policies: Arc<StreamPolicies>,
    clock: Arc<dyn Clock>,
    closed: AtomicBool,
    streams: RwLock<HashMap<StreamName, Arc<Mutex<Stream>>>>,
}

#[derive(Debug, Default)]
struct Stream {
    head: StreamHead,
    /// Dense: the first one's sequence is the head's floor + 1.
    events: VecDeque<Arc<Event>>,
    bytes: u64,
    tail: TailSender,
    closed: bool,
}

impl MemoryLog {
    /// An empty log.
    #[must_use]
    pub fn new(policies: Arc<StreamPolicies>, clock: Arc<dyn Clock>) -> Self {
        Self {
            epochs: Epochs::open(Vec::new(), clock.now()),
            policies,
            clock,
            closed: AtomicBool::new(false),
            streams: RwLock::default(),
        }
    }

    fn stream(&self, name: &StreamName) -> Arc<Mutex<Stream>> {
        if let Some(stream) = self.streams.read().get(name) {
            return Arc::clone(stream);
        }
        Arc::clone(self.streams.write().entry(name.clone()).or_default())
    }

    fn open(&self) -> Result<(), ReadError> {
        if self.closed.load(Ordering::Acquire) { Err(ReadError::Closed) } else { Ok(()) }
    }
}

#[async_trait]
impl EventLog for MemoryLog {
    async fn append(&self, name: &StreamName, batch: Vec<EventDraft>) -> Result<Vec<Placed>, AppendError> {
        self.open().map_err(|_| AppendError::Closed)?;
        let now = self.clock.now();
        let stream = self.stream(name);
        let mut stream = stream.lock();
        if stream.closed {
            return Err(AppendError::Closed);
        }
        let plan = stream.head.plan(self.epochs.current(), now, batch)?;
        stream.head.commit(&plan, |_| {});
        stream.bytes += plan.events.iter().map(|event| event.bytes()).sum::<u64>();
        stream.events.extend(plan.events.iter().cloned());
        // Under the lock, so that tails see the order of the log.
        stream.tail.send(&plan.events);
        stream.trim(self.policies.retention(name), now);
        Ok(plan.answer)
    }

    async fn read(&self, name: &StreamName, after: Offset, limit: ReadLimit) -> Result<Page, ReadError> {
        self.open()?;
        let stream = self.stream(name);
        let stream = stream.lock();
        Ok(match stream.head.judge(after, &self.epochs) {
            Standing::Gap(gap) => Page::Gap(gap),
            Standing::After(seq) => stream.page(seq, limit),
        })
    }

    async fn locate(&self, name: &StreamName, start: Start) -> Result<Offset, ReadError> {
        self.open()?;
        let stream = self.stream(name);
        let stream = stream.lock();
        let floor = stream.head.floor;
        let seq = match start {
            Start::After(offset) => return Ok(offset),
            Start::Latest => stream.head.lineage.tail_seq(),
            Start::Earliest => floor,
            Start::Last(n) => {
                let tail = stream.head.lineage.tail_seq().get();
                Seq::new(tail.saturating_sub(n)).unwrap_or(Seq::ZERO).max(floor)
            }
            Start::Time(time) => floor.plus(stream.events.partition_point(|event| event.time < time) as u64),
        };
        Ok(stream.head.lineage.cursor_at(seq, self.epochs.current()))
    }

    async fn follow(&self, name: &StreamName) -> Result<Tail, ReadError> {
        self.open()?;
        let stream = self.stream(name);
        let stream = stream.lock();
        if stream.closed {
            return Err(ReadError::Closed);
        }
        Ok(stream.tail.follow(stream.head.tail(self.epochs.current())))
    }

    async fn status(&self, name: &StreamName) -> Result<StreamStatus, ReadError> {
        self.open()?;
        let stream = self.stream(name);
        let stream = stream.lock();
        let current = self.epochs.current();
        Ok(StreamStatus {
            tail: stream.head.tail(current),
            appended: stream.head.tail(current),
            floor: stream.head.floor(current),
            bytes: stream.bytes,
        })
    }

    async fn trim(&self) -> Result<(), ReadError> {
        self.open()?;
        let now = self.clock.now();
        let streams: Vec<_> = self.streams.read().iter().map(|(n, s)| (n.clone(), Arc::clone(s))).collect();
        for (name, stream) in streams {
            let mut stream = stream.lock();
            stream.trim(self.policies.retention(&name), now);
            stream.tail.trimmed(stream.head.floor);
        }
        Ok(())
    }

    fn level(&self, _: &StreamName) -> Level {
        Level::Home
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Release);
        for stream in self.streams.write().values() {
            let mut stream = stream.lock();
            stream.closed = true;
            // Dropping the sender is what ends the tails.
            stream.tail = TailSender::default();
        }
    }
}

impl Stream {
    fn page(&self, after: Seq, limit: ReadLimit) -> Page {
        let from = usize::try_from(after.get() - self.head.floor.get()).unwrap_or(usize::MAX);
        let mut bytes = 0;
        let events: Vec<_> = self
            .events
            .range(from.min(self.events.len())..)
            .take(limit.events.max(1))
            .take_while(|event| {
                let more = bytes < limit.bytes.max(1);
                bytes += event.bytes();
                more
            })
            .cloned()
            .collect();
        let at_end = from + events.len() >= self.events.len();
        Page::Events { events, at_end }
    }

    fn trim(&mut self, retention: Retention, now: UnixMillis) {
        let oldest =
            retention.age.map(|age| now.minus_millis(age.as_millis().try_into().unwrap_or(u64::MAX)));
        while let Some(first) = self.events.front() {
            let many = retention.events.is_some_and(|max| self.events.len() as u64 > max);
            let large = retention.bytes.is_some_and(|max| self.bytes > max);
            let old = oldest.is_some_and(|oldest| first.time < oldest);
            if !(many || large || old) {
                return;
            }
            self.bytes -= first.bytes();
            self.head.floor = first.offset.seq;
            self.events.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::{self, Subject};

    struct Memory;

    #[async_trait]
    impl Subject for Memory {
        async fn open(&self, policies: StreamPolicies, clock: Arc<dyn Clock>) -> Arc<dyn EventLog> {
            Arc::new(MemoryLog::new(Arc::new(policies), clock))
        }
    }

    conformance::suite!(Memory);
}
