//! Evergate's words and pure rules.
//!
//! This crate owns what every other crate must agree on: how things are named, where an event
//! stands in its stream, what a subscriber may ask for, and what goes over the wire to it. It
//! knows no runtime, no socket, no file and no clock: time and randomness are handed in.

mod name;
mod offset;
mod time;

mod event;
mod gap;
mod policy;
mod retention;
mod slow_reader;

mod cursor;
mod filter;
mod resume;
mod retry;

pub mod sse;

pub use cursor::{Cursor, CursorError, STREAMS_MAX, StreamSet};
pub use event::{Event, EventDraft, Level, ProducerSeq, TraceParent};
pub use filter::{KeyFilter, KeyPattern};
pub use gap::{Gap, GapReason};
pub use name::{EventType, Key, NameError, ProducerId, StreamName};
pub use offset::{Epoch, NUMBER_MAX, Offset, OffsetError, Seq};
pub use policy::StreamPolicies;
pub use resume::{ResumeKind, Start, StartError};
pub use retention::Retention;
pub use retry::RetryRange;
pub use slow_reader::{SlowReader, SlowReaders};
pub use time::UnixMillis;
