//! The live end of one stream on this node: one ring, filled by whoever appends, and everybody's
//! bell.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use evergate_domain::{Event, StreamName, sse};
use evergate_eventlog::{EventLog, Page, ReadError, TailItem, TailSink};
use parking_lot::RwLock;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::config::HubConfig;
use crate::engine::Listener;
use crate::figures::Figures;
use crate::frame::Frame;
use crate::gzip::Deflater;
use crate::replay::Replay;
use crate::retries::Retries;
use crate::ring::Ring;
use crate::traced::Arrival;

/// What all feeds of a hub share.
pub(crate) struct Common {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) config: HubConfig,
    pub(crate) replay: Replay,
    pub(crate) deflater: Arc<Deflater>,
    /// When clients are to come back.
    pub(crate) retries: Arc<Retries>,
    /// What subscribers outside the shards were sent.
    pub(crate) figures: Figures,
    /// Repairs under way.
    pub(crate) repairs: TaskTracker,
    /// How many feeds there are.
    pub(crate) alive: AtomicUsize,
    /// Whether memory is short.
    pub(crate) spares: AtomicBool,
}

/// While memory is short, rings and the replay cache have one of so many parts of what they may.
pub(crate) const SPARED: u32 = 8;

impl Common {
    pub(crate) fn new(log: Arc<dyn EventLog>, config: HubConfig) -> Arc<Self> {
        Arc::new(Self {
            replay: Replay::new(Arc::clone(&log), config.page, config.replay_bytes),
            deflater: Arc::default(),
            retries: Arc::new(Retries::new(config.retry)),
            figures: Figures::new(&config.tracer),
            log,
            config,
            repairs: TaskTracker::new(),
            alive: AtomicUsize::new(0),
            spares: AtomicBool::new(false),
        })
    }

    /// The news that the hub ends a stream, drawn for this one.
    pub(crate) fn goaway(&self) -> Vec<u8> {
        let mut frame = Vec::new();
        sse::Goaway { reason: "shutdown", retry_ms: self.retries.draw_ms() }.write_to(&mut frame);
        frame
    }

    /// Whether memory is short.
    pub(crate) fn spares(&self) -> bool {
        self.spares.load(Ordering::Relaxed)
    }
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

    /// Takes what follows the ring's head, and tells of it what is traced. False if it cannot be told that it
    /// follows, and nothing more is taken until the log was asked.
    fn append(&self, events: &[Arc<Event>], mut arrival: Option<&mut Arrival>) -> bool {
        let mut ring = self.ring.write();
        if ring.is_halted() {
            return false;
        }
        for event in events {
            let offset = event.offset;
            // Known already, under the same name; another one's would be another history.
            if offset.seq <= ring.head().seq && ring.offset_at(offset.seq).is_none_or(|known| known == offset)
            {
                continue;
            }
            // The next one; of another epoch it may follow something that was lost, which the log knows.
            if offset != ring.head().next() {
                ring.halt();
                return false;
            }
            if let Some(arrival) = &mut arrival {
                arrival.add(event);
            }
            ring.push(Arc::new(Frame::new(Arc::clone(event))));
        }
        if self.common.spares() {
            ring.shrink(SPARED);
        }
        true
    }

    /// Takes what the log answered for the ring's head.
    fn append_read(&self, events: Vec<Arc<Event>>) {
        let mut arrival = Arrival::begin(&self.common.config.tracer);
        let mut ring = self.ring.write();
        for event in events {
            if event.offset.seq == ring.head().seq.plus(1) {
                if let Some(arrival) = &mut arrival {
                    arrival.add(&event);
                }
                ring.push(Arc::new(Frame::new(event)));
            }
        }
        if self.common.spares() {
            ring.shrink(SPARED);
        }
        drop(ring);
        self.trace(arrival);
    }

    /// Keeps less, as memory is short; the log has the rest.
    pub(crate) fn shrink(&self) {
        self.ring.write().shrink(SPARED);
    }

    /// Has the listeners know what of the news is traced, before they are rung.
    fn trace(&self, arrival: Option<Arrival>) {
        let Some(arrival) = arrival else { return };
        let tracer = &self.common.config.tracer;
        let traced = arrival.end(tracer, &self.name);
        if traced.is_empty() {
            return;
        }
        for listener in self.listeners.read().iter() {
            if !listener.trace(&traced) {
                tracer.dropped();
            }
        }
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
                let mut arrival = Arrival::begin(&self.common.config.tracer);
                if !self.append(&events, arrival.as_mut()) {
                    self.repair();
                }
                self.trace(arrival);
            }
            TailItem::Trimmed(floor) => {
                self.ring.write().trim(floor);
                self.common.replay.trim(&self.name, floor);
            }
            TailItem::Lagged => {
                // At once: what is handed in next may belong to another history.
                self.ring.write().halt();
                self.repair();
            }
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

/// Asks the log about the ring's head and reads on from it to the end, until no doubt came up meanwhile. Holds the
/// feed only for moments: it must not keep alive what it works for.
async fn repair(feed: Weak<Feed>) {
    loop {
        let Some(it) = feed.upgrade() else { return };
        let (common, name) = (Arc::clone(&it.common), it.name.clone());
        let (head, lags) = {
            let ring = it.ring.read();
            (ring.head(), ring.lags())
        };
        drop(it);
        let answer = common.log.read(&name, head, common.config.page).await;
        let Some(it) = feed.upgrade() else { return };
        match answer {
            Ok(Page::Events { events, at_end }) => {
                it.append_read(events);
                it.ring_bells();
                if at_end && it.ring.write().go_on(lags) {
                    let done = |state| Some(if state == AGAIN { REPAIRING } else { WHOLE });
                    if it.repair.fetch_update(Ordering::AcqRel, Ordering::Acquire, done) == Ok(REPAIRING) {
                        return;
                    }
                }
            }
            Ok(Page::Gap(gap)) => {
                tracing::warn!(stream = %name, ?gap, "the live end lost its place and begins anew");
                it.ring.write().reset(gap.cursor);
                common.replay.cut_off(&name);
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

#[cfg(test)]
mod tests {
    use super::*;
    use async_trait::async_trait;
    use evergate_domain::{EventDraft, Gap, GapReason, Level, Offset, Start, UnixMillis};
    use evergate_eventlog::{AppendError, Placed, ReadLimit, StreamStatus, Tail, TailSender};

    /// A log whose epoch 7 lost its tail: what it once showed up to 7-10 ends at 7-8.
    struct Failed(TailSender);

    fn offset(text: &str) -> Offset {
        text.parse().expect("valid")
    }

    fn event(text: &str) -> Arc<Event> {
        Arc::new(EventDraft::new(text).placed(offset(text), UnixMillis::new(0)))
    }

    #[async_trait]
    impl EventLog for Failed {
        async fn append(&self, _: &StreamName, _: Vec<EventDraft>) -> Result<Vec<Placed>, AppendError> {
            unreachable!("only read")
        }

        async fn read(&self, _: &StreamName, after: Offset, _: ReadLimit) -> Result<Page, ReadError> {
            Ok(match after.to_string().as_str() {
                "7-10" => Page::Gap(Gap {
                    requested: after,
                    first_missing: None,
                    cursor: offset("7-8"),
                    resumed_at: offset("9-9"),
                    reason: GapReason::LostTail,
                    lost: None,
                }),
                "7-8" => {
                    Page::Events { events: vec![event("9-9"), event("9-10"), event("9-11")], at_end: true }
                }
                _ => Page::Events { events: vec![], at_end: true },
            })
        }

        async fn locate(&self, _: &StreamName, _: Start) -> Result<Offset, ReadError> {
            unreachable!("only read")
        }

        async fn follow(&self, _: &StreamName) -> Result<Tail, ReadError> {
            Ok(self.0.follow(offset("7-10")))
        }

        async fn status(&self, _: &StreamName) -> Result<StreamStatus, ReadError> {
            unreachable!("only read")
        }

        async fn trim(&self) -> Result<(), ReadError> {
            Ok(())
        }

        fn level(&self, _: &StreamName) -> Level {
            Level::Home
        }

        async fn close(&self) {}
    }

    async fn feed_over(sender: &TailSender) -> Arc<Feed> {
        let log: Arc<dyn EventLog> = Arc::new(Failed(sender.clone()));
        let common = Common::new(log, HubConfig::default());
        Feed::start(&common, StreamName::new("s").expect("valid")).await.expect("follows")
    }

    /// Whatever comes after a doubt waits for the log, even if it looks as if it followed.
    #[tokio::test]
    async fn what_comes_after_a_failover_is_not_put_behind_a_lost_tail() {
        let sender = TailSender::default();
        let feed = feed_over(&sender).await;
        sender.lagged();
        sender.send(&[event("9-11")]);
        assert_eq!(feed.ring().read().head(), offset("7-10"), "taken without asking");
        feed.common.repairs.close();
        feed.common.repairs.wait().await;
        let ring = feed.ring().read();
        assert_eq!(ring.head(), offset("9-11"));
        assert!(!ring.holds(offset("7-10")), "who stands there must be judged again");
        assert_eq!(ring.offset_at(offset("9-9").seq), Some(offset("9-9")));
    }

    /// Nor is an event passed over because another one of its sequence is known.
    #[tokio::test]
    async fn a_sequence_under_another_epoch_is_a_doubt_not_a_repetition() {
        let sender = TailSender::default();
        let feed = feed_over(&sender).await;
        sender.send(&[event("9-10"), event("9-11")]);
        feed.common.repairs.close();
        feed.common.repairs.wait().await;
        assert_eq!(feed.ring().read().head(), offset("9-11"));
        assert!(!feed.ring().read().holds(offset("7-10")));
    }
}
