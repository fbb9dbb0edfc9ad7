//! What was written to subscribers, counted for whoever asks. Nothing here decides anything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use evergate_domain::{Event, Gap, UnixMillis};
use evergate_telemetry::Tracer;

use crate::exemplars::{Exemplar, Exemplars, TraceId, kept_trace};

/// Upper bounds of the times from an event's acceptance to its being written, in seconds. One of them is
/// the goal that Evergate is run by, 210 ms: a share within it is exact only at a bound.
pub const DELIVERY_BOUNDS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.21, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Each of them, and what keeps none.
pub(crate) const BUCKETS: usize = DELIVERY_BOUNDS.len() + 1;

/// The counters of one writer: one for each shard, so that no two cores share a line of memory.
#[derive(Debug, Default)]
#[repr(align(128))]
pub(crate) struct Figures {
    sends: AtomicU64,
    /// Connections that a sweep looked at.
    visits: AtomicU64,
    bytes: AtomicU64,
    /// Events written to subscribers that lay behind.
    behind: AtomicU64,
    /// Events written to subscribers that were up to date, by the first bound they keep; the last keep none.
    in_time: [AtomicU64; BUCKETS],
    /// Sum of what these took, in milliseconds.
    millis: AtomicU64,
    /// One of them for each bound, where traces are kept at all.
    exemplars: Option<Exemplars>,
}

/// Counters at one moment, since the start.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Deliveries {
    /// System calls that wrote to parked connections.
    pub sends: u64,
    /// Bytes that the system took: framing, compression and private frames included.
    pub bytes: u64,
    /// Events written to subscribers that lay behind: just resumed, or slow.
    pub behind: u64,
    /// Events written to subscribers that were up to date, by the first of [`DELIVERY_BOUNDS`] that the
    /// time since their acceptance keeps; the last entry keeps none.
    pub in_time: [u64; BUCKETS],
    /// Sum of these times, in milliseconds.
    pub millis: u64,
    /// The last delivery of an event whose trace is kept, for each entry of `in_time`.
    pub exemplars: [Option<Exemplar>; BUCKETS],
}

/// Events in a piece of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) events: u32,
    /// When the first of them was accepted. It speaks for all: none of them waited longer.
    pub(crate) accepted: UnixMillis,
    /// The first trace among theirs that is kept.
    pub(crate) trace: Option<TraceId>,
}

impl Shown {
    /// With one more event.
    pub(crate) fn and(before: Option<Self>, event: &Event) -> Self {
        let (events, accepted, trace) = match before {
            Some(Self { events, accepted, trace }) => (events + 1, accepted, trace),
            None => (1, event.time, None),
        };
        Self { events, accepted, trace: trace.or_else(|| kept_trace(event)) }
    }
}

impl Figures {
    /// Nothing counted yet; with exemplars if anything is traced here.
    pub(crate) fn new(tracer: &Tracer) -> Self {
        Self { exemplars: tracer.is_on().then(Exemplars::default), ..Self::default() }
    }

    /// A call that wrote, and how much the system took.
    pub(crate) fn sent(&self, bytes: usize) {
        self.sends.fetch_add(1, Ordering::Relaxed);
        self.wrote(bytes);
    }

    /// So many connections were looked at because a stream of theirs moved on.
    pub(crate) fn visited(&self, connections: usize) {
        self.visits.fetch_add(connections as u64, Ordering::Relaxed);
    }

    pub(crate) fn visits(&self) -> u64 {
        self.visits.load(Ordering::Relaxed)
    }

    /// What was written by somebody else's call.
    pub(crate) fn wrote(&self, bytes: usize) {
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Events handed over for writing at `now`; to a subscriber that was up to date, or not.
    pub(crate) fn delivered(&self, shown: Option<Shown>, up_to_date: bool, now: UnixMillis) {
        let Some(Shown { events, accepted, trace }) = shown else { return };
        let events = u64::from(events);
        if !up_to_date {
            self.behind.fetch_add(events, Ordering::Relaxed);
            return;
        }
        // Another machine's clock may be ahead.
        let millis = now.get().saturating_sub(accepted.get());
        let bucket = bound(millis);
        self.in_time[bucket].fetch_add(events, Ordering::Relaxed);
        self.millis.fetch_add(millis.saturating_mul(events), Ordering::Relaxed);
        if let (Some(trace), Some(exemplars)) = (trace, &self.exemplars) {
            exemplars.note(bucket, Exemplar { trace, millis, at: now });
        }
    }

    /// Adds what this one counted.
    pub(crate) fn add_to(&self, all: &mut Deliveries) {
        all.sends += self.sends.load(Ordering::Relaxed);
        all.bytes += self.bytes.load(Ordering::Relaxed);
        all.behind += self.behind.load(Ordering::Relaxed);
        all.millis = all.millis.wrapping_add(self.millis.load(Ordering::Relaxed));
        for (sum, events) in all.in_time.iter_mut().zip(&self.in_time) {
            *sum += events.load(Ordering::Relaxed);
        }
        if let Some(exemplars) = &self.exemplars {
            exemplars.add_to(&mut all.exemplars);
        }
    }

    pub(crate) fn sends(&self) -> u64 {
        self.sends.load(Ordering::Relaxed)
    }
}

impl Deliveries {
    /// Events written to subscribers that were up to date.
    #[must_use]
    pub fn up_to_date(&self) -> u64 {
        self.in_time.iter().sum()
    }
}

fn bound(millis: u64) -> usize {
    let seconds = millis as f64 / 1000.0;
    DELIVERY_BOUNDS.iter().position(|&bound| seconds <= bound).unwrap_or(DELIVERY_BOUNDS.len())
}

/// A subscriber is told of a gap.
pub(crate) fn gap_told(gap: &Gap) {
    let reason = gap.reason.as_str();
    metrics::counter!("evergate_gaps_total", "reason" => reason).increment(1);
    if let Some(lost) = gap.lost {
        metrics::counter!("evergate_lost_events_total", "reason" => reason).increment(lost);
    }
}

/// What the wall clock says. Only ever for a figure.
pub(crate) fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis::new(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use evergate_domain::{EventDraft, Offset, TraceParent};

    use super::*;

    fn at(millis: u64) -> UnixMillis {
        UnixMillis::new(millis)
    }

    fn event(millis: u64) -> Event {
        EventDraft::new("x").placed(Offset::BEGINNING, at(millis))
    }

    #[test]
    fn a_delivery_counts_for_every_event_by_the_oldest() {
        let figures = Figures::default();
        let shown = Shown::and(Some(Shown::and(None, &event(1_000))), &event(1_900));
        assert_eq!(shown, Shown { events: 2, accepted: at(1_000), trace: None });
        figures.delivered(Some(shown), true, at(1_210));
        figures.delivered(Some(Shown { events: 1, ..shown }), true, at(1_211));
        figures.delivered(Some(shown), true, at(900));
        figures.delivered(Some(shown), true, at(90_000));
        figures.delivered(Some(shown), false, at(90_000));
        figures.delivered(None, true, at(90_000));
        figures.sent(30);
        figures.wrote(12);
        let mut all = Deliveries::default();
        figures.add_to(&mut all);
        let mut in_time = [0; BUCKETS];
        in_time[0] = 2; // A clock that is ahead takes no time at all.
        in_time[7] = 2; // Exactly at the goal keeps it.
        in_time[8] = 1;
        in_time[13] = 2;
        let millis = 2 * 210 + 211 + 2 * 89_000;
        let expected =
            Deliveries { sends: 1, bytes: 42, behind: 2, in_time, millis, ..Deliveries::default() };
        assert_eq!(all, expected);
        assert_eq!(all.up_to_date(), 7);
    }

    /// What is counted and what is looked up are the same delivery.
    #[test]
    fn an_exemplar_is_in_the_bucket_that_it_was_counted_in() {
        let traced = TraceParent::new([7; 16], [1; 8], 1).expect("no zeros");
        let kept = Event { trace: Some(traced), ..event(1_900) };
        let shown = Shown::and(Some(Shown::and(None, &event(1_000))), &kept);
        let mut told = Vec::new();
        for exemplars in [None, Some(Exemplars::default())] {
            let figures = Figures { exemplars, ..Figures::default() };
            figures.delivered(Some(shown), false, at(3_000));
            figures.delivered(Some(Shown::and(None, &event(1_000))), true, at(1_004));
            figures.delivered(Some(shown), true, at(2_000));
            let mut all = Deliveries::default();
            figures.add_to(&mut all);
            assert_eq!(all.in_time[9], 2, "both took a second, by the first of them");
            told.push(all.exemplars);
        }
        let there = Exemplar { trace: kept_trace(&kept).expect("kept"), millis: 1_000, at: at(2_000) };
        let mut expected = [None; BUCKETS];
        expected[9] = Some(there);
        assert_eq!(told, [[None; BUCKETS], expected]);
    }
}
