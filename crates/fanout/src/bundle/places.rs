//! How far those have come whose guards want to know, told late rather than wrongly.

use evergate_domain::{Cursor, PackedCursor};
use tokio::time::Instant;

use super::Bundle;
use super::outlet::Outlet;
use super::record::Source;
use super::time::NEVER;

/// A subscriber whose guard follows.
///
/// A position is noted once everything up to it was sent. It is told at a look that is at least one interval
/// later, if the connection has written by then what it was given. How far it has come from there is not
/// known.
#[derive(Debug, Default)]
pub(super) struct Followed {
    noted: Option<(PackedCursor, Instant)>,
    /// Whether the next position up to which everything was sent is to be noted.
    asked: bool,
}

impl Followed {
    /// Everything up to here was sent.
    pub(super) fn came_to(&mut self, cursor: &Cursor, now: Instant) {
        if std::mem::take(&mut self.asked) {
            self.noted = Some((cursor.pack(), now));
        }
    }
}

impl<O: Outlet> Bundle<O> {
    pub(super) fn follow(&mut self, slot: usize) {
        if self.followed.is_empty() {
            self.follow_at = self.now + self.hub.common.config.trail_interval;
        }
        self.followed.insert(slot, Followed::default());
    }

    pub(super) fn unfollow(&mut self, slot: usize) {
        if self.followed.remove(&slot).is_some() && self.followed.is_empty() {
            self.follow_at = self.now + NEVER;
        }
    }

    /// Tells guards how far their clients have come, if it is time. The connection has written everything
    /// that was sent before.
    pub(super) fn look_at_places(&mut self) {
        if self.now < self.follow_at {
            return;
        }
        let interval = self.hub.common.config.trail_interval;
        self.follow_at = self.now + interval;
        for slot in self.followed.keys().copied().collect::<Vec<_>>() {
            self.pass_over(slot);
            let Some(followed) = self.followed.get_mut(&slot) else { continue };
            let record = &self.records[slot];
            if let Some((position, _)) = followed.noted.take_if(|(_, at)| *at + interval <= self.now) {
                record.guard.passed(position);
            }
            // One that is too young yet stays, and is told next time.
            followed.asked = followed.noted.is_none();
            if let Source::Parked(place) = &record.source
                && !self.unsent.contains_key(&slot)
            {
                followed.came_to(&self.groups[place.group].cursor(place.at), self.now);
            }
        }
    }
}
