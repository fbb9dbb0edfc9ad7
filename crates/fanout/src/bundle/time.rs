//! What time brings: signs of life, the end of patience, and the end of all.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use tokio::time::Instant;

use super::Bundle;
use super::outlet::Outlet;
use super::record::{Record, Source};
use crate::engine::stalled;
use crate::subscriber::End;

/// What time is counted in.
pub(super) const TICK: Duration = Duration::from_millis(200);

/// How long a client is waited for that does not take its last words, and everybody beyond the window in
/// which all end.
const GRACE: Duration = Duration::from_secs(2);

/// Far enough off.
pub(super) const NEVER: Duration = Duration::from_secs(365 * 24 * 3600);

/// How all end.
pub(super) struct Ending {
    /// When each is told, and once it was, when it ends. Those who are away when it is their moment are
    /// in it again when they come back.
    moments: BinaryHeap<Reverse<(Instant, usize)>>,
    /// How long after it is told each one ends.
    lead: Duration,
    /// When nobody is waited for any more.
    over: Instant,
}

/// What is due for a subscriber, or will be at a tick.
enum Due {
    /// A sign of life.
    Beat,
    /// The end: it took nothing for too long.
    Stalled,
    /// The end: it did not take its last words.
    Forsaken,
    Later(u32),
    /// Not by time.
    Never,
}

impl Ending {
    pub(super) fn lead(&self) -> Duration {
        self.lead
    }

    /// This is its next moment, and the only one.
    fn set(&mut self, at: Instant, slot: usize) {
        self.moments.retain(|Reverse((_, other))| *other != slot);
        self.moments.push(Reverse((at, slot)));
    }
}

impl<O: Outlet> Bundle<O> {
    /// The time in ticks; wraps after 27 years.
    pub(super) fn tick(&self) -> u32 {
        whole_ticks(self.now.saturating_duration_since(self.begun))
    }

    /// Has time looked at when something may be due for this one.
    pub(super) fn look_again(&mut self, slot: usize) {
        let after = match self.due_for(slot, &self.records[slot]) {
            Due::Later(ticks) => TICK * ticks,
            Due::Beat | Due::Stalled | Due::Forsaken => Duration::ZERO,
            Due::Never => return,
        };
        self.look_at = self.look_at.min(self.now + after);
    }

    pub(super) fn look_at_time(&mut self) {
        if self.now < self.look_at {
            return;
        }
        self.look_at = self.now + NEVER;
        for slot in self.records.iter().map(|(slot, _)| slot).collect::<Vec<_>>() {
            match self.due_for(slot, &self.records[slot]) {
                Due::Beat => {
                    self.beat(slot);
                    self.look_again(slot);
                }
                Due::Stalled => {
                    stalled(1);
                    self.reset(slot);
                }
                Due::Forsaken => self.reset(slot),
                Due::Later(_) => self.look_again(slot),
                Due::Never => {}
            }
        }
        self.end_those_whose_moment_it_is();
    }

    fn due_for(&self, slot: usize, record: &Record<O>) -> Due {
        let ticks = |time| whole_ticks(time).max(1);
        let (after, due) = match &record.source {
            Source::Spent { .. } => (ticks(GRACE), Due::Forsaken),
            _ if record.blocked => (ticks(self.hub.common.config.stall) + 1, Due::Stalled),
            Source::Parked(place) => {
                if self.has_news_of_retry(record) {
                    return Due::Beat;
                }
                // Early rather than late.
                let heartbeat = self.groups[place.group].profile.heartbeat.0;
                let after = ticks(heartbeat).saturating_sub(1).max(1);
                let after = after - after / 4 * u32::from(self.haste) / 256;
                if self.unsent.contains_key(&slot) {
                    // It is about to be sent something anyway.
                    return Due::Later(after);
                }
                (after, Due::Beat)
            }
            // They look at the time themselves.
            Source::Resting(_) | Source::Away(_) => return Due::Never,
        };
        let passed = self.tick().wrapping_sub(record.written);
        if passed >= after { due } else { Due::Later(after - passed) }
    }

    fn beat(&mut self, slot: usize) {
        let retries = &self.hub.common.retries;
        let (round, news) = (retries.round(), self.has_news_of_retry(&self.records[slot]));
        let retry_ms = news.then(|| retries.draw_ms());
        if let Some((frames, ())) = self.alone(slot, |session, out| session.beat(retry_ms, out)) {
            if news {
                self.records[slot].told_in = round;
            }
            self.put_behind(slot, frames);
            self.make_due(slot);
        }
    }

    /// Whether one is to be told anew when to come back. A stream that is never quiet is told as well.
    fn has_news_of_retry(&self, record: &Record<O>) -> bool {
        !record.told && record.told_in != self.hub.common.retries.round()
    }

    /// Gives everybody a moment in the window.
    pub(super) fn begin_to_end(&mut self) {
        if self.ending.is_some() {
            return;
        }
        let Some(window) = *self.stop.borrow_and_update() else { return };
        let (now, config) = (self.now, &self.hub.common.config);
        let moment = |(slot, _)| Reverse((now + config.leave_within(window).0, slot));
        let moments = self.records.iter().map(moment).collect();
        let lead = config.leave_within(window).1;
        self.ending = Some(Ending { moments, lead, over: now + window + GRACE });
        self.look_at = now;
    }

    /// One that has just come, or come back, has a moment like all others if all end.
    pub(super) fn end_with_the_others(&mut self, slot: usize) {
        let Some(ending) = &mut self.ending else { return };
        if !ending.moments.iter().any(|Reverse((_, other))| *other == slot) {
            ending.set(self.now, slot);
            self.look_at = self.now;
        }
    }

    /// One has been told that it ends, and goes on until then.
    pub(super) fn told(&mut self, slot: usize) {
        self.records[slot].told = true;
        if let Some(ending) = &mut self.ending {
            let end = self.now + ending.lead;
            ending.set(end, slot);
            self.look_at = self.look_at.min(end);
        }
    }

    /// Tells one that it ends. One that is away says so itself.
    fn tell_of_end(&mut self, slot: usize) {
        let Some(Ending { lead, .. }) = self.ending else { return };
        let news = self.hub.common.goaway();
        let said = match &mut self.records[slot].source {
            Source::Resting(subscriber) => {
                subscriber.told(lead);
                Some(subscriber.say(&news))
            }
            Source::Parked(_) => self.alone(slot, |_, out| out.private(&news)).map(|(said, ())| said),
            Source::Away(_) | Source::Spent { .. } => None,
        };
        if let Some(said) = said {
            self.put_behind(slot, said);
            self.told(slot);
            self.make_due(slot);
        }
    }

    fn end_those_whose_moment_it_is(&mut self) {
        let now = self.now;
        while let Some(ending) = &mut self.ending
            && let Some(&Reverse((at, slot))) = ending.moments.peek()
            && at <= now
        {
            ending.moments.pop();
            match self.records.get(slot) {
                Some(record) if record.told => self.end(slot, End::Stopped),
                Some(_) => self.tell_of_end(slot),
                None => {}
            }
        }
        let Some(ending) = &self.ending else { return };
        if ending.over <= now {
            for slot in self.records.iter().map(|(slot, _)| slot).collect::<Vec<_>>() {
                self.reset(slot);
            }
            return;
        }
        let next = ending.moments.peek().map_or(ending.over, |Reverse((at, _))| *at);
        self.look_at = self.look_at.min(next);
    }
}

pub(super) fn whole_ticks(time: Duration) -> u32 {
    u32::try_from(time.as_millis() / TICK.as_millis()).unwrap_or(u32::MAX)
}
