//! The level, for all who act on it.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use crate::memory::Level;

/// How short of memory the process is now.
#[derive(Debug, Default)]
pub(crate) struct Shortage {
    level: AtomicU8,
    /// Bytes that were left when it was looked last.
    room: AtomicU64,
    /// Bytes that events have taken since, while memory is short.
    taken: AtomicU64,
}

impl Shortage {
    /// It was looked: so it stands, and so many bytes are left.
    pub(crate) fn set(&self, level: Level, room: u64) {
        self.room.store(room, Ordering::Relaxed);
        self.taken.store(0, Ordering::Relaxed);
        self.level.store(level as u8, Ordering::Relaxed);
    }

    /// Whether a new stream has no room.
    pub(crate) fn refuses_streams(&self) -> bool {
        self.level.load(Ordering::Relaxed) >= Level::Short as u8
    }

    /// Whether not even an event has.
    pub(crate) fn refuses_publishes(&self) -> bool {
        self.level.load(Ordering::Relaxed) >= Level::Exhausted as u8
    }

    /// Gives events the room they take; false if there is none. What comes between two looks is counted, as
    /// otherwise it would be limited only by how soon the next one comes.
    pub(crate) fn takes(&self, bytes: u64) -> bool {
        if !self.refuses_streams() {
            // There is room for more than can come until the next look.
            return true;
        }
        let taken = self.taken.fetch_add(bytes, Ordering::Relaxed);
        taken.saturating_add(bytes) <= self.room.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_between_two_looks_is_counted_once_memory_is_short() {
        let shortage = Shortage::default();
        shortage.set(Level::Enough, 10);
        assert!(shortage.takes(1_000), "nobody counts while there is enough");
        shortage.set(Level::Short, 100);
        assert!(shortage.takes(60) && shortage.takes(40), "this fits");
        assert!(!shortage.takes(1) && shortage.refuses_streams() && !shortage.refuses_publishes());
        shortage.set(Level::Shedding, 50);
        assert!(shortage.takes(50) && !shortage.takes(1));
        shortage.set(Level::Exhausted, 0);
        assert!(!shortage.takes(1) && shortage.refuses_publishes());
    }
}
