//! What a call does to a stream of this edge.

use std::sync::Arc;

use evergate_access::Revocation;
use evergate_domain::Cursor;

use crate::access::{Denied, Gate, NotRenewed};
use crate::calls::{Call, CallError};
use crate::http::registry::{Registry, node_of};

/// Answers calls about the streams that are open here. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Owner {
    streams: Arc<Registry>,
    /// Who is let in; `None` for everybody.
    gate: Option<Arc<Gate>>,
}

impl Owner {
    pub(crate) fn new(streams: Arc<Registry>, gate: Option<Arc<Gate>>) -> Self {
        Self { streams, gate }
    }

    /// Whether a stream of this name would be here.
    pub(super) fn owns(&self, connection: &str) -> bool {
        self.streams.node() == node_of(connection)
    }

    /// Does what the call says. Waits for nothing but the keys that a fresh token may need. Cancel-safe.
    pub(super) async fn take(&self, call: &Call) -> Result<(), CallError> {
        let connection = call.connection();
        if !self.owns(connection) {
            let (node, here) = (node_of(connection).to_owned(), self.streams.node().to_owned());
            return Err(CallError::Misdirected { node, here });
        }
        match call {
            Call::Ping(_) => {
                if !self.streams.heard(connection) {
                    return Err(CallError::Gone);
                }
                metrics::counter!("evergate_pings_total").increment(1);
            }
            Call::Renew(renew) => self.renew(connection, &renew.token).await?,
            Call::Acknowledge(said) => {
                let place = self.streams.place(connection).ok_or(CallError::Gone)?;
                let place = place.ok_or_else(|| {
                    let why = "has no place kept for it: it was opened without a client_id, or the store could not be reached then";
                    CallError::invalid("connection", why)
                })?;
                let cursor = Cursor::parse(place.streams(), &said.cursor)
                    .map_err(|error| CallError::invalid("cursor", error))?;
                // A stream that was replaced is as good as gone.
                if !place.acknowledged(cursor.pack()) {
                    return Err(CallError::Gone);
                }
                metrics::counter!("evergate_acks_total").increment(1);
            }
        }
        Ok(())
    }

    async fn renew(&self, connection: &str, token: &str) -> Result<(), CallError> {
        let no_token =
            || CallError::invalid("connection", "was opened without a token, and lasts without one");
        let gate = self.gate.as_ref().ok_or_else(no_token)?;
        // Before it is looked for: nobody without a token learns which connections there are.
        let fresh = Arc::new(gate.verify(token).await.map_err(Denied::count)?);
        let term = gate.term(&fresh);
        match self.streams.renew(connection, fresh, term) {
            None => Err(CallError::Gone),
            Some(Ok(())) => {
                metrics::counter!("evergate_reauths_total").increment(1);
                Ok(())
            }
            Some(Err(NotRenewed::NoToken)) => Err(no_token()),
            Some(Err(NotRenewed::OtherSubject)) => {
                Err(CallError::Forbidden("the token is another subject's".to_owned()))
            }
            Some(Err(NotRenewed::Less)) => {
                Err(CallError::Forbidden("the token does not grant all that the stream shows".to_owned()))
            }
        }
    }

    /// The claims that a ticket stands for, once.
    pub(super) fn redeem(&self, ticket: &str) -> Result<Vec<u8>, CallError> {
        let claims = self.gate.as_ref().and_then(|gate| gate.redeem(ticket));
        claims.ok_or_else(|| {
            CallError::Unauthorized("the ticket was used, has run out, or never was one".to_owned())
        })
    }

    /// What was called back, unless `known` is all there is.
    pub(super) fn revocations(&self, known: (u64, u64)) -> ((u64, u64), Vec<Revocation>) {
        self.gate.as_ref().map_or_else(Default::default, |gate| gate.revocations(known))
    }
}
