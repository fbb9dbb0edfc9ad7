//! Who hands events in.

use std::sync::Arc;

use evergate_domain::{ClientAddress, EventDraft, StreamName};
use evergate_tls::Identity;

use super::PublishError;
use crate::access::Caller;

/// Where events come from, and who is behind them. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Sender {
    pub(crate) from: ClientAddress,
    pub(crate) caller: Caller,
    /// Whom its connection proved to be, where it did.
    pub(crate) identity: Option<Arc<Identity>>,
}

impl Sender {
    /// Whether it may publish these, now.
    pub(super) fn may_publish(&self, stream: &StreamName, events: &[EventDraft]) -> Result<(), PublishError> {
        let keys = events.iter().map(|event| event.key.as_ref());
        self.caller.publishes(stream, keys).map_err(PublishError::Denied)
    }
}
