//! How long to wait before the next attempt, and when to give up.

use std::time::{Duration, Instant};

const WAIT_MIN: Duration = Duration::from_millis(100);
const WAIT_MAX: Duration = Duration::from_secs(5);

/// Counts failures since the last success. Reads no clock; chance comes as a seed.
#[derive(Debug)]
pub(crate) struct Patience {
    give_up: Duration,
    random: fastrand::Rng,
    failures: u32,
    /// When the last success was, or the beginning.
    since: Instant,
}

impl Patience {
    pub(crate) fn new(give_up: Duration, seed: u64, now: Instant) -> Self {
        Self { give_up, random: fastrand::Rng::with_seed(seed), failures: 0, since: now }
    }

    pub(crate) fn succeeded(&mut self, now: Instant) {
        self.failures = 0;
        self.since = now;
    }

    /// How long to wait now: longer with every failure, never less than the server asks for, and
    /// jittered. `None` when that would be beyond the time that was allowed.
    pub(crate) fn failed(&mut self, now: Instant, at_least: Duration) -> Option<Duration> {
        let least = WAIT_MIN.saturating_mul(1 << self.failures.min(10)).min(WAIT_MAX).max(at_least);
        self.failures += 1;
        let wait = least + least.mul_f64(0.5 * self.random.f64());
        (now + wait < self.since + self.give_up).then_some(wait)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn waits_grow_with_jitter_up_to_a_bound_and_the_server_may_ask_for_more() {
        let now = Instant::now();
        let mut patience = Patience::new(Duration::from_secs(3600), 7, now);
        for failures in 0..10 {
            let least = (0.1 * f64::from(1_u32 << failures)).min(5.0);
            let wait = patience.failed(now, Duration::ZERO).unwrap().as_secs_f64();
            assert!((least..=least * 1.5).contains(&wait), "{failures}: {wait}");
        }
        assert!(patience.failed(now, Duration::from_secs(20)).unwrap() >= Duration::from_secs(20));
        patience.succeeded(now);
        assert!(patience.failed(now, Duration::ZERO).unwrap() <= Duration::from_millis(150));
    }

    #[test]
    fn it_gives_up_when_nothing_succeeded_for_long_enough() {
        let start = Instant::now();
        let mut patience = Patience::new(Duration::from_secs(60), 7, start);
        assert!(patience.failed(start + Duration::from_secs(59), Duration::ZERO).is_some());
        assert!(patience.failed(start + Duration::from_secs(60), Duration::ZERO).is_none());
        patience.succeeded(start + Duration::from_secs(60));
        assert!(patience.failed(start + Duration::from_secs(100), Duration::ZERO).is_some());
        // A server that asks for more patience than there is.
        assert!(patience.failed(start + Duration::from_secs(61), Duration::from_secs(60)).is_none());
    }
}
