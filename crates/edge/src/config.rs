//! What an edge is told at its start: proven values only.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evergate_domain::{RetryRange, StreamPolicies};
use evergate_fanout::HubConfig;

/// Everything an edge needs to know.
#[derive(Debug, Clone)]
pub struct EdgeConfig {
    /// The name of this node.
    pub node: String,
    /// The region it stands in.
    pub region: String,
    /// Where SSE and the HTTP API are served.
    pub http: SocketAddr,
    /// Where gRPC is served.
    pub grpc: SocketAddr,
    /// Which streams there are and how much of them is kept.
    pub policies: Arc<StreamPolicies>,
    /// Bounds on publishing.
    pub publish: PublishLimits,
    /// Bounds on HTTP connections.
    pub connections: ConnectionLimits,
    /// How event streams behave.
    pub sse: SseConfig,
    /// Which origins a browser may come from.
    pub cors: CorsOrigins,
    /// The fan-out below.
    pub hub: HubConfig,
    /// Tasks that share the connections among them; one per core.
    pub shards: usize,
    /// The demo page and what it needs, for development only.
    pub demo: bool,
}

/// Bounds on what a publisher may send.
#[derive(Debug, Clone, Copy)]
pub struct PublishLimits {
    /// Payload of one event, in bytes.
    pub payload_bytes_max: usize,
    /// Events in a batch.
    pub batch_events_max: usize,
    /// Payload, keys and types of a batch, in bytes.
    pub batch_bytes_max: usize,
    /// Requests of one `PublishStream` that are under way at once.
    pub stream_window: usize,
}

/// Bounds on HTTP connections.
#[derive(Debug, Clone, Copy)]
pub struct ConnectionLimits {
    /// Event streams that may be open at once; beyond it `evergate.busy`.
    pub streams_max: usize,
    /// Request line and header fields, in bytes.
    pub head_bytes_max: usize,
    /// From the connection's beginning to the end of its first request head.
    pub head_timeout: Duration,
    /// A connection that carries no stream is closed after this.
    pub idle_timeout: Duration,
}

/// How event streams behave.
#[derive(Debug, Clone, Copy)]
pub struct SseConfig {
    /// Time between heartbeats on a quiet stream.
    pub heartbeat: Duration,
    /// What `retry:` is drawn from.
    pub retry: RetryRange,
    /// The same for `evergate.busy`.
    pub busy_retry: RetryRange,
    /// Streams on one connection.
    pub streams_max: usize,
    /// Key patterns on one connection.
    pub keys_max: usize,
    /// Whether clients that ask for it get their streams compressed.
    pub gzip: bool,
}

/// Which origins a browser may come from.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum CorsOrigins {
    /// None but the server's own.
    #[default]
    None,
    /// Any, without credentials.
    Any,
    /// Exactly these, with credentials.
    Listed(Vec<String>),
}
