//! The places kept for clients that have a `client_id`.
//!
//! ```text
//!   connect ──▶ Keeper::take ── stored cursor ──▶ where the stream begins
//!   engine ──▶ Place::passed ──┐
//!   POST /v1/acks ─────────────┴▶ what is new ── every few seconds, in batches ──▶ CursorStore
//! ```
//! Never a write per event. What is lost between two flushes is sent again, not skipped.

mod dismissal;
mod keeper;
mod late;
mod overlap;
mod place;
mod waiting;

#[cfg(test)]
mod tests;

pub(crate) use dismissal::{Dismissal, Reason};
pub(crate) use keeper::{Keeper, NotTaken, Taken};
pub(crate) use overlap::Overlap;
pub(crate) use place::Place;
