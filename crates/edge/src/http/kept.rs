//! Where a stream begins if the server keeps its client's place.

use std::sync::Arc;

use evergate_domain::{ClientId, Cursor, CursorKey, Offset, StoredCursor, StreamSet};
use evergate_fanout::Begin;
use tokio_util::sync::CancellationToken;

use crate::cursors::{Dismissal, Place};
use crate::http::context::Context;
use crate::http::stream::Busy;
use crate::http::wanted::Wanted;

/// What is known of a client that has a name.
pub(super) struct Named {
    pub(super) place: Arc<Place>,
    pub(super) dismissal: Dismissal,
    /// Whether nothing is kept yet.
    pub(super) fresh: bool,
    /// Whether what our socket took went to the client and not to a proxy, which may hold megabytes for
    /// a client that reads nothing.
    pub(super) direct: bool,
}

/// Where a stream begins, and what it holds for that.
pub(super) struct Kept {
    pub(super) begin: Begin,
    /// Whether the beginning is what was kept.
    pub(super) stored: bool,
    /// Ends the stream.
    pub(super) cut: CancellationToken,
    pub(super) named: Option<Box<Named>>,
}

impl Kept {
    /// For a client without a name.
    pub(super) fn nothing(wanted: &Wanted, cut: CancellationToken) -> Self {
        Self { begin: wanted.begin.clone(), stored: false, cut, named: None }
    }

    /// For a client with a name: its own position beats the one that is kept, and that beats `from`.
    ///
    /// `alone` says that the stream has its connection for itself, so that both end together; `direct`,
    /// that there is no proxy in between.
    pub(super) async fn take(
        context: &Context,
        wanted: &Wanted,
        client: &ClientId,
        connection: &CancellationToken,
        alone: bool,
        direct: bool,
    ) -> Result<Self, Busy> {
        let key = CursorKey::new(client, &wanted.streams, &wanted.filters);
        let cut = if alone { connection.clone() } else { connection.child_token() };
        let dismissal = Dismissal::new(cut.clone());
        let own = match &wanted.begin {
            Begin::Resume(cursor) if wanted.own => Some(cursor.pack()),
            Begin::Resume(_) | Begin::Start(_) => None,
        };
        let taken = context
            .cursors
            .take(key, wanted.streams.clone(), dismissal.clone(), own.clone(), wanted.acknowledges)
            .await;
        let (place, kept) = match taken {
            Ok(taken) => taken,
            Err(error) if own.is_some() => {
                tracing::debug!(%error, "a client's place is not kept for now");
                metrics::counter!("evergate_cursors_not_taken_total").increment(1);
                return Ok(Self::nothing(wanted, connection.clone()));
            }
            Err(error) => return Err(Busy::no_cursors(&error)),
        };
        let (begin, stored) = match (&kept, own) {
            (Some(kept), None) => (Begin::Resume(position(kept, &wanted.streams)), true),
            _ => (wanted.begin.clone(), false),
        };
        let named = Named { place: Arc::new(place), dismissal, fresh: kept.is_none(), direct };
        Ok(Self { begin, stored, cut, named: Some(Box::new(named)) })
    }
}

/// What is kept may be no cursor only if somebody else wrote it. The beginning repeats, but loses
/// nothing.
fn position(kept: &StoredCursor, streams: &StreamSet) -> Cursor {
    kept.position.unpack(streams).unwrap_or_else(|error| {
        tracing::error!(%error, "a stored cursor makes no sense; its client begins at the beginning");
        Cursor::new(streams, vec![Offset::BEGINNING; streams.names().len()])
    })
}
