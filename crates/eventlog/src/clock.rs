//! The time that stamps events, handed in so that tests decide it.

use std::fmt::Debug;
use std::sync::atomic::{AtomicU64, Ordering};

use evergate_domain::UnixMillis;

/// Tells the time.
pub trait Clock: Debug + Send + Sync + 'static {
    /// Now. May jump either way; whoever uses it copes.
    fn now(&self) -> UnixMillis;
}

/// The day of an instant, counted from 1970. Ages things out, nothing else.
pub(crate) fn day(at: UnixMillis) -> u64 {
    at.get() / 86_400_000
}

/// The machine's clock.
#[derive(Debug, Clone, Copy, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> UnixMillis {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        UnixMillis::new(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }
}

/// A clock that stands still until it is set.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicU64);

impl ManualClock {
    /// A clock at this instant.
    #[must_use]
    pub fn at(now: UnixMillis) -> Self {
        Self(AtomicU64::new(now.get()))
    }

    /// Sets the instant.
    pub fn set(&self, now: UnixMillis) {
        self.0.store(now.get(), Ordering::SeqCst);
    }
}

impl Clock for ManualClock {
    fn now(&self) -> UnixMillis {
        UnixMillis::new(self.0.load(Ordering::SeqCst))
    }
}
