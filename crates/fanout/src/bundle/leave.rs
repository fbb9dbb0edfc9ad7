//! How a subscriber leaves: out of its group, with last words, or without a word.

use std::sync::Arc;

use bytes::Bytes;
use evergate_domain::Cursor;

use super::Bundle;
use super::outlet::Outlet;
use super::record::{Record, Source};
use super::time::TICK;
use crate::engine::{Farewell, Packing, Runs};
use crate::subscriber::{End, Parked};

impl<O: Outlet> Bundle<O> {
    /// Takes a subscriber out of its group. `None` if it is in none.
    pub(super) fn unpark(&mut self, slot: usize) -> Option<Parked> {
        self.pass_over(slot);
        let now = self.tick();
        let record = &self.records[slot];
        let Source::Parked(place) = &record.source else { return None };
        let (number, at) = (place.group, place.at);
        let group = &self.groups[number];
        let feeds = group.lanes.iter().map(|&lane| Arc::clone(&self.lanes[lane as usize].feed));
        let parked = Parked {
            feeds: feeds.collect(),
            profile: Arc::clone(&group.profile),
            cursor: group.cursor(at),
            unseen: place.unseen,
            sum: self.sums.remove(&slot).unwrap_or_default(),
            quiet: TICK * now.wrapping_sub(record.written),
            told_in: record.told_in,
        };
        let moved = self.groups.leave(number, at, &mut self.lanes);
        // The group's number may be another's next.
        self.runs = Runs::packed(Packing::Bare);
        if let Some(Source::Parked(moved)) = moved.map(|moved| &mut self.records[moved as usize].source) {
            moved.at = at;
        }
        Some(parked)
    }

    /// Gives a subscriber its last words, and the time to take them. One that is away ends when it comes
    /// back, for the same reason.
    pub(super) fn end(&mut self, slot: usize, end: End) {
        let farewell = |record: &Record<O>, cursor: &Cursor| {
            // Who was told why is not told something else at the end.
            let end = if record.told && end == End::Dismissed { End::Stopped } else { end };
            record.guard.farewell(end, cursor)
        };
        let (last, abort) = if let Some(parked) = self.unpark(slot) {
            let Farewell { bytes, abort } = farewell(&self.records[slot], &parked.cursor);
            (parked.finish(&bytes, abort, &self.hub.common.deflater), abort)
        } else {
            let record = &mut self.records[slot];
            match std::mem::replace(&mut record.source, Source::Spent { abort: false }) {
                Source::Resting(mut subscriber) => {
                    let Farewell { bytes, abort } = farewell(record, subscriber.cursor());
                    (subscriber.finish(&bytes, abort), abort)
                }
                other @ (Source::Parked(_) | Source::Away(_) | Source::Spent { .. }) => {
                    record.source = other;
                    return;
                }
            }
        };
        self.put_behind(slot, last);
        let written = self.tick();
        let record = &mut self.records[slot];
        record.source = Source::Spent { abort };
        record.written = written;
        self.look_again(slot);
        self.make_due(slot);
    }

    /// Lets go of a subscriber so that its client sees that it was cut.
    pub(super) fn reset(&mut self, slot: usize) {
        self.remove(slot).outlet.reset();
    }

    /// Takes a subscriber out of every table.
    pub(super) fn remove(&mut self, slot: usize) -> Record<O> {
        drop(self.unpark(slot));
        self.sums.remove(&slot);
        self.unfollow(slot);
        let _: Option<Bytes> = self.unsent.remove(&slot);
        if let Some(watch) = self.watches.remove(&slot) {
            watch.abort();
        }
        let record = self.records.remove(slot);
        if let Source::Away(handle) = &record.source {
            handle.abort();
        }
        record
    }
}
