//! The subscribers of one connection that carries many.
//!
//! ```text
//!   taken in ─▶ Resting ─▶ Away: its subscriber reads ──▶ bytes ──▶ its outlet
//!                  │  ▲                                               │
//!                  ▼  └───────────── all of it was taken ◀────────────┤
//!               Parked in a group ──▶ the next run ───────────────────┘
//! ```
//! What a shard is for sockets of their own, a [`Bundle`] is for the streams of a connection: each
//! subscriber is a record, one task drives them all, and none has a queue. It differs in what it waits
//! for. An [`Outlet`] says how much it takes, so a stream whose client gives it no room holds nothing but
//! its place, and what it is not sent stays in the log. The connection itself says when it has written
//! what it was given ([`Bundle::turn`]), and gets no more before.

mod attend;
mod leave;
mod outlet;
mod places;
mod record;
mod send;
mod time;

use std::collections::{HashMap, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use evergate_domain::SlowReader;
use futures_util::StreamExt as _;
use futures_util::future::AbortHandle;
use futures_util::stream::FuturesUnordered;
use slab::Slab;
use tokio::sync::watch;
use tokio::time::{Instant, Sleep, sleep_until};

use crate::engine::{Groups, Guard, Inbox, Lanes, Packing, RUN_BYTES, Runs};
use crate::gzip::{Encoding, Sum};
use crate::hub::{Hub, Inner};
use crate::subscriber::{End, Parked, Subscriber};

use attend::{Away, Watched};
pub use outlet::Outlet;
use places::Followed;
use record::{Place, Record, Source};
use time::Ending;

/// Bytes handed out in one turn, after which the connection is to write them.
const TURN_BYTES: usize = 64 << 10;

/// Subscribers looked at in one turn.
const TURN_LOOKS: usize = 512;

/// A subscriber on its way into a bundle.
pub struct Entrant<O> {
    /// Its way to its client.
    pub outlet: O,
    /// The first frames.
    pub first: Bytes,
    /// Where it stands.
    pub subscriber: Subscriber,
    /// What it holds.
    pub guard: Box<dyn Guard>,
}

/// All subscribers of one connection. Whoever owns it takes turns with [`news`](Self::news).
pub struct Bundle<O> {
    hub: Arc<Inner>,
    records: Slab<Record<O>>,
    /// What is left of a piece that an outlet took only a part of.
    unsent: HashMap<usize, Bytes>,
    /// The sums of compressed bodies.
    sums: HashMap<usize, Sum>,
    /// How far those have come whose guards follow.
    followed: HashMap<usize, Followed>,
    follow_at: Instant,
    lanes: Lanes,
    groups: Groups,
    /// The groups that are being visited, kept for its capacity.
    visiting: Vec<u32>,
    /// Slots that may have something to be sent. Each is in it once at the most.
    due: VecDeque<usize>,
    /// The runs of a turn.
    runs: Runs,
    /// Lanes that moved on.
    inbox: Arc<Inbox>,
    /// Slots whose outlets are to be looked at.
    bells: Arc<Inbox>,
    /// Subscribers that read from the log.
    away: FuturesUnordered<Away>,
    /// Those that may be called one by one, and how to let go of them.
    watched: FuturesUnordered<Watched>,
    watches: HashMap<usize, AbortHandle>,
    begun: Instant,
    /// How much sooner than they must be signs of life are sent: so many parts in 256 of a quarter of the
    /// interval. Others that are written to at the same time beat at another one.
    haste: u8,
    now: Instant,
    /// When time has to be looked at next.
    look_at: Instant,
    timer: Pin<Box<Sleep>>,
    stop: watch::Receiver<Option<Duration>>,
    ending: Option<Ending>,
    /// Whether something was due while the connection took nothing.
    held: bool,
    aborted: Vec<O>,
}

impl<O: Outlet> Bundle<O> {
    /// A bundle of nobody.
    #[must_use]
    pub fn new(hub: &Hub) -> Self {
        let hub = hub.inner();
        let now = Instant::now();
        let stop = hub.stop.subscribe();
        let never = now + time::NEVER;
        Self {
            hub,
            records: Slab::new(),
            unsent: HashMap::new(),
            sums: HashMap::new(),
            followed: HashMap::new(),
            follow_at: never,
            lanes: Lanes::default(),
            due: VecDeque::new(),
            groups: Groups::default(),
            visiting: Vec::new(),
            runs: Runs::packed(Packing::Bare),
            inbox: Arc::default(),
            bells: Arc::default(),
            away: FuturesUnordered::new(),
            watched: FuturesUnordered::new(),
            watches: HashMap::new(),
            begun: now,
            haste: fastrand::u8(..),
            now,
            look_at: never,
            timer: Box::pin(sleep_until(never)),
            stop,
            ending: None,
            held: false,
            aborted: Vec::new(),
        }
    }

    /// Whether it carries nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Takes a subscriber in.
    pub fn take_in(&mut self, entrant: Entrant<O>) {
        let Entrant { outlet, first, mut subscriber, guard } = entrant;
        subscriber.take_at_most(RUN_BYTES);
        let first = subscriber.begin(&first);
        self.now = Instant::now();
        let written = self.tick();
        let slot = self.records.vacant_key();
        if guard.follows() {
            self.follow(slot);
        }
        self.records.insert(Record {
            outlet,
            guard,
            bell: self.bells.listener(slot),
            source: Source::Resting(Box::new(subscriber)),
            written,
            blocked: false,
            due: false,
            told: false,
            told_in: self.hub.common.retries.round(),
        });
        self.watch(slot);
        self.unsent.insert(slot, first);
        self.end_with_the_others(slot);
        self.make_due(slot);
    }

    /// Does what there is to do. `open` says that the connection has written all it was given; if not,
    /// nothing more is handed out.
    pub fn turn(&mut self, open: bool) {
        self.now = Instant::now();
        self.begin_to_end();
        for slot in self.bells.take() {
            self.look_at_outlet(slot);
        }
        for lane in self.inbox.take() {
            self.moved(lane, open);
        }
        self.look_at_time();
        if open {
            // Before anything else is sent: what was sent by now has all been written.
            self.look_at_places();
            self.send_due();
        } else {
            self.held |= !self.due.is_empty();
        }
    }

    /// Those that were sent all they get, and whose ends are to look like cuts: to be reset as soon as the
    /// connection has written what it was given.
    pub fn take_aborted(&mut self) -> Vec<O> {
        std::mem::take(&mut self.aborted)
    }

    /// Waits until there is something to do. `open` is what the next turn is to be told. Cancel-safe.
    pub async fn news(&mut self, open: bool) {
        let until = if open { self.look_at.min(self.follow_at) } else { self.look_at };
        if self.timer.deadline() != until {
            self.timer.as_mut().reset(until);
        }
        let busy = open && !self.due.is_empty();
        tokio::select! {
            biased;
            // Nothing else looks at these two; the rest a turn looks at by itself. Behind bells that always
            // ring they would never have theirs.
            Some(call) = self.watched.next(), if !self.watched.is_empty() => self.called(call),
            Some(back) = self.away.next(), if !self.away.is_empty() => self.came_back(back),
            () = std::future::ready(()), if busy => {}
            () = self.bells.rung() => {}
            () = self.inbox.rung() => {}
            // Fails only when the hub is gone, and then the bells fall silent too.
            _ = self.stop.changed(), if self.ending.is_none() => {}
            () = &mut self.timer => {}
        }
    }

    /// A client has gone, or its outlet has room again.
    fn look_at_outlet(&mut self, slot: usize) {
        let Some(record) = self.records.get_mut(slot) else { return };
        record.bell.clear();
        let unsent = self.unsent.get(&slot).filter(|_| record.blocked);
        let wanted = unsent.map_or(0, |unsent| unsent.len().min(RUN_BYTES));
        let Some(room) = record.room(wanted) else {
            drop(self.remove(slot));
            return;
        };
        if record.blocked && room > 0 {
            record.blocked = false;
            self.look_again(slot);
            self.judge_lag(slot);
            self.make_due(slot);
        }
    }

    /// A stream moved on.
    fn moved(&mut self, lane: usize, open: bool) {
        let call_after = self.hub.common.config.call_after();
        let Some(of_lane) = self.lanes.get_mut(lane) else { return };
        of_lane.listener.clear();
        let impatient = of_lane.slow_reader == SlowReader::Disconnect;
        let mut groups = std::mem::take(&mut self.visiting);
        let due = of_lane.due(u64::from(call_after), &mut groups);
        for slot in self.followers(&groups) {
            // As far as nothing was for it; from there on it is due.
            self.pass_over(slot);
            let blocked = self.records[slot].blocked;
            if impatient && (blocked || !open) && self.lagging(slot, &[SlowReader::Disconnect]) != 0 {
                metrics::counter!("evergate_slow_disconnects_total").increment(1);
                self.reset(slot);
            } else if !blocked {
                self.make_due(slot);
            }
        }
        // They are sent it later, and stand before it until then.
        for &group in &groups[due.all..] {
            if let Some(group) = self.groups.get_mut(group) {
                group.asked(small(lane), due.quiet_from);
            }
        }
        self.visiting = groups;
        let Some(of_lane) = self.lanes.get_mut(lane) else { return };
        of_lane.done(&due);
        if of_lane.feed.is_closed() {
            let groups = [of_lane.groups.all(), of_lane.groups.keyed()].concat();
            for slot in self.followers(&groups) {
                self.end(slot, End::LogClosed);
            }
        }
    }

    fn followers(&self, groups: &[u32]) -> Vec<usize> {
        let groups = groups.iter().filter_map(|&group| self.groups.get(group));
        groups.flat_map(|group| group.followers.iter().map(|&slot| slot as usize)).collect()
    }

    /// Moves a subscriber over events of other keys than it wants. Before anybody asks for its position.
    fn pass_over(&mut self, slot: usize) {
        let Source::Parked(place) = &mut self.records[slot].source else { return };
        let group = &mut self.groups[place.group];
        if group.is_keyed() {
            let passed = group.settle(place.at, |lane| self.lanes[lane as usize].swept());
            place.unseen = place.unseen.saturating_add(passed);
        }
    }

    /// Into a group: the rings have all it is owed from here on.
    fn park(&mut self, slot: usize, parked: Parked) {
        let Parked { feeds, profile, cursor, unseen, sum, quiet, told_in } = parked;
        let slow = &self.hub.common.config.slow;
        let lanes: Vec<_> = feeds.into_iter().map(|feed| self.lanes.of(feed, &self.inbox, slow)).collect();
        if profile.encoding == Encoding::Gzip {
            self.sums.insert(slot, sum);
        }
        let group = self.groups.of(&profile, &lanes, &mut self.lanes);
        let at = self.groups[group].enter(small(slot), &cursor);
        let written = self.tick().wrapping_sub(time::whole_ticks(quiet));
        let record = &mut self.records[slot];
        record.source = Source::Parked(Place { group, at, unseen, skips: 0, turn: 0, behind: true });
        (record.written, record.told_in) = (written, told_in);
        for lane in lanes {
            let lane = &self.lanes[lane as usize];
            if lane.feed.is_closed() {
                // It may have been closed before it was listened to.
                lane.listener.mark();
            }
        }
        self.look_again(slot);
        // What came while it was on its way.
        self.make_due(slot);
    }

    fn make_due(&mut self, slot: usize) {
        let record = &mut self.records[slot];
        if !std::mem::replace(&mut record.due, true) {
            self.due.push_back(slot);
        }
    }
}

fn small(number: usize) -> u32 {
    u32::try_from(number).expect("no connection carries as many")
}
