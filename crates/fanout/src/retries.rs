//! When clients are to come back, as it stands now, and who has not been told yet.

use std::num::NonZeroU8;
use std::sync::atomic::{AtomicU8, Ordering};

use evergate_domain::RetryRange;
use parking_lot::Mutex;

/// The range from which `retry:` values are drawn, shared by all subscribers of a hub.
///
/// It is told at the beginning of a stream and changes while the stream goes on, but a client whose edge has
/// died knows only what it was told before. So from time to time a *round* is begun, if the range has
/// changed: everybody who was told in an earlier one is told again, with a value of its own, along with a sign
/// of life. All that is kept of it for a subscriber is the round.
#[derive(Debug)]
pub struct Retries {
    now: Mutex<Now>,
    round: AtomicU8,
}

#[derive(Debug)]
struct Now {
    range: RetryRange,
    /// Whether somebody may have been told something else since the round began.
    changed: bool,
}

/// The round in which a subscriber was told. They repeat after 255, when nobody is left of the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Round(NonZeroU8);

impl Retries {
    /// Begins with this range.
    #[must_use]
    pub fn new(range: RetryRange) -> Self {
        Self { now: Mutex::new(Now { range, changed: false }), round: AtomicU8::new(1) }
    }

    /// The range from now on, and what to draw from. One that is nearly the same is no news, or there would
    /// be some with each subscriber who comes or goes.
    pub fn set(&self, range: RetryRange) -> RetryRange {
        let mut now = self.now.lock();
        if !now.range.is_near(range) {
            *now = Now { range, changed: true };
        }
        now.range
    }

    /// One value, drawn for this subscriber.
    #[must_use]
    pub fn draw_ms(&self) -> u64 {
        let range = self.now.lock().range;
        range.pick_ms(fastrand::u64(..))
    }

    /// Has everybody told again, if there is something new to tell.
    pub fn tell(&self) {
        let mut now = self.now.lock();
        if std::mem::take(&mut now.changed) {
            let next = self.round().0.checked_add(1).unwrap_or(NonZeroU8::MIN);
            self.round.store(next.get(), Ordering::Release);
        }
    }

    /// The round that is on. Whoever begins asks before it draws a value: told twice is better than not.
    pub(crate) fn round(&self) -> Round {
        Round(NonZeroU8::new(self.round.load(Ordering::Acquire)).expect("they begin with one"))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn range(max: u64) -> RetryRange {
        RetryRange::new(Duration::from_secs(1), Duration::from_millis(max)).expect("ordered")
    }

    #[test]
    fn a_round_is_begun_only_if_something_has_changed_since_the_last() {
        let retries = Retries::new(range(3_000));
        let first = retries.round();
        retries.tell();
        assert_eq!(retries.round(), first, "nothing is new");
        assert_eq!(retries.set(range(3_100)), range(3_000), "nearly the same");
        retries.tell();
        assert_eq!(retries.round(), first);
        assert_eq!(retries.set(range(60_000)), range(60_000));
        assert_eq!(retries.round(), first, "not with each change");
        retries.tell();
        let second = retries.round();
        assert_ne!(second, first);
        retries.tell();
        assert_eq!(retries.round(), second, "once");
        // Whoever came between has been told of the one in the middle.
        retries.set(range(9_000));
        retries.set(range(60_000));
        retries.tell();
        assert_ne!(retries.round(), second);
    }

    #[test]
    fn rounds_go_on_for_ever_and_values_differ() {
        let retries = Retries::new(range(3_000));
        for n in 0..1_000 {
            let before = retries.round();
            retries.set(range(if n % 2 == 0 { 60_000 } else { 3_000 }));
            retries.tell();
            assert_ne!(retries.round(), before);
        }
        let drawn: std::collections::HashSet<_> = (0..50).map(|_| retries.draw_ms()).collect();
        assert!(drawn.len() > 10 && drawn.iter().all(|ms| (1_000..=3_000).contains(ms)), "{drawn:?}");
    }
}
