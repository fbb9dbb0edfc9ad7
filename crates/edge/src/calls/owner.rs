//! What a call does to a stream of this edge.

use std::sync::Arc;

use evergate_domain::Cursor;

use crate::calls::{Call, CallError};
use crate::http::registry::{Registry, node_of};

/// Answers calls about the streams that are open here. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Owner {
    streams: Arc<Registry>,
}

impl Owner {
    pub(crate) fn new(streams: Arc<Registry>) -> Self {
        Self { streams }
    }

    /// Whether a stream of this name would be here.
    pub(super) fn owns(&self, connection: &str) -> bool {
        self.streams.node() == node_of(connection)
    }

    /// Does what the call says. Never waits.
    pub(super) fn take(&self, call: &Call) -> Result<(), CallError> {
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
}
