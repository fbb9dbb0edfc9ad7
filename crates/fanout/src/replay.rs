//! Pages of the log, read once for everybody who needs them.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use evergate_domain::{Gap, Offset, Seq, StreamName};
use evergate_eventlog::{EventLog, Page, ReadError, ReadLimit};
use parking_lot::Mutex;
use tokio::sync::OnceCell;

use crate::frame::Frame;

/// What a frame costs beside its payload, roughly.
const FRAME_OVERHEAD: u64 = 256;

/// A run of frames directly after some cursor; empty at the end of the log.
pub(crate) type Run = Arc<Vec<Arc<Frame>>>;

/// What the log said instead of a run.
#[derive(Debug, Clone)]
pub(crate) enum NoRun {
    /// Continuity is broken.
    Gap(Gap),
    /// Not known yet.
    Hold,
    /// The log could not be read.
    Failed(ReadError),
}

type Key = (StreamName, Offset);
type Slot = Arc<OnceCell<Run>>;

/// A cache of runs, first in first out, bounded in bytes.
///
/// A run ends at a multiple of the page size, so readers that begin anywhere soon share the same
/// ones, and several who want the same one at once wait for one read. Only runs are kept, never an
/// end of the log or a gap: those change, a run does not.
pub(crate) struct Replay {
    log: Arc<dyn EventLog>,
    page: ReadLimit,
    /// The whole bound, and what of it holds now.
    bytes_max: u64,
    bound: AtomicU64,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    slots: HashMap<Key, Slot>,
    /// In the order they were filled, each with its size.
    filled: VecDeque<(Key, u64)>,
    bytes: u64,
}

impl Cache {
    /// Lets go of the oldest until it fits.
    fn within(&mut self, bytes_max: u64) {
        while self.bytes > bytes_max {
            let Some((oldest, bytes)) = self.filled.pop_front() else { return };
            self.bytes -= bytes;
            self.slots.remove(&oldest);
        }
    }
}

impl Replay {
    pub(crate) fn new(log: Arc<dyn EventLog>, page: ReadLimit, bytes_max: u64) -> Self {
        Self { log, page, bytes_max, bound: AtomicU64::new(bytes_max), cache: Mutex::default() }
    }

    /// The events directly after `cursor`, as the log judges it.
    pub(crate) async fn after(&self, stream: &StreamName, cursor: Offset) -> Result<Run, NoRun> {
        let key = (stream.clone(), cursor);
        let slot = Arc::clone(self.cache.lock().slots.entry(key.clone()).or_default());
        // If this call is dropped while it waits, the slot must not stay behind empty.
        let mut asking = Asking { replay: self, key: &key, slot: &slot, answered: false };
        let mut filled_here = false;
        let run = slot
            .get_or_try_init(|| async {
                let run = self.read(stream, cursor).await?;
                filled_here = true;
                Ok(run)
            })
            .await;
        asking.answered = true;
        drop(asking);
        if run.is_ok() {
            let from = if filled_here { "log" } else { "cache" };
            metrics::counter!("evergate_replay_pages_total", "from" => from).increment(1);
        }
        match &run {
            Ok(run) if filled_here && !run.is_empty() => self.keep(key.clone(), run),
            Ok(run) if !run.is_empty() => {}
            // An end, a gap or a failure: the next one who asks must ask the log again.
            Ok(_) | Err(_) => self.forget(&key, &slot),
        }
        run.map(Arc::clone)
    }

    async fn read(&self, stream: &StreamName, cursor: Offset) -> Result<Run, NoRun> {
        let size = self.page.events.max(1);
        let into_page = usize::try_from(cursor.seq.get() % size as u64).unwrap_or(0);
        let limit = ReadLimit { events: size - into_page, bytes: self.page.bytes };
        match self.log.read(stream, cursor, limit).await {
            Ok(Page::Events { events, .. }) => {
                Ok(Arc::new(events.into_iter().map(|event| Arc::new(Frame::new(event))).collect()))
            }
            Ok(Page::Gap(gap)) => Err(NoRun::Gap(gap)),
            Ok(Page::Hold { .. }) => Err(NoRun::Hold),
            Err(error) => Err(NoRun::Failed(error)),
        }
    }

    fn keep(&self, key: Key, run: &Run) {
        // Payloads count twice: as the event and, once somebody took it, as its encoding.
        let bytes = run.iter().map(|frame| 2 * frame.event().bytes() + FRAME_OVERHEAD).sum();
        let mut cache = self.cache.lock();
        cache.bytes += bytes;
        cache.filled.push_back((key, bytes));
        cache.within(self.bound.load(Ordering::Relaxed));
    }

    /// Has only a part of its bound from now on, one of so many; all of it with 1.
    pub(crate) fn shrink(&self, parts: u32) {
        let bound = self.bytes_max / u64::from(parts);
        self.bound.store(bound, Ordering::Relaxed);
        self.cache.lock().within(bound);
    }

    /// Lets go of what retention removed: the log will tell the next one who asks.
    pub(crate) fn trim(&self, stream: &StreamName, floor: Seq) {
        self.let_go(|(of, cursor)| of == stream && cursor.seq < floor);
    }

    /// Lets go of everything of a stream: its history was cut off, and some of this with it.
    pub(crate) fn cut_off(&self, stream: &StreamName) {
        self.let_go(|(of, _)| of == stream);
    }

    fn let_go(&self, which: impl Fn(&Key) -> bool) {
        let mut cache = self.cache.lock();
        let Cache { slots, filled, bytes } = &mut *cache;
        filled.retain(|(key, of_key)| {
            let gone = which(key);
            if gone {
                slots.remove(key);
                *bytes -= of_key;
            }
            !gone
        });
    }

    fn forget(&self, key: &Key, slot: &Slot) {
        let mut cache = self.cache.lock();
        if cache.slots.get(key).is_some_and(|kept| Arc::ptr_eq(kept, slot)) {
            cache.slots.remove(key);
        }
    }
}

/// A question under way.
struct Asking<'a> {
    replay: &'a Replay,
    key: &'a Key,
    slot: &'a Slot,
    answered: bool,
}

impl Drop for Asking<'_> {
    fn drop(&mut self) {
        // Nobody else waits for it if only the cache and this call know the slot.
        if !self.answered && !self.slot.initialized() && Arc::strong_count(self.slot) == 2 {
            self.replay.forget(self.key, self.slot);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evergate_domain::{EventDraft, Retention, StreamPolicies};
    use evergate_eventlog::{MemoryLog, SystemClock};

    async fn log_with(events: u64) -> (Arc<dyn EventLog>, StreamName) {
        let policies = Arc::new(StreamPolicies::open(Retention::FOREVER));
        let log = MemoryLog::new(policies, Arc::new(SystemClock));
        let name = StreamName::new("s").expect("valid");
        log.append(&name, (0..events).map(|n| EventDraft::new(n.to_string())).collect())
            .await
            .expect("appends");
        (Arc::new(log), name)
    }

    const PAGE: ReadLimit = ReadLimit { events: 10, bytes: u64::MAX };

    #[tokio::test]
    async fn readers_that_begin_anywhere_soon_share_runs() {
        let (log, name) = log_with(100).await;
        let start = log.locate(&name, evergate_domain::Start::Earliest).await.expect("locates");
        let replay = Replay::new(log, PAGE, 1 << 20);
        let first = replay.after(&name, start).await.expect("a run");
        assert_eq!(first.len(), 10);
        let odd = replay.after(&name, first[2].offset()).await.expect("a run");
        assert_eq!(odd.len(), 7, "up to the page's end");
        let (a, b) = (odd[6].offset(), first[9].offset());
        let (one, other) =
            (replay.after(&name, a).await.expect("a run"), replay.after(&name, b).await.expect("a run"));
        assert!(Arc::ptr_eq(&one, &other));
    }

    #[tokio::test]
    async fn an_end_is_asked_for_again_and_the_bound_holds() {
        let (log, name) = log_with(95).await;
        let start = log.locate(&name, evergate_domain::Start::Earliest).await.expect("locates");
        let replay = Replay::new(Arc::clone(&log), PAGE, 3_000);
        let mut cursor = start;
        loop {
            let run = replay.after(&name, cursor).await.expect("a run");
            let Some(last) = run.last() else { break };
            cursor = last.offset();
        }
        assert_eq!(cursor.seq.get(), 95);
        let cache = replay.cache.lock().bytes;
        assert!(cache <= 3_000 && cache > 0, "{cache}");
        replay.trim(&name, Seq::new(90).expect("fits"));
        assert!(replay.cache.lock().filled.iter().all(|((_, cursor), _)| cursor.seq.get() >= 90));
        log.append(&name, vec![EventDraft::new("more")]).await.expect("appends");
        assert_eq!(replay.after(&name, cursor).await.expect("a run").len(), 1);
    }
}
