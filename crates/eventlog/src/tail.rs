//! The live end of a stream: a doorbell that carries the events.

use std::sync::Arc;

use evergate_domain::{Event, Offset, Seq};
use tokio::sync::broadcast::{self, error::RecvError};

/// Items a tail may lie behind before it is told that it lagged. An append never waits for a tail.
const ITEMS_MAX: usize = 128;

/// What a tail yields.
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

/// A follower's end.
#[derive(Debug)]
pub struct Tail {
    start: Offset,
    items: broadcast::Receiver<TailItem>,
}

impl Tail {
    /// The newest event when the tail began; everything after it comes.
    #[must_use]
    pub fn start(&self) -> Offset {
        self.start
    }

    /// The next item. Cancel-safe.
    pub async fn next(&mut self) -> TailItem {
        match self.items.recv().await {
            Ok(item) => item,
            Err(RecvError::Lagged(_)) => TailItem::Lagged,
            Err(RecvError::Closed) => TailItem::Closed,
        }
    }
}

/// The log's end, one per stream that is or was followed.
#[derive(Debug, Clone)]
pub struct TailSender(broadcast::Sender<TailItem>);

impl Default for TailSender {
    fn default() -> Self {
        Self(broadcast::Sender::new(ITEMS_MAX))
    }
}

impl TailSender {
    /// A new follower. The caller makes sure that nothing after `start` was sent before this.
    #[must_use]
    pub fn follow(&self, start: Offset) -> Tail {
        Tail { start, items: self.0.subscribe() }
    }

    /// Whether anybody follows.
    pub(crate) fn is_followed(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Hands events to every follower. Never waits.
    pub fn send(&self, events: &[Arc<Event>]) {
        if self.is_followed() && !events.is_empty() {
            // The last follower may leave between the two lines, which loses nothing.
            let _ = self.0.send(TailItem::Events(events.into()));
        }
    }

    /// Tells every follower that everything up to `floor` is gone. Never waits.
    pub fn trimmed(&self, floor: Seq) {
        if self.is_followed() {
            let _ = self.0.send(TailItem::Trimmed(floor));
        }
    }
}
