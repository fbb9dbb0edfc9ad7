//! The level, for all who act on it.

use std::sync::atomic::{AtomicU8, Ordering};

use crate::memory::Level;

/// How short of memory the process is now.
#[derive(Debug, Default)]
pub(crate) struct Shortage(AtomicU8);

impl Shortage {
    pub(crate) fn set(&self, level: Level) {
        self.0.store(level as u8, Ordering::Relaxed);
    }

    /// Whether a new stream has no room.
    pub(crate) fn refuses_streams(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= Level::Short as u8
    }

    /// Whether not even an event has.
    pub(crate) fn refuses_publishes(&self) -> bool {
        self.0.load(Ordering::Relaxed) >= Level::Exhausted as u8
    }
}
