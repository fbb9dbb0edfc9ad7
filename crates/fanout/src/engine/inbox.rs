//! How a shard, or a bundle, learns that one of its streams moved on.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The streams of a shard that moved since it looked. Bounded by the streams it has: each is in it
/// once at the most.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    moved: Mutex<Vec<usize>>,
    cuts: AtomicBool,
    bell: Notify,
}

/// One stream's line to a shard.
#[derive(Debug)]
pub(crate) struct Listener {
    inbox: Arc<Inbox>,
    lane: usize,
    marked: AtomicBool,
}

impl Inbox {
    pub(crate) fn listener(self: &Arc<Self>, lane: usize) -> Arc<Listener> {
        Arc::new(Listener { inbox: Arc::clone(self), lane, marked: AtomicBool::new(false) })
    }

    /// The lanes that moved. Whoever takes one clears its mark before looking at the stream.
    pub(crate) fn take(&self) -> Vec<usize> {
        std::mem::take(&mut *self.moved.lock())
    }

    /// Has the shard look for connections that are to be reset, or whether all are.
    pub(crate) fn ask_for_cuts(&self) {
        self.cuts.store(true, Ordering::Release);
        self.bell.notify_one();
    }

    /// Whether it was asked since the last time.
    pub(crate) fn cuts_asked(&self) -> bool {
        self.cuts.swap(false, Ordering::AcqRel)
    }

    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }
}

impl Listener {
    /// Says that the stream moved. Cheap, and never waits for the shard.
    pub(crate) fn mark(&self) {
        if !self.marked.swap(true, Ordering::AcqRel) {
            self.inbox.moved.lock().push(self.lane);
            self.inbox.bell.notify_one();
        }
    }

    /// Before looking: what moves after this marks again.
    pub(crate) fn clear(&self) {
        // A swap, so that whatever the marker wrote before its own is seen by the look that follows.
        self.marked.swap(false, Ordering::AcqRel);
    }
}
