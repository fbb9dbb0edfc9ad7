//! The live end of a stream: a doorbell that carries the events.

use std::collections::VecDeque;
use std::sync::{Arc, Weak};

use evergate_domain::{Event, Offset, Seq};
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Items a [`Tail`] may lie behind before it is told that it lagged. An append never waits for it.
const ITEMS_MAX: usize = 128;

/// What comes along at the live end.
#[derive(Debug, Clone)]
pub enum TailItem {
    /// Events as one append committed them. Those at or before the follower's position are to be
    /// passed over.
    Events(Arc<[Arc<Event>]>),
    /// Retention removed everything up to this sequence. Comes with [`trim`](crate::EventLog::trim),
    /// so that nobody serves from memory for long what the log has let go; a hint, which may be lost.
    Trimmed(Seq),
    /// Something was skipped: read on from the log.
    Lagged,
    /// The log was closed.
    Closed,
}

/// A follower that is called instead of waiting.
///
/// It is called by whoever appends, in the order of the log and under the log's locks: it must be
/// quick, never wait, and never call the log.
pub trait TailSink: Send + Sync + 'static {
    /// Takes what came.
    fn take(&self, item: TailItem);
}

/// A follower's end.
#[derive(Debug)]
pub struct Tail {
    start: Offset,
    queue: Arc<Queue>,
    sender: Weak<Shared>,
}

impl Tail {
    /// The newest event when the tail began; everything after it comes.
    #[must_use]
    pub fn start(&self) -> Offset {
        self.start
    }

    /// The next item. Cancel-safe.
    pub async fn next(&mut self) -> TailItem {
        loop {
            if let Some(item) = self.queue.pop() {
                return item;
            }
            self.queue.bell.notified().await;
        }
    }

    /// From here on, and beginning with what is waiting already, items go to `sink` as long as it
    /// lives. Nothing is left out or comes twice.
    pub fn attach(self, sink: &Arc<impl TailSink>) {
        let Some(sender) = self.sender.upgrade() else {
            while let Some(item) = self.queue.pop() {
                sink.take(item);
            }
            return sink.take(TailItem::Closed);
        };
        // Nothing is sent while the lock is held.
        let mut sinks = sender.0.lock();
        while let Some(item) = self.queue.pop() {
            sink.take(item);
        }
        let sink = Arc::downgrade(sink);
        enlist(&mut sinks, sink);
    }
}

/// What waits for a [`Tail`]. Bounded: when it is full, all of it is dropped and the follower told.
#[derive(Debug, Default)]
struct Queue {
    items: Mutex<VecDeque<TailItem>>,
    bell: Notify,
}

impl Queue {
    fn pop(&self) -> Option<TailItem> {
        self.items.lock().pop_front()
    }
}

impl TailSink for Queue {
    fn take(&self, item: TailItem) {
        let mut items = self.items.lock();
        if items.len() >= ITEMS_MAX {
            items.clear();
            items.push_back(TailItem::Lagged);
        }
        items.push_back(item);
        self.bell.notify_one();
    }
}

/// The log's end, one per stream that is or was followed. Tails end when the last clone is dropped.
#[derive(Debug, Clone, Default)]
pub struct TailSender(Arc<Shared>);

#[derive(Default)]
struct Shared(Mutex<Vec<Weak<dyn TailSink>>>);

impl TailSender {
    /// A new follower. The caller makes sure that nothing after `start` was sent before this.
    #[must_use]
    pub fn follow(&self, start: Offset) -> Tail {
        let queue = Arc::<Queue>::default();
        let sink: Weak<Queue> = Arc::downgrade(&queue);
        enlist(&mut self.0.0.lock(), sink);
        Tail { start, queue, sender: Arc::downgrade(&self.0) }
    }

    /// Whether anybody follows.
    pub(crate) fn is_followed(&self) -> bool {
        self.0.0.lock().iter().any(|sink| sink.strong_count() > 0)
    }

    /// Hands events to every follower. Never waits.
    pub fn send(&self, events: &[Arc<Event>]) {
        if !events.is_empty() {
            self.0.tell(|| TailItem::Events(events.into()));
        }
    }

    /// Tells every follower that something was skipped. Never waits.
    pub fn lagged(&self) {
        self.0.tell(|| TailItem::Lagged);
    }

    /// Tells every follower that everything up to `floor` is gone. Never waits.
    pub fn trimmed(&self, floor: Seq) {
        self.0.tell(|| TailItem::Trimmed(floor));
    }
}

/// Adds a sink, and takes those out that are gone: on a quiet stream nothing else would.
fn enlist(sinks: &mut Vec<Weak<dyn TailSink>>, sink: Weak<dyn TailSink>) {
    sinks.retain(|sink| sink.strong_count() > 0);
    sinks.push(sink);
}

impl Shared {
    fn tell(&self, item: impl FnOnce() -> TailItem) {
        let mut sinks = self.0.lock();
        // Made only if somebody wants it.
        let mut item = Some(item);
        let mut made: Option<TailItem> = None;
        sinks.retain(|sink| {
            let Some(sink) = sink.upgrade() else { return false };
            let item = made.get_or_insert_with(|| item.take().expect("made once")());
            sink.take(item.clone());
            true
        });
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.tell(|| TailItem::Closed);
    }
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Noted(Mutex<Vec<u64>>);

    impl TailSink for Noted {
        fn take(&self, item: TailItem) {
            self.0.lock().push(match item {
                TailItem::Trimmed(seq) => seq.get(),
                TailItem::Closed => 0,
                TailItem::Events(_) | TailItem::Lagged => panic!("{item:?}"),
            });
        }
    }

    fn seq(n: u64) -> Seq {
        Seq::new(n).expect("fits")
    }

    #[test]
    fn a_sink_gets_what_was_waiting_then_what_comes_then_the_end() {
        let sender = TailSender::default();
        let tail = sender.follow(Offset::BEGINNING);
        sender.trimmed(seq(1));
        let sink = Arc::<Noted>::default();
        tail.attach(&sink);
        sender.trimmed(seq(2));
        drop(sender);
        assert_eq!(*sink.0.lock(), [1, 2, 0]);
    }

    #[test]
    fn a_sink_that_comes_too_late_hears_of_the_end() {
        let sender = TailSender::default();
        let tail = sender.follow(Offset::BEGINNING);
        sender.trimmed(seq(1));
        drop(sender);
        let sink = Arc::<Noted>::default();
        tail.attach(&sink);
        assert_eq!(sink.0.lock().first(), Some(&1));
        assert_eq!(sink.0.lock().last(), Some(&0));
    }

    #[test]
    fn followers_that_come_and_go_leave_nothing_behind_although_nothing_is_told() {
        let sender = TailSender::default();
        let stays = sender.follow(Offset::BEGINNING);
        for _ in 0..100 {
            sender.follow(Offset::BEGINNING).attach(&Arc::<Noted>::default());
        }
        // The last one, who is known to be gone only when the next one comes.
        assert!(sender.0.0.lock().len() <= 3, "{}", sender.0.0.lock().len());
        drop(stays);
    }

    #[test]
    fn nobody_follows_once_the_followers_are_gone() {
        let sender = TailSender::default();
        let tail = sender.follow(Offset::BEGINNING);
        assert!(sender.is_followed());
        let sink = Arc::<Noted>::default();
        tail.attach(&sink);
        assert!(sender.is_followed());
        drop(sink);
        assert!(!sender.is_followed());
    }
}
