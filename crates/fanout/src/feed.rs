//! The live end of one stream on this node: one ring, filled by whoever appends, and everybody's
//! bell.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use evergate_domain::{Event, StreamName};
use evergate_eventlog::{EventLog, Page, ReadError, TailItem, TailSink};
use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::config::HubConfig;
use crate::engine::Listener;
use crate::frame::Frame;
use crate::replay::Replay;
use crate::ring::Ring;

/// What all feeds of a hub share.
pub(crate) struct Common {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) config: HubConfig,
    pub(crate) replay: Replay,
    /// Repairs under way.
    pub(crate) repairs: TaskTracker,
    /// How many feeds there are.
    pub(crate) alive: AtomicUsize,
}

/// A stream that somebody here follows. Lives as long as its subscribers.
///
/// The log itself calls it with what was appended, so between an append and the ring lies no queue
/// and no task. Only a hole in what comes needs one: it reads what is missing.
pub(crate) struct Feed {
    name: StreamName,
    common: Arc<Common>,
    ring: RwLock<Ring>,
    bell: watch::Sender<()>,
    listeners: RwLock<Vec<Arc<Listener>>>,
    closed: AtomicBool,
    repair: AtomicU8,
    me: Weak<Self>,
    runtime: Handle,
    /// Ends a repair when the last subscriber lets go.
    stop: CancellationToken,
    _stop: DropGuard,
}

/// States of a repair.
const WHOLE: u8 = 0;
const REPAIRING: u8 = 1;
/// Another hole came up meanwhile.
const AGAIN: u8 = 2;

impl Feed {
    /// Follows the stream.
    pub(crate) async fn start(common: &Arc<Common>, name: StreamName) -> Result<Arc<Self>, ReadError> {
        let tail = common.log.follow(&name).await?;
        let stop = CancellationToken::new();
        common.alive.fetch_add(1, Ordering::Relaxed);
        let feed = Arc::new_cyclic(|me| Self {
            ring: RwLock::new(Ring::new(tail.start(), common.config.ring_events, common.config.ring_bytes)),
            name,
            common: Arc::clone(common),
            bell: watch::Sender::new(()),
            listeners: RwLock::default(),
            closed: AtomicBool::new(false),
            repair: AtomicU8::new(WHOLE),
            me: Weak::clone(me),
            runtime: Handle::current(),
            _stop: stop.clone().drop_guard(),
            stop,
        });
        tail.attach(&feed);
        Ok(feed)
    }

    pub(crate) fn name(&self) -> &StreamName {
        &self.name
    }

    pub(crate) fn ring(&self) -> &RwLock<Ring> {
        &self.ring
    }

    /// Rings whenever the ring changed or the log closed.
    pub(crate) fn bell(&self) -> watch::Receiver<()> {
        self.bell.subscribe()
    }

    /// Has a shard told whenever the ring changed or the log closed.
    pub(crate) fn listen(&self, listener: Arc<Listener>) {
        self.listeners.write().push(listener);
    }

    /// No longer tells this listener.
    pub(crate) fn unlisten(&self, listener: &Arc<Listener>) {
        self.listeners.write().retain(|other| !Arc::ptr_eq(other, listener));
    }

    /// Whether the log was closed, so that nothing will come any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    fn ring_bells(&self) {
        self.bell.send_replace(());
        for listener in self.listeners.read().iter() {
            listener.mark();
        }
    }

    /// Takes what follows the ring's head. False if there is a hole before it.
    fn append(&self, events: &[Arc<Event>]) -> bool {
        let mut ring = self.ring.write();
        for event in events {
            if event.offset.seq <= ring.head().seq {
                continue;
            }
            if event.offset.seq != ring.head().seq.plus(1) {
                return false;
            }
            ring.push(Arc::new(Frame::new(Arc::clone(event))));
        }
        true
    }

    fn repair(&self) {
        let again = |state| Some(if state == WHOLE { REPAIRING } else { AGAIN });
        if self.repair.fetch_update(Ordering::AcqRel, Ordering::Acquire, again) != Ok(WHOLE) {
            return;
        }
        metrics::counter!("evergate_tail_repairs_total").increment(1);
        let (me, stop) = (Weak::clone(&self.me), self.stop.clone());
        let repair = async move {
            // Ending in the middle loses nothing: the ring ends with it.
            let _: Option<()> = stop.run_until_cancelled_owned(repair(me)).await;
        };
        // By handle, because a log may call from a thread of its own.
        self.common.repairs.spawn_on(repair, &self.runtime);
    }
}

impl TailSink for Feed {
    fn take(&self, item: TailItem) {
        match item {
            TailItem::Events(events) => {
                if !self.append(&events) {
                    self.repair();
                }
            }
            TailItem::Trimmed(floor) => {
                self.ring.write().trim(floor);
                self.common.replay.trim(&self.name, floor);
            }
            TailItem::Lagged => self.repair(),
            TailItem::Closed => self.closed.store(true, Ordering::Release),
        }
        self.ring_bells();
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        self.common.alive.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Reads from the ring's head to the end of the log, until no hole came up meanwhile. Holds the
/// feed only for moments: it must not keep alive what it works for.
async fn repair(feed: Weak<Feed>) {
    loop {
        let Some(it) = feed.upgrade() else { return };
        let (common, name, head) = (Arc::clone(&it.common), it.name.clone(), it.ring.read().head());
        drop(it);
        let answer = common.log.read(&name, head, common.config.page).await;
        let Some(it) = feed.upgrade() else { return };
        match answer {
            Ok(Page::Events { events, at_end }) => {
                let whole = it.append(&events);
                debug_assert!(whole, "a page has no holes");
                it.ring_bells();
                if at_end {
                    let done = |state| Some(if state == AGAIN { REPAIRING } else { WHOLE });
                    if it.repair.fetch_update(Ordering::AcqRel, Ordering::Acquire, done) == Ok(REPAIRING) {
                        return;
                    }
                }
            }
            Ok(Page::Gap(gap)) => {
                tracing::warn!(stream = %name, ?gap, "the live end lost its place and begins anew");
                it.ring.write().reset(gap.cursor);
                it.ring_bells();
            }
            Ok(Page::Hold { .. }) => {
                drop(it);
                pause().await;
            }
            Err(ReadError::Closed) => return,
            Err(error) => {
                drop(it);
                tracing::warn!(stream = %name, %error, "cannot repair the live end yet");
                pause().await;
            }
        }
    }
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(200 + fastrand::u64(..200))).await;
}
