//! The event log: one contract, and the implementations that keep it.
//!
//! [`EventLog`] says what a log promises, [`CursorStore`] what keeping a client's place does. `memory` keeps it in this process, `disk` on one node's
//! disk, `redis` in Redis for many nodes. What all must decide alike (density, idempotence, gaps and forks) is pure and shared:
//! [`history`](Lineage), [`producers`](ProducerTable), [`head`](StreamHead). One conformance suite
//! judges every implementation.
//!
//! This crate is the only road to storage. It knows nothing of subscribers, frames or sockets.

mod contract;
mod error;
mod tail;

mod head;
mod history;
mod producers;

mod clock;
mod cursors;
mod disk;
mod memory;
mod redis;

#[cfg(test)]
mod conformance;

#[cfg(feature = "fuzzing")]
pub use redis::fuzzing;

pub use clock::{Clock, ManualClock, SystemClock};
pub use contract::{EventLog, Page, Placed, ReadLimit, StreamStatus};
pub use cursors::{
    CursorFileError, CursorStore, CursorStoreError, CursorWrite, DiskCursors, MemoryCursors, Move, Only,
    TakeOver, Wish, Written,
};
pub use disk::{DiskLog, DiskOptions, OpenError};
pub use error::{AppendError, BackendError, ReadError, Retry};
pub use head::{HeadChange, Plan, StreamHead};
pub use history::{Epochs, Lineage, Standing};
pub use memory::MemoryLog;
pub use producers::{PRODUCERS_MAX, ProducerTable, Run, WINDOW};
pub use redis::{RedisCursors, RedisLog, RedisOpenError, RedisOptions, RedisUrl, SentinelLogin};
pub use tail::{Tail, TailItem, TailSender, TailSink};
