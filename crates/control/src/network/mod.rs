//! How the nodes of a group reach each other, and whom they take for one of theirs.

mod acquaintance;
mod admission;
mod connect;
mod link;
mod server;
mod service;

pub(crate) use acquaintance::Me;
pub(crate) use admission::Admission;
pub(crate) use connect::Connector;
pub(crate) use link::{CallError, Factory, Links};
pub(crate) use server::serve;
pub(crate) use service::Service;

/// The largest message: what is read of a log at once, one more entry, and what is around them.
pub(crate) const MESSAGE_BYTES_MAX: usize = 8 << 20;

/// The largest state that is sent. It is in memory several times while it is.
pub(crate) const SNAPSHOT_BYTES_MAX: u64 = 256 << 20;

/// How long what was sent may stay unacknowledged before a connection is given up.
pub(crate) const PEER_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(5);
