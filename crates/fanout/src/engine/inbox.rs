//! How a shard, or a bundle, learns that one of its streams moved on; and a bundle, that one of its outlets
//! is to be looked at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Wake, Waker};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::traced::Traced;

/// Those of many that have news since it was looked. Bounded by how many there are: each is in it once at
/// the most, or twice while it is asked (see [`Listener::ask`]).
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    news: Mutex<Vec<usize>>,
    cuts: AtomicBool,
    bell: Notify,
    /// Whether its listeners hear which news are traced.
    traces: bool,
}

/// The line of one of them to its inbox; also as a waker.
#[derive(Debug)]
pub(crate) struct Listener {
    inbox: Arc<Inbox>,
    number: usize,
    marked: AtomicBool,
    /// Which of the news are traced, where that is heard.
    traced: Option<Box<Mutex<Vec<Traced>>>>,
}

/// Batches of a stream that wait to be swept and are traced; beyond it they are not.
const TRACED_MAX: usize = 64;

impl Inbox {
    /// Whose listeners also hear which news are traced. A shard's do; a bundle serves one connection, and
    /// makes no spans.
    pub(crate) fn that_hears_of_traces() -> Arc<Self> {
        Arc::new(Self { traces: true, ..Self::default() })
    }

    pub(crate) fn listener(self: &Arc<Self>, number: usize) -> Arc<Listener> {
        let traced = self.traces.then(Box::default);
        Arc::new(Listener { inbox: Arc::clone(self), number, marked: AtomicBool::new(false), traced })
    }

    /// Who has news. Whoever takes one clears its mark before looking.
    pub(crate) fn take(&self) -> Vec<usize> {
        std::mem::take(&mut *self.news.lock())
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

    /// Cancel-safe.
    pub(crate) async fn rung(&self) {
        self.bell.notified().await;
    }
}

impl Listener {
    /// Says that there is news. Cheap, and never waits for whoever looks.
    pub(crate) fn mark(&self) {
        if !self.marked.swap(true, Ordering::AcqRel) {
            self.inbox.news.lock().push(self.number);
            self.inbox.bell.notify_one();
        }
    }

    /// Says which of the news are traced, before they are marked. False if there is no room.
    pub(crate) fn trace(&self, news: &[Traced]) -> bool {
        let Some(traced) = &self.traced else { return true };
        let mut traced = traced.lock();
        let fits = traced.len() + news.len() <= TRACED_MAX;
        if fits {
            traced.extend_from_slice(news);
        }
        fits
    }

    /// Which of the news that were marked are traced, each told once.
    pub(crate) fn take_traced(&self) -> Vec<Traced> {
        self.traced.as_ref().map(|traced| std::mem::take(&mut *traced.lock())).unwrap_or_default()
    }

    /// Before looking: what comes after this marks again.
    pub(crate) fn clear(&self) {
        // A swap, so that whatever the marker wrote before its own is seen by the look that follows.
        self.marked.swap(false, Ordering::AcqRel);
    }

    /// Looks with this as the waker, which says nothing meanwhile: what it would say is the answer.
    pub(crate) fn ask<T>(self: &Arc<Self>, look: impl FnOnce(&mut Context<'_>) -> T) -> T {
        let waker = Waker::from(Arc::clone(self));
        self.marked.store(true, Ordering::Release);
        let answer = look(&mut Context::from_waker(&waker));
        self.clear();
        answer
    }
}

impl Wake for Listener {
    fn wake(self: Arc<Self>) {
        self.mark();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.mark();
    }
}
