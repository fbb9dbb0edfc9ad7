//! Places that are counted by who holds them.
//!
//! There is an entry only for whoever holds a place, so there are never more entries than places: no
//! bound of its own is needed, and nothing is ever put out.

use std::collections::HashMap;
use std::hash::Hash;
use std::num::NonZeroU32;
use std::sync::Arc;

use parking_lot::Mutex;

/// How many places each holds, and a bound on them.
pub(crate) struct Tally<K> {
    max: u32,
    counts: Arc<Mutex<HashMap<K, u32>>>,
}

/// One of somebody's places; given back when dropped.
pub(crate) struct Place<K: Hash + Eq> {
    key: K,
    counts: Arc<Mutex<HashMap<K, u32>>>,
}

impl<K: Hash + Eq + Copy> Tally<K> {
    pub(crate) fn new(max: NonZeroU32) -> Self {
        Self { max: max.get(), counts: Arc::default() }
    }

    /// One more place for this key; `None` if it holds all it may.
    pub(crate) fn enter(&self, key: K) -> Option<Place<K>> {
        let mut counts = self.counts.lock();
        let count = counts.entry(key).or_insert(0);
        if *count >= self.max {
            return None;
        }
        *count += 1;
        Some(Place { key, counts: Arc::clone(&self.counts) })
    }

    /// Whether nobody holds anything.
    #[cfg(test)]
    pub(crate) fn is_empty(&self) -> bool {
        self.counts.lock().is_empty()
    }
}

impl<K: Hash + Eq> Drop for Place<K> {
    fn drop(&mut self) {
        let mut counts = self.counts.lock();
        let count = counts.get_mut(&self.key).expect("an entry lasts as long as its places");
        *count -= 1;
        if *count == 0 {
            counts.remove(&self.key);
            // A storm that is over leaves no table of its size behind.
            if counts.capacity() > 4 * counts.len().max(64) {
                counts.shrink_to_fit();
            }
        }
    }
}
