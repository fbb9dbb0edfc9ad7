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
        return (Written::Moved, Some(moved(write, write.by == Move::Acknowledgement)));
    };
    if write.claim != kept.claim {
        return (Written::Replaced, None);
    }
    if kept.acknowledged && write.by == Move::Hint && !kept.position.is_empty() {
        // Touched all the same: its client is here.
        return (Written::Acknowledged, Some(kept.clone()));
    }
    (Written::Moved, Some(moved(write, kept.acknowledged || write.by == Move::Acknowledgement)))
}

pub(crate) fn moved(write: &CursorWrite, acknowledged: bool) -> StoredCursor {
    StoredCursor { position: write.position.clone(), claim: write.claim, acknowledged }
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
