//! How long a client is asked to wait before it comes back.

use std::time::Duration;

/// A span from which `retry:` values are drawn. No browser adds jitter of its own, so the server
/// must, or every client that was cut together comes back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryRange {
    min_ms: u64,
    max_ms: u64,
}

impl RetryRange {
    /// From `min` to `max`, both included; `None` if they are the wrong way round.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Option<Self> {
        let millis = |d: Duration| u64::try_from(d.as_millis()).unwrap_or(u64::MAX >> 1);
        (min <= max).then(|| Self { min_ms: millis(min), max_ms: millis(max) })
    }

    /// The later of both beginnings, to the later of both ends.
    #[must_use]
    pub fn widened(self, other: Self) -> Self {
        Self { min_ms: self.min_ms.max(other.min_ms), max_ms: self.max_ms.max(other.max_ms) }
    }

    /// Whether both ends are within a tenth of the other's, which makes no difference to anybody.
    #[must_use]
    pub fn is_near(self, other: Self) -> bool {
        let near = |own: u64, other: u64| own.abs_diff(other) <= own / 10;
        near(self.min_ms, other.min_ms) && near(self.max_ms, other.max_ms)
    }

    /// One value in milliseconds, chosen by `random`, a uniformly distributed number.
    #[must_use]
    pub fn pick_ms(self, random: u64) -> u64 {
        let span = self.max_ms - self.min_ms + 1;
        // The high half of the product: uniform without a division's bias towards small values.
        let scaled = (u128::from(random) * u128::from(span)) >> 64;
        self.min_ms + u64::try_from(scaled).expect("less than the span, which is a u64")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_value_is_within_the_range(min in 0u64..100_000, extra in 0u64..100_000, random: u64) {
            let range = RetryRange::new(Duration::from_millis(min), Duration::from_millis(min + extra)).expect("ordered");
            let picked = range.pick_ms(random);
            prop_assert!((min..=min + extra).contains(&picked));
        }
    }

    #[test]
    fn both_ends_can_be_drawn_and_the_order_is_checked() {
        let (one, three) = (Duration::from_secs(1), Duration::from_secs(3));
        let range = RetryRange::new(one, three).expect("ordered");
        assert_eq!(range.pick_ms(0), 1000);
        assert_eq!(range.pick_ms(u64::MAX), 3000);
        assert_eq!(RetryRange::new(three, one), None);
    }

    #[test]
    fn what_differs_by_more_than_a_tenth_is_another_range() {
        let range = |min, max| {
            RetryRange::new(Duration::from_millis(min), Duration::from_millis(max)).expect("ordered")
        };
        let own = range(1_000, 10_000);
        assert!(own.is_near(own) && own.is_near(range(1_100, 9_000)));
        assert!(!own.is_near(range(1_000, 11_001)) && !own.is_near(range(899, 10_000)));
        assert!(!range(0, 0).is_near(range(0, 1)));
    }
}
