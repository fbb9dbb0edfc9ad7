//! How long things took: counts by size, within 3 %.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// Buckets for each doubling.
const STEPS: u64 = 32;
const BUCKETS: usize = 1920;

/// Counts of durations in microseconds. May be added to from anywhere.
pub(super) struct Histogram(Box<[AtomicU64]>);

impl Histogram {
    pub(super) fn new() -> Self {
        Self((0..BUCKETS).map(|_| AtomicU64::new(0)).collect())
    }

    pub(super) fn add(&self, took: Duration) {
        let micros = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.0[bucket(micros)].fetch_add(1, Ordering::Relaxed);
    }

    /// The duration that this share of them did not exceed; `None` if there are none.
    pub(super) fn quantile(&self, share: f64) -> Option<Duration> {
        let counts: Vec<u64> = self.0.iter().map(|count| count.load(Ordering::Relaxed)).collect();
        let total: u64 = counts.iter().sum();
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a share of a count is a count"
        )]
        let rank = ((total as f64 * share).ceil() as u64).max(1);
        let mut seen = 0;
        let at = counts.iter().position(|count| {
            seen += count;
            seen >= rank
        })?;
        Some(Duration::from_micros(last_of(at as u64)))
    }
}

/// Small numbers have a bucket each; beyond, each doubling has the same number of them.
fn bucket(micros: u64) -> usize {
    if micros < STEPS {
        return usize::try_from(micros).expect("small");
    }
    let shift = u64::from(micros.ilog2() - STEPS.ilog2());
    usize::try_from(shift * STEPS + (micros >> shift)).expect("fewer than buckets")
}

/// The largest number of a bucket.
fn last_of(bucket: u64) -> u64 {
    if bucket < STEPS {
        return bucket;
    }
    let shift = bucket / STEPS - 1;
    let step = u128::from(STEPS + bucket % STEPS + 1) << shift;
    u64::try_from(step - 1).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn every_number_lies_in_a_bucket_that_ends_little_above_it() {
        for number in (0..5_000).chain([1 << 20, (1 << 40) + 7, u64::MAX - 1, u64::MAX]) {
            let last = last_of(bucket(number) as u64);
            assert!(last >= number && last - number <= number / 32, "{number} {last}");
        }
        assert_eq!(bucket(u64::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_those_of_what_was_added() {
        let histogram = Histogram::new();
        assert_eq!(histogram.quantile(0.5), None);
        for millis in 1..=100 {
            histogram.add(Duration::from_millis(millis));
        }
        for (share, millis) in [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            let quantile = histogram.quantile(share).unwrap().as_secs_f64() * 1e3;
            assert!((millis..millis * 1.04).contains(&quantile), "{share}: {quantile}");
        }
    }
}
