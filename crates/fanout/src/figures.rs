//! What was written to subscribers, counted for whoever asks. Nothing here decides anything.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use evergate_domain::{Gap, UnixMillis};

/// Upper bounds of the times from an event's acceptance to its being written, in seconds. One of them is
/// the goal that Evergate is run by, 210 ms: a share within it is exact only at a bound.
pub const DELIVERY_BOUNDS: [f64; 13] =
    [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.21, 0.5, 1.0, 2.5, 5.0, 10.0];

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
    in_time: [AtomicU64; DELIVERY_BOUNDS.len() + 1],
    /// Sum of what these took, in milliseconds.
    millis: AtomicU64,
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
    pub in_time: [u64; DELIVERY_BOUNDS.len() + 1],
    /// Sum of these times, in milliseconds.
    pub millis: u64,
}

/// Events in a piece of output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) events: u32,
    /// When the first of them was accepted. It speaks for all: none of them waited longer.
    pub(crate) accepted: UnixMillis,
}

impl Shown {
    /// With one more event.
    pub(crate) fn and(before: Option<Self>, accepted: UnixMillis) -> Self {
        match before {
            Some(Self { events, accepted: first }) => Self { events: events + 1, accepted: first },
            None => Self { events: 1, accepted },
        }
    }
}

impl Figures {
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
        let Some(Shown { events, accepted }) = shown else { return };
        let events = u64::from(events);
        if !up_to_date {
            self.behind.fetch_add(events, Ordering::Relaxed);
            return;
        }
        // Another machine's clock may be ahead.
        let millis = now.get().saturating_sub(accepted.get());
        self.in_time[bound(millis)].fetch_add(events, Ordering::Relaxed);
        self.millis.fetch_add(millis.saturating_mul(events), Ordering::Relaxed);
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
    use super::*;

    fn at(millis: u64) -> UnixMillis {
        UnixMillis::new(millis)
    }

    #[test]
    fn a_delivery_counts_for_every_event_by_the_oldest() {
        let figures = Figures::default();
        let shown = Shown::and(Some(Shown::and(None, at(1_000))), at(1_900));
        assert_eq!(shown, Shown { events: 2, accepted: at(1_000) });
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
        let mut in_time = [0; DELIVERY_BOUNDS.len() + 1];
        in_time[0] = 2; // A clock that is ahead takes no time at all.
        in_time[7] = 2; // Exactly at the goal keeps it.
        in_time[8] = 1;
        in_time[13] = 2;
        let millis = 2 * 210 + 211 + 2 * 89_000;
        assert_eq!(all, Deliveries { sends: 1, bytes: 42, behind: 2, in_time, millis });
        assert_eq!(all.up_to_date(), 7);
    }
}
