//! The streams that end unless their clients go on pinging.
//!
//! A table beside the registry, with an entry only for those who asked for it: all others cost
//! nothing. There is no timer for a stream; one sweep looks at them all.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::cursors::Dismissal;

/// Pings a client may miss. With the last of them the stream ends.
pub(crate) const MISSES_MAX: u32 = 3;

/// Streams that are held by a lease, by their slot in the registry. Pure: the time is handed in.
#[derive(Default)]
pub(crate) struct Leases(HashMap<usize, Leased>);

struct Leased {
    heard: Instant,
    dismissal: Dismissal,
}

impl Leases {
    /// A stream that was opened now.
    pub(crate) fn grant(&mut self, slot: usize, dismissal: Dismissal, now: Instant) {
        let before = self.0.insert(slot, Leased { heard: now, dismissal });
        debug_assert!(before.is_none(), "a slot was given to two streams");
    }

    /// A client has pinged. Of no consequence for a stream without a lease.
    pub(crate) fn heard(&mut self, slot: usize, now: Instant) {
        if let Some(leased) = self.0.get_mut(&slot) {
            leased.heard = now;
        }
    }

    /// A stream has ended.
    pub(crate) fn end(&mut self, slot: usize) {
        self.0.remove(&slot);
    }

    /// Takes out those whose clients have missed too many pings.
    pub(crate) fn lapsed(&mut self, now: Instant, ping_interval: Duration) -> Vec<Dismissal> {
        let patience = ping_interval * MISSES_MAX;
        let lapsed = |leased: &Leased| now.saturating_duration_since(leased.heard) > patience;
        self.0.extract_if(|_, leased| lapsed(leased)).map(|(_, leased)| leased.dismissal).collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_util::sync::CancellationToken;

    const INTERVAL: Duration = Duration::from_secs(30);

    #[test]
    fn a_stream_lapses_with_the_third_ping_that_is_missed() {
        let mut leases = Leases::default();
        let (begin, mut lapsed) = (Instant::now(), 0);
        for slot in [7, 8] {
            leases.grant(slot, Dismissal::new(CancellationToken::new()), begin);
        }
        for second in 1..=60 {
            lapsed += leases.lapsed(begin + Duration::from_secs(second), INTERVAL).len();
        }
        leases.heard(8, begin + INTERVAL * 2);
        lapsed += leases.lapsed(begin + INTERVAL * 3, INTERVAL).len();
        assert_eq!(lapsed, 0, "the third ping may still be on its way");
        let late = begin + INTERVAL * 3 + Duration::from_millis(1);
        assert_eq!(leases.lapsed(late, INTERVAL).len(), 1);
        assert_eq!(leases.lapsed(late, INTERVAL).len(), 0, "it is taken out");
        assert_eq!(leases.len(), 1);
        assert_eq!(leases.lapsed(late + INTERVAL * 2, INTERVAL).len(), 1);
    }

    #[test]
    fn nothing_is_kept_of_a_stream_that_ended_or_has_no_lease() {
        let mut leases = Leases::default();
        leases.grant(1, Dismissal::new(CancellationToken::new()), Instant::now());
        leases.end(1);
        leases.heard(2, Instant::now());
        assert_eq!(leases.len(), 0);
    }
}
