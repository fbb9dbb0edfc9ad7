//! How long many clients are asked to wait, so that the others can take them.
//!
//! When an edge dies all its clients notice at once, and whoever is then to let them in can let in so many
//! a second. So the time over which they come back must have been told to them before: it follows from how
//! many they are and what the survivors have free.

use std::time::Duration;

use crate::RetryRange;
use crate::cluster::Load;

/// The survivors of an edge, as far as letting its clients in goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Spread {
    free_per_second: u64,
    free_places: u64,
}

/// Nobody comes back sooner, since the loss may have been a moment's.
const RETRY_MIN: Duration = Duration::from_secs(1);

impl Spread {
    /// Adds a survivor, which may have `capacity` streams open and let in `admits_per_second` clients.
    /// One that is full lets in nobody.
    pub fn add(&mut self, capacity: u32, admits_per_second: u32, load: Load) {
        let places = capacity.saturating_sub(load.connections);
        if places > 0 {
            self.free_places = self.free_places.saturating_add(u64::from(places));
            let free = admits_per_second.saturating_sub(load.arrivals_per_second);
            self.free_per_second = self.free_per_second.saturating_add(u64::from(free));
        }
    }

    /// Clients that the survivors can let in each second beside those that come anyway.
    #[must_use]
    pub fn free_per_second(&self) -> u64 {
        self.free_per_second
    }

    /// From what `retry:` is drawn for an edge with so many streams open: `longest` at the most, which it is
    /// where nobody has anything free.
    #[must_use]
    pub fn retry(&self, connections: u32, longest: Duration) -> RetryRange {
        let span = self.time_for(connections, self.free_per_second).unwrap_or(longest);
        let max = RETRY_MIN.saturating_add(span).min(longest.max(RETRY_MIN));
        RetryRange::new(RETRY_MIN, max).expect("the longest is not below the shortest")
    }

    /// How many of an edge's clients it may send away each second, if a drain may take `share_permille` of
    /// what the survivors have free. At least one: a drain that stood still would never end.
    #[must_use]
    pub fn drain_per_second(&self, share_permille: u16) -> u64 {
        (u128::from(self.free_per_second) * u128::from(share_permille) / 1_000)
            .try_into()
            .unwrap_or(u64::MAX)
            .max(1)
    }

    /// Over what time an edge with so many streams open sends its clients away.
    #[must_use]
    pub fn drain_window(&self, connections: u32, share_permille: u16) -> Duration {
        self.time_for(connections, self.drain_per_second(share_permille)).unwrap_or(Duration::MAX)
    }

    /// Whether the survivors have room for so many.
    #[must_use]
    pub fn holds(&self, connections: u32) -> bool {
        u64::from(connections) <= self.free_places
    }

    fn time_for(self, connections: u32, per_second: u64) -> Option<Duration> {
        let millis = (u64::from(connections) * 1_000).checked_div(per_second)?;
        Some(Duration::from_millis(millis))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn load(connections: u32) -> Load {
        Load { connections, arrivals_per_second: 0 }
    }

    #[test]
    fn a_crash_of_a_full_edge_is_spread_over_what_ten_others_can_take() {
        let mut survivors = Spread::default();
        for _ in 0..10 {
            survivors.add(200_000, 2_000, load(100_000));
        }
        let range = survivors.retry(100_000, Duration::from_secs(120));
        assert_eq!((range.pick_ms(0), range.pick_ms(u64::MAX)), (1_000, 6_000));
        assert_eq!(survivors.drain_window(100_000, 500), Duration::from_secs(10));
        assert!(survivors.holds(1_000_000) && !survivors.holds(1_000_001));
    }

    #[test]
    fn whoever_is_full_or_busy_counts_for_what_it_has_left() {
        let mut survivors = Spread::default();
        survivors.add(100, 2_000, load(100));
        assert_eq!(survivors.free_per_second(), 0);
        let alone = survivors.retry(1, Duration::from_secs(60));
        assert_eq!(alone.pick_ms(u64::MAX), 60_000, "nobody is left: as late as can be");
        assert_eq!(survivors.drain_per_second(500), 1);
        survivors.add(100, 2_000, Load { connections: 0, arrivals_per_second: 1_500 });
        assert_eq!(survivors.free_per_second(), 500);
    }

    proptest! {
        /// Clients that wait as they are told never come faster than the survivors take them, unless the
        /// operator's longest wait forbids it.
        #[test]
        fn they_come_no_faster_than_they_are_taken(connections in 1u32..2_000_000, survivors in prop::collection::vec((1u32..5_000, 0u32..5_000), 1..20)) {
            let mut spread = Spread::default();
            for &(admits, arrivals) in &survivors {
                spread.add(u32::MAX, admits, Load { connections: 0, arrivals_per_second: arrivals });
            }
            let longest = Duration::from_secs(3_600);
            let range = spread.retry(connections, longest);
            let span_ms = range.pick_ms(u64::MAX) - range.pick_ms(0);
            let enough = u64::from(connections) * 1_000 <= (span_ms + 1) * spread.free_per_second();
            prop_assert!(enough || range.pick_ms(u64::MAX) == 3_600_000);
        }
    }
}
