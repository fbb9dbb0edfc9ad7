//! What time brings: signs of life, kept places, and the end.

use bytes::Bytes;
use tokio::time::Instant;

use super::sweep::Fate;
use super::{SENDS_PER_SLICE, Shard, TICK, ticks, whole_ticks};
use crate::engine::attended::{self, wrapped};
use crate::engine::queue::queued;
use crate::session::Session;
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
            if self.records.get(slot).is_some_and(|record| record.told) {
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
        self.records[slot].told = true;
        let news = self.engine.0.hub.common.config.goaway();
        let (chunk, ()) = self.alone(slot, |_, out| out.private(&news));
        if let Some(unsent) = self.unsent.get_mut(&slot) {
            *unsent = [&unsent[..], &chunk[..]].concat().into();
            return;
        }
        let fate = self.deliver(slot, chunk).unwrap_or(Fate::Stays);
        self.follow_up(slot, fate);
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
            let after = ticks(self.groups[record.group].profile.heartbeat.0);
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
        if !self.records.contains(slot) {
            return Fate::Stays;
        }
        let (chunk, ()) = self.alone(slot, Session::beat);
        self.deliver(slot, chunk).unwrap_or(Fate::Stays)
    }
}
