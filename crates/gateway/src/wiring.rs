//! From the configuration to what each part is told.
//!
//! The one place that knows both sides: no part below knows how it is configured.

use std::sync::Arc;

use evergate_domain::StreamPolicies;
use evergate_edge::{ConnectionLimits, EdgeConfig, PublishLimits, SseConfig};
use evergate_eventlog::{DiskLog, DiskOptions, EventLog, MemoryLog, RedisLog, RedisOptions, SystemClock};
use evergate_fanout::HubConfig;

use crate::config::{Config, CorsOrigins, LogChoice};

/// What holds for which stream.
pub(crate) fn policies(config: &Config) -> StreamPolicies {
    StreamPolicies {
        closed: !config.streams.create,
        default: config.streams.retention,
        named: config.streams.listed.clone().into_iter().collect(),
    }
}

/// Opens the log that was chosen.
pub(crate) async fn open_log(
    config: &Config,
    policies: Arc<StreamPolicies>,
) -> anyhow::Result<Arc<dyn EventLog>> {
    let clock = Arc::new(SystemClock);
    match &config.log {
        LogChoice::Memory => Ok(Arc::new(MemoryLog::new(policies, clock))),
        LogChoice::Disk(directory) => {
            let options =
                DiskOptions { reserve_bytes: config.disk_reserve_bytes, ..DiskOptions::new(directory) };
            // It reads the end of the journal, which may take a moment.
            let opening = tokio::task::spawn_blocking(move || DiskLog::open(&options, policies, clock));
            Ok(Arc::new(opening.await??))
        }
        LogChoice::Redis(url) => {
            let options = RedisOptions { level: config.redis_level, ..RedisOptions::new(url.clone()) };
            Ok(Arc::new(RedisLog::open(options, policies, clock).await?))
        }
    }
}

/// What the edge of a development process is told.
pub(crate) fn dev_edge(config: &Config, policies: Arc<StreamPolicies>) -> EdgeConfig {
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
        },
        connections: ConnectionLimits {
            streams_max: config.http.connections_max.get(),
            head_bytes_max: config.http.head_bytes_max,
            head_timeout: config.http.head_timeout,
            idle_timeout: config.http.idle_timeout,
        },
        sse: SseConfig {
            heartbeat: config.sse.heartbeat,
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
            slow: Arc::new(config.fanout.slow_readers.clone()),
            ..HubConfig::default()
        },
        shards: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        demo: true,
    }
}
