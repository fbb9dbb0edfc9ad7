//! One subscriber: takes what lies between its cursor and the heads of its streams.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use evergate_domain::{Cursor, KeyFilter, ResumeKind, Start, StreamSet, sse};
use evergate_eventlog::ReadError;
use futures_util::future::select_all;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use crate::feed::Feed;
use crate::figures::{self, gap_told};
use crate::frame::Framing;
use crate::gzip::{Deflater, Encoding, Sum};
use crate::hub::Inner;
use crate::output::Output;
use crate::profile::Profile;
use crate::replay::{NoRun, Run};
use crate::retries::Round;
use crate::ring::Taken;
use crate::session::Session;

/// What a subscriber asks for.
#[derive(Debug, Clone)]
pub struct SubscribeRequest {
    /// The streams.
    pub streams: StreamSet,
    /// One filter per stream, in the set's order.
    pub filters: Arc<[KeyFilter]>,
    /// Where to begin.
    pub begin: Begin,
    /// How data is shown.
    pub framing: Framing,
    /// How the body is packed.
    pub encoding: Encoding,
    /// Silence after which a sign of life is sent, and whether as an event or as a comment.
    pub heartbeat: (Duration, HeartbeatKind),
}

/// How a sign of life looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum HeartbeatKind {
    /// A comment, which scripts cannot see.
    #[default]
    Comment,
    /// `evergate.heartbeat`, for clients with a watchdog.
    Event,
}

/// Where a subscriber begins.
#[derive(Debug, Clone)]
pub enum Begin {
    /// Where it was, which is judged before anything is sent.
    Resume(Cursor),
    /// The same place in each of its streams.
    Start(Start),
}

/// What `evergate.open` is to say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opening {
    /// How the beginning came about.
    pub kind: ResumeKind,
    /// The start cursor; with [`ResumeKind::Gap`], the one that was asked for.
    pub cursor: String,
}

/// What comes next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// Bytes for the wire: whole frames.
    Bytes(Bytes),
    /// Nothing more.
    End(End),
}

/// Why a subscriber's stream ends from this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// The hub ends its streams, and has told this one.
    Stopped,
    /// Its guard ended this one.
    Dismissed,
    /// The log was closed.
    LogClosed,
    /// The log is damaged where the subscriber stands. Going on would be a silent loss.
    Damaged,
}

/// A stream as one subscriber follows it.
pub(crate) struct Follow {
    pub(crate) feed: Arc<Feed>,
    bell: watch::Receiver<()>,
    /// What the log answered when the beginning was judged.
    pub(crate) first: Option<Result<Run, NoRun>>,
}

impl Follow {
    pub(crate) fn new(feed: Arc<Feed>) -> Self {
        Self { bell: feed.bell(), feed, first: None }
    }
}

/// A subscriber. Drop it to leave.
pub struct Subscriber {
    hub: Arc<Inner>,
    session: Session,
    follows: Vec<Follow>,
    out: Output,
    /// The stream whose turn it is, so that a busy one does not starve the others.
    turn: usize,
    stop: watch::Receiver<Option<Duration>>,
    leaving: Leaving,
    /// Whether the log could not be read at the last step.
    failing: bool,
    /// Whether there was nothing for it at some time since it came.
    up_to_date: bool,
    beat_at: Instant,
    /// When it was told last when to come back.
    told_in: Round,
    /// Bytes it takes at once.
    piece_bytes: usize,
}

/// How far a subscriber is on its way out.
#[derive(Debug, Clone, Copy)]
enum Leaving {
    No,
    /// It is told at this moment, and ends so long after.
    At(Instant, Duration),
    /// It was told, and ends at this moment.
    Told(Instant),
}

/// A subscriber reduced to what it takes to go on.
pub(crate) struct Parked {
    /// The feeds of its streams, in their order.
    pub(crate) feeds: Vec<Arc<Feed>>,
    pub(crate) profile: Arc<Profile>,
    pub(crate) cursor: Cursor,
    pub(crate) unseen: u32,
    /// Of its body, if that is compressed.
    pub(crate) sum: Sum,
    /// How long nothing was written to it.
    pub(crate) quiet: Duration,
    /// When it was told last when to come back.
    pub(crate) told_in: Round,
}

impl Parked {
    /// The last bytes of its body, as of [`Subscriber::finish`].
    pub(crate) fn finish(&self, frames: &[u8], cut_short: bool, deflater: &Arc<Deflater>) -> Bytes {
        let mut out = Output::new(self.profile.encoding, self.sum, deflater);
        last_bytes(&mut out, frames, cut_short)
    }
}

fn last_bytes(out: &mut Output, frames: &[u8], cut_short: bool) -> Bytes {
    out.private(frames);
    if !cut_short {
        out.finish();
    }
    out.take()
}

/// What a look at one stream found.
enum Progress {
    /// Wrote, or moved on: there may be more.
    Moved,
    /// Nothing there now.
    Waiting,
    /// The log cannot be read now.
    Failing,
}

/// Pause before a failing log is asked again.
const FAILING_PAUSE: Duration = Duration::from_millis(500);

impl Subscriber {
    pub(crate) fn new(
        hub: Arc<Inner>,
        session: Session,
        follows: Vec<Follow>,
        stop: watch::Receiver<Option<Duration>>,
        out: Output,
    ) -> Self {
        let beat_at = Instant::now() + session.profile().heartbeat.0;
        let piece_bytes = hub.common.config.piece_bytes;
        let told_in = hub.common.retries.round();
        Self {
            hub,
            session,
            follows,
            out,
            turn: 0,
            stop,
            leaving: Leaving::No,
            failing: false,
            up_to_date: false,
            beat_at,
            told_in,
            piece_bytes,
        }
    }

    /// Takes no more than this at once, give or take an event.
    pub(crate) fn take_at_most(&mut self, bytes: usize) {
        self.piece_bytes = self.piece_bytes.min(bytes);
    }

    /// The subscriber's position: everything up to it was handed out.
    #[must_use]
    pub fn cursor(&self) -> &Cursor {
        self.session.cursor()
    }

    /// Whether it was told that the hub ends its streams, so that nothing more needs to be said.
    #[must_use]
    pub fn was_told(&self) -> bool {
        matches!(self.leaving, Leaving::Told(_))
    }

    /// It was told elsewhere, and ends so long from now.
    pub(crate) fn told(&mut self, lead: Duration) {
        self.leaving = Leaving::Told(Instant::now() + lead);
    }

    /// The first bytes of its body: these frames, as the encoding has it. Before anything else, once.
    pub fn begin(&mut self, frames: &[u8]) -> Bytes {
        self.out.begin();
        self.out.private(frames);
        self.out.take()
    }

    /// The last bytes of its body: these frames, and what makes it complete unless it is to be cut
    /// short. Nothing may come behind them.
    pub fn finish(&mut self, frames: &[u8], cut_short: bool) -> Bytes {
        last_bytes(&mut self.out, frames, cut_short)
    }

    /// Waits for what comes next. Not cancel-safe: a dropped call may take frames along.
    pub async fn next(&mut self) -> Next {
        loop {
            match self.step().await {
                Some(next) => return next,
                None => self.wait().await,
            }
        }
    }

    /// The same, or `None` when the bell rings before anything comes. Not cancel-safe either.
    pub async fn next_unless(&mut self, bell: &Notify) -> Option<Next> {
        loop {
            if let Some(next) = self.step().await {
                return Some(next);
            }
            tokio::select! {
                biased;
                () = bell.notified() => return None,
                () = self.wait() => {}
            }
        }
    }

    /// Frames for nobody else, between those of its streams: as the encoding has them.
    pub fn say(&mut self, frames: &[u8]) -> Bytes {
        debug_assert!(self.out.is_empty(), "everything was handed out");
        self.out.private(frames);
        self.out.take()
    }

    /// What is there now; `None` if there is nothing to do but [`wait`](Self::wait). May read from
    /// the log. Not cancel-safe: a dropped call may take frames along.
    pub(crate) async fn step(&mut self) -> Option<Next> {
        if let Some(window) = *self.stop.borrow_and_update()
            && matches!(self.leaving, Leaving::No)
        {
            let (told_in, lead) = self.hub.common.config.leave_within(window);
            self.leaving = Leaving::At(Instant::now() + told_in, lead);
        }
        match self.leaving {
            Leaving::At(at, lead) if at <= Instant::now() => {
                self.leaving = Leaving::Told(Instant::now() + lead);
                self.out.private(&self.hub.common.goaway());
            }
            // What was collected goes first; the end is met again.
            Leaving::Told(end) if end <= Instant::now() && self.out.is_empty() => {
                return Some(Next::End(End::Stopped));
            }
            Leaving::No | Leaving::At(..) | Leaving::Told(_) => {}
        }
        match self.collect().await {
            Ok(failing) => self.failing = failing,
            Err(end) if self.out.is_empty() => return Some(Next::End(end)),
            // What was collected goes first; the end is met again.
            Err(_) => {}
        }
        if !self.out.is_empty() {
            if let Some(retry_ms) = self.news_of_retry() {
                let mut line = Vec::new();
                sse::retry_hint(&mut line, retry_ms);
                self.out.private(&line);
            }
        } else if self.beat_at <= Instant::now() {
            let retry_ms = self.news_of_retry();
            self.session.beat(retry_ms, &mut self.out);
        }
        if !self.out.is_empty() {
            self.beat_at = Instant::now() + self.heartbeat();
            return Some(Next::Bytes(self.piece()));
        }
        self.up_to_date = true;
        let closed = self.follows.iter().any(|follow| follow.feed.is_closed());
        closed.then_some(Next::End(End::LogClosed))
    }

    /// Takes what was collected, and counts it.
    fn piece(&mut self) -> Bytes {
        // Of one that is only now getting there, a full piece is the sign that there was more.
        self.up_to_date &= self.out.len() < self.piece_bytes;
        let (shown, figures) = (self.out.take_shown(), &self.hub.common.figures);
        if shown.is_some() {
            figures.delivered(shown, self.up_to_date, figures::now());
        }
        let piece = self.out.take();
        figures.wrote(piece.len());
        piece
    }

    /// When it is to come back, if that has changed since it was told. Whoever is told why it ends is told that
    /// as well.
    fn news_of_retry(&mut self) -> Option<u64> {
        let retries = &self.hub.common.retries;
        let round = retries.round();
        if round == self.told_in || !matches!(self.leaving, Leaving::No) {
            return None;
        }
        self.told_in = round;
        Some(retries.draw_ms())
    }

    fn heartbeat(&self) -> Duration {
        self.session.profile().heartbeat.0
    }

    /// What a shard needs to go on from here, if the rings have all that this subscriber is owed.
    pub(crate) fn parked(&self) -> Option<Parked> {
        let cursor = self.session.cursor();
        let mut at = self.follows.iter().zip(cursor.offsets());
        let at_rings =
            at.all(|(follow, &offset)| follow.first.is_none() && follow.feed.ring().read().holds(offset));
        // One that is about to end stays with its task.
        let stays = matches!(self.leaving, Leaving::No);
        let settled = at_rings && !self.failing && stays;
        settled.then(|| Parked {
            feeds: self.follows.iter().map(|follow| Arc::clone(&follow.feed)).collect(),
            profile: Arc::clone(self.session.profile()),
            cursor: cursor.clone(),
            unseen: self.session.unseen(),
            sum: self.out.sum(),
            quiet: self.heartbeat().saturating_sub(self.beat_at.saturating_duration_since(Instant::now())),
            told_in: self.told_in,
        })
    }

    /// The subscriber that a shard gives back.
    pub(crate) fn unparked(hub: &Arc<Inner>, parked: Parked) -> Self {
        let Parked { feeds, profile, cursor, unseen, sum, quiet, told_in } = parked;
        let out = Output::new(profile.encoding, sum, &hub.common.deflater);
        let session = Session::new(profile, cursor, unseen, hub.common.config.scan_max);
        let (hub, stop) = (Arc::clone(hub), hub.stop.subscribe());
        let follows = feeds.into_iter().map(Follow::new).collect();
        let mut subscriber = Self::new(hub, session, follows, stop, out);
        subscriber.beat_at = Instant::now() + subscriber.heartbeat().saturating_sub(quiet);
        subscriber.told_in = told_in;
        subscriber
    }

    /// Takes a turn of each stream until a piece is full or nothing is there. True if the log
    /// cannot be read for some stream.
    async fn collect(&mut self) -> Result<bool, End> {
        let streams = self.follows.len();
        let (mut idle, mut failing) = (0, false);
        while idle < streams && self.out.len() < self.piece_bytes {
            let stream = self.turn;
            self.turn = (self.turn + 1) % streams;
            match self.advance(stream).await? {
                Progress::Moved => idle = 0,
                Progress::Waiting => idle += 1,
                Progress::Failing => {
                    idle += 1;
                    failing = true;
                }
            }
        }
        Ok(failing)
    }

    async fn advance(&mut self, stream: usize) -> Result<Progress, End> {
        let follow = &mut self.follows[stream];
        // Before looking: what comes after the look rings again.
        follow.bell.mark_unchanged();
        let cursor = self.session.offset(stream);
        let answer = match follow.first.take() {
            Some(first) => first,
            None => {
                let taken = {
                    let ring = follow.feed.ring().read();
                    if ring.holds(cursor) { ring.after(cursor.seq, self.piece_bytes) } else { Taken::Behind }
                };
                match taken {
                    Taken::Frames(frames) => {
                        self.session.run(stream, &frames, &mut self.out);
                        return Ok(Progress::Moved);
                    }
                    Taken::AtHead => return Ok(Progress::Waiting),
                    Taken::Behind => self.hub.common.replay.after(follow.feed.name(), cursor).await,
                }
            }
        };
        match answer {
            Ok(run) => {
                self.session.run(stream, &run, &mut self.out);
                Ok(if run.is_empty() { Progress::Waiting } else { Progress::Moved })
            }
            Err(NoRun::Gap(gap)) => {
                gap_told(&gap);
                self.session.gap(stream, &gap, &mut self.out);
                Ok(Progress::Moved)
            }
            Err(NoRun::Hold) => Ok(Progress::Failing),
            Err(NoRun::Failed(ReadError::Damaged { .. })) => Err(End::Damaged),
            Err(NoRun::Failed(ReadError::Closed)) => Err(End::LogClosed),
            Err(NoRun::Failed(ReadError::Unavailable(_))) => Ok(Progress::Failing),
        }
    }

    /// Waits for a bell, the next heartbeat or the end. Cancel-safe.
    pub(crate) async fn wait(&mut self) {
        let mut until = self.beat_at;
        match self.leaving {
            Leaving::No => {}
            Leaving::At(at, _) | Leaving::Told(at) => until = until.min(at),
        }
        if self.failing {
            until = until.min(Instant::now() + FAILING_PAUSE);
        }
        let stopping = !matches!(self.leaving, Leaving::No);
        let bell = async {
            match &mut self.follows[..] {
                [follow] => drop(follow.bell.changed().await),
                follows => {
                    let bells = follows.iter_mut().map(|follow| Box::pin(follow.bell.changed()));
                    drop(select_all(bells).await);
                }
            }
        };
        tokio::select! {
            biased;
            // Fails only when the hub is gone, and then the bells fall silent too.
            _ = self.stop.changed(), if !stopping => {}
            () = bell => {}
            () = sleep_until(until) => {}
        }
    }
}
