//! Deliveries that can be looked up: for each bucket of the delivery times, one whose trace is kept.
//!
//! So much memory and no more, and whoever delivers never waits for it: an example that is not taken because
//! somebody else is looking is no loss, the next will be.

use std::fmt;
use std::num::NonZeroU128;

use evergate_domain::{Event, UnixMillis};
use parking_lot::Mutex;

use crate::figures::BUCKETS;

/// The id of a trace, as a number. Displayed as the standard spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(NonZeroU128);

/// One delivery of an event whose trace is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exemplar {
    /// The trace.
    pub trace: TraceId,
    /// What the delivery is counted to have taken, in milliseconds.
    pub millis: u64,
    /// When it was.
    pub at: UnixMillis,
}

/// The last of them in each bucket.
#[derive(Debug, Default)]
pub(crate) struct Exemplars(Mutex<[Option<Exemplar>; BUCKETS]>);

impl TraceId {
    /// The trace of this number.
    #[must_use]
    pub const fn new(id: NonZeroU128) -> Self {
        Self(id)
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// The event's trace, if it is kept.
pub(crate) fn kept_trace(event: &Event) -> Option<TraceId> {
    let trace = event.trace.as_ref().filter(|trace| trace.is_sampled())?;
    NonZeroU128::new(u128::from_be_bytes(trace.trace_id_bytes())).map(TraceId)
}

impl Exemplars {
    /// Takes one, unless somebody else is at them right now.
    pub(crate) fn note(&self, bucket: usize, exemplar: Exemplar) {
        let Some(mut kept) = self.0.try_lock() else { return };
        // Of all the deliveries of one event the first will do.
        if kept[bucket].is_none_or(|known| known.trace != exemplar.trace) {
            kept[bucket] = Some(exemplar);
        }
    }

    /// Adds those that are newer.
    pub(crate) fn add_to(&self, all: &mut [Option<Exemplar>; BUCKETS]) {
        for (known, own) in all.iter_mut().zip(&*self.0.lock()) {
            if known.map(|known| known.at) < own.map(|own| own.at) {
                *known = *own;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use evergate_domain::{EventDraft, Offset, TraceParent};

    use super::*;

    fn id(number: u128) -> TraceId {
        TraceId(NonZeroU128::new(number).expect("not zero"))
    }

    fn exemplar(trace: u128, at: u64) -> Exemplar {
        Exemplar { trace: id(trace), millis: 7, at: UnixMillis::new(at) }
    }

    fn kept(all: &[&Exemplars]) -> [Option<Exemplar>; BUCKETS] {
        let mut kept = [None; BUCKETS];
        for exemplars in all {
            exemplars.add_to(&mut kept);
        }
        kept
    }

    #[test]
    fn a_bucket_keeps_the_first_delivery_of_the_last_trace() {
        let exemplars = Exemplars::default();
        for (trace, at) in [(1, 10), (2, 20), (2, 21)] {
            exemplars.note(3, exemplar(trace, at));
        }
        exemplars.note(BUCKETS - 1, exemplar(1, 30));
        let kept = kept(&[&exemplars]);
        assert_eq!((kept[3], kept[BUCKETS - 1]), (Some(exemplar(2, 20)), Some(exemplar(1, 30))));
        assert_eq!(kept.iter().flatten().count(), 2);
    }

    #[test]
    fn of_several_writers_the_newest_counts() {
        let (one, other) = (Exemplars::default(), Exemplars::default());
        one.note(0, exemplar(1, 10));
        one.note(1, exemplar(1, 40));
        other.note(0, exemplar(2, 20));
        other.note(1, exemplar(2, 30));
        let expected = (Some(exemplar(2, 20)), Some(exemplar(1, 40)));
        for all in [[&one, &other], [&other, &one]] {
            let kept = kept(&all);
            assert_eq!((kept[0], kept[1]), expected);
        }
    }

    #[test]
    fn whoever_delivers_does_not_wait_for_whoever_looks() {
        let exemplars = Exemplars::default();
        let looking = exemplars.0.lock();
        exemplars.note(0, exemplar(1, 10));
        drop(looking);
        assert_eq!(kept(&[&exemplars])[0], None);
    }

    #[test]
    fn only_a_trace_that_is_kept_is_told_of() {
        let trace = |flags| TraceParent::new(0xab_u128.to_be_bytes(), [1; 8], flags);
        let event = |trace| {
            let draft = EventDraft { trace, ..EventDraft::new("x") };
            draft.placed(Offset::BEGINNING, UnixMillis::new(0))
        };
        assert_eq!(kept_trace(&event(None)), None);
        assert_eq!(kept_trace(&event(trace(0))), None);
        let kept = kept_trace(&event(trace(1))).expect("it is kept");
        assert_eq!(kept.to_string(), "000000000000000000000000000000ab");
    }
}
