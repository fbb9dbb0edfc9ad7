//! What happened to all subscribers, and the account that one of them keeps.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

use super::histogram::Histogram;

/// Counts that all tasks of a run add to.
pub(super) struct Tally {
    /// What times in payloads are counted from.
    pub(super) begun: Instant,
    pub(super) opened: AtomicU64,
    /// Subscribers that were not let in, or were cut off.
    pub(super) lost_connections: AtomicU64,
    pub(super) received: AtomicU64,
    /// Events that had come before, or came after later ones.
    pub(super) repeated: AtomicU64,
    /// Notices of a gap.
    pub(super) gaps: AtomicU64,
    /// Bytes of answers, heads and framing included.
    pub(super) bytes: AtomicU64,
    /// From the moment an event was due to be published until it was read.
    pub(super) latency: Histogram,
    /// From that moment until its publishing was acknowledged.
    pub(super) acknowledged: Histogram,
}

impl Tally {
    pub(super) fn new() -> Self {
        let zero = || AtomicU64::new(0);
        Self {
            begun: Instant::now(),
            opened: zero(),
            lost_connections: zero(),
            received: zero(),
            repeated: zero(),
            gaps: zero(),
            bytes: zero(),
            latency: Histogram::new(),
            acknowledged: Histogram::new(),
        }
    }

    /// The data of an event: its number in its stream, when it was due, and what fills it up.
    pub(super) fn payload(&self, seq: u64, due: Instant, size: usize) -> String {
        let mut data = format!("{seq} {} ", (due - self.begun).as_nanos());
        data.extend(std::iter::repeat_n('x', size.saturating_sub(data.len())));
        data
    }

    /// Notes an event that was read now by a subscriber that has come as far as `last`.
    pub(super) fn take(&self, data: &str, last: &mut u64) {
        let mut parts = data.split(' ');
        let mut number = || parts.next()?.parse::<u64>().ok();
        let (Some(seq), Some(due)) = (number(), number()) else { return };
        if seq <= *last {
            self.repeated.fetch_add(1, Ordering::Relaxed);
            return;
        }
        *last = seq;
        self.received.fetch_add(1, Ordering::Relaxed);
        self.latency.add(self.begun.elapsed().saturating_sub(Duration::from_nanos(due)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_event_counts_once() {
        let tally = Tally::new();
        let mut last = 0;
        for seq in [1, 2, 2, 5, 4, 6] {
            let data = tally.payload(seq, Instant::now(), 60);
            assert_eq!(data.len(), 60);
            tally.take(&data, &mut last);
        }
        tally.take("somebody else's", &mut last);
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        assert_eq!((count(&tally.received), count(&tally.repeated), last), (4, 2, 6));
    }
}
