//! The live end of a stream: a doorbell that carries the events.

use std::sync::Arc;

use evergate_domain::{Event, Offset};
use tokio::sync::broadcast::{self, error::RecvError};

/// Batches a tail may lie behind before it is told that it lagged. An append never waits for a tail.
const BATCHES_MAX: usize = 128;

/// What a tail yields.
#[derive(Debug, Clone)]
pub enum TailItem {
    /// Events as one append committed them. Those at or before the follower's position are to be
    /// passed over.
    Events(Arc<[Arc<Event>]>),
    /// Something was skipped: read on from the log.
    Lagged,
    /// The log was closed.
    Closed,
}

/// A follower's end.
#[derive(Debug)]
pub struct Tail {
    start: Offset,
    batches: broadcast::Receiver<Arc<[Arc<Event>]>>,
}

impl Tail {
    /// The newest event when the tail began; everything after it comes.
    #[must_use]
    pub fn start(&self) -> Offset {
        self.start
    }

    /// The next item. Cancel-safe.
    pub async fn next(&mut self) -> TailItem {
        match self.batches.recv().await {
            Ok(events) => TailItem::Events(events),
            Err(RecvError::Lagged(_)) => TailItem::Lagged,
            Err(RecvError::Closed) => TailItem::Closed,
        }
    }
}

/// The log's end, one per stream that is or was followed.
#[derive(Debug, Clone)]
pub struct TailSender(broadcast::Sender<Arc<[Arc<Event>]>>);

impl Default for TailSender {
    fn default() -> Self {
        Self(broadcast::Sender::new(BATCHES_MAX))
    }
}

impl TailSender {
    /// A new follower. The caller makes sure that nothing after `start` was sent before this.
    #[must_use]
    pub fn follow(&self, start: Offset) -> Tail {
        Tail { start, batches: self.0.subscribe() }
    }

    /// Whether anybody follows.
    pub(crate) fn is_followed(&self) -> bool {
        self.0.receiver_count() > 0
    }

    /// Hands events to every follower. Never waits.
    pub fn send(&self, events: &[Arc<Event>]) {
        if self.is_followed() && !events.is_empty() {
            // The last follower may leave between the two lines, which loses nothing.
            let _ = self.0.send(events.into());
        }
    }
}
