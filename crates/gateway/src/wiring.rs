//! From the configuration to what each part is told.
//!
//! The one place that knows both sides: no part below knows how it is configured.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use evergate_domain::StreamPolicies;
use evergate_edge::{
    ClientLimits, ConnectionLimits, EdgeConfig, ForwardedHeader, PeerNode, Proxies, ProxyProtocol,
    PublishLimits, SseConfig,
};
use evergate_eventlog::{
    CursorStore, DiskCursors, DiskLog, DiskOptions, EventLog, MemoryCursors, MemoryLog, RedisLog,
    RedisOptions, SentinelLogin, SystemClock,
};
use evergate_fanout::HubConfig;

use crate::config::{Config, CorsOrigins, LogChoice};
use crate::node::Role;

/// What holds for which stream.
pub(crate) fn policies(config: &Config) -> StreamPolicies {
    StreamPolicies {
        closed: !config.streams.create,
        default: config.streams.retention,
        named: config.streams.listed.clone().into_iter().collect(),
    }
}

/// What this process keeps, or has kept for it.
pub(crate) struct Storage {
    pub(crate) log: Arc<dyn EventLog>,
    pub(crate) cursors: Arc<dyn CursorStore>,
}

/// The clients' places, beside the disk log in its folder.
const CURSORS_FILE: &str = "cursors.redb";

/// Opens the log that was chosen, and the cursor store that belongs to it.
pub(crate) async fn open_storage(config: &Config, policies: Arc<StreamPolicies>) -> anyhow::Result<Storage> {
    let clock = Arc::new(SystemClock);
    match &config.log {
        LogChoice::Memory => Ok(Storage {
            log: Arc::new(MemoryLog::new(policies, Arc::clone(&clock) as _)),
            cursors: Arc::new(MemoryCursors::new(clock)),
        }),
        LogChoice::Disk(directory) => {
            let options =
                DiskOptions { reserve_bytes: config.disk_reserve_bytes, ..DiskOptions::new(directory) };
            let file = directory.join(CURSORS_FILE);
            // It reads the end of the journal, which may take a moment.
            let opening = tokio::task::spawn_blocking(move || {
                let log = DiskLog::open(&options, policies, Arc::clone(&clock) as _)?;
                let cursors = DiskCursors::open(&file, clock)?;
                anyhow::Ok(Storage { log: Arc::new(log), cursors: Arc::new(cursors) })
            });
            opening.await?
        }
        LogChoice::Redis(url) => {
            let options = RedisOptions {
                levels: config.redis.levels.clone(),
                confirmations: config.redis.confirmations,
                ca: config.redis.ca_file.as_deref().map(read).transpose()?,
                sentinel_login: config.redis.sentinel_login_file.as_deref().map(login).transpose()?,
                ..RedisOptions::new(url.clone())
            };
            let log = RedisLog::open(options, policies, clock).await?;
            let cursors = Arc::new(log.cursors());
            Ok(Storage { log: Arc::new(log), cursors })
        }
    }
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}

/// Reads a file that holds `USER:PASSWORD`.
fn login(path: &Path) -> anyhow::Result<SentinelLogin> {
    let text = String::from_utf8(read(path)?).ok();
    let login = text.as_deref().map(str::trim).and_then(|text| text.split_once(':'));
    let (user, password) = login.with_context(|| format!("{} holds no USER:PASSWORD", path.display()))?;
    Ok(SentinelLogin { user: user.to_owned(), password: password.to_owned() })
}

/// What the edge of this process is told. HTTP may take so many `descriptors`.
pub(crate) fn edge(
    config: &Config,
    role: Role,
    policies: Arc<StreamPolicies>,
    descriptors: usize,
) -> EdgeConfig {
    EdgeConfig {
        node: config.node.clone(),
        region: config.region.clone(),
        http: config.http.address,
        grpc: config.grpc_address,
        policies,
        publish: PublishLimits {
            payload_bytes_max: config.publish.payload_bytes_max.get(),
            batch_events_max: config.publish.batch_events_max.get(),
            batch_bytes_max: config.publish.batch_bytes_max.get(),
            stream_window: config.publish.stream_window.get(),
            rate: config.limits.publishes,
        },
        connections: ConnectionLimits {
            streams_max: config.http.connections_max.get(),
            head_bytes_max: config.http.head_bytes_max,
            head_timeout: config.http.head_timeout,
            idle_timeout: config.http.idle_timeout,
            descriptors_max: descriptors,
            pending_max: config.limits.pending_max.get(),
            pending_per_address: config.limits.pending_per_address,
            accepts: config.limits.accepts,
            peer_timeout: config.http.peer_timeout,
            stall_timeout: config.http.stall_timeout,
        },
        clients: ClientLimits {
            streams_per_address: config.limits.streams_per_address,
            streams_per_client: config.limits.streams_per_client,
            connects: config.limits.connects,
        },
        proxies: Proxies {
            trusted: config.http.trusted_proxies.clone(),
            protocol: match config.http.proxy_protocol {
                "accept" => ProxyProtocol::Accept,
                "require" => ProxyProtocol::Require,
                _ => ProxyProtocol::Off,
            },
            header: match config.http.forwarded_header {
                "forwarded" => ForwardedHeader::Forwarded,
                "none" => ForwardedHeader::None,
                _ => ForwardedHeader::XForwardedFor,
            },
        },
        sse: SseConfig {
            heartbeat: config.sse.heartbeat,
            ping_interval: config.sse.ping_interval,
            retry: config.sse.retry,
            busy_retry: config.sse.busy_retry,
            streams_max: config.sse.streams_max.get(),
            keys_max: config.sse.keys_max.get(),
            gzip: config.sse.gzip,
        },
        cors: match &config.http.cors_origins {
            CorsOrigins::Any => evergate_edge::CorsOrigins::Any,
            CorsOrigins::Listed(origins) if origins.is_empty() => evergate_edge::CorsOrigins::None,
            CorsOrigins::Listed(origins) => evergate_edge::CorsOrigins::Listed(origins.clone()),
        },
        hub: HubConfig {
            ring_events: config.fanout.ring_events.get(),
            ring_bytes: config.fanout.ring_bytes.get() as u64,
            replay_bytes: config.fanout.replay_cache_bytes.get() as u64,
            stall: config.http.stall_timeout,
            trail_interval: config.cursor_flush_interval,
            slow: Arc::new(config.fanout.slow_readers.clone()),
            ..HubConfig::default()
        },
        shards: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        peers: config
            .peers
            .iter()
            .map(|peer| PeerNode { node: peer.node.clone(), grpc: peer.grpc.clone() })
            .collect(),
        placement: None,
        demo: role == Role::Dev,
    }
}
