//! What clients say about their open streams: that they live, and how far they have come.
//!
//! ```text
//!   POST /v1/connections/{id}/ping ─┐           the id names this node
//!   POST /v1/acks ──────────────────┴▶ Calls ──────────────────────────▶ Owner ──▶ the stream
//!                                        │ it names a peer                  ▲
//!                                        └──▶ Peers ── gRPC ──▶ [its Edge service]
//! ```
//! Any edge takes any call, since a balancer knows nothing of ids. A call is passed on once at the most:
//! the service has an [`Owner`] and no [`Calls`]. Nothing is retried here, and nothing is queued beyond
//! [`peers::CALLS_MAX`] calls under way with each peer.

mod call;
mod exchange;
mod owner;
mod peers;
mod service;

pub(crate) use call::{Call, CallError};
pub(crate) use exchange::Calls;
pub(crate) use owner::Owner;
pub(crate) use peers::Peers;
pub(crate) use service::Service;
