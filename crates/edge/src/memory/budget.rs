//! From what is taken to what is done.

use std::num::NonZeroU64;

/// How short of memory the process is. Each level does what those before it do, too.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Not at all.
    #[default]
    Enough,
    /// No new streams, and less is kept of what the log has as well.
    Short,
    /// Streams are ended.
    Shedding,
    /// Nothing is published.
    Exhausted,
}

/// Where a level begins, and below what it is over, in hundredths. In between it stays: what was let go of
/// comes back to the system only after some seconds.
const BOUNDS: [(Level, u64, u64); 3] =
    [(Level::Short, 80, 75), (Level::Shedding, 95, 90), (Level::Exhausted, 99, 97)];

/// Looks from one shedding to the next: what the last one gave back must show first.
const SHED_EVERY: u32 = 4;

/// Of so many streams one is ended at a time.
const SHARE: usize = 25;

/// What there is, and how it stands.
#[derive(Debug)]
pub(crate) struct Budget {
    bytes_max: NonZeroU64,
    level: Level,
    /// Looks since streams were ended.
    looks: u32,
}

/// What is to be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Step {
    pub(crate) level: Level,
    /// How many streams are to be ended.
    pub(crate) end: usize,
}

impl Budget {
    pub(crate) fn new(bytes_max: NonZeroU64) -> Self {
        Self { bytes_max, level: Level::Enough, looks: SHED_EVERY }
    }

    /// Judges what is taken, while so many streams are open.
    pub(crate) fn step(&mut self, used: u64, streams: usize) -> Step {
        let hundredths = u128::from(used) * 100 / u128::from(self.bytes_max.get());
        let stands = |&&(level, begins, ends): &&(Level, u64, u64)| {
            hundredths >= u128::from(if self.level >= level { ends } else { begins })
        };
        self.level = BOUNDS.iter().filter(stands).map(|(level, ..)| *level).max().unwrap_or_default();
        self.looks = self.looks.saturating_add(1).min(SHED_EVERY);
        let sheds = self.level >= Level::Shedding && self.looks >= SHED_EVERY;
        if sheds {
            self.looks = 0;
        }
        Step { level: self.level, end: if sheds { streams.div_ceil(SHARE) } else { 0 } }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of_hundred() -> Budget {
        Budget::new(NonZeroU64::new(100).expect("a hundred"))
    }

    #[test]
    fn a_level_stays_until_there_is_room_again() {
        let mut budget = of_hundred();
        let levels: Vec<_> =
            [0, 79, 80, 79, 75, 74, 79, 95, 90, 89, 99, 98, 97, 96, 90, 74, 100, 0, u64::MAX]
                .map(|used| budget.step(used, 0).level)
                .into();
        let [e, s, d, x] = [Level::Enough, Level::Short, Level::Shedding, Level::Exhausted];
        assert_eq!(levels, [e, e, s, s, s, e, e, d, d, s, x, x, x, d, d, e, x, e, x]);
    }

    #[test]
    fn streams_end_a_few_at_a_time_and_with_a_pause() {
        let mut budget = of_hundred();
        assert_eq!(budget.step(94, 1000).end, 0);
        let ends: Vec<_> = (0..9).map(|_| budget.step(96, 1000).end).collect();
        assert_eq!(ends, [40, 0, 0, 0, 40, 0, 0, 0, 40]);
        let mut budget = of_hundred();
        assert_eq!([1, 0].map(|streams| budget.step(96, streams).end), [1, 0], "the last one, too");
    }
}
