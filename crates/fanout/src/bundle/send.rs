//! What is sent: a piece of what each subscriber is owed, in turn.

use std::sync::Arc;

use bytes::Bytes;
use evergate_domain::{SlowReader, UnixMillis};

use super::outlet::Outlet;
use super::record::Source;
use super::{Bundle, TURN_BYTES, TURN_LOOKS};
use crate::engine::{Look, Missed, Packing, RUN_BYTES, Runs};
use crate::figures;
use crate::output::Output;
use crate::session::Session;

/// Runs that may be passed over for one subscriber before others are looked at.
const RUNS_PER_LOOK: usize = 8;

impl<O: Outlet> Bundle<O> {
    /// Hands out a turn's bytes. Each subscriber gets one piece and goes behind all others, so none waits
    /// for what another one has yet to get.
    pub(super) fn send_due(&mut self) {
        if std::mem::take(&mut self.held) {
            for slot in self.records.iter().map(|(slot, _)| slot).collect::<Vec<_>>() {
                self.judge_lag(slot);
            }
        }
        let (mut bytes, mut looks, now) = (0, 0, figures::now());
        while bytes < TURN_BYTES && looks < TURN_LOOKS {
            let Some(slot) = self.due.pop_front() else { break };
            bytes += self.advance(slot, now);
            looks += 1;
        }
        // What was made for this turn may be behind in the next, and need not be kept until then.
        self.runs = Runs::packed(Packing::Bare);
    }

    /// Sends a subscriber its next piece, as far as its outlet takes it. Gives the bytes.
    fn advance(&mut self, slot: usize, now: UnixMillis) -> usize {
        let Some(record) = self.records.get_mut(slot) else { return 0 };
        record.due = false;
        if record.blocked {
            return 0;
        }
        self.pass_over(slot);
        let piece = match self.unsent.remove(&slot) {
            Some(rest) => Some(rest),
            None => self.next_piece(slot, now),
        };
        piece.map_or(0, |piece| self.send(slot, piece))
    }

    fn send(&mut self, slot: usize, mut piece: Bytes) -> usize {
        let now = self.tick();
        let record = &mut self.records[slot];
        // No more than that at once: what is granted to a large event would be waited for by small ones.
        let wanted = piece.len().min(RUN_BYTES);
        let Some(room) = record.room(wanted) else {
            drop(self.remove(slot));
            return 0;
        };
        let part = piece.split_to(room.min(wanted));
        let spent = matches!(record.source, Source::Spent { .. });
        let last = piece.is_empty() && matches!(record.source, Source::Spent { abort: false });
        let bytes = part.len();
        if bytes > 0 || last {
            record.outlet.send(part, last);
        }
        // When its end is decided it has that long, whatever it takes meanwhile.
        if !spent {
            record.written = now;
        }
        if !piece.is_empty() {
            record.blocked = bytes < wanted;
            if let Source::Parked(place) = &mut record.source {
                place.behind |= bytes < wanted;
            }
            self.unsent.insert(slot, piece);
            if self.records[slot].blocked {
                self.look_again(slot);
            } else {
                self.make_due(slot);
            }
            return bytes;
        }
        match &mut record.source {
            Source::Spent { abort } => {
                let abort = *abort;
                let record = self.remove(slot);
                if abort {
                    self.aborted.push(record.outlet);
                }
            }
            Source::Resting(_) => self.settle(slot),
            Source::Parked(place) => {
                if let Some(followed) = self.followed.get_mut(&slot) {
                    followed.came_to(&self.groups[place.group].cursor(place.at), self.now);
                }
                // There may be more of it, and what was left of the last piece is no sign that there is not.
                self.make_due(slot);
            }
            Source::Away(_) => {}
        }
        bytes
    }

    /// What a subscriber is owed next; `None` if it has to wait for it, or has gone elsewhere to look.
    fn next_piece(&mut self, slot: usize, now: UnixMillis) -> Option<Bytes> {
        match &self.records[slot].source {
            Source::Parked(place) if place.skips != 0 => self.next_skip(slot),
            Source::Parked(_) => self.next_run(slot, now),
            Source::Resting(_) => {
                self.settle(slot);
                None
            }
            Source::Away(_) => None,
            Source::Spent { .. } => Some(Bytes::new()),
        }
    }

    fn next_run(&mut self, slot: usize, now: UnixMillis) -> Option<Bytes> {
        for _ in 0..RUNS_PER_LOOK {
            let Source::Parked(place) = &mut self.records[slot].source else { return None };
            let common = &self.hub.common;
            let group = &mut self.groups[place.group];
            let from = group.at(place.at);
            let look = self.runs.look((place.group, group), from, place.turn, &self.lanes, &common.deflater);
            let run = match look {
                Look::Run(run) => run,
                Look::AtHead => {
                    place.behind = false;
                    let unseen = place.unseen;
                    return self.tell_position_after(slot, unseen);
                }
                Look::Behind => {
                    self.fall_back(slot);
                    return None;
                }
            };
            common.figures.delivered(run.shown, !place.behind, now);
            group.move_to(place.at, &run.to);
            place.turn = run.next_turn;
            if let Some(part) = &run.part {
                let sum = self.sums.get_mut(&slot).expect("kept for every compressed body");
                *sum = sum.then(part);
            }
            let mut bytes = run.bytes.clone();
            place.unseen =
                if bytes.is_empty() { place.unseen.saturating_add(run.passed) } else { run.passed };
            if place.unseen >= common.config.scan_max
                && let Some((position, ())) = self.alone(slot, Session::tell_position)
            {
                bytes = if bytes.is_empty() { position } else { [bytes, position].concat().into() };
            }
            if !bytes.is_empty() {
                self.hub.common.figures.wrote(bytes.len());
                return Some(bytes);
            }
        }
        self.make_due(slot);
        None
    }

    /// Has one told where it is that has passed over many events, which it was told nothing of.
    fn tell_position_after(&mut self, slot: usize, unseen: u32) -> Option<Bytes> {
        if unseen < self.hub.common.config.call_after() {
            return None;
        }
        self.alone(slot, Session::tell_position).map(|(position, ())| position)
    }

    /// Moves a subscriber on by its streams' policies.
    fn next_skip(&mut self, slot: usize) -> Option<Bytes> {
        let Source::Parked(place) = &mut self.records[slot].source else { return None };
        let stream = place.skips.trailing_zeros() as usize;
        let group = &self.groups[place.group];
        let lane = &self.lanes[group.lanes[stream] as usize];
        let missed = Missed::of(&lane.feed.ring().read(), group.at(place.at)[stream]);
        let Some(missed) = missed else {
            self.fall_back(slot);
            return None;
        };
        let policy = lane.slow_reader;
        let (bytes, at_head) = self.alone(slot, |session, out| missed.skip(policy, stream, session, out))?;
        if let Source::Parked(place) = &mut self.records[slot].source
            && at_head
        {
            place.skips &= !(1 << stream);
        }
        if bytes.is_empty() {
            // It was only passed over; what came since is for a run.
            self.make_due(slot);
            return None;
        }
        Some(bytes)
    }

    /// What a session in a subscriber's place writes for it alone, and what else it says. `None` if it is
    /// in no place.
    pub(super) fn alone<T>(
        &mut self,
        slot: usize,
        write: impl FnOnce(&mut Session, &mut Output) -> T,
    ) -> Option<(Bytes, T)> {
        self.pass_over(slot);
        let Source::Parked(place) = &mut self.records[slot].source else { return None };
        let group = &mut self.groups[place.group];
        let profile = Arc::clone(&group.profile);
        let sum = self.sums.get(&slot).copied().unwrap_or_default();
        let mut out = Output::new(profile.encoding, sum, &self.hub.common.deflater);
        let mut session = Session::new(profile, group.cursor(place.at), place.unseen, u32::MAX);
        let said = write(&mut session, &mut out);
        // Nobody is moved on by a policy who is up to date.
        self.hub.common.figures.delivered(out.take_shown(), false, UnixMillis::new(0));
        if let Some(sum) = self.sums.get_mut(&slot) {
            *sum = out.sum();
        }
        place.unseen = session.unseen();
        group.move_to(place.at, session.cursor());
        Some((out.take(), said))
    }

    /// The streams with one of these policies in which a subscriber lies too far behind: a bit for each.
    pub(super) fn lagging(&mut self, slot: usize, policies: &[SlowReader]) -> u16 {
        self.pass_over(slot);
        let Source::Parked(place) = &self.records[slot].source else { return 0 };
        let group = &self.groups[place.group];
        let lag_max = self.hub.common.config.slow.lag_max;
        let streams = group.lanes.iter().zip(group.at(place.at));
        let lagging = streams.map(|(&lane, &at)| {
            let lane = &self.lanes[lane as usize];
            policies.contains(&lane.slow_reader) && lane.lag(at) > lag_max
        });
        lagging.enumerate().fold(0, |bits, (stream, lags)| bits | u16::from(lags) << stream)
    }

    /// Has a subscriber that could not be sent anything moved on, if that is its streams' policy.
    pub(super) fn judge_lag(&mut self, slot: usize) {
        let lagging = self.lagging(slot, &[SlowReader::Conflate, SlowReader::Gap]);
        if let Source::Parked(place) = &mut self.records[slot].source {
            place.skips |= lagging;
        }
    }
}
