//! Evergate's words and pure rules.
//!
//! This crate owns what every other crate must agree on: how things are named, where an event
//! stands in its stream, what a subscriber may ask for, and what goes over the wire to it. It
//! knows no runtime, no socket, no file and no clock: time and randomness are handed in.

mod agreed;
mod name;
mod offset;
mod time;

mod event;
mod gap;
mod pattern;
mod policy;
mod retention;
mod slow_reader;

mod cursor;
mod filter;
mod resume;
mod retry;
mod stored;

mod client;
mod frame_meter;
mod network;
mod rate;

pub mod cluster;
pub mod sse;

pub use agreed::{AgreedLimits, AgreedPolicies};
pub use client::{AddressGroup, ClientAddress};
pub use cursor::{Cursor, CursorError, PackedCursor, STREAMS_MAX, StreamSet};
pub use event::{Event, EventDraft, Level, ProducerSeq, TraceParent};
pub use filter::{KeyFilter, KeyPattern};
pub use frame_meter::FrameMeter;
pub use gap::{Gap, GapReason};
pub use name::{ClientId, EventType, Key, NameError, NodeName, ProducerId, RegionName, StreamName, ZoneName};
pub use network::{Network, NetworkError};
pub use offset::{Epoch, NUMBER_MAX, Offset, OffsetError, Seq};
pub use pattern::{ByStream, StreamPattern};
pub use policy::{StreamLevels, StreamPolicies};
pub use rate::{Allowance, Rate, RateTable, TooFast};
pub use resume::{ResumeKind, Start, StartError};
pub use retention::Retention;
pub use retry::RetryRange;
pub use slow_reader::{SlowReader, SlowReaders};
pub use stored::{BUCKETS, Claim, CursorKey, StoredCursor};
pub use time::UnixMillis;
