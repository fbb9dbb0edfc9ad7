//! One connection's hold on its client's kept cursor.

use std::sync::{Arc, OnceLock};

use evergate_domain::{
    Claim, ClientId, Cursor, CursorKey, KeyFilter, PackedCursor, ResumeKind, StreamSet, UnixMillis,
};
use evergate_eventlog::{Clock as _, SystemClock};

use crate::cursors::Keeper;
use crate::explain::{Began, Open};

/// The right of one stream to move a kept cursor, as long as it lasts.
pub(crate) struct Place {
    pub(super) keeper: Arc<Keeper>,
    pub(super) key: CursorKey,
    pub(super) claim: Claim,
    pub(super) streams: StreamSet,
    /// For whoever asks why the client did or did not get something.
    pub(super) told: Option<Box<Told>>,
}

/// Whose it is, and where its stream began.
pub(super) struct Told {
    client: ClientId,
    began: OnceLock<Beginning>,
}

struct Beginning {
    at: PackedCursor,
    how: ResumeKind,
    time: UnixMillis,
    /// What it is shown, one per stream.
    filters: Arc<[KeyFilter]>,
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

    /// Says whose it is.
    pub(crate) fn tell(&mut self, client: ClientId) {
        self.told = Some(Box::new(Told { client, began: OnceLock::new() }));
    }

    /// The stream begins here, and shows what these let through.
    pub(crate) fn begins(&self, at: PackedCursor, how: ResumeKind, filters: &Arc<[KeyFilter]>) {
        if let Some(told) = &self.told {
            // It begins once.
            let _ =
                told.began.set(Beginning { at, how, time: SystemClock.now(), filters: Arc::clone(filters) });
        }
    }

    /// Whether it is this client's.
    pub(crate) fn is_of(&self, client: &ClientId) -> bool {
        self.told.as_ref().is_some_and(|told| told.client == *client)
    }

    /// What is known of the stream, while it holds the cursor.
    pub(crate) fn open(&self) -> Option<Open> {
        let told = self.told.as_ref()?;
        let unpack = |position: &PackedCursor| -> Option<Cursor> { position.unpack(&self.streams).ok() };
        let standing = self.keeper.standing(self)?;
        let began = told.began.get();
        Some(Open {
            streams: self.streams.clone(),
            filters: began.map_or_else(Vec::new, |began| began.filters.to_vec()),
            began: began.and_then(|Beginning { at, how, time, .. }| {
                Some(Began { at: unpack(at)?, how: *how, time: *time })
            }),
            come: standing.come.and_then(|(position, found)| Some((unpack(&position)?, found))),
            acknowledges: standing.acknowledges,
        })
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
