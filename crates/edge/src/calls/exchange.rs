//! Where a call belongs.

use crate::calls::{Call, CallError, Owner, Peers};

/// Takes the calls of clients, whichever edge has their streams.
pub(crate) struct Calls {
    owner: Owner,
    peers: Peers,
}

impl Calls {
    pub(crate) fn new(owner: Owner, peers: Peers) -> Self {
        Self { owner, peers }
    }

    /// Has the call done by whoever has the stream. Cancel-safe, in that a call may be repeated.
    ///
    /// A stream of a node that is neither this one nor a peer is gone: it may have stood there before
    /// the node was taken out.
    pub(crate) async fn make(&self, call: Call) -> Result<(), CallError> {
        if self.owner.owns(call.connection()) {
            return self.owner.take(&call);
        }
        self.peers.pass_on(call).await
    }
}
