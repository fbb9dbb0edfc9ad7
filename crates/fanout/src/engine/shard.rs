//! A shard: one task, its own epoll, and the parked connections it owns.

use std::collections::HashMap;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use evergate_domain::{Offset, StreamName, sse};
use rustix::event::epoll;
use slab::Slab;
use tokio::io::unix::AsyncFd;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::engine::chunk::Chunk;
use crate::engine::handle::{Arrival, Engine};
use crate::engine::inbox::Inbox;
use crate::engine::lane::{Lane, Runs};
use crate::engine::record::Record;
use crate::engine::trail::Trail;
use crate::gzip::{Encoding, Part, Sum};
use crate::subscriber::Parked;

mod leave;
mod sockets;
mod sweep;
mod time;

/// Sends after which a sweep lets others run.
const SENDS_PER_SLICE: usize = 256;

/// Runs for one connection in one sweep; one that still is behind waits for the next.
const RUNS_PER_TURN: usize = 8;

/// How often time is looked at: heartbeats are this much early at the most.
const TICK: Duration = Duration::from_millis(200);

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
}

impl Drop for Shard {
    fn drop(&mut self) {
        self.load.fetch_sub(self.records.len(), Ordering::Relaxed);
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
