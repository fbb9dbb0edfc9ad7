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
    let Some(kept) = kept else {
        let claim = write.claim.unwrap_or_default();
        let acknowledged = write.by == Move::Acknowledgement;
        return (
            Written::Moved,
            Some(StoredCursor { position: write.position.clone(), claim, acknowledged }),
        );
    };
    if write.claim.is_some_and(|claim| claim != kept.claim) {
        return (Written::Replaced, None);
    }
    if kept.acknowledged && write.by == Move::Hint && !kept.position.is_empty() {
        // Touched all the same: its client is here.
        return (Written::Acknowledged, Some(kept.clone()));
    }
    let acknowledged = kept.acknowledged || write.by == Move::Acknowledgement;
    let claim = write.claim.unwrap_or(kept.claim);
    (Written::Moved, Some(StoredCursor { position: write.position.clone(), claim, acknowledged }))
}

/// What a take-over leaves behind.
fn taken_over(kept: Option<&StoredCursor>, take: &TakeOver) -> StoredCursor {
    let said = take.position.clone();
    let position = match kept {
        // What a browser has received says nothing of what its page has worked through.
        Some(kept) if kept.acknowledged && !kept.position.is_empty() => kept.position.clone(),
        Some(kept) => said.unwrap_or_else(|| kept.position.clone()),
        None => said.unwrap_or_default(),
    };
    let acknowledged = take.acknowledges || kept.is_some_and(|kept| kept.acknowledged);
    StoredCursor { position, claim: take.claim, acknowledged }
}

/// What a take-over is answered: nothing, as long as no position is kept.
fn answer(kept: StoredCursor) -> Option<StoredCursor> {
    (!kept.position.is_empty()).then_some(kept)
}
