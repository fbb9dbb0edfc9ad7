//! What the operators of a cluster have laid down for streams and dependencies.

use std::num::NonZeroU32;

use crate::cluster::digest::Digester;
use crate::{Level, Rate, Retention, SlowReader};

/// What holds for one stream, everywhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamPolicy {
    /// How much of it is kept.
    pub retention: Retention,
    /// How safe an event is when its publish is acknowledged.
    pub level: Level,
    /// What becomes of a subscriber that takes less than it is sent.
    pub slow_reader: SlowReader,
    /// What becomes of the events that were told as snapshots only.
    pub after_degradation: AfterDegradation,
}

/// What a subscriber gets of the events between a stream's degradation and its recovery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum AfterDegradation {
    /// All of them.
    #[default]
    Replay,
    /// A notice of what it missed.
    Skip,
}

/// When a dependency is left alone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Breaker {
    /// So many failures in a row.
    pub failures: u32,
    /// Less than this of a budget is left, in thousandths.
    pub budget_permille_min: u16,
    /// The slowest hundredth of the answers takes longer, in milliseconds.
    pub p99_ms_max: u32,
    /// How long it is left alone before it is tried again, in milliseconds.
    pub open_ms: u32,
}

/// How much of something there may be: so many a second, and so many at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// Each second.
    pub per_second: u32,
    /// At once, after a rest.
    pub burst: u32,
}

/// The trial of a new log beside the old one.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Canary {
    /// Of the streams, in thousandths.
    pub share_permille: u16,
    /// How it goes.
    pub state: CanaryState,
}

/// How the trial of a new log goes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum CanaryState {
    /// There is none.
    #[default]
    Off,
    /// Both logs are written to, and compared.
    Running,
    /// The new one differed, and is no longer written to.
    RolledBack {
        /// What differed.
        why: String,
    },
}

impl StreamPolicy {
    pub(super) fn feed(&self, digester: &mut Digester) {
        digester.optional(self.retention.events, Digester::number);
        digester.optional(self.retention.bytes, Digester::number);
        digester.optional(self.retention.age, |digester, age| {
            digester.number(age.as_secs());
            digester.number(age.subsec_nanos());
        });
        digester.number(self.level as u8);
        digester.number(self.slow_reader as u8);
        digester.number(self.after_degradation as u8);
    }
}

impl Breaker {
    pub(super) fn feed(&self, digester: &mut Digester) {
        for number in [self.failures, u32::from(self.budget_permille_min), self.p99_ms_max, self.open_ms] {
            digester.number(number);
        }
    }
}

impl Limit {
    /// As a rate; `None` if it would let nothing happen, which nobody can have agreed on.
    #[must_use]
    pub fn rate(self) -> Option<Rate> {
        Some(Rate::new(NonZeroU32::new(self.per_second)?, NonZeroU32::new(self.burst)?))
    }

    pub(super) fn feed(&self, digester: &mut Digester) {
        digester.number(self.per_second);
        digester.number(self.burst);
    }
}

impl Canary {
    pub(super) fn feed(&self, digester: &mut Digester) {
        digester.number(self.share_permille);
        match &self.state {
            CanaryState::Off => digester.number(0u8),
            CanaryState::Running => digester.number(1u8),
            CanaryState::RolledBack { why } => {
                digester.number(2u8);
                digester.text(why);
            }
        }
    }
}
