//! Where subscribers come in.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};
use std::time::Duration;

use evergate_domain::{Cursor, Offset, ResumeKind, Start, StreamName};
use evergate_eventlog::{EventLog, ReadError};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;

use crate::config::HubConfig;
use crate::feed::{Common, Feed, SPARED};
use crate::gzip::Sum;
use crate::output::Output;
use crate::profile::Profile;
use crate::replay::NoRun;
use crate::retries::Retries;
use crate::session::Session;
use crate::subscriber::{Begin, Follow, Opening, SubscribeRequest, Subscriber};

/// Why a subscriber was not taken. All of these pass.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SubscribeError {
    /// The log cannot be read.
    #[error("the event log cannot be read")]
    Log(#[source] ReadError),
    /// The cursor is ahead of what this region has, and stayed so.
    #[error("the cursor is ahead of this region")]
    Held,
    /// The hub is ending its streams.
    #[error("shutting down")]
    Stopping,
}

/// All fan-out of one node over one log. Cheap to clone.
#[derive(Clone)]
pub struct Hub(Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) common: Arc<Common>,
    /// Set once: the window over which streams are ended.
    pub(crate) stop: watch::Sender<Option<Duration>>,
    feeds: Mutex<HashMap<StreamName, Arc<tokio::sync::Mutex<Weak<Feed>>>>>,
}

impl Hub {
    /// A hub over this log.
    #[must_use]
    pub fn new(log: Arc<dyn EventLog>, config: HubConfig) -> Self {
        let common = Common::new(log, config);
        Self(Arc::new(Inner { common, stop: watch::Sender::new(None), feeds: Mutex::default() }))
    }

    /// Takes a subscriber: finds its beginning, judges it, and says how it came about.
    ///
    /// Whatever a judgement already read is kept for the subscriber. Cancel-safe.
    pub async fn subscribe(
        &self,
        request: SubscribeRequest,
    ) -> Result<(Subscriber, Opening), SubscribeError> {
        let stop = self.0.stop.subscribe();
        if stop.borrow().is_some() {
            return Err(SubscribeError::Stopping);
        }
        let mut follows = Vec::with_capacity(request.streams.names().len());
        for name in request.streams.names() {
            follows.push(Follow::new(self.0.feed(name).await.map_err(SubscribeError::Log)?));
        }
        let (cursor, kind) = match &request.begin {
            Begin::Start(start) => (self.locate(&request, *start).await?, ResumeKind::Live),
            Begin::Resume(cursor) => (cursor.clone(), self.judge(&mut follows, cursor).await?),
        };
        let opening = Opening { kind, cursor: cursor.to_string() };
        let SubscribeRequest { streams, filters, framing, encoding, heartbeat, .. } = request;
        let profile = Arc::new(Profile { streams, filters, framing, encoding, heartbeat });
        let session = Session::new(profile, cursor, 0, self.0.common.config.scan_max);
        let out = Output::new(encoding, Sum::default(), &self.0.common.deflater);
        let subscriber = Subscriber::new(Arc::clone(&self.0), session, follows, stop, out);
        Ok((subscriber, opening))
    }

    async fn locate(&self, request: &SubscribeRequest, start: Start) -> Result<Cursor, SubscribeError> {
        let mut offsets = Vec::with_capacity(request.streams.names().len());
        for name in request.streams.names() {
            offsets.push(self.0.common.log.locate(name, start).await.map_err(SubscribeError::Log)?);
        }
        Ok(Cursor::new(&request.streams, offsets))
    }

    async fn judge(&self, follows: &mut [Follow], cursor: &Cursor) -> Result<ResumeKind, SubscribeError> {
        let deadline = Instant::now() + self.0.common.config.hold;
        let mut kind = ResumeKind::Exact;
        for (follow, &offset) in follows.iter_mut().zip(cursor.offsets()) {
            if follow.feed.ring().read().holds(offset) {
                continue;
            }
            loop {
                let answer = self.0.common.replay.after(follow.feed.name(), offset).await;
                match answer {
                    Err(NoRun::Hold) if Instant::now() < deadline => {
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    Err(NoRun::Hold) => return Err(SubscribeError::Held),
                    Err(NoRun::Failed(error)) => return Err(SubscribeError::Log(error)),
                    Err(NoRun::Gap(_)) => {
                        kind = ResumeKind::Gap;
                        follow.first = Some(answer);
                        break;
                    }
                    Ok(_) => {
                        follow.first = Some(answer);
                        break;
                    }
                }
            }
        }
        Ok(kind)
    }

    /// How many streams of the log are followed, each once for all who follow it here.
    #[must_use]
    pub fn feeds(&self) -> usize {
        self.0.common.alive.load(Ordering::Relaxed)
    }

    /// The streams that somebody follows here, by name, each with the newest event that came.
    #[must_use]
    pub fn followed(&self) -> Vec<(StreamName, Offset)> {
        let slots: Vec<_> =
            self.0.feeds.lock().iter().map(|(name, slot)| (name.clone(), Arc::clone(slot))).collect();
        let mut followed: Vec<_> = slots
            .into_iter()
            .filter_map(|(name, slot)| {
                // One that is just being begun will be here next time.
                let feed = slot.try_lock().ok()?.upgrade()?;
                let head = feed.ring().read().head();
                Some((name, head))
            })
            .collect();
        followed.sort();
        followed
    }

    /// When clients are to come back: what they are told of it at the end of their streams, and anew while
    /// these go on.
    #[must_use]
    pub fn retries(&self) -> Arc<Retries> {
        Arc::clone(&self.0.common.retries)
    }

    /// How often an event was deflated so far: once for everybody who is sent it compressed.
    #[must_use]
    pub fn deflated(&self) -> u64 {
        self.0.common.deflater.deflated()
    }

    /// Keeps less of what the log has as well, or as much as it may again. Whoever reads further back than
    /// what is kept reads from the log: nobody misses anything.
    pub fn spare(&self, memory_is_short: bool) {
        let common = &self.0.common;
        common.spares.store(memory_is_short, Ordering::Relaxed);
        common.replay.shrink(if memory_is_short { SPARED } else { 1 });
        if memory_is_short {
            // One that is just being started has nothing yet.
            let feeds: Vec<_> = self.0.feeds.lock().values().map(Arc::clone).collect();
            let running = feeds.iter().filter_map(|slot| slot.try_lock().ok()?.upgrade());
            running.for_each(|feed| feed.shrink());
        }
    }

    pub(crate) fn inner(&self) -> Arc<Inner> {
        Arc::clone(&self.0)
    }

    /// Takes no more subscribers and ends those there are, each at a random moment of the window; a while
    /// before its end, [`HubConfig::goaway_lead`], each is told so and goes on.
    pub fn stop(&self, window: Duration) {
        self.0.stop.send_if_modified(|stop| {
            let first = stop.is_none();
            *stop = Some(stop.map_or(window, |before| before.min(window)));
            first
        });
    }

    /// Waits until nothing of the hub runs any more. Subscribers must be gone or going.
    pub async fn stopped(&self) {
        self.0.common.repairs.close();
        self.0.common.repairs.wait().await;
    }
}

impl Inner {
    /// The feed of a stream, started if nobody follows it yet. Several who come at once share it.
    async fn feed(&self, name: &StreamName) -> Result<Arc<Feed>, ReadError> {
        let slot = {
            let mut feeds = self.feeds.lock();
            // Whoever was left by its last subscriber makes room for whoever comes.
            if feeds.len() >= 64 && feeds.len() >= 2 * self.common.alive.load(Ordering::Relaxed) {
                feeds.retain(|_, slot| {
                    Arc::strong_count(slot) > 1
                        || slot.try_lock().map_or(true, |feed| feed.strong_count() > 0)
                });
            }
            Arc::clone(feeds.entry(name.clone()).or_default())
        };
        // The one lock held across an await: it belongs to this stream's start alone.
        let mut slot = slot.lock().await;
        if let Some(feed) = slot.upgrade().filter(|feed| !feed.is_closed()) {
            return Ok(feed);
        }
        let feed = Feed::start(&self.common, name.clone()).await?;
        *slot = Arc::downgrade(&feed);
        Ok(feed)
    }
}
