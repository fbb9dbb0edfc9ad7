//! The places kept for clients, in the same Redis as the log.
//!
//! What a write comes to is decided inside Redis by `cursors_take` and `cursors_write`, one atomic
//! call for a bucket. All of it may be repeated, so a call whose fate is unknown is sent again.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use evergate_domain::{CursorKey, StoredCursor};
use futures_util::FutureExt as _;
use futures_util::stream::{self, StreamExt as _};
use parking_lot::Mutex;
use redis::{Cmd, Value, cmd};

use super::RedisCommands;
use super::address::Address;
use super::error;
use crate::clock::day;
use crate::cursors::{
    CursorStore, CursorStoreError, CursorWrite, Move, Only, TakeOver, Wish, Written, moved,
};
use crate::{Clock, RedisLog};

/// Cursors that one call moves: Redis does nothing else meanwhile.
const CALL_CURSORS: usize = 256;
/// Calls under way at once.
const CALLS: usize = 32;

/// Where in a write it stands what it is by, and what is added there if it is its connection's last.
const BY: usize = 4;
const LAST: u8 = 2;

/// The store in Redis.
pub struct RedisCursors {
    commands: RedisCommands,
    clock: Arc<dyn Clock>,
    /// Why each server that has not answered since did not; looked at only while it is not connected.
    silent: Mutex<HashMap<Option<Address>, CursorStoreError>>,
    closed: AtomicBool,
}

impl RedisLog {
    /// The cursors that are kept beside this log, over its connections. They end with it.
    #[must_use]
    pub fn cursors(&self) -> RedisCursors {
        RedisCursors {
            commands: self.commands(),
            clock: Arc::clone(&self.shared.clock),
            silent: Mutex::default(),
            closed: AtomicBool::new(false),
        }
    }
}

impl RedisCursors {
    /// Tomorrow's key, today's and yesterday's.
    fn keys(&self, bucket: &str) -> [String; 3] {
        let today = day(self.clock.now());
        [today + 1, today, today.saturating_sub(1)].map(|day| format!("stream:offsets:{{{bucket}}}:{day}"))
    }

    fn call(&self, function: &str, bucket: &str) -> Cmd {
        let mut call = cmd("FCALL");
        call.arg(function).arg(3).arg(&self.keys(bucket));
        call
    }

    /// Makes a call. It may be made twice, which is harmless.
    async fn ask(&self, bucket: &str, call: &Cmd) -> Result<Value, CursorStoreError> {
        if self.closed.load(Ordering::Acquire) {
            return Err(CursorStoreError::Closed);
        }
        let [_, today, _] = self.keys(bucket);
        self.commands.run(&today, call).await.map_err(CursorStoreError::Unavailable)
    }

    /// Moves those cursors of a batch that belong to one bucket, and says which they were. Who failed
    /// and is not connected yet is not asked again: it would hold up those who answer.
    async fn write_places(
        &self,
        batch: &[CursorWrite],
        bucket: String,
        places: Vec<usize>,
    ) -> (Vec<usize>, Vec<Result<Written, CursorStoreError>>) {
        let [_, today, _] = self.keys(&bucket);
        let mut written = Vec::with_capacity(places.len());
        for places in places.chunks(CALL_CURSORS) {
            let (owner, connected) = self.commands.owner(&today);
            let silent = (!connected).then(|| self.silent.lock().get(&owner).cloned()).flatten();
            let answer = match silent {
                Some(error) => Err(error),
                None => {
                    let writes: Vec<_> = places.iter().map(|&at| &batch[at]).collect();
                    self.write_bucket(&bucket, &writes).await
                }
            };
            match answer {
                Ok(answers) => {
                    self.silent.lock().remove(&owner);
                    written.extend(answers.into_iter().map(Ok));
                }
                Err(error) => {
                    written.extend(places.iter().map(|_| Err(error.clone())));
                    self.silent.lock().insert(owner, error);
                }
            }
        }
        (places, written)
    }

    /// Takes a cursor over: any, or on a condition.
    async fn take(&self, key: &CursorKey, take: &TakeOver, which: &str) -> Result<Wish, CursorStoreError> {
        let bucket = key.bucket();
        let mut call = self.call("evergate_1_cursors_take", &bucket);
        call.arg(key.field()).arg(&take.claim.get().to_be_bytes()).arg(u8::from(take.acknowledges));
        call.arg(take.position.as_ref().map_or(&[][..], |position| position.as_bytes())).arg(which);
        let kept = match self.ask(&bucket, &call).await? {
            Value::Nil => return Ok(Wish::Taken(None)),
            Value::BulkString(denied) if denied == b"D" => return Ok(Wish::Denied),
            Value::BulkString(bytes) => StoredCursor::from_bytes(&bytes),
            _ => None,
        };
        match kept {
            Some(kept) => Ok(Wish::Taken(Some(kept))),
            None => Err(CursorStoreError::Unavailable(error::odd("a cursor"))),
        }
    }

    async fn write_bucket(
        &self,
        bucket: &str,
        writes: &[&CursorWrite],
    ) -> Result<Vec<Written>, CursorStoreError> {
        let mut call = self.call("evergate_1_cursors_write", bucket);
        for write in writes {
            // As it is to be kept if nothing is kept yet, but with the claim that it is written by.
            let acknowledged = write.by == Move::Acknowledgement;
            let cursor = StoredCursor { claim: write.claim, ..moved(write, acknowledged) };
            let mut cursor = cursor.to_bytes();
            if write.last {
                cursor[BY] |= LAST;
            }
            call.arg(write.key.field()).arg(cursor);
        }
        let answer = self.ask(bucket, &call).await?;
        let written = match &answer {
            Value::BulkString(letters) => letters.iter().map(|letter| read(*letter)).collect(),
            _ => None,
        };
        let whole = written.filter(|written: &Vec<_>| written.len() == writes.len());
        whole.ok_or_else(|| CursorStoreError::Unavailable(error::odd("a move of cursors")))
    }
}

fn read(letter: u8) -> Option<Written> {
    match letter {
        b'M' => Some(Written::Moved),
        b'R' => Some(Written::Replaced),
        b'A' => Some(Written::Acknowledged),
        _ => None,
    }
}

#[async_trait]
impl CursorStore for RedisCursors {
    async fn take_over(
        &self,
        key: &CursorKey,
        take: TakeOver,
    ) -> Result<Option<StoredCursor>, CursorStoreError> {
        match self.take(key, &take, "any").await? {
            Wish::Taken(kept) => Ok(kept),
            Wish::Denied => Err(CursorStoreError::Unavailable(error::odd("a cursor"))),
        }
    }

    async fn take_if(&self, key: &CursorKey, take: TakeOver, only: Only) -> Result<Wish, CursorStoreError> {
        let which = match only {
            Only::Free => "free",
            Only::Known => "known",
        };
        self.take(key, &take, which).await
    }

    /// From yesterday's key on: a cursor moves to a later day at any time, and never back.
    async fn look(&self, key: &CursorKey) -> Result<Option<StoredCursor>, CursorStoreError> {
        let bucket = key.bucket();
        let mut kept = None;
        for day in self.keys(&bucket).iter().rev() {
            let mut call = cmd("HGET");
            call.arg(day).arg(key.field());
            match self.ask(&bucket, &call).await? {
                Value::Nil => {}
                Value::BulkString(bytes) => kept = Some(StoredCursor::from_bytes(&bytes)),
                _ => kept = Some(None),
            }
        }
        match kept {
            Some(None) => Err(CursorStoreError::Unavailable(error::odd("a cursor"))),
            Some(kept) => Ok(kept),
            None => Ok(None),
        }
    }

    async fn write(&self, batch: &[CursorWrite]) -> Vec<Result<Written, CursorStoreError>> {
        let mut buckets = HashMap::<String, Vec<usize>>::new();
        for (at, write) in batch.iter().enumerate() {
            buckets.entry(write.key.bucket()).or_default().push(at);
        }
        // Those of one bucket stay in order: its calls are made one after the other.
        let calls =
            buckets.into_iter().map(|(bucket, places)| self.write_places(batch, bucket, places).boxed());
        let mut calls = stream::iter(calls).buffer_unordered(CALLS);
        let mut answers: Vec<_> = batch.iter().map(|_| Err(CursorStoreError::Closed)).collect();
        while let Some((places, written)) = calls.next().await {
            for (at, written) in places.into_iter().zip(written) {
                answers[at] = written;
            }
        }
        answers
    }

    /// Nothing to do: Redis forgets a day's keys by itself.
    async fn expire(&self) -> Result<(), CursorStoreError> {
        Ok(())
    }

    /// Nothing is under way that its caller does not wait for; the connections are the log's.
    async fn close(&self) {
        self.closed.store(true, Ordering::Release);
    }
}
