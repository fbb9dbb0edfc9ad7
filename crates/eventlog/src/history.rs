//! Which epochs there were, and what of a stream each of them holds.
//!
//! ```text
//!   epoch      7              9                  12 (open)
//!   seq   1 ─────── 40 │ 41 ──────── 95 │ 96 ──────── 120
//!                 end(7)=40        end(9)=95         tail
//! ```
//! Sequences go on over epochs (base(9) = end(7)), so a sequence alone finds an event, and an epoch
//! with it proves that both sides mean the same one.

use evergate_domain::{Epoch, Gap, GapReason, NUMBER_MAX, Offset, Seq, UnixMillis};

/// Every epoch in which this log was ever open, the last of which is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epochs(Vec<Epoch>);

impl Epochs {
    /// Adds an epoch to those that were (sorted) and opens it: higher than all of them, and never
    /// used before by another history either, for which the milliseconds at opening will do (seconds
    /// would not: a process is restarted within one). It is an id; nothing compares it with a clock
    /// again.
    ///
    /// # Panics
    /// If 2^53 epochs were used up.
    #[must_use]
    pub fn open(mut before: Vec<Epoch>, now: UnixMillis) -> Self {
        let least = before.last().map_or(1, |last| last.get() + 1);
        let number = least.max(now.get()).min(NUMBER_MAX.max(least));
        before.push(Epoch::new(number).expect("a restart a second for 285 million years"));
        Self(before)
    }

    /// The open epoch.
    #[must_use]
    pub fn current(&self) -> Epoch {
        *self.0.last().expect("opened with at least one")
    }

    /// All of them, ascending.
    #[must_use]
    pub fn all(&self) -> &[Epoch] {
        &self.0
    }

    fn contains(&self, epoch: Epoch) -> bool {
        self.0.binary_search(&epoch).is_ok()
    }
}

/// The epochs in which a stream was appended to, each with the last sequence it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Lineage(Vec<Offset>);

/// Where a cursor stands in a stream's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// On it: go on after this sequence.
    After(Seq),
    /// Off it.
    Gap(Gap),
}

impl Lineage {
    /// A lineage from the last offset of each epoch, ascending.
    #[must_use]
    pub fn new(ends: Vec<Offset>) -> Self {
        debug_assert!(ends.is_sorted_by(|a, b| a.epoch < b.epoch && a.seq < b.seq));
        Self(ends)
    }

    /// The last sequence there ever was; 0 for an empty stream.
    #[must_use]
    pub fn tail_seq(&self) -> Seq {
        self.0.last().map_or(Seq::ZERO, |end| end.seq)
    }

    /// Notes that `last` was appended.
    pub fn extend_to(&mut self, last: Offset) {
        debug_assert!(last.seq > self.tail_seq());
        match self.0.last_mut() {
            Some(end) if end.epoch == last.epoch => *end = last,
            Some(_) | None => self.0.push(last),
        }
    }

    /// The cursor that stands at `seq`: the offset of that event, or `<epoch>-0` before the first.
    #[must_use]
    pub fn cursor_at(&self, seq: Seq, current: Epoch) -> Offset {
        let next = self.0.iter().find(|end| end.seq >= seq);
        let epoch = next.map_or(current, |end| end.epoch);
        Offset::new(epoch, seq)
    }

    /// Judges a cursor. `floor` is the last sequence that is gone.
    ///
    /// A position that was never here goes on at the oldest event: the client has seen nothing of
    /// this history.
    #[must_use]
    pub fn judge(&self, cursor: Offset, floor: Seq, epochs: &Epochs) -> Standing {
        let beginning = cursor == Offset::BEGINNING;
        if !beginning && !epochs.contains(cursor.epoch) {
            return Standing::Gap(self.gap(cursor, floor, floor, GapReason::Unknown, epochs));
        }
        let up_to = |wanted: &dyn Fn(Epoch) -> bool| {
            let end = self.0.iter().rev().find(|end| wanted(end.epoch));
            end.map_or(Seq::ZERO, |end| end.seq)
        };
        let base = up_to(&|epoch| epoch < cursor.epoch);
        let end = up_to(&|epoch| epoch <= cursor.epoch);
        if cursor.seq > end {
            return Standing::Gap(self.gap(cursor, end.max(floor), floor, GapReason::LostTail, epochs));
        }
        if cursor.seq < base {
            return Standing::Gap(self.gap(cursor, floor, floor, GapReason::Unknown, epochs));
        }
        if cursor.seq < floor {
            return Standing::Gap(self.gap(cursor, floor, floor, GapReason::Trimmed, epochs));
        }
        Standing::After(cursor.seq)
    }

    fn gap(
        &self,
        requested: Offset,
        resume_after: Seq,
        floor: Seq,
        reason: GapReason,
        epochs: &Epochs,
    ) -> Gap {
        let current = epochs.current();
        let resumed_at = self.cursor_at(resume_after.plus(1), current);
        // The position just before, spelled so that it is on the history when it comes back.
        let cursor = match resume_after {
            Seq::ZERO => Offset::new(resumed_at.epoch, Seq::ZERO),
            seq => self.cursor_at(seq, current),
        };
        let known = match reason {
            GapReason::Trimmed => true,
            GapReason::LostTail | GapReason::Unknown | GapReason::Slow | GapReason::Policy => false,
        };
        Gap {
            requested,
            first_missing: known.then(|| self.cursor_at(requested.seq.plus(1), current)),
            cursor,
            resumed_at,
            reason,
            lost: known.then(|| floor.get() - requested.seq.get()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn offset(text: &str) -> Offset {
        text.parse().expect("valid")
    }

    fn seq(n: u64) -> Seq {
        Seq::new(n).expect("fits")
    }

    fn epochs(numbers: &[u64]) -> Epochs {
        Epochs(numbers.iter().map(|&n| Epoch::new(n).expect("fits")).collect())
    }

    /// Epochs 7, 9 and 12; in 10 the log was open but the stream was not appended to.
    fn history() -> (Lineage, Epochs) {
        let lineage = Lineage::new(vec![offset("7-40"), offset("9-95"), offset("12-120")]);
        (lineage, epochs(&[7, 9, 10, 12]))
    }

    fn gap(standing: Standing) -> Gap {
        match standing {
            Standing::Gap(gap) => gap,
            Standing::After(seq) => panic!("no gap, but after {seq}"),
        }
    }

    #[test]
    fn positions_on_the_history_are_taken() {
        let (lineage, epochs) = history();
        for (cursor, after) in [
            ("0-0", 0),
            ("7-0", 0),
            ("7-40", 40),
            ("9-40", 40),
            ("9-95", 95),
            ("10-95", 95),
            ("12-95", 95),
            ("12-120", 120),
        ] {
            let standing = lineage.judge(offset(cursor), Seq::ZERO, &epochs);
            assert_eq!(standing, Standing::After(seq(after)), "{cursor}");
        }
    }

    #[test]
    fn a_lost_tail_goes_on_at_the_end_of_its_epoch() {
        let (lineage, epochs) = history();
        let gap = gap(lineage.judge(offset("7-41"), Seq::ZERO, &epochs));
        assert_eq!(gap.reason, GapReason::LostTail);
        assert_eq!((gap.cursor, gap.resumed_at), (offset("7-40"), offset("9-41")));
        assert_eq!((gap.lost, gap.first_missing), (None, None));
    }

    #[test]
    fn a_position_ahead_of_the_open_epoch_is_no_promise() {
        let (lineage, epochs) = history();
        let gap = gap(lineage.judge(offset("12-999999"), Seq::ZERO, &epochs));
        assert_eq!(gap.reason, GapReason::LostTail);
        assert_eq!((gap.cursor, gap.resumed_at), (offset("12-120"), offset("12-121")));
    }

    #[test]
    fn an_unknown_epoch_goes_on_at_the_oldest_event() {
        let (lineage, epochs) = history();
        for cursor in ["8-50", "13-1", "0-5", "12-3"] {
            let gap = gap(lineage.judge(offset(cursor), seq(50), &epochs));
            assert_eq!(gap.reason, GapReason::Unknown, "{cursor}");
            assert_eq!((gap.cursor, gap.resumed_at), (offset("9-50"), offset("9-51")), "{cursor}");
        }
    }

    #[test]
    fn what_was_trimmed_is_counted_exactly() {
        let (lineage, epochs) = history();
        let gap = gap(lineage.judge(offset("7-10"), seq(50), &epochs));
        assert_eq!(gap.reason, GapReason::Trimmed);
        assert_eq!(gap.first_missing, Some(offset("7-11")));
        assert_eq!((gap.cursor, gap.resumed_at), (offset("9-50"), offset("9-51")));
        assert_eq!(gap.lost, Some(40));
    }

    #[test]
    fn a_stream_trimmed_to_nothing_resumes_at_its_next_event() {
        let (lineage, epochs) = history();
        let gap = gap(lineage.judge(offset("9-60"), seq(120), &epochs));
        assert_eq!((gap.cursor, gap.resumed_at), (offset("12-120"), offset("12-121")));
        assert_eq!(gap.lost, Some(60));
    }

    #[test]
    fn every_gap_goes_on_from_a_position_that_is_taken() {
        let (lineage, epochs) = history();
        for floor in 0..=120 {
            for epoch in 0..14 {
                for at in 0..130 {
                    let cursor = Offset::new(Epoch::new(epoch).expect("fits"), seq(at));
                    if let Standing::Gap(gap) = lineage.judge(cursor, seq(floor), &epochs) {
                        let again = lineage.judge(gap.cursor, seq(floor), &epochs);
                        assert_eq!(again, Standing::After(gap.cursor.seq), "{cursor} over {floor}");
                        assert_eq!(gap.resumed_at.seq, gap.cursor.seq.plus(1));
                    }
                }
            }
        }
    }

    #[test]
    fn a_new_epoch_is_above_every_earlier_one_whatever_the_clock_says() {
        let opened = Epochs::open(vec![], UnixMillis::new(5_000));
        assert_eq!(opened.current().get(), 5_000);
        let again = Epochs::open(opened.all().to_vec(), UnixMillis::new(1_000));
        assert_eq!(again.current().get(), 5_001);
        assert_eq!(Epochs::open(vec![], UnixMillis::new(0)).current().get(), 1);
    }

    #[test]
    fn a_cursor_of_an_empty_stream_survives_restarts_and_its_first_event() {
        let mut lineage = Lineage::default();
        let opened = epochs(&[3]);
        let cursor = lineage.cursor_at(Seq::ZERO, opened.current());
        assert_eq!(cursor, offset("3-0"));
        let reopened = epochs(&[3, 4]);
        assert_eq!(lineage.judge(cursor, Seq::ZERO, &reopened), Standing::After(Seq::ZERO));
        lineage.extend_to(offset("4-1"));
        assert_eq!(lineage.judge(cursor, Seq::ZERO, &reopened), Standing::After(Seq::ZERO));
    }
}
