//! A shard: one task, its own epoll, and the parked connections it owns.

use std::collections::HashMap;
use std::io;
use std::net::TcpStream as StdStream;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use evergate_domain::{Cursor, Offset, SlowReader, StreamName, sse};
use rustix::event::epoll;
use rustix::net::{RecvFlags, SendFlags};
use slab::Slab;
use socket2::SockRef;
use tokio::io::unix::AsyncFd;
use tokio::net::TcpStream;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::engine::SURPLUS_MAX;
use crate::engine::attended::{self, Attended, say_farewell, wrapped};
use crate::engine::chunk::{self, Chunk};
use crate::engine::handle::{Arrival, Engine, Farewell, Guard};
use crate::engine::inbox::Inbox;
use crate::engine::lane::{Lane, Look, Runs};
use crate::engine::queue::queued;
use crate::engine::skip::Missed;
use crate::engine::trail::Trail;
use crate::gzip::{Encoding, Part, Sum};
use crate::output::Output;
use crate::subscriber::{End, HeartbeatKind, Parked, Subscriber};

/// Sends after which a sweep lets others run.
const SENDS_PER_SLICE: usize = 256;

/// Runs for one connection in one sweep; one that still is behind waits for the next.
const RUNS_PER_TURN: usize = 8;

/// How often time is looked at: heartbeats are this much early at the most.
const TICK: Duration = Duration::from_millis(200);

/// A parked connection. Nothing here grows with how far it lies behind.
struct Record {
    socket: StdStream,
    lane: u32,
    /// Where it stands in its lane's followers.
    place: u32,
    profile: u32,
    unseen: u32,
    cursor: Offset,
    guard: Box<dyn Guard>,
    /// The tick of the last write.
    written: u32,
    /// Bytes the system has taken so far; wraps.
    sent: u32,
    surplus: u16,
    /// Whether the socket takes no more until it says so.
    blocked: bool,
    /// Whether it is to be moved on by its stream's policy before it is sent anything else.
    skips: bool,
}

/// What becomes of a connection after a look at it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Stays,
    /// It has more to get, but others are waiting.
    Again,
    /// The ring no longer has what it is owed.
    Behind,
    /// Its stream's policy is to wait no longer.
    TooSlow,
    Gone,
}

pub(super) struct Shard {
    engine: Engine,
    arrivals: mpsc::Receiver<Arrival>,
    inbox: Arc<Inbox>,
    load: Arc<AtomicUsize>,
    sends: Arc<AtomicU64>,
    epoll: AsyncFd<OwnedFd>,
    records: Slab<Record>,
    /// What is left of a piece that a socket took only a part of.
    unsent: HashMap<usize, Bytes>,
    /// How far those have come whose guards follow, by slot.
    trails: HashMap<usize, Trail>,
    look_at: Instant,
    /// The sums of compressed bodies.
    sums: HashMap<usize, Sum>,
    lanes: Slab<Lane>,
    by_name: HashMap<StreamName, usize>,
    tick: u32,
    tick_at: Instant,
    stop: watch::Receiver<Option<Duration>>,
    /// When each connection ends, the next one last; `None` while nothing ends.
    ending: Option<Vec<(Instant, usize)>>,
}

impl Shard {
    pub(super) fn new(
        engine: Engine,
        arrivals: mpsc::Receiver<Arrival>,
        inbox: Arc<Inbox>,
        load: Arc<AtomicUsize>,
        sends: Arc<AtomicU64>,
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
            sends,
            epoll,
            records: Slab::new(),
            unsent: HashMap::new(),
            trails: HashMap::new(),
            look_at: Instant::now(),
            sums: HashMap::new(),
            lanes: Slab::new(),
            by_name: HashMap::new(),
            tick: 0,
            tick_at: Instant::now() + TICK,
            stop,
            ending: None,
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
            self.wait().await;
        }
    }

    async fn wait(&mut self) {
        let next_end = self.ending.as_ref().and_then(|ending| ending.last()).map(|(at, _)| *at);
        let until = next_end.map_or(self.tick_at, |end| end.min(self.tick_at));
        tokio::select! {
            biased;
            () = self.inbox.rung() => {}
            ready = self.epoll.readable() => {
                if let Ok(mut ready) = ready {
                    // Cleared before the sockets are looked at: what comes after rings again.
                    ready.clear_ready();
                }
            }
            Some(arrival) = self.arrivals.recv() => self.take_in(arrival),
            _ = self.stop.changed(), if self.ending.is_none() => {}
            () = tokio::time::sleep_until(until) => {}
        }
    }

    fn take_in(&mut self, arrival: Arrival) {
        let Arrival { socket, parked, guard, sent, trail } = arrival;
        let Parked { feed, profile, cursor, unseen, sum, quiet } = parked;
        let name = feed.name().clone();
        // A feed that was given up and begun anew is another one, even of the same stream.
        let known =
            self.by_name.get(&name).copied().filter(|&lane| Arc::ptr_eq(&self.lanes[lane].feed, &feed));
        let lane = known.unwrap_or_else(|| {
            let entry = self.lanes.vacant_entry();
            let number = entry.key();
            let slow_reader = self.engine.0.hub.common.config.slow.of(&name);
            entry.insert(Lane::new(feed, self.inbox.listener(number), slow_reader));
            self.by_name.insert(name, number);
            number
        });
        let slot = self.records.vacant_key();
        let data = epoll::EventData::new_u64(slot as u64);
        let interest =
            epoll::EventFlags::IN | epoll::EventFlags::OUT | epoll::EventFlags::RDHUP | epoll::EventFlags::ET;
        if let Err(error) = epoll::add(self.epoll.get_ref(), &socket, data, interest) {
            tracing::warn!(%error, "a connection could not be watched and is closed");
            self.load.fetch_sub(1, Ordering::Relaxed);
            self.drop_lane_if_empty(lane);
            return;
        }
        let of_lane = &mut self.lanes[lane];
        let place = of_lane.followers.len();
        of_lane.followers.push(slot);
        if profile.encoding == Encoding::Gzip {
            self.sums.insert(slot, sum);
        }
        let profile = of_lane.enter(profile);
        self.records.insert(Record {
            socket,
            lane: small(lane),
            place: small(place),
            profile: small(profile),
            unseen,
            cursor,
            guard,
            written: self.tick.wrapping_sub(whole_ticks(quiet)),
            sent,
            surplus: 0,
            blocked: false,
            skips: false,
        });
        self.trails.extend(trail.map(|trail| (slot, trail)));
        if let Some(ending) = &mut self.ending {
            ending.push((Instant::now(), slot));
        }
        if self.records[slot].guard.cut().is_cancelled() {
            // It was not here yet when all were looked at.
            self.cut();
            return;
        }
        // What came while it was on its way.
        let fate = self.advance(slot, &mut Runs::default());
        self.follow_up(slot, fate);
        if let Some(lane) = self.lanes.get(lane).filter(|lane| lane.feed.is_closed()) {
            // It may have been closed before it was listened to.
            lane.listener.mark();
        }
    }

    /// Brings everybody who follows a stream up to its head.
    async fn sweep(&mut self, lane: usize) {
        let Some(of_lane) = self.lanes.get(lane) else { return };
        of_lane.listener.clear();
        let mut runs = Runs::default();
        let mut at = 0;
        while let Some(&slot) = self.lanes.get(lane).and_then(|lane| lane.followers.get(at)) {
            let fate = self.advance(slot, &mut runs);
            // One that leaves has another put in its place.
            if matches!(fate, Fate::Stays | Fate::Again) {
                at += 1;
            }
            self.follow_up(slot, fate);
            if at % SENDS_PER_SLICE == SENDS_PER_SLICE - 1 {
                tokio::task::yield_now().await;
            }
        }
        let closed = self.lanes.get(lane).is_some_and(|lane| lane.feed.is_closed());
        if closed {
            for slot in self.lanes[lane].followers.clone() {
                self.end(slot, End::LogClosed);
            }
        }
    }

    /// Sends a connection what lies between its cursor and the head, as far as it takes it.
    fn advance(&mut self, slot: usize, runs: &mut Runs) -> Fate {
        let record = &mut self.records[slot];
        if record.blocked {
            let lane = &self.lanes[record.lane as usize];
            let too_slow = lane.slow_reader == SlowReader::Disconnect
                && lane.lag(record.cursor) > self.engine.0.hub.common.config.slow.lag_max;
            return if too_slow { Fate::TooSlow } else { Fate::Stays };
        }
        if let Some(unsent) = self.unsent.remove(&slot) {
            match send(record, unsent, self.tick, &self.sends) {
                Sent::All => {}
                Sent::Part(rest) => {
                    self.unsent.insert(slot, rest);
                    return Fate::Stays;
                }
                Sent::Broken => return Fate::Gone,
            }
        }
        if record.skips
            && let Some(fate) = self.skip(slot)
        {
            return fate;
        }
        let record = &mut self.records[slot];
        let lane = &self.lanes[record.lane as usize];
        let common = &self.engine.0.hub.common;
        for _ in 0..RUNS_PER_TURN {
            let run = match lane.look(runs, record.cursor, record.profile as usize, &common.deflater) {
                Look::Run(run) => run,
                Look::AtHead => return Fate::Stays,
                Look::Behind => return Fate::Behind,
            };
            record.cursor = run.to;
            let mut bytes = run.bytes.clone();
            if let Some(part) = &run.part {
                add(&mut self.sums, slot, part);
            }
            record.unseen = if bytes.is_empty() { record.unseen + run.passed } else { run.passed };
            if record.unseen >= common.config.scan_max {
                record.unseen = 0;
                let encoding = lane.profile(record.profile as usize).encoding;
                let (position, part) = private(&position(record.cursor), encoding);
                if let Some(part) = part {
                    add(&mut self.sums, slot, &part);
                }
                bytes = if bytes.is_empty() { position } else { [bytes, position].concat().into() };
            }
            if bytes.is_empty() {
                continue;
            }
            match send(record, bytes, self.tick, &self.sends) {
                Sent::All => {}
                Sent::Part(rest) => {
                    self.unsent.insert(slot, rest);
                    return Fate::Stays;
                }
                Sent::Broken => return Fate::Gone,
            }
        }
        Fate::Again
    }

    /// Moves a connection on by its stream's policy. `None` once it is where it can go on from.
    fn skip(&mut self, slot: usize) -> Option<Fate> {
        let record = &mut self.records[slot];
        let lane = &self.lanes[record.lane as usize];
        let profile = lane.profile(record.profile as usize);
        for _ in 0..RUNS_PER_TURN {
            let missed = Missed::of(&lane.feed.ring().read(), record.cursor);
            let Some(missed) = missed else {
                record.skips = false;
                return Some(Fate::Behind);
            };
            let sum = self.sums.get(&slot).copied().unwrap_or_default();
            let mut out = Output::new(profile.encoding, sum, &self.engine.0.hub.common.deflater);
            let skipped = missed.skip(lane.slow_reader, profile, &mut out);
            if let Some(sum) = self.sums.get_mut(&slot) {
                *sum = out.sum();
            }
            record.cursor = skipped.to;
            record.skips = !skipped.at_head;
            record.unseen = if out.is_empty() { record.unseen + skipped.unseen } else { skipped.unseen };
            let sent = if out.is_empty() {
                Sent::All
            } else {
                send(record, chunk::of(&out.take()), self.tick, &self.sends)
            };
            match sent {
                Sent::All if record.skips => {}
                Sent::All => return None,
                Sent::Part(rest) => {
                    self.unsent.insert(slot, rest);
                    return Some(Fate::Stays);
                }
                Sent::Broken => return Some(Fate::Gone),
            }
        }
        Some(Fate::Again)
    }

    fn follow_up(&mut self, slot: usize, fate: Fate) {
        match fate {
            Fate::Stays => {}
            Fate::Again => self.lanes[self.records[slot].lane as usize].listener.mark(),
            Fate::Behind => self.give_back(slot),
            Fate::TooSlow => {
                metrics::counter!("evergate_slow_disconnects_total").increment(1);
                self.reset(slot);
            }
            Fate::Gone => drop(self.remove(slot)),
        }
    }

    /// A connection goes back to a task of its own, which reads from the log for it.
    fn give_back(&mut self, slot: usize) {
        // It is not blocked, so nothing of it is unsent: its cursor is a frame's end.
        debug_assert!(!self.unsent.contains_key(&slot));
        let trail = self.trails.remove(&slot);
        let (record, parked) = self.remove(slot);
        let engine = self.engine.clone();
        self.engine.0.tasks.spawn(async move {
            let subscriber = Subscriber::unparked(&engine.0.hub, parked);
            match TcpStream::from_std(record.socket) {
                Ok(socket) => {
                    let sent = record.sent;
                    Attended::returned(engine, socket, subscriber, record.guard, sent, trail).run().await;
                }
                Err(error) => tracing::warn!(%error, "a connection could not be given back"),
            }
        });
    }

    /// Ends a connection with its last words.
    fn end(&mut self, slot: usize, end: End) {
        let unsent = self.unsent.remove(&slot);
        let (record, parked) = self.remove(slot);
        let cursor = Cursor::new(&parked.profile.streams, vec![parked.cursor]);
        let Farewell { bytes, abort } = record.guard.farewell(end, &cursor);
        let last = parked.finish(&bytes, abort, &self.engine.0.hub.common.deflater);
        self.engine.0.tasks.spawn(async move {
            let guard = record.guard;
            let ended = async {
                let mut socket = TcpStream::from_std(record.socket)?;
                if let Some(rest) = unsent {
                    tokio::io::AsyncWriteExt::write_all(&mut socket, &rest).await?;
                }
                say_farewell(socket, &last, abort).await
            };
            // Whoever does not take the rest in time is let go all the same.
            let _ = tokio::time::timeout(Duration::from_secs(2), ended).await;
            drop(guard);
        });
    }

    /// Takes a connection out of every table.
    fn remove(&mut self, slot: usize) -> (Record, Parked) {
        self.look_at_trail(slot);
        self.trails.remove(&slot);
        let record = self.records.remove(slot);
        self.unsent.remove(&slot);
        let sum = self.sums.remove(&slot).unwrap_or_default();
        // Only fails if the socket is not there, which is what is wanted.
        let _ = epoll::delete(self.epoll.get_ref(), &record.socket);
        self.load.fetch_sub(1, Ordering::Relaxed);
        let number = record.lane as usize;
        let lane = &mut self.lanes[number];
        lane.followers.swap_remove(record.place as usize);
        if let Some(&moved) = lane.followers.get(record.place as usize) {
            self.records[moved].place = record.place;
        }
        let parked = Parked {
            feed: Arc::clone(&lane.feed),
            profile: lane.profile(record.profile as usize).clone(),
            cursor: record.cursor,
            unseen: record.unseen,
            sum,
            quiet: TICK * self.tick.wrapping_sub(record.written),
        };
        lane.leave(record.profile as usize);
        self.drop_lane_if_empty(number);
        (record, parked)
    }

    fn drop_lane_if_empty(&mut self, lane: usize) {
        if self.lanes[lane].followers.is_empty() {
            let gone = self.lanes.remove(lane);
            if self.by_name.get(gone.feed.name()) == Some(&lane) {
                self.by_name.remove(gone.feed.name());
            }
        }
    }

    fn look_at_sockets(&mut self) {
        let mut ready = Vec::with_capacity(256);
        loop {
            ready.clear();
            let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            let waited =
                epoll::wait(self.epoll.get_ref(), rustix::buffer::spare_capacity(&mut ready), Some(&now));
            if waited.is_err() || ready.is_empty() {
                return;
            }
            for event in &ready {
                let slot = usize::try_from(event.data.u64()).expect("made from one");
                self.look_at_socket(slot, event.flags);
            }
        }
    }

    fn look_at_socket(&mut self, slot: usize, flags: epoll::EventFlags) {
        let Some(record) = self.records.get_mut(slot) else { return };
        let closing = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        if flags.intersects(closing) || (flags.contains(epoll::EventFlags::IN) && !drain(record)) {
            drop(self.remove(slot));
            return;
        }
        if flags.contains(epoll::EventFlags::OUT) && record.blocked {
            record.blocked = false;
            let lane = &self.lanes[record.lane as usize];
            record.skips = matches!(lane.slow_reader, SlowReader::Conflate | SlowReader::Gap)
                && lane.lag(record.cursor) > self.engine.0.hub.common.config.slow.lag_max;
            let fate = self.advance(slot, &mut Runs::default());
            self.follow_up(slot, fate);
        }
    }

    async fn look_at_time(&mut self) {
        self.begin_to_end();
        let now = Instant::now();
        while let Some((at, slot)) =
            self.ending.as_mut().and_then(|ending| ending.pop_if(|(at, _)| *at <= now))
        {
            let _ = at;
            if self.records.contains(slot) {
                self.end(slot, End::Stopped);
            }
        }
        if self.look_at <= now {
            self.look_at = now + self.engine.0.hub.common.config.trail_interval;
            self.look_at_trails().await;
        }
        if now < self.tick_at {
            return;
        }
        self.tick += 1;
        self.tick_at = now + TICK;
        self.beat().await;
    }

    /// Gives every connection its moment in the window.
    fn begin_to_end(&mut self) {
        if self.ending.is_some() {
            return;
        }
        let Some(window) = *self.stop.borrow_and_update() else { return };
        let now = Instant::now();
        let mut ending: Vec<_> =
            self.records.iter().map(|(slot, _)| (now + window.mul_f64(fastrand::f64()), slot)).collect();
        ending.sort_unstable_by(|a, b| b.cmp(a));
        self.ending = Some(ending);
    }

    async fn look_at_trails(&mut self) {
        let slots: Vec<_> = self.trails.keys().copied().collect();
        for (n, slot) in slots.into_iter().enumerate() {
            self.look_at_trail(slot);
            if n % SENDS_PER_SLICE == SENDS_PER_SLICE - 1 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Tells a connection's guard how far its client has come, if it follows.
    fn look_at_trail(&mut self, slot: usize) {
        let Some(trail) = self.trails.get_mut(&slot) else { return };
        let record = &self.records[slot];
        let Ok(queued) = queued(&record.socket) else { return };
        let streams = &self.lanes[record.lane as usize].profile(record.profile as usize).streams;
        let cursor = Cursor::new(streams, vec![record.cursor]).pack();
        // What the system has not taken yet lies before the cursor, too.
        let unsent = wrapped(self.unsent.get(&slot).map_or(0, Bytes::len));
        let written = record.sent.wrapping_add(unsent);
        if let Some(position) = trail.look(cursor, written, queued.saturating_add(unsent)) {
            record.guard.passed(position);
        }
    }

    /// Ends those whose owners want it.
    fn cut(&mut self) {
        let cut: Vec<_> = self
            .records
            .iter()
            .filter(|(_, record)| record.guard.cut().is_cancelled())
            .map(|(s, _)| s)
            .collect();
        let dismissed = |&slot: &usize| self.records[slot].guard.dismissed();
        let (dismissed, cut): (Vec<_>, Vec<_>) = cut.into_iter().partition(dismissed);
        for slot in cut {
            self.reset(slot);
        }
        for slot in dismissed {
            self.end(slot, End::Dismissed);
        }
    }

    /// Lets go of a connection so that it looks like a broken network, and of what waits in its socket.
    fn reset(&mut self, slot: usize) {
        let (record, _) = self.remove(slot);
        if let Err(error) = SockRef::from(&record.socket).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "a connection was closed where it should have been reset");
        }
    }

    /// A sign of life for everybody who has been sent nothing for a while, and an end for whoever took
    /// nothing for too long.
    async fn beat(&mut self) {
        let (mut quiet, mut stalled) = (Vec::new(), Vec::new());
        let patience = whole_ticks(self.engine.0.hub.common.config.stall);
        for (slot, record) in &self.records {
            if record.blocked && self.tick.wrapping_sub(record.written) > patience {
                stalled.push(slot);
                continue;
            }
            let profile = self.lanes[record.lane as usize].profile(record.profile as usize);
            let after = ticks(profile.heartbeat.0);
            if !record.blocked && self.tick.wrapping_sub(record.written) >= after {
                quiet.push(slot);
            }
        }
        if !stalled.is_empty() {
            attended::stalled(stalled.len() as u64);
            for slot in stalled {
                self.reset(slot);
            }
        }
        for (n, slot) in quiet.into_iter().enumerate() {
            if self.beat_one(slot) == Fate::Gone {
                drop(self.remove(slot));
            }
            if n % SENDS_PER_SLICE == SENDS_PER_SLICE - 1 {
                tokio::task::yield_now().await;
            }
        }
    }

    fn beat_one(&mut self, slot: usize) -> Fate {
        let Some(record) = self.records.get_mut(slot) else { return Fate::Stays };
        let profile = self.lanes[record.lane as usize].profile(record.profile as usize);
        let mut frames = Vec::new();
        if record.unseen > 0 {
            record.unseen = 0;
            frames = position(record.cursor);
        }
        match profile.heartbeat.1 {
            HeartbeatKind::Comment => frames.extend_from_slice(sse::HEARTBEAT),
            HeartbeatKind::Event => sse::heartbeat(&mut frames),
        }
        let (chunk, part) = private(&frames, profile.encoding);
        if let Some(part) = part {
            add(&mut self.sums, slot, &part);
        }
        match send(record, chunk, self.tick, &self.sends) {
            Sent::All => Fate::Stays,
            Sent::Part(rest) => {
                self.unsent.insert(slot, rest);
                Fate::Stays
            }
            Sent::Broken => Fate::Gone,
        }
    }
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.load.fetch_sub(self.records.len(), Ordering::Relaxed);
    }
}

enum Sent {
    All,
    /// The socket took a part, or nothing; the rest waits until it says so.
    Part(Bytes),
    Broken,
}

fn send(record: &mut Record, mut bytes: Bytes, tick: u32, sends: &AtomicU64) -> Sent {
    use bytes::Buf as _;
    record.written = tick;
    loop {
        sends.fetch_add(1, Ordering::Relaxed);
        match rustix::net::send(&record.socket, &bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(n) => {
                record.sent = record.sent.wrapping_add(wrapped(n));
                if n == bytes.len() {
                    return Sent::All;
                }
                bytes.advance(n);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                record.blocked = true;
                return Sent::Part(bytes);
            }
            Err(_) => return Sent::Broken,
        }
    }
}

/// Reads and drops what a client sends after its request. False if it sends too much or is gone.
fn drain(record: &mut Record) -> bool {
    let mut rest = [0; 512];
    loop {
        match rustix::net::recv(&record.socket, &mut rest, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return false,
            Ok((_, n)) => {
                record.surplus = record.surplus.saturating_add(u16::try_from(n).unwrap_or(u16::MAX));
                if record.surplus > SURPLUS_MAX {
                    return false;
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return true,
            Err(_) => return false,
        }
    }
}

/// Frames of one connection as a chunk, and what they add to the sum of a compressed body.
fn private(frames: &[u8], encoding: Encoding) -> (Bytes, Option<Part>) {
    let mut chunk = Chunk::new(frames.len() + 16);
    let part = chunk.put_private(frames, encoding);
    (chunk.finish(), part)
}

/// The position as a frame of its own, for a client whose copy of it lies behind.
fn position(cursor: Offset) -> Vec<u8> {
    let mut frame = Vec::new();
    sse::cursor(&mut frame, &cursor.to_string());
    frame
}

/// Notes what was put behind a compressed body.
fn add(sums: &mut HashMap<usize, Sum>, slot: usize, part: &Part) {
    let sum = sums.get_mut(&slot).expect("kept for every compressed body");
    *sum = sum.then(part);
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
