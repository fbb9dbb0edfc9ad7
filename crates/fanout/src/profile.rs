//! What subscribers may have in common.

use std::sync::Arc;
use std::time::Duration;

use evergate_domain::{KeyFilter, StreamSet};

use crate::frame::Framing;
use crate::gzip::Encoding;
use crate::subscriber::HeartbeatKind;

/// All that a subscriber asks for but where it begins. Those who ask for the same are sent the same
/// bytes from the same position on.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Profile {
    pub(crate) streams: StreamSet,
    /// One per stream, in the set's order.
    pub(crate) filters: Arc<[KeyFilter]>,
    pub(crate) framing: Framing,
    pub(crate) encoding: Encoding,
    pub(crate) heartbeat: (Duration, HeartbeatKind),
}
