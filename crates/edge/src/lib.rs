//! The edge: terminates SSE, accepts publishes.
//!
//! `http` speaks HTTP/1.1 and HTTP/2 with subscribers, browsers and curl; `publish` takes events by
//! gRPC and HTTP and hands them to the log; `calls` takes what clients say about their streams, whichever
//! edge has them. An edge keeps no state that a client could miss: any
//! edge resumes any subscriber, because a subscriber is a cursor over the log.

mod calls;
mod config;
mod cursors;
mod edge;
mod http;
mod liveness;
mod meter;
mod problem;
mod publish;

pub use config::{
    ClientLimits, ConnectionLimits, CorsOrigins, EdgeConfig, ForwardedHeader, PeerNode, Proxies,
    ProxyProtocol, PublishLimits, SseConfig,
};
pub use edge::{BindError, BoundListeners, Edge, RunningEdge};
