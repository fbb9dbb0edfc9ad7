//! The edge: terminates SSE, accepts publishes.
//!
//! `http` speaks HTTP/1.1 and HTTP/2 with subscribers, browsers and curl; `publish` takes events by
//! gRPC and HTTP and hands them to the log; `calls` takes what clients say about their streams, whichever
//! edge has them; `access` knows who may do what. An edge keeps no state that a client could miss: any
//! edge resumes any subscriber, because a subscriber is a cursor over the log.

mod access;
mod calls;
mod config;
mod cursors;
mod edge;
mod explain;
mod handshake;
mod http;
mod liveness;
mod memory;
mod meter;
mod mover;
mod problem;
mod publish;
mod remote_end;
mod viewer;

pub use access::{AccessConfig, KeySource, KeySourceError};
pub use config::{
    ClientLimits, ConnectionLimits, CorsOrigins, EdgeConfig, ForwardedHeader, Geographer, GrpcLimits,
    GrpcTls, PeerNode, Proxies, ProxyProtocol, PublishLimits, Rates, SocketOptions, SseConfig,
};
pub use edge::{BindError, BoundListeners, Edge, RevokeError, Revoker, RunningEdge};
pub use explain::{EventState, ExplainError, Explainer, Explanation, Subscription, Verdict};
pub use memory::{MemoryGauge, MemoryLimit};
pub use mover::Mover;
#[cfg(feature = "fuzzing")]
pub use publish::fuzzing;
pub use publish::{ProducerBinding, ProducerBindings};
pub use viewer::{Look, LookError, Viewer};
