//! Where a call belongs.

use evergate_access::Revocation;

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
            return self.owner.take(&call).await;
        }
        self.peers.pass_on(call).await
    }

    /// What a ticket stands for, whichever edge has given it. Not cancel-safe: the ticket may be used up
    /// although nobody was told.
    pub(crate) async fn redeem(&self, ticket: &str) -> Result<Vec<u8>, CallError> {
        if self.owner.owns(ticket) {
            return self.owner.redeem(ticket);
        }
        self.peers.redeem(ticket).await
    }

    /// What the other edges have called back since they were last asked.
    pub(crate) async fn revocations(&self) -> Vec<Revocation> {
        self.peers.revocations().await
    }
}
