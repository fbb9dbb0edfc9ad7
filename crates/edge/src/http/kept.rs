//! Where a stream begins if the server keeps its client's place, and who may end it in words.

use std::sync::Arc;

use evergate_domain::{ClientId, Cursor, CursorKey, Offset, StoredCursor, StreamSet};
use evergate_fanout::Begin;
use tokio_util::sync::CancellationToken;

use crate::cursors::{Dismissal, Place};
use crate::http::context::Context;
use crate::http::stream::Busy;
use crate::http::wanted::Wanted;

/// What a stream holds that somebody else may end in words: because its client has a name, or a lease.
/// Other streams hold none of it.
pub(super) struct Bonds {
    pub(super) dismissal: Dismissal,
    pub(super) named: Option<Named>,
}

/// What is known of the client, if it has a name.
pub(super) fn named(bonds: &Option<Box<Bonds>>) -> Option<&Named> {
    bonds.as_ref()?.named.as_ref()
}

/// What is known of a client that has a name.
pub(super) struct Named {
    pub(super) place: Arc<Place>,
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
    pub(super) bonds: Option<Box<Bonds>>,
}

impl Kept {
    /// For any client: what it wants, and what is known of it.
    ///
    /// `connection` ends the connection; `alone` says that the stream has it for itself, so that both end
    /// together; `direct`, that there is no proxy in between.
    pub(super) async fn of(
        context: &Context,
        wanted: &Wanted,
        connection: CancellationToken,
        alone: bool,
        direct: bool,
    ) -> Result<Self, Busy> {
        let plain = |cut| Self { begin: wanted.begin.clone(), stored: false, cut, bonds: None };
        if wanted.client.is_none() && !wanted.leased {
            return Ok(plain(connection));
        }
        let cut = if alone { connection } else { connection.child_token() };
        let dismissal = Dismissal::new(cut.clone());
        let mut kept = plain(cut);
        let named = match &wanted.client {
            Some(client) => kept.take(context, wanted, client, &dismissal, direct).await?,
            None => None,
        };
        kept.bonds = Some(Box::new(Bonds { dismissal, named }));
        Ok(kept)
    }

    /// Takes a client's kept cursor over: its own position beats the one that is kept, and that beats
    /// `from`. `None` if its place cannot be kept for now, and it can do without.
    async fn take(
        &mut self,
        context: &Context,
        wanted: &Wanted,
        client: &ClientId,
        dismissal: &Dismissal,
        direct: bool,
    ) -> Result<Option<Named>, Busy> {
        let key = CursorKey::new(client, &wanted.streams, &wanted.filters);
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
                return Ok(None);
            }
            Err(error) => return Err(Busy::no_cursors(&error)),
        };
        if let (Some(kept), None) = (&kept, own) {
            self.begin = Begin::Resume(position(kept, &wanted.streams));
            self.stored = true;
        }
        Ok(Some(Named { place: Arc::new(place), fresh: kept.is_none(), direct }))
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
