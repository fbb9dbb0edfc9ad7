//! The live end of one stream on this node: one tail of the log, one ring, everybody's bell.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use evergate_domain::{Event, StreamName};
use evergate_eventlog::{EventLog, Page, ReadError, ReadLimit, Tail, TailItem};
use parking_lot::RwLock;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::config::HubConfig;
use crate::engine::Listener;
use crate::frame::Frame;
use crate::replay::Replay;
use crate::ring::Ring;

/// A stream that somebody here follows. Lives as long as its subscribers.
pub(crate) struct Feed {
    name: StreamName,
    ring: RwLock<Ring>,
    bell: watch::Sender<()>,
    listeners: RwLock<Vec<Arc<Listener>>>,
    closed: AtomicBool,
    /// Ends the task that feeds the ring, when the last subscriber lets go.
    _stop: DropGuard,
}

impl Feed {
    /// Follows the stream. The returned future feeds the ring until the feed is dropped; the caller
    /// owns it.
    pub(crate) async fn start(
        log: Arc<dyn EventLog>,
        name: StreamName,
        replay: Arc<Replay>,
        config: &HubConfig,
    ) -> Result<(Arc<Self>, impl Future<Output = ()> + Send + 'static), ReadError> {
        let tail = log.follow(&name).await?;
        let stop = CancellationToken::new();
        let feed = Arc::new(Self {
            ring: RwLock::new(Ring::new(tail.start(), config.ring_events, config.ring_bytes)),
            name,
            bell: watch::Sender::new(()),
            listeners: RwLock::default(),
            closed: AtomicBool::new(false),
            _stop: stop.clone().drop_guard(),
        });
        let name = feed.name.clone();
        let feeder = Feeder { log, page: config.page, feed: Arc::downgrade(&feed), replay, name };
        Ok((feed, async move {
            // Ending in the middle of a repair loses nothing: the ring ends with it.
            let _ = stop.run_until_cancelled(feeder.run(tail)).await;
        }))
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

    fn ring_bells(&self) {
        self.bell.send_replace(());
        for listener in self.listeners.read().iter() {
            listener.mark();
        }
    }

    /// Whether the log was closed, so that nothing will come any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// Takes what follows the ring's head. False if there is a hole before it.
    fn take(&self, events: &[Arc<Event>]) -> bool {
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
}

/// Feeds a ring from a tail. Holds the feed weakly: it must not keep alive what it works for.
struct Feeder {
    log: Arc<dyn EventLog>,
    page: ReadLimit,
    feed: Weak<Feed>,
    replay: Arc<Replay>,
    name: StreamName,
}

impl Feeder {
    async fn run(self, mut tail: Tail) {
        loop {
            let item = tail.next().await;
            let Some(feed) = self.feed.upgrade() else { return };
            let whole = match item {
                TailItem::Events(events) => feed.take(&events),
                TailItem::Trimmed(floor) => {
                    feed.ring.write().trim(floor);
                    self.replay.trim(&self.name, floor);
                    true
                }
                TailItem::Lagged => false,
                TailItem::Closed => {
                    feed.closed.store(true, Ordering::Release);
                    feed.ring_bells();
                    return;
                }
            };
            feed.ring_bells();
            drop(feed);
            if !whole {
                metrics::counter!("evergate_tail_repairs_total").increment(1);
                self.repair().await;
            }
        }
    }

    /// Reads from the ring's head to the end of the log. The tail may meanwhile bring some of it
    /// again, which is passed over then.
    async fn repair(&self) {
        loop {
            let Some(feed) = self.feed.upgrade() else { return };
            let head = feed.ring.read().head();
            drop(feed);
            let answer = self.log.read(&self.name, head, self.page).await;
            let Some(feed) = self.feed.upgrade() else { return };
            match answer {
                Ok(Page::Events { events, at_end }) => {
                    let whole = feed.take(&events);
                    debug_assert!(whole, "a page has no holes");
                    feed.ring_bells();
                    if at_end {
                        return;
                    }
                }
                Ok(Page::Gap(gap)) => {
                    tracing::warn!(stream = %self.name, ?gap, "the live end lost its place and begins anew");
                    feed.ring.write().reset(gap.cursor);
                    feed.ring_bells();
                }
                Ok(Page::Hold { .. }) => pause().await,
                Err(ReadError::Closed) => return,
                Err(error) => {
                    tracing::warn!(stream = %self.name, %error, "cannot repair the live end yet");
                    pause().await;
                }
            }
        }
    }
}

async fn pause() {
    tokio::time::sleep(Duration::from_millis(200 + fastrand::u64(..200))).await;
}
