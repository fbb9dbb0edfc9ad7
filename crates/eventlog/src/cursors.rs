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

pub use contract::{CursorStore, CursorStoreError, CursorWrite, Move, Only, TakeOver, Wish, Written};
pub use disk::{CursorFileError, DiskCursors};
pub use memory::MemoryCursors;

use evergate_domain::{Claim, StoredCursor};

/// What a write comes to, given what is kept. The one rule that all implementations share; Redis
/// has it in its own words (`cursors_write` in `evergate.lua`).
fn judge(kept: Option<&StoredCursor>, write: &CursorWrite) -> (Written, Option<StoredCursor>) {
    let Some(kept) = kept else {
        let nothing = write.position.is_empty();
        return (Written::Moved, (!nothing).then(|| moved(write, write.by == Move::Acknowledgement)));
    };
    if write.claim != kept.claim {
        return (Written::Replaced, None);
    }
    let stays = kept.acknowledged && write.by == Move::Hint && !kept.position.is_empty();
    let mut next = if stays || write.position.is_empty() {
        // Touched all the same: its client is here.
        kept.clone()
    } else {
        moved(write, kept.acknowledged || write.by == Move::Acknowledgement)
    };
    if write.last {
        next.claim = Claim::NOBODY;
    }
    (if stays { Written::Acknowledged } else { Written::Moved }, Some(next))
}

/// As a write is kept if nothing is yet.
pub(crate) fn moved(write: &CursorWrite, acknowledged: bool) -> StoredCursor {
    let claim = if write.last { Claim::NOBODY } else { write.claim };
    StoredCursor { position: write.position.clone(), claim, acknowledged }
}

/// What a wish for a cursor on a condition comes to, and what it leaves behind.
fn taken_if(kept: Option<&StoredCursor>, take: &TakeOver, only: Only) -> (Wish, Option<StoredCursor>) {
    let next = match (only, kept) {
        (Only::Known, None) => return (Wish::Denied, None),
        (Only::Free, Some(kept)) if kept.claim != Claim::NOBODY && kept.claim != take.claim => {
            return (Wish::Denied, None);
        }
        (Only::Free, Some(kept)) if !kept.position.is_empty() => {
            taken_over(Some(kept), &TakeOver { position: None, ..take.clone() })
        }
        (Only::Free | Only::Known, kept) => taken_over(kept, take),
    };
    (Wish::Taken(answer(next.clone())), Some(next))
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
