//! What is sent: everybody who follows a stream is brought up to its head.

use evergate_domain::SlowReader;

use super::{RUNS_PER_TURN, SENDS_PER_SLICE, Shard, add, position, private};
use crate::engine::chunk;
use crate::engine::lane::{Look, Runs};
use crate::engine::record::{Sent, send};
use crate::engine::skip::Missed;
use crate::output::Output;
use crate::subscriber::End;

/// What becomes of a connection after a look at it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Stays,
    /// It has more to get, but others are waiting.
    Again,
    /// The ring no longer has what it is owed.
    Behind,
    /// Its stream's policy is to wait no longer.
    TooSlow,
    Gone,
}

impl Shard {
    /// Brings everybody who follows a stream up to its head.
    pub(super) async fn sweep(&mut self, lane: usize) {
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
    pub(super) fn advance(&mut self, slot: usize, runs: &mut Runs) -> Fate {
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

    pub(super) fn follow_up(&mut self, slot: usize, fate: Fate) {
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
}
