//! The engine: sockets written directly, many of them by one task.
//!
//! ```text
//!   handed over ─▶ Attended ── caught up ──▶ Parked in a shard
//!                  (a task)  ◀── fell behind ──  (a record)
//! ```
//! A connection is *attended* by a task of its own while it replays from the log, and *parked* while
//! the ring has all it needs: then it is a record of a hundred bytes, and one sweep of its shard
//! writes to it and to all its neighbours. Sweeps clock themselves: what arrives during one rides on
//! the next, so bursts get cheaper and single events are not delayed.

mod attended;
mod chunk;
mod group;
mod handle;
mod inbox;
mod index;
mod lane;
mod lanes;
mod line;
mod queue;
mod record;
mod run;
mod shard;
mod skip;
mod trail;

pub(crate) use attended::{rung, stalled};
pub(crate) use group::Groups;
pub use handle::{Engine, Farewell, Guard, Handover};
pub(crate) use inbox::{Inbox, Listener};
pub(crate) use lanes::Lanes;
pub(crate) use run::{Look, Packing, RUN_BYTES, Runs};
pub(crate) use skip::Missed;

/// Bytes a client may still send after its request, which are read and dropped; beyond them its
/// connection ends.
const SURPLUS_MAX: u16 = 4 << 10;
