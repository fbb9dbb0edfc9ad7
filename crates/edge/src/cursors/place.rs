//! One connection's hold on its client's kept cursor.

use std::sync::Arc;

use evergate_domain::{Claim, CursorKey, PackedCursor, StreamSet};

use crate::cursors::Keeper;

/// The right of one stream to move a kept cursor, as long as it lasts.
pub(crate) struct Place {
    pub(super) keeper: Arc<Keeper>,
    pub(super) key: CursorKey,
    pub(super) claim: Claim,
    pub(super) streams: StreamSet,
}

impl Place {
    /// The client's system has taken everything up to here: a hint, for the next flush.
    pub(crate) fn passed(&self, position: PackedCursor) {
        // One that was replaced has nothing more to say.
        let _ = self.keeper.note(self, position, evergate_eventlog::Move::Hint);
    }

    /// The client has worked through everything up to here. From now on nothing else moves its
    /// cursor. False if another stream has taken it over.
    pub(crate) fn acknowledged(&self, position: PackedCursor) -> bool {
        self.keeper.note(self, position, evergate_eventlog::Move::Acknowledgement)
    }

    /// The streams that a position of it is over.
    pub(crate) fn streams(&self) -> &StreamSet {
        &self.streams
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.keeper.leave(&self.key, self.claim);
    }
}
