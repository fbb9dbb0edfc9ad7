//! Cursors that live and die with this process.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use evergate_domain::{CursorKey, StoredCursor};
use parking_lot::Mutex;

use super::{
    CursorStore, CursorStoreError, CursorWrite, Only, TakeOver, Wish, Written, answer, judge, taken_if,
    taken_over,
};
use crate::Clock;
use crate::clock::day;

/// The store in memory, beside [`MemoryLog`](crate::MemoryLog).
pub struct MemoryCursors {
    clock: Arc<dyn Clock>,
    closed: AtomicBool,
    /// With the day of the last touch.
    kept: Mutex<HashMap<CursorKey, (StoredCursor, u64)>>,
}

impl MemoryCursors {
    /// An empty store.
    #[must_use]
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, closed: AtomicBool::new(false), kept: Mutex::default() }
    }

    fn open(&self) -> Result<(), CursorStoreError> {
        if self.closed.load(Ordering::Acquire) { Err(CursorStoreError::Closed) } else { Ok(()) }
    }
}

#[async_trait]
impl CursorStore for MemoryCursors {
    async fn take_over(
        &self,
        key: &CursorKey,
        take: TakeOver,
    ) -> Result<Option<StoredCursor>, CursorStoreError> {
        self.open()?;
        let today = day(self.clock.now());
        let mut kept = self.kept.lock();
        let next = taken_over(kept.get(key).map(|(kept, _)| kept), &take);
        kept.insert(key.clone(), (next.clone(), today));
        Ok(answer(next))
    }

    async fn take_if(&self, key: &CursorKey, take: TakeOver, only: Only) -> Result<Wish, CursorStoreError> {
        self.open()?;
        let today = day(self.clock.now());
        let mut kept = self.kept.lock();
        let (wish, next) = taken_if(kept.get(key).map(|(kept, _)| kept), &take, only);
        if let Some(next) = next {
            kept.insert(key.clone(), (next, today));
        }
        Ok(wish)
    }

    async fn look(&self, key: &CursorKey) -> Result<Option<StoredCursor>, CursorStoreError> {
        self.open()?;
        Ok(self.kept.lock().get(key).map(|(kept, _)| kept.clone()))
    }

    async fn write(&self, batch: &[CursorWrite]) -> Vec<Result<Written, CursorStoreError>> {
        if let Err(closed) = self.open() {
            return vec![Err(closed); batch.len()];
        }
        let today = day(self.clock.now());
        let mut kept = self.kept.lock();
        let written = batch.iter().map(|write| {
            let (written, next) = judge(kept.get(&write.key).map(|(kept, _)| kept), write);
            if let Some(next) = next {
                kept.insert(write.key.clone(), (next, today));
            }
            Ok(written)
        });
        written.collect()
    }

    async fn expire(&self) -> Result<(), CursorStoreError> {
        self.open()?;
        let today = day(self.clock.now());
        self.kept.lock().retain(|_, (_, touched)| *touched + 1 >= today);
        Ok(())
    }

    async fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursors::conformance::{Subject, suite};

    struct Memory;

    #[async_trait]
    impl Subject for Memory {
        async fn open(&self, clock: Arc<dyn Clock>) -> Arc<dyn CursorStore> {
            Arc::new(MemoryCursors::new(clock))
        }
    }

    suite!(Memory);
}
