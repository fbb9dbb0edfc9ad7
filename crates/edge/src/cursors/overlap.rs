//! How far behind a kept position stays where what a socket took may still be on its way.

use std::collections::VecDeque;
use std::num::NonZeroU32;

use evergate_domain::{Cursor, Offset, Seq};

/// Changes of epoch that are remembered of a stream. Of more, within one overlap, the place waits for
/// the newest to be passed.
const CHANGES_MAX: usize = 8;

/// Tells, for each position of a connection, the one that lies so many events before it in each stream.
///
/// `<epoch>-<seq>` less some may name an event that never was: on the other side of a failover, or
/// before the stream's beginning. So it is counted back only between two positions of the same epoch at
/// which the connection stood, for then all between them are of that epoch; else the earlier of the two
/// is told. It never goes back beyond where the connection began.
///
/// ```text
///   began                 first seen of 7        now
///   4-90 ─ ─ ─ ─ ? ─ ─ ─ ─ 7-103 ───────────────── 7-120
///   └ told while now − overlap lies here            └ now − overlap itself, from 7-103 on
/// ```
#[derive(Debug)]
pub(crate) struct Overlap {
    events: u64,
    told: Cursor,
    /// Of each stream, the oldest first: where the connection stood when it was first seen in another
    /// epoch than before.
    changes: Vec<VecDeque<Offset>>,
}

impl Overlap {
    /// For a connection that begins here, which is known elsewhere.
    pub(crate) fn new(events: NonZeroU32, begin: Cursor) -> Self {
        let changes = begin.offsets().iter().map(|_| VecDeque::new()).collect();
        Self { events: u64::from(events.get()), told: begin, changes }
    }

    /// The connection stands here. Gives the position to tell, if there is a new one.
    pub(crate) fn passed(&mut self, now: &Cursor) -> Option<Cursor> {
        let mut moved = false;
        for (stream, (changes, &now)) in self.changes.iter_mut().zip(now.offsets()).enumerate() {
            let told = self.told.offsets()[stream];
            let behind = now.seq.get().checked_sub(self.events).and_then(Seq::new);
            let at = behind.map_or(told, |behind| at_or_before(behind, told, changes, now));
            if at != told {
                self.told.set(stream, at);
                moved = true;
            }
            let newest = changes.back().copied().unwrap_or(at);
            // Behind the other, it is on a history that lost its end, and is waited for.
            if now.epoch != newest.epoch && now.seq > newest.seq && changes.len() < CHANGES_MAX {
                changes.push_back(now);
            }
        }
        moved.then(|| self.told.clone())
    }
}

/// The newest position that is known to have been, up to this sequence.
fn at_or_before(seq: Seq, told: Offset, changes: &mut VecDeque<Offset>, now: Offset) -> Offset {
    let mut at = told;
    while let Some(change) = changes.pop_front_if(|change| change.seq <= seq) {
        at = change;
    }
    let next = changes.front().copied().unwrap_or(now);
    if at.seq < seq && at.epoch == next.epoch { Offset::new(at.epoch, seq) } else { at }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evergate_domain::{StreamName, StreamSet};
    use proptest::prelude::*;

    fn set(names: &[&str]) -> StreamSet {
        StreamSet::new(names.iter().map(|name| StreamName::new(name).expect("valid")).collect())
            .expect("valid")
    }

    fn at(offset: &str) -> Cursor {
        Cursor::parse(&set(&["s"]), offset).expect("valid")
    }

    fn overlap(events: u32, begin: Cursor) -> Overlap {
        Overlap::new(NonZeroU32::new(events).expect("some"), begin)
    }

    #[test]
    fn the_position_so_many_events_before_is_told() {
        let mut overlap = overlap(10, at("1-0"));
        for quiet in ["1-0", "1-5", "1-9", "1-10"] {
            assert_eq!(overlap.passed(&at(quiet)), None, "{quiet}");
        }
        assert_eq!(overlap.passed(&at("1-15")), Some(at("1-5")));
        assert_eq!(overlap.passed(&at("1-15")), None, "once");
        assert_eq!(overlap.passed(&at("1-400")), Some(at("1-390")), "also within one long replay");
    }

    #[test]
    fn it_stays_at_the_beginning_of_a_short_stream() {
        let mut overlap = overlap(1_000, at("0-0"));
        for seq in 1..=1_000 {
            assert_eq!(overlap.passed(&at(&format!("1-{seq}"))), None);
        }
    }

    /// 7-93 never was: the epoch began with 7-100.
    #[test]
    fn on_the_other_side_of_a_failover_no_position_is_made_up() {
        let mut overlap = overlap(10, at("4-85"));
        assert_eq!(overlap.passed(&at("4-98")), Some(at("4-88")));
        for unknown in ["7-103", "7-108", "7-112"] {
            assert_eq!(overlap.passed(&at(unknown)), None, "{unknown}");
        }
        assert_eq!(overlap.passed(&at("7-113")), Some(at("7-103")));
        assert_eq!(overlap.passed(&at("7-120")), Some(at("7-110")));
    }

    #[test]
    fn a_lost_end_is_waited_for() {
        let mut overlap = overlap(10, at("4-99"));
        for behind in ["7-95", "7-99", "7-105", "7-114"] {
            assert_eq!(overlap.passed(&at(behind)), None, "{behind}");
        }
        assert_eq!(overlap.passed(&at("7-115")), Some(at("7-105")), "the first that was beyond");
    }

    #[test]
    fn each_stream_has_its_own() {
        let streams = set(&["a", "b"]);
        let both = |a: u64, b: u64| {
            let offset = |seq: u64| format!("1-{seq}").parse().expect("an offset");
            Cursor::new(&streams, vec![offset(a), offset(b)])
        };
        let mut overlap = overlap(4, both(0, 0));
        assert_eq!(overlap.passed(&both(3, 1)), None);
        assert_eq!(overlap.passed(&both(8, 1)), Some(both(4, 0)));
        assert_eq!(overlap.passed(&both(8, 5)), Some(both(4, 1)));
    }

    proptest! {
        #[test]
        fn what_is_told_is_an_event_and_far_enough_behind(
            events in 1..200_u32,
            steps in prop::collection::vec((0..60_u64, prop::bool::weighted(0.2)), 1..200),
        ) {
            let (mut epoch, mut seq) = (1, 50);
            let begin = at("1-50");
            let mut overlap = overlap(events, begin.clone());
            let (mut history, mut told) = (vec![begin.offsets()[0]], begin.clone());
            for (step, failover) in steps {
                epoch += u64::from(failover);
                for seq in seq + 1..=seq + step {
                    history.push(format!("{epoch}-{seq}").parse().expect("an offset"));
                }
                seq += step;
                let now = Cursor::new(&set(&["s"]), vec![*history.last().expect("the first")]);
                if let Some(position) = overlap.passed(&now) {
                    prop_assert!(history.contains(&position.offsets()[0]), "{position} never was");
                    prop_assert!(position.offsets()[0] > told.offsets()[0], "it only moves on");
                    told = position;
                }
                let behind = seq - told.offsets()[0].seq.get();
                prop_assert!(told == begin || behind >= u64::from(events), "{behind}");
                prop_assert!(overlap.changes[0].len() <= CHANGES_MAX);
            }
        }
    }
}
