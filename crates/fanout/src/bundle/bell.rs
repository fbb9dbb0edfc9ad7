//! How a bundle learns that one of its outlets is to be looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use parking_lot::Mutex;
use tokio::sync::Notify;

/// The slots whose bells were rung. Bounded by the slots there are: each is in it once at the most, or
/// twice while its bell is muted.
#[derive(Debug, Default)]
pub(super) struct Bells {
    rung: Mutex<Vec<usize>>,
    any: Notify,
}

/// One outlet's line to its bundle, as a waker.
#[derive(Debug)]
pub(super) struct Bell {
    bells: Arc<Bells>,
    slot: usize,
    marked: AtomicBool,
}

impl Bells {
    pub(super) fn bell(self: &Arc<Self>, slot: usize) -> Arc<Bell> {
        Arc::new(Bell { bells: Arc::clone(self), slot, marked: AtomicBool::new(false) })
    }

    /// Who rang. Whoever takes one clears its mark before looking.
    pub(super) fn take(&self) -> Vec<usize> {
        std::mem::take(&mut *self.rung.lock())
    }

    /// Cancel-safe.
    pub(super) async fn rung(&self) {
        self.any.notified().await;
    }
}

impl Bell {
    pub(super) fn clear(&self) {
        self.marked.store(false, Ordering::Release);
    }

    /// Has an outlet looked at with this bell, which it does not ring meanwhile: what it would say is the
    /// answer it gives.
    pub(super) fn ask<T>(self: &Arc<Self>, look: impl FnOnce(&mut Context<'_>) -> T) -> T {
        let waker = Waker::from(Arc::clone(self));
        self.marked.store(true, Ordering::Release);
        let answer = look(&mut Context::from_waker(&waker));
        self.clear();
        answer
    }
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.marked.swap(true, Ordering::AcqRel) {
            self.bells.rung.lock().push(self.slot);
            self.bells.any.notify_one();
        }
    }
}
