//! What an edge is told at its start: proven values only.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::time::Duration;

use evergate_domain::cluster::{Geography, Located};
use evergate_domain::{AgreedLimits, Network, Rate, RegionName, RetryRange, StreamPolicies};
use evergate_fanout::HubConfig;
use evergate_member::Placement;
use evergate_telemetry::Tracer;
use evergate_tls::{Authority, Client, Server};
use tokio::sync::watch;

use crate::access::AccessConfig;
use crate::memory::MemoryLimit;
use crate::publish::ProducerBindings;

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
    /// By what HTTP is secured, if it is.
    pub http_tls: Option<Server>,
    /// By what gRPC is secured, if it is.
    pub grpc_tls: Option<GrpcTls>,
    /// Who may publish as which producer.
    pub producers: ProducerBindings,
    /// Which streams there are and how much of them is kept.
    pub policies: Arc<StreamPolicies>,
    /// Bounds on publishing.
    pub publish: PublishLimits,
    /// Bounds on gRPC connections.
    pub grpc_connections: GrpcLimits,
    /// Bounds on HTTP connections.
    pub connections: ConnectionLimits,
    /// What HTTP's sockets are asked to do beside what they always are.
    pub sockets: SocketOptions,
    /// Bounds on what one client may have of them.
    pub clients: ClientLimits,
    /// What the cluster agrees on of rates, which holds before those of `publish` and `clients`.
    pub agreed_limits: AgreedLimits,
    /// Who may speak for others.
    pub proxies: Proxies,
    /// How event streams behave.
    pub sse: SseConfig,
    /// Which origins a browser may come from.
    pub cors: CorsOrigins,
    /// Who is let in; `None` for everybody.
    pub access: Option<AccessConfig>,
    /// The fan-out below.
    pub hub: HubConfig,
    /// Tasks that share the connections among them; one per core.
    pub shards: usize,
    /// The other edges, to which calls about their streams are passed on.
    pub peers: Vec<PeerNode>,
    /// What the cluster agrees on, if there is one to belong to. Its other edges are peers, too.
    pub placement: Option<watch::Receiver<Arc<Placement>>>,
    /// Where traces go, if anywhere.
    pub tracer: Tracer,
    /// What the process may take of memory.
    pub memory: MemoryLimit,
    /// Which region clients belong to by their addresses, if anybody says so.
    pub geographer: Option<Geographer>,
    /// By what edges of the cluster are connected to that are not among `peers`, where they serve by TLS.
    pub links: Option<Client>,
    /// The demo page and what it needs, for development only.
    pub demo: bool,
}

/// Tells which region a client belongs to.
#[derive(Clone)]
pub struct Geographer {
    /// What follows from where it is.
    pub rules: Geography,
    /// Where it is; must not wait.
    pub locate: Arc<dyn Fn(IpAddr) -> Located + Send + Sync>,
}

impl Geographer {
    /// The region of an address; `None` if no rule is about it.
    pub(crate) fn region(&self, address: IpAddr) -> Option<&RegionName> {
        self.rules.region(address, &*self.locate)
    }
}

impl fmt::Debug for Geographer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Geographer").field(&self.rules).finish()
    }
}

/// By what the gRPC listener is secured.
#[derive(Debug, Clone)]
pub struct GrpcTls {
    /// What it shows, and whose certificates it takes.
    pub server: Server,
    /// Who vouches for the other nodes. Without, whoever may connect may make their calls.
    pub cluster: Option<Authority>,
}

/// Another edge.
#[derive(Debug, Clone)]
pub struct PeerNode {
    /// Its name, with which the ids of its connections begin.
    pub node: String,
    /// Where it serves gRPC: `http://HOST:PORT` or `https://HOST:PORT`.
    pub grpc: http::Uri,
    /// By what it is connected to, where it serves by TLS.
    pub tls: Option<Client>,
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
    /// How many events a second.
    pub rates: Rates,
}

/// Bounds on gRPC connections.
#[derive(Debug, Clone, Copy)]
pub struct GrpcLimits {
    /// Those that may be open at once; beyond it none is accepted.
    pub connections_max: NonZeroUsize,
    /// The same of one address; beyond it a connection is closed. `None` is no bound.
    pub connections_per_address: Option<NonZeroU32>,
    /// How long a connection may take to say its first word, after its TLS handshake.
    pub first_word_timeout: Duration,
}

/// Options of sockets whose worth depends on the network and the system.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SocketOptions {
    /// Whether other processes of the same user may listen on the port too, each with a queue of its own
    /// among which the system spreads those who come (`SO_REUSEPORT`).
    pub share_port: bool,
    /// The algorithm that decides how fast is sent, as the system names it (`TCP_CONGESTION`).
    pub congestion: Option<&'static str>,
    /// Whether what a client sends first is acknowledged at once (`TCP_QUICKACK`).
    pub quick_ack: bool,
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
    /// Descriptors that HTTP connections may take; the others are for the log, the links between nodes
    /// and the admin pages.
    pub descriptors_max: usize,
    /// Connections of one address; beyond it a connection is closed. `None` is no bound.
    pub connections_per_address: Option<NonZeroU32>,
    /// Connections accepted that have not sent a whole head yet; beyond it none is accepted.
    pub pending_max: usize,
    /// The same of one address; beyond it a connection is closed.
    pub pending_per_address: Option<NonZeroU32>,
    /// How fast connections are accepted.
    pub accepts: Option<Rate>,
    /// How long what was sent may stay unacknowledged before the peer counts as gone.
    pub peer_timeout: Duration,
    /// How long a client may leave its socket full before it is let go.
    pub stall_timeout: Duration,
}

/// Connections beyond the streams' bound: for publishes, refusals and everything short.
const EXTRA: usize = 1_000;

impl ConnectionLimits {
    /// How many HTTP connections there may be.
    pub(crate) fn places(&self) -> usize {
        self.streams_max.saturating_add(EXTRA).min(self.descriptors_max).max(1)
    }

    /// How many event streams there may be: fewer than places, so that somebody who comes when they are
    /// taken can still be told so.
    pub(crate) fn streams(&self) -> usize {
        let places = self.places();
        let kept = EXTRA.min(places.div_ceil(8));
        self.streams_max.min(places.saturating_sub(kept).max(1))
    }
}

/// How fast something may be done; `None` is no bound.
#[derive(Debug, Clone, Copy, Default)]
pub struct Rates {
    /// By one address.
    pub address: Option<Rate>,
    /// By one principal: whoever its token says it is.
    pub principal: Option<Rate>,
    /// To one stream, by all together.
    pub stream: Option<Rate>,
}

impl Rates {
    /// As fast as it goes.
    pub const UNBOUNDED: Self = Self { address: None, principal: None, stream: None };
}

/// Bounds on what one client may have; `None` is no bound.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClientLimits {
    /// Event streams of one address.
    pub streams_per_address: Option<NonZeroU32>,
    /// Event streams of one `client_id`.
    pub streams_per_client: Option<NonZeroU32>,
    /// Event streams of one principal.
    pub streams_per_principal: Option<NonZeroU32>,
    /// Event streams that carry one stream.
    pub subscribers_per_stream: Option<NonZeroU32>,
    /// How fast they may be opened.
    pub connects: Rates,
    /// How fast one address may acknowledge, ping and renew tokens.
    pub calls: Option<Rate>,
    /// How fast one address may bring a `client_id` of which nothing is kept: each takes room in the store.
    pub newcomers: Option<Rate>,
}

/// Who may say where a connection or request really comes from, and how.
#[derive(Debug, Clone, Default)]
pub struct Proxies {
    /// Where the proxies are. Nobody else is believed.
    pub trusted: Vec<Network>,
    /// Whether they begin a connection with a PROXY header.
    pub protocol: ProxyProtocol,
    /// In which field they note the hops of a request.
    pub header: ForwardedHeader,
}

/// Whether trusted proxies begin a connection with a PROXY header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ProxyProtocol {
    /// Never; such a header is no HTTP.
    #[default]
    Off,
    /// They may.
    Accept,
    /// They do, and there are no other connections.
    Require,
}

/// In which field trusted proxies note the hops of a request. Only that one is read: the other one they
/// pass on as the client sent it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded`, RFC 7239.
    Forwarded,
    /// In none.
    None,
}

/// How event streams behave.
#[derive(Debug, Clone, Copy)]
pub struct SseConfig {
    /// Time between heartbeats on a quiet stream.
    pub heartbeat: Duration,
    /// How often a client must ping that holds its stream by a lease.
    pub ping_interval: Duration,
    /// What `retry:` is drawn from.
    pub retry: RetryRange,
    /// How often open streams are told anew, if it has changed.
    pub retry_refresh: Duration,
    /// The same for `evergate.busy`.
    pub busy_retry: RetryRange,
    /// Streams on one connection.
    pub streams_max: usize,
    /// Key patterns on one connection.
    pub keys_max: usize,
    /// Whether clients that ask for it get their streams compressed.
    pub gzip: bool,
    /// How many events of each stream a kept position stays behind where the socket's own bytes are not
    /// the client's; `None` leaves it where it is.
    pub cursor_overlap: Option<NonZeroU32>,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_can_always_be_told_that_all_is_taken() {
        for (streams_max, descriptors_max) in
            [(16_000, usize::MAX), (16_000, 16_000), (100, 50), (1, 1 << 20), (10, 2), (1, 1)]
        {
            let limits = ConnectionLimits {
                streams_max,
                head_bytes_max: 0,
                head_timeout: Duration::ZERO,
                idle_timeout: Duration::ZERO,
                descriptors_max,
                pending_max: 1,
                connections_per_address: None,
                pending_per_address: None,
                accepts: None,
                peer_timeout: Duration::ZERO,
                stall_timeout: Duration::ZERO,
            };
            let (places, streams) = (limits.places(), limits.streams());
            assert!(places <= descriptors_max && streams <= streams_max && streams >= 1);
            assert!(streams < places || descriptors_max == 1, "{streams} streams in {places} places");
            assert!(descriptors_max < usize::MAX || streams == streams_max, "nothing is short");
        }
    }
}
