//! A shard: one task, its own epoll, and the parked connections it owns.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use evergate_domain::UnixMillis;
use evergate_tls::Session as TlsSession;
use rustix::event::epoll;
use slab::Slab;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::engine::group::Groups;
use crate::engine::handle::{Arrival, Engine};
use crate::engine::inbox::Inbox;
use crate::engine::lanes::Lanes;
use crate::engine::record::{Record, Told};
use crate::engine::run::Runs;
use crate::engine::trail::Trail;
use crate::figures::{self, Figures};
use crate::gzip::{Encoding, Sum};
use crate::subscriber::Parked;

mod leave;
mod sockets;
mod sweep;
mod time;

/// Sends after which a sweep lets others run.
const SENDS_PER_SLICE: usize = 256;

/// Sends after which a sweep looks at the clock again: they take a tenth of a millisecond or two.
const SENDS_PER_LOOK: usize = 32;

/// Runs for one connection at a time; one that still is behind waits until others have had theirs.
const RUNS_PER_TURN: usize = 8;

/// How often time is looked at: heartbeats are this much early at the most.
const TICK: Duration = Duration::from_millis(200);

pub(super) struct Shard {
    engine: Engine,
    arrivals: mpsc::Receiver<Arrival>,
    inbox: Arc<Inbox>,
    load: Arc<AtomicUsize>,
    figures: Arc<Figures>,
    epoll: AsyncFd<OwnedFd>,
    records: Slab<Record>,
    /// What is left of a piece that a socket took only a part of.
    unsent: HashMap<usize, Bytes>,
    /// What lies over the sockets whose bytes go through TLS.
    sessions: HashMap<usize, TlsSession>,
    /// How far those have come whose guards follow, by slot.
    trails: HashMap<usize, Trail>,
    /// The sums of compressed bodies.
    sums: HashMap<usize, Sum>,
    lanes: Lanes,
    groups: Groups,
    /// The groups that are being visited, kept for its capacity.
    visiting: Vec<u32>,
    /// Slots of those who have more to get than went at once.
    again: Vec<usize>,
    tick: u32,
    tick_at: Instant,
    /// What the wall clock said lately, for the figures.
    now: UnixMillis,
    stop: watch::Receiver<Option<Duration>>,
    /// When each connection is told that it ends, the next one last; `None` while nothing ends.
    ending: Option<Vec<(Instant, usize)>>,
    /// How long after it does.
    lead: Duration,
    /// When each of those ends that were told, the next one first. A slot may have passed to another
    /// connection since, which came to end as well: that one's lead is shorter then.
    leaving: VecDeque<(Instant, usize)>,
}

impl Shard {
    pub(super) fn new(
        engine: Engine,
        arrivals: mpsc::Receiver<Arrival>,
        inbox: Arc<Inbox>,
        load: Arc<AtomicUsize>,
        figures: Arc<Figures>,
    ) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        #[expect(deprecated, reason = "unsound only for types that lie about their descriptor; ours owns it")]
        let epoll = AsyncFd::new(epoll)?;
        let stop = engine.0.hub.stop.subscribe();
        Ok(Self {
            engine,
            arrivals,
            inbox,
            load,
            figures,
            epoll,
            records: Slab::new(),
            unsent: HashMap::new(),
            sessions: HashMap::new(),
            trails: HashMap::new(),
            sums: HashMap::new(),
            lanes: Lanes::default(),
            groups: Groups::default(),
            visiting: Vec::new(),
            again: Vec::new(),
            tick: 0,
            tick_at: Instant::now() + TICK,
            now: figures::now(),
            stop,
            ending: None,
            lead: Duration::ZERO,
            leaving: VecDeque::new(),
        })
    }

    /// Works until the hub has stopped and the last connection has gone, or everything is killed.
    pub(super) async fn run(mut self) {
        loop {
            if self.engine.0.kill.is_cancelled() {
                return;
            }
            while let Ok(arrival) = self.arrivals.try_recv() {
                self.take_in(arrival);
            }
            if self.inbox.cuts_asked() {
                self.cut();
            }
            for lane in self.inbox.take() {
                self.sweep(lane).await;
            }
            self.go_on().await;
            self.look_at_sockets();
            self.look_at_time().await;
            if self.ending.is_some() && self.records.is_empty() && self.arrivals.is_empty() {
                // Whoever is still on the way here is given back and ends attended.
                self.arrivals.close();
                while let Some(arrival) = self.arrivals.recv().await {
                    self.take_in(arrival);
                }
                if self.records.is_empty() {
                    return;
                }
            }
            if self.again.is_empty() {
                self.wait().await;
            } else {
                tokio::task::yield_now().await;
            }
        }
    }

    async fn wait(&mut self) {
        let told = self.ending.as_ref().and_then(|ending| ending.last());
        let next = told.into_iter().chain(self.leaving.front()).map(|(at, _)| *at);
        let until = next.fold(self.tick_at, Instant::min);
        tokio::select! {
            biased;
            () = self.inbox.rung() => {}
            _ = self.epoll.readable() => {}
            Some(arrival) = self.arrivals.recv() => self.take_in(arrival),
            _ = self.stop.changed(), if self.ending.is_none() => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }

    fn take_in(&mut self, arrival: Arrival) {
        let Arrival { socket, session, parked, guard, sent, trail } = arrival;
        let slot = self.records.vacant_key();
        let data = epoll::EventData::new_u64(slot as u64);
        let interest =
            epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        if let Err(error) = epoll::add(self.epoll.get_ref(), &socket, data, interest) {
            tracing::warn!(%error, "a connection could not be watched and is closed");
            self.load.fetch_sub(1, Ordering::Relaxed);
            return;
        }
        let Parked { feeds, profile, cursor, unseen, sum, quiet, told_in } = parked;
        let slow = &self.engine.0.hub.common.config.slow;
        let lanes: Vec<_> = feeds.into_iter().map(|feed| self.lanes.of(feed, &self.inbox, slow)).collect();
        if profile.encoding == Encoding::Gzip {
            self.sums.insert(slot, sum);
        }
        let group = self.groups.of(&profile, &lanes, &mut self.lanes);
        let place = self.groups[group].enter(small(slot), &cursor);
        self.records.insert(Record {
            socket,
            guard,
            group,
            place,
            unseen,
            written: self.tick.wrapping_sub(whole_ticks(quiet)),
            sent,
            surplus: 0,
            skips: 0,
            turn: 0,
            blocked: false,
            behind: true,
            told: Told::Retry(told_in),
        });
        self.sessions.extend(session.map(|session| (slot, session)));
        self.trails.extend(trail.map(|trail| (slot, trail)));
        if let Some(ending) = &mut self.ending {
            ending.push((Instant::now(), slot));
        }
        if self.records[slot].guard.cut().is_cancelled() {
            // It was not here yet when all were looked at.
            self.cut();
            return;
        }
        // What came while it was on its way, of its streams and beside them.
        if let Some(word) = self.records[slot].guard.word() {
            self.tell(slot, &word);
            if !self.records.contains(slot) {
                return;
            }
        }
        let fate = self.advance(slot, &mut Runs::default());
        self.follow_up(slot, fate);
        for lane in lanes {
            if let Some(lane) = self.lanes.get(lane as usize).filter(|lane| lane.feed.is_closed()) {
                // It may have been closed before it was listened to.
                lane.listener.mark();
            }
        }
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.load.fetch_sub(self.records.len(), Ordering::Relaxed);
    }
}

fn whole_ticks(time: Duration) -> u32 {
    u32::try_from(time.as_millis() / TICK.as_millis()).unwrap_or(u32::MAX)
}

/// The last tick within this time, so that a sign of life is early rather than late.
fn ticks(time: Duration) -> u32 {
    whole_ticks(time).saturating_sub(1).max(1)
}

fn small(number: usize) -> u32 {
    u32::try_from(number).expect("no more than there are descriptors")
}
