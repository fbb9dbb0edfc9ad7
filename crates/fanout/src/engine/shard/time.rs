//! What time brings: signs of life, kept places, and the end.

use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;

use super::sweep::Fate;
use super::{SENDS_PER_SLICE, Shard, TICK, ticks, whole_ticks};
use crate::engine::attended::{self, wrapped};
use crate::engine::queue::queued;
use crate::engine::record::{Record, Told};
use crate::retries::Round;
use crate::subscriber::End;

impl Shard {
    pub(super) async fn look_at_time(&mut self) {
        self.begin_to_end();
        let now = Instant::now();
        while let Some((_, slot)) =
            self.ending.as_mut().and_then(|ending| ending.pop_if(|(at, _)| *at <= now))
        {
            if self.records.contains(slot) {
                self.tell_of_end(slot);
            }
        }
        while let Some((_, slot)) = self.leaving.pop_front_if(|(at, _)| *at <= now) {
            if self.records.get(slot).is_some_and(|record| record.told == Told::End) {
                self.end(slot, End::Stopped);
            }
        }
        if now < self.tick_at {
            return;
        }
        self.tick += 1;
        self.tick_at = now + TICK;
        self.look_at_trails().await;
        self.beat().await;
    }

    /// Gives every connection its moment in the window.
    fn begin_to_end(&mut self) {
        if self.ending.is_some() {
            return;
        }
        let Some(window) = *self.stop.borrow_and_update() else { return };
        let now = Instant::now();
        let config = &self.engine.0.hub.common.config;
        self.lead = config.leave_within(window).1;
        let moment = |(slot, _)| (now + config.leave_within(window).0, slot);
        let mut ending: Vec<_> = self.records.iter().map(moment).collect();
        ending.sort_unstable_by(|a, b| b.cmp(a));
        self.ending = Some(ending);
    }

    /// Tells a connection that it ends, and goes on with it until then.
    fn tell_of_end(&mut self, slot: usize) {
        self.leaving.push_back((Instant::now() + self.lead, slot));
        self.records[slot].told = Told::End;
        let news = self.engine.0.hub.common.goaway();
        let (chunk, ()) = self.alone(slot, |_, out| out.private(&news));
        if let Some(unsent) = self.unsent.get_mut(&slot) {
            *unsent = [&unsent[..], &chunk[..]].concat().into();
            return;
        }
        let fate = self.deliver(slot, chunk).unwrap_or(Fate::Stays);
        self.follow_up(slot, fate);
    }

    /// Each has its tick of the interval.
    async fn look_at_trails(&mut self) {
        let interval = self.engine.0.hub.common.config.trail_interval;
        // No sooner than that.
        let interval = whole_ticks(interval + TICK - Duration::from_millis(1));
        let slots = self.trails.keys().copied();
        let slots: Vec<_> = slots.filter(|&slot| is_turn_of(slot, self.tick, interval)).collect();
        for (n, slot) in slots.into_iter().enumerate() {
            self.look_at_trail(slot);
            if n % SENDS_PER_SLICE == SENDS_PER_SLICE - 1 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Tells a connection's guard how far its client has come, if it follows.
    pub(super) fn look_at_trail(&mut self, slot: usize) {
        if !self.trails.contains_key(&slot) {
            return;
        }
        self.settle(slot);
        let Some(trail) = self.trails.get_mut(&slot) else { return };
        let record = &self.records[slot];
        if record.blocked && self.sessions.contains_key(&slot) {
            // How many bytes on the wire the rest will be is not known yet.
            return;
        }
        let Ok(queued) = queued(&record.socket) else { return };
        let cursor = self.groups[record.group].cursor(record.place).pack();
        // What the system has not taken yet lies before the cursor, too.
        let unsent = wrapped(self.unsent.get(&slot).map_or(0, Bytes::len));
        let written = record.sent.wrapping_add(unsent);
        if let Some(position) = trail.look(cursor, written, queued.saturating_add(unsent)) {
            record.guard.passed(position);
        }
    }

    /// A sign of life for everybody who has been sent nothing for a while, or is to be told anew when to come
    /// back, and an end for whoever took nothing for too long.
    async fn beat(&mut self) {
        let (mut quiet, mut stalled) = (Vec::new(), Vec::new());
        let patience = whole_ticks(self.engine.0.hub.common.config.stall);
        let round = self.engine.0.hub.common.retries.round();
        for (slot, record) in &self.records {
            let silence = self.tick.wrapping_sub(record.written);
            if record.blocked {
                if silence > patience {
                    stalled.push(slot);
                }
                continue;
            }
            let after = ticks(self.groups[record.group].profile.heartbeat.0);
            // A stream that is never quiet is told as well, when it is its turn.
            let news = is_outdated(record, round) && is_turn_of(slot, self.tick, after);
            if news || silence >= after - haste(slot, after) {
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
        if !self.records.contains(slot) {
            return Fate::Stays;
        }
        let retries = &self.engine.0.hub.common.retries;
        let (round, record) = (retries.round(), &mut self.records[slot]);
        let retry_ms = is_outdated(record, round).then(|| {
            record.told = Told::Retry(round);
            retries.draw_ms()
        });
        let (chunk, ()) = self.alone(slot, |session, out| session.beat(retry_ms, out));
        self.deliver(slot, chunk).unwrap_or(Fate::Stays)
    }
}

/// Whether a connection was told when to come back in an earlier round than this.
fn is_outdated(record: &Record, round: Round) -> bool {
    matches!(record.told, Told::Retry(before) if before != round)
}

/// Whether a tick is that of a slot, of which each has one in so many.
fn is_turn_of(slot: usize, tick: u32, interval: u32) -> bool {
    let interval = interval.max(1);
    slot % interval as usize == (tick % interval) as usize
}

/// How many ticks sooner than it must a slot's sign of life is sent: up to a quarter of the interval, or all to
/// whom an event was sent together would be sent their signs of life together, too.
fn haste(slot: usize, after: u32) -> u32 {
    let slots = after / 4 + 1;
    u32::try_from(slot % slots as usize).expect("less than the slots")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signs_of_life_are_early_by_no_more_than_a_quarter_and_never_late() {
        for after in [1, 3, 4, 74] {
            let all: Vec<_> = (0..1_000).map(|slot| haste(slot, after)).collect();
            assert!(all.iter().all(|haste| *haste <= after / 4));
            for haste in 0..=after / 4 {
                let share = all.iter().filter(|other| **other == haste).count();
                assert!(share >= 1_000 / (after as usize / 4 + 1), "{share} of {after}");
            }
        }
    }

    #[test]
    fn everybody_has_one_turn_in_an_interval() {
        for interval in [1, 5, 74] {
            for slot in 0..200 {
                let turns = (1_000..1_000 + interval).filter(|&tick| is_turn_of(slot, tick, interval));
                assert_eq!(turns.count(), 1);
            }
        }
        assert!(is_turn_of(7, 3, 0), "shorter than a tick");
    }
}
