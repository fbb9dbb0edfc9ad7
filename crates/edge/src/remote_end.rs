//! Who is at the other end of a gRPC connection.

use std::net::SocketAddr;
use std::sync::Arc;

use evergate_tls::Identity;

/// What is known of a caller before it says anything; an extension of each of its requests.
#[derive(Debug, Clone, Default)]
pub(crate) struct RemoteEnd {
    /// Where its connection comes from.
    pub(crate) address: Option<SocketAddr>,
    /// Whom it proved to be, where it did.
    pub(crate) identity: Option<Arc<Identity>>,
    /// Whether the cluster's authority vouches for it.
    pub(crate) of_cluster: bool,
}
