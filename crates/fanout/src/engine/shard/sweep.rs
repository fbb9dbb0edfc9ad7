//! What is sent: everybody who follows a stream is brought up to its head.

use std::sync::Arc;

use bytes::Bytes;
use evergate_domain::SlowReader;

use super::{RUNS_PER_TURN, SENDS_PER_LOOK, SENDS_PER_SLICE, Shard, small};
use crate::engine::chunk;
use crate::engine::record::{Sent, send, send_secured};
use crate::engine::run::{Look, Runs};
use crate::engine::skip::Missed;
use crate::figures;
use crate::output::Output;
use crate::session::Session;
use crate::subscriber::End;
use crate::traced::Sweep;

/// What becomes of a connection after a look at it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    Stays,
    /// It has more to get, but others are waiting.
    Again,
    /// A ring no longer has what it is owed.
    Behind,
    /// A stream's policy is to wait no longer.
    TooSlow,
    Gone,
}

impl Shard {
    /// Brings everybody who follows a stream up to its head.
    pub(super) async fn sweep(&mut self, lane: usize) {
        let call_after = self.engine.0.hub.common.config.call_after();
        let Some(of_lane) = self.lanes.get_mut(lane) else { return };
        of_lane.listener.clear();
        // After the mark: what was marked before is in the ring.
        let traced = Sweep::begin(&self.engine.0.hub.common.config.tracer, &of_lane.listener);
        self.now = figures::now();
        let mut groups = std::mem::take(&mut self.visiting);
        let due = of_lane.due(u64::from(call_after), &mut groups);
        let (mut runs, mut visited) = (Runs::default(), 0);
        for &group in &groups {
            let mut at = 0;
            while let Some(&slot) = self.groups.get(group).and_then(|group| group.followers.get(at)) {
                let fate = self.advance(slot as usize, &mut runs);
                // One that leaves has another put in its place.
                if matches!(fate, Fate::Stays | Fate::Again) {
                    at += 1;
                }
                self.follow_up(slot as usize, fate);
                visited += 1;
                if visited % SENDS_PER_LOOK == 0 {
                    self.now = figures::now();
                }
                if visited % SENDS_PER_SLICE == 0 {
                    tokio::task::yield_now().await;
                }
            }
        }
        for &group in &groups[due.all..] {
            if let Some(group) = self.groups.get_mut(group) {
                group.asked(small(lane), due.quiet_from);
            }
        }
        self.visiting = groups;
        self.figures.visited(visited);
        let Some(of_lane) = self.lanes.get_mut(lane) else { return };
        of_lane.done(&due);
        if let Some(traced) = traced {
            traced.end(&self.engine.0.hub.common.config.tracer, of_lane.feed.name(), visited);
        }
        if of_lane.feed.is_closed() {
            let groups = of_lane.groups.all().iter().chain(of_lane.groups.keyed());
            let ended: Vec<_> = groups.flat_map(|&group| self.groups[group].followers.clone()).collect();
            for slot in ended {
                self.end(slot as usize, End::LogClosed);
            }
        }
    }

    /// Goes on with those who had more to get than goes at once.
    pub(super) async fn go_on(&mut self) {
        let mut runs = Runs::default();
        for (n, slot) in std::mem::take(&mut self.again).into_iter().enumerate() {
            // It may have left, and its slot may even be another's, who loses nothing by a look at it.
            if self.records.contains(slot) {
                let fate = self.advance(slot, &mut runs);
                self.follow_up(slot, fate);
            }
            if n % SENDS_PER_SLICE == SENDS_PER_SLICE - 1 {
                tokio::task::yield_now().await;
            }
        }
    }

    /// Sends a connection what lies between its position and the heads, as far as it takes it.
    pub(super) fn advance(&mut self, slot: usize, runs: &mut Runs) -> Fate {
        self.settle(slot);
        if self.records[slot].blocked {
            let too_slow = self.lagging(slot, &[SlowReader::Disconnect]) != 0;
            return if too_slow { Fate::TooSlow } else { Fate::Stays };
        }
        if let Some(unsent) = self.unsent.remove(&slot)
            && let Some(fate) = self.deliver(slot, unsent)
        {
            return fate;
        }
        if self.records[slot].skips != 0
            && let Some(fate) = self.skip(slot)
        {
            return fate;
        }
        let mut more = RUNS_PER_TURN;
        loop {
            let common = &self.engine.0.hub.common;
            let record = &mut self.records[slot];
            let group = &mut self.groups[record.group];
            let from = group.at(record.place);
            let look = runs.look((record.group, group), from, record.turn, &self.lanes, &common.deflater);
            let run = match look {
                Look::Run(run) => run,
                Look::AtHead => {
                    record.behind = false;
                    break;
                }
                Look::Behind => return Fate::Behind,
            };
            self.figures.delivered(run.shown, !record.behind, self.now);
            group.move_to(record.place, &run.to);
            record.turn = run.next_turn;
            if let Some(part) = &run.part {
                let sum = self.sums.get_mut(&slot).expect("kept for every compressed body");
                *sum = sum.then(part);
            }
            let mut bytes = run.bytes.clone();
            record.unseen =
                if bytes.is_empty() { record.unseen.saturating_add(run.passed) } else { run.passed };
            if record.unseen >= common.config.scan_max {
                let (position, ()) = self.alone(slot, Session::tell_position);
                bytes = if bytes.is_empty() { position } else { [bytes, position].concat().into() };
            }
            if !bytes.is_empty()
                && let Some(fate) = self.deliver(slot, bytes)
            {
                return fate;
            }
            more -= 1;
            if more == 0 {
                return Fate::Again;
            }
        }
        if self.records[slot].unseen >= self.engine.0.hub.common.config.call_after() {
            let (position, ()) = self.alone(slot, Session::tell_position);
            return self.deliver(slot, position).unwrap_or(Fate::Stays);
        }
        Fate::Stays
    }

    /// Moves a connection over events of other keys than it wants.
    pub(super) fn settle(&mut self, slot: usize) {
        let record = &mut self.records[slot];
        let group = &mut self.groups[record.group];
        if group.is_keyed() {
            let passed = group.settle(record.place, |lane| self.lanes[lane as usize].swept());
            record.unseen = record.unseen.saturating_add(passed);
        }
    }

    /// Moves a connection on by its streams' policies. `None` once it is where it can go on from.
    fn skip(&mut self, slot: usize) -> Option<Fate> {
        for _ in 0..RUNS_PER_TURN {
            let record = &mut self.records[slot];
            if record.skips == 0 {
                return None;
            }
            let stream = record.skips.trailing_zeros() as usize;
            let group = &self.groups[record.group];
            let lane = &self.lanes[group.lanes[stream] as usize];
            let missed = Missed::of(&lane.feed.ring().read(), group.at(record.place)[stream]);
            let Some(missed) = missed else {
                record.skips = 0;
                return Some(Fate::Behind);
            };
            let policy = lane.slow_reader;
            let (bytes, at_head) = self.alone(slot, |session, out| missed.skip(policy, stream, session, out));
            if at_head {
                self.records[slot].skips &= !(1 << stream);
            }
            if !bytes.is_empty()
                && let Some(fate) = self.deliver(slot, bytes)
            {
                return Some(fate);
            }
        }
        (self.records[slot].skips != 0).then_some(Fate::Again)
    }

    /// What a session in a connection's place writes for it alone, as a chunk, and what else it says.
    pub(super) fn alone<T>(
        &mut self,
        slot: usize,
        write: impl FnOnce(&mut Session, &mut Output) -> T,
    ) -> (Bytes, T) {
        self.settle(slot);
        let record = &mut self.records[slot];
        let group = &mut self.groups[record.group];
        let profile = Arc::clone(&group.profile);
        let sum = self.sums.get(&slot).copied().unwrap_or_default();
        let mut out = Output::new(profile.encoding, sum, &self.engine.0.hub.common.deflater);
        let mut session = Session::new(profile, group.cursor(record.place), record.unseen, u32::MAX);
        let said = write(&mut session, &mut out);
        // Nobody is moved on by a policy who is up to date.
        self.figures.delivered(out.take_shown(), false, self.now);
        if let Some(sum) = self.sums.get_mut(&slot) {
            *sum = out.sum();
        }
        record.unseen = session.unseen();
        group.move_to(record.place, session.cursor());
        (chunk::of(&out.take()), said)
    }

    /// Sends bytes, and keeps those that the socket does not take. `None` if it took them all.
    pub(super) fn deliver(&mut self, slot: usize, bytes: Bytes) -> Option<Fate> {
        let record = &mut self.records[slot];
        let sent = match self.sessions.get_mut(&slot) {
            None => send(record, bytes, self.tick, &self.figures),
            Some(session) => send_secured(record, session, bytes, self.tick, &self.figures),
        };
        match sent {
            Sent::All => None,
            Sent::Part(rest) => {
                self.unsent.insert(slot, rest);
                Some(Fate::Stays)
            }
            Sent::Broken => Some(Fate::Gone),
        }
    }

    /// The streams with one of these policies in which a connection lies too far behind: a bit for each.
    pub(super) fn lagging(&self, slot: usize, policies: &[SlowReader]) -> u16 {
        let record = &self.records[slot];
        let group = &self.groups[record.group];
        let lag_max = self.engine.0.hub.common.config.slow.lag_max;
        let streams = group.lanes.iter().zip(group.at(record.place));
        let lagging = streams.map(|(&lane, &at)| {
            let lane = &self.lanes[lane as usize];
            policies.contains(&lane.slow_reader) && lane.lag(at) > lag_max
        });
        lagging.enumerate().fold(0, |bits, (stream, lags)| bits | u16::from(lags) << stream)
    }

    pub(super) fn follow_up(&mut self, slot: usize, fate: Fate) {
        match fate {
            Fate::Stays => {}
            Fate::Again => self.again.push(slot),
            Fate::Behind => self.give_back(slot),
            Fate::TooSlow => {
                metrics::counter!("evergate_slow_disconnects_total").increment(1);
                self.reset(slot);
            }
            Fate::Gone => drop(self.remove(slot)),
        }
    }
}
