//! Where a stream begins if the server keeps its client's place, and who may end it in words.

use std::num::NonZeroU32;
use std::sync::Arc;

use evergate_domain::{
    ClientAddress, ClientId, Cursor, CursorKey, Offset, PackedCursor, StoredCursor, StreamSet,
};
use evergate_fanout::Begin;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::access::Word;
use crate::cursors::{Dismissal, NotTaken, Overlap, Place, Taken};
use crate::http::context::Context;
use crate::http::limits::Refusal;
use crate::http::stream::Busy;
use crate::http::wanted::Wanted;

/// What a stream holds that somebody else may end in words: because its client has a name, a lease, or a token.
/// Other streams hold none of it.
pub(super) struct Bonds {
    pub(super) dismissal: Dismissal,
    pub(super) named: Option<Named>,
    /// What its client is told beside its events.
    pub(super) word: Arc<Word>,
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
    /// What is told of how far it has come.
    pub(super) hints: Hints,
}

/// What is told of how far a client has come that does not say so itself.
pub(super) enum Hints {
    /// Nothing can be known.
    None,
    /// What our socket took went to the client.
    Exact,
    /// What our socket took may still be on its way: in a proxy, which may hold megabytes for a client
    /// that reads nothing, in HTTP/2's windows, in a decompressor.
    Behind(Mutex<Overlap>),
}

/// How a stream's bytes reach its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Over a socket of their own, as they are.
    Direct,
    /// By way of somebody who may hold them back.
    Indirect,
}

impl Named {
    /// The stream begins here.
    pub(super) fn begin(&mut self, way: Way, overlap: Option<NonZeroU32>, at: &Cursor) {
        self.hints = match (way, overlap) {
            (Way::Direct, _) => Hints::Exact,
            (Way::Indirect, Some(events)) => Hints::Behind(Mutex::new(Overlap::new(events, at.clone()))),
            (Way::Indirect, None) => Hints::None,
        };
    }

    /// Whether it is of use to tell how far the client has come.
    pub(super) fn follows(&self) -> bool {
        !matches!(self.hints, Hints::None)
    }

    /// Everything up to here has left this process, some time ago.
    pub(super) fn passed(&self, position: PackedCursor) {
        match &self.hints {
            Hints::None => {}
            Hints::Exact => self.place.passed(position),
            Hints::Behind(overlap) => {
                let at = position.unpack(self.place.streams()).expect("packed over these streams");
                let behind = overlap.lock().passed(&at);
                if let Some(position) = behind {
                    self.place.passed(position.pack());
                }
            }
        }
    }
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
    /// together; `by_token`, that it ends with a token.
    pub(super) async fn of(
        context: &Context,
        wanted: &Wanted,
        from: ClientAddress,
        connection: CancellationToken,
        alone: bool,
        by_token: bool,
    ) -> Result<Self, Busy> {
        let plain = |cut| Self { begin: wanted.begin.clone(), stored: false, cut, bonds: None };
        if wanted.client.is_none() && !wanted.leased && !by_token {
            return Ok(plain(connection));
        }
        let cut = if alone { connection } else { connection.child_token() };
        let dismissal = Dismissal::new(cut.clone());
        let mut kept = plain(cut);
        let named = match &wanted.client {
            Some(client) => Some(kept.take(context, wanted, client, from, &dismissal).await?),
            None => None,
        };
        kept.bonds = Some(Box::new(Bonds { dismissal, named, word: Arc::default() }));
        Ok(kept)
    }

    /// Takes a client's kept cursor over: its own position beats the one that is kept, and that beats
    /// `from`.
    async fn take(
        &mut self,
        context: &Context,
        wanted: &Wanted,
        client: &ClientId,
        from: ClientAddress,
        dismissal: &Dismissal,
    ) -> Result<Named, Busy> {
        let key = CursorKey::new(client, &wanted.streams, &wanted.filters);
        let own = match &wanted.begin {
            Begin::Resume(cursor) if wanted.own => Some(cursor.pack()),
            Begin::Resume(_) | Begin::Start(_) => None,
        };
        let (streams, dismissal) = (wanted.streams.clone(), dismissal.clone());
        let one_more = || context.limits.newcomer(from);
        let one_more: &(dyn Fn() -> bool + Sync) = &one_more;
        let newcomer = context.limits.counts_newcomers().then_some(one_more);
        let taken =
            context.cursors.take(key, streams, dismissal, own.clone(), wanted.acknowledges, newcomer).await;
        let Taken { mut place, kept, late } = taken.map_err(|not| match not {
            NotTaken::Away(error) => Busy::no_cursors(&error),
            NotTaken::TooManyNewcomers => Busy(Refusal::Newcomers.reason()),
        })?;
        if let (Some(kept), None) = (&kept, own) {
            self.begin = Begin::Resume(position(kept, &wanted.streams));
            self.stored = true;
        }
        let fresh = kept.is_none() && !late;
        place.tell(client.clone());
        Ok(Named { place: Arc::new(place), fresh, hints: Hints::None })
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
