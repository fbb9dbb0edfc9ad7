//! Puts what comes over a live channel in order: what may be shown, what must wait for its commit,
//! and where something is missing. Pure.
//!
//! ```text
//!        shown            held until committed
//!   ────────────────┼──────────────────────────┼───▶
//!                position                     tail
//! ```

use std::collections::VecDeque;
use std::sync::Arc;

use evergate_domain::{Event, Offset, Seq};

/// Events and bytes that are held for one stream. Beyond them they are let go, and the commit is
/// answered by reading the log.
const HELD_EVENTS_MAX: usize = 4096;
const HELD_BYTES_MAX: u64 = 8 << 20;

/// What a follower is to be told.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Told {
    /// Something is missing before these events: read the log.
    pub(super) lagged: bool,
    /// What may be shown now.
    pub(super) events: Vec<Arc<Event>>,
}

/// One stream's live end, as far as it is known here.
#[derive(Debug, Default)]
pub(super) struct Sequencer {
    /// The newest event that may be shown. None before anything is known.
    position: Option<Offset>,
    /// What follows it without a hole.
    held: VecDeque<Arc<Event>>,
    held_bytes: u64,
}

impl Sequencer {
    /// The newest event that may be shown.
    pub(super) fn position(&self) -> Option<Offset> {
        self.position
    }

    /// Notes where the log stands, if nothing was known, and says where a new follower begins.
    pub(super) fn begin(&mut self, committed: Offset) -> Offset {
        // By epoch first: what is known here may belong to a history that was lost.
        committed.max(*self.position.get_or_insert(committed))
    }

    /// Takes the events of one append, of which those up to `hwm` are committed.
    pub(super) fn appended(&mut self, events: Vec<Arc<Event>>, hwm: Seq) -> Told {
        let mut told = Told::default();
        let Some(first) = events.first().map(|event| event.offset) else { return told };
        let before = Offset::new(first.epoch, first.seq.before().min(hwm));
        let position = *self.position.get_or_insert(before);
        // A new epoch may have begun with a loss, which only the log can judge.
        if self.held.back().map_or(position.epoch, |event| event.offset.epoch) != first.epoch {
            told.lagged = true;
            self.jump(before);
        }
        let tail = self.tail();
        if first.seq > tail.plus(1) {
            self.forget();
        }
        for event in events.into_iter().filter(|event| event.offset.seq > tail) {
            self.held_bytes += event.bytes();
            self.held.push_back(event);
        }
        self.release(Offset::new(first.epoch, hwm), &mut told);
        if self.held.len() > HELD_EVENTS_MAX || self.held_bytes > HELD_BYTES_MAX {
            self.forget();
        }
        told
    }

    /// Takes the news that everything up to `mark` is committed.
    pub(super) fn committed(&mut self, mark: Offset) -> Told {
        let mut told = Told::default();
        if self.position.is_some() {
            self.release(mark, &mut told);
        }
        told
    }

    /// The log says where it stands now, and what it says has nothing to do with what came here:
    /// go on from there.
    pub(super) fn jump(&mut self, committed: Offset) {
        self.forget();
        self.position = Some(committed);
    }

    fn tail(&self) -> Seq {
        let shown = self.position.map_or(Seq::ZERO, |position| position.seq);
        self.held.back().map_or(shown, |event| event.offset.seq)
    }

    /// Shows what is held up to `mark`, if all of it is there.
    fn release(&mut self, mark: Offset, told: &mut Told) {
        while let (Some(position), Some(next)) = (self.position, self.held.front()) {
            if next.offset.seq > mark.seq || next.offset.seq != position.seq.plus(1) {
                break;
            }
            let Some(event) = self.held.pop_front() else { break };
            self.held_bytes -= event.bytes();
            self.position = Some(event.offset);
            told.events.push(event);
        }
        if self.position.is_some_and(|position| position.seq < mark.seq) {
            // Some of it never came. The log has it.
            told.lagged = true;
            self.position = Some(mark);
            while let Some(event) = self.held.pop_front_if(|event| event.offset.seq <= mark.seq) {
                self.held_bytes -= event.bytes();
            }
        }
    }

    fn forget(&mut self) {
        self.held.clear();
        self.held_bytes = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evergate_domain::{EventDraft, UnixMillis};

    fn offset(text: &str) -> Offset {
        text.parse().expect("valid")
    }

    fn seq(n: u64) -> Seq {
        Seq::new(n).expect("fits")
    }

    fn events(first: &str, count: u64) -> Vec<Arc<Event>> {
        let first = offset(first);
        (0..count)
            .map(|n| {
                let at = Offset::new(first.epoch, first.seq.plus(n));
                Arc::new(EventDraft::new("x").placed(at, UnixMillis::new(0)))
            })
            .collect()
    }

    fn at(text: &str) -> Sequencer {
        let mut sequencer = Sequencer::default();
        assert_eq!(sequencer.begin(offset(text)), offset(text));
        sequencer
    }

    fn told(told: &Told) -> (bool, Vec<u64>) {
        (told.lagged, told.events.iter().map(|event| event.offset.seq.get()).collect())
    }

    #[test]
    fn what_is_committed_is_shown_and_the_rest_waits() {
        let mut live = at("7-10");
        assert_eq!(told(&live.appended(events("7-11", 2), seq(12))), (false, vec![11, 12]));
        assert_eq!(told(&live.appended(events("7-13", 3), seq(12))), (false, vec![]));
        assert_eq!(told(&live.committed(offset("7-14"))), (false, vec![13, 14]));
        assert_eq!(told(&live.committed(offset("7-14"))), (false, vec![]));
        assert_eq!(told(&live.committed(offset("7-15"))), (false, vec![15]));
    }

    #[test]
    fn what_was_known_is_not_shown_again() {
        let mut live = at("7-10");
        assert_eq!(told(&live.appended(events("7-9", 3), seq(11))), (false, vec![11]));
        assert_eq!(live.begin(offset("7-8")), offset("7-11"));
        assert_eq!(live.begin(offset("7-20")), offset("7-20"));
        assert_eq!(live.begin(offset("9-1")), offset("9-1"));
    }

    #[test]
    fn a_hole_is_told() {
        let mut live = at("7-10");
        assert_eq!(told(&live.appended(events("7-12", 1), seq(12))), (true, vec![]));
        // A commit of what never came.
        assert_eq!(told(&live.committed(offset("7-14"))), (true, vec![]));
        assert_eq!(told(&live.appended(events("7-15", 1), seq(15))), (false, vec![15]));
    }

    #[test]
    fn a_new_epoch_is_told_even_where_the_sequence_goes_on() {
        let mut live = at("7-10");
        assert_eq!(told(&live.appended(events("9-11", 1), seq(11))), (true, vec![11]));
        // Where a tail was lost, sequences come again.
        assert_eq!(told(&live.appended(events("12-8", 2), seq(9))), (true, vec![8, 9]));
        assert_eq!(told(&live.appended(events("12-10", 1), seq(10))), (false, vec![10]));
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut live = at("7-0");
        let many = HELD_EVENTS_MAX as u64 + 1;
        assert_eq!(told(&live.appended(events("7-1", many), seq(0))), (false, vec![]));
        assert!(live.held.is_empty());
        assert_eq!(told(&live.committed(Offset::new(offset("7-0").epoch, seq(many)))), (true, vec![]));
        let next = Offset::new(offset("7-0").epoch, seq(many + 1));
        assert_eq!(told(&live.appended(events(&next.to_string(), 1), next.seq)).1, [many + 1]);
    }

    #[test]
    fn what_is_not_committed_is_not_passed_over_by_a_hole() {
        let mut live = at("7-10");
        assert_eq!(told(&live.appended(events("7-15", 2), seq(10))), (false, vec![]));
        assert_eq!(live.position(), Some(offset("7-10")));
        assert_eq!(told(&live.committed(offset("7-15"))), (true, vec![]));
        assert_eq!(told(&live.committed(offset("7-16"))), (false, vec![16]));
    }
}
