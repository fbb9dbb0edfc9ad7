//! Which connections the edge closes by itself, and which it must not.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evergate_domain::{AgreedLimits, Retention, RetryRange, StreamPolicies};
use evergate_edge::{
    BoundListeners, ClientLimits, ConnectionLimits, CorsOrigins, Edge, EdgeConfig, GrpcLimits, MemoryGauge,
    MemoryLimit, ProducerBindings, Proxies, PublishLimits, Rates, RunningEdge, SocketOptions, SseConfig,
};
use evergate_eventlog::{MemoryCursors, MemoryLog, SystemClock};
use evergate_fanout::HubConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};

const HEAD: Duration = Duration::from_millis(300);
const IDLE: Duration = Duration::from_millis(900);
/// Only for what never happens.
const TOO_LONG: Duration = Duration::from_secs(20);

/// Nothing is ever taken.
#[derive(Debug)]
struct Plenty;

impl MemoryGauge for Plenty {
    fn used(&self) -> Option<u64> {
        Some(0)
    }
}

async fn edge() -> (RunningEdge, SocketAddr) {
    let policies = Arc::new(StreamPolicies::open(Retention::FOREVER));
    let retry = RetryRange::new(Duration::from_secs(1), Duration::from_secs(2)).expect("ordered");
    let any = "127.0.0.1:0".parse().expect("an address");
    let config = EdgeConfig {
        node: "n".to_owned(),
        region: "r".to_owned(),
        http_tls: None,
        grpc_tls: None,
        producers: ProducerBindings::default(),
        http: any,
        grpc: any,
        policies: Arc::clone(&policies),
        grpc_connections: GrpcLimits {
            connections_max: std::num::NonZeroUsize::new(100).expect("a hundred"),
            connections_per_address: None,
            first_word_timeout: Duration::from_secs(5),
        },
        publish: PublishLimits {
            payload_bytes_max: 1 << 18,
            batch_events_max: 1000,
            batch_bytes_max: 1 << 20,
            stream_window: 64,
            rates: Rates::UNBOUNDED,
        },
        connections: ConnectionLimits {
            streams_max: 10,
            head_bytes_max: 16 << 10,
            head_timeout: HEAD,
            idle_timeout: IDLE,
            descriptors_max: 100,
            pending_max: 100,
            connections_per_address: None,
            pending_per_address: None,
            accepts: None,
            peer_timeout: TOO_LONG,
            stall_timeout: TOO_LONG,
        },
        sockets: SocketOptions::default(),
        clients: ClientLimits::default(),
        agreed_limits: AgreedLimits::default(),
        proxies: Proxies::default(),
        tracer: evergate_telemetry::Tracer::off(),
        sse: SseConfig {
            heartbeat: HEAD / 2,
            ping_interval: TOO_LONG,
            retry,
            retry_refresh: TOO_LONG,
            busy_retry: retry,
            streams_max: 16,
            keys_max: 64,
            gzip: true,
            cursor_overlap: None,
        },
        access: None,
        cors: CorsOrigins::None,
        hub: HubConfig::default(),
        shards: 2,
        peers: Vec::new(),
        placement: None,
        memory: MemoryLimit { bytes_max: None, gauge: Arc::new(Plenty) },
        geographer: None,
        links: None,
        demo: false,
    };
    let log = Arc::new(MemoryLog::new(policies, Arc::new(SystemClock)));
    let cursors = Arc::new(MemoryCursors::new(Arc::new(SystemClock)));
    let edge = Edge::bind(config, BoundListeners::default(), log, cursors).await.expect("free ports");
    let http = edge.http_addr();
    (edge.start(), http)
}

/// Reads until the server closes, and says how long that took.
async fn closed_after(stream: &mut TcpStream) -> Duration {
    let begun = Instant::now();
    let mut all = Vec::new();
    // A reset is an end too.
    let _ = timeout(TOO_LONG, stream.read_to_end(&mut all)).await.expect("the server closes");
    begun.elapsed()
}

#[tokio::test]
async fn a_stream_outlives_every_timeout_for_requests() {
    let (edge, http) = edge().await;
    let mut stream = TcpStream::connect(http).await.expect("connects");
    let request = b"GET /v1/streams/s/events HTTP/1.1\r\nHost: x\r\n\r\n";
    stream.write_all(request).await.expect("sends");
    // Ten heartbeats are five times the time for a head, and longer than an idle connection lives.
    let (mut seen, mut beats) = (Vec::new(), 0);
    while beats < 10 {
        let mut more = [0; 1024];
        let n = timeout(TOO_LONG, stream.read(&mut more)).await.expect("a heartbeat").expect("reads");
        assert!(n > 0, "the stream ended after {beats} heartbeats");
        seen.extend_from_slice(&more[..n]);
        beats = seen.windows(7).filter(|bytes| bytes == b"2\r\n:\n\r\n").count();
    }
    drop(stream);
    edge.close().await;
}

#[tokio::test]
async fn a_head_that_does_not_come_ends_the_connection() {
    let (edge, http) = edge().await;
    for begun in [&b""[..], b"P", b"GET / HT", b"GET /v1/streams/s/events HTTP/1.1\r\nHost: x\r\n"] {
        let mut stream = TcpStream::connect(http).await.expect("connects");
        stream.write_all(begun).await.expect("sends");
        let took = closed_after(&mut stream).await;
        assert!(took >= HEAD / 2, "{took:?} for {begun:?}");
    }
    edge.close().await;
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time_and_not_before() {
    let (edge, http) = edge().await;
    let mut stream = TcpStream::connect(http).await.expect("connects");
    for _ in 0..2 {
        stream.write_all(b"GET /v1/route HTTP/1.1\r\nHost: x\r\n\r\n").await.expect("sends");
        let mut answer = [0; 1024];
        let n = timeout(TOO_LONG, stream.read(&mut answer)).await.expect("an answer").expect("reads");
        assert!(answer[..n].starts_with(b"HTTP/1.1 200"));
    }
    let took = closed_after(&mut stream).await;
    assert!(took > HEAD, "{took:?} is less than an idle connection's time");
    edge.close().await;
}
