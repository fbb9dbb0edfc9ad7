//! The places that the server keeps for its clients: one contract, and the implementations that
//! keep it.
//!
//! A client's own position, the last id it was sent, beats what is kept here. This is for clients
//! that come back without one.

mod contract;

mod disk;
mod memory;

#[cfg(test)]
pub(crate) mod conformance;

pub use contract::{CursorStore, CursorStoreError, CursorWrite, Move, TakeOver, Written};
pub use disk::{CursorFileError, DiskCursors};
pub use memory::MemoryCursors;

use evergate_domain::StoredCursor;

/// What a write comes to, given what is kept. The one rule that all implementations share; Redis
/// has it in its own words (`cursors_write` in `evergate.lua`).
fn judge(kept: Option<&StoredCursor>, write: &CursorWrite) -> (Written, Option<StoredCursor>) {
    let position = write.position.clone();
    let moved = |acknowledged| {
        let claim = write.claim.or(kept.map(|kept| kept.claim)).unwrap_or_default();
        (Written::Moved, Some(StoredCursor { position, claim, acknowledged }))
    };
    match kept {
        Some(kept) if write.claim.is_some_and(|claim| claim != kept.claim) => (Written::Replaced, None),
        // Touched all the same: its client is here.
        Some(kept) if kept.acknowledged && write.by == Move::Hint => {
            (Written::Acknowledged, Some(kept.clone()))
        }
        Some(_) | None => moved(write.by == Move::Acknowledgement),
    }
}

/// What a take-over leaves behind: what is kept from now on, if anything is.
fn taken_over(kept: Option<&StoredCursor>, take: &TakeOver) -> Option<StoredCursor> {
    let position = take.position.clone().or_else(|| kept.map(|kept| kept.position.clone()))?;
    let acknowledged = take.acknowledges || kept.is_some_and(|kept| kept.acknowledged);
    Some(StoredCursor { position, claim: take.claim, acknowledged })
}
