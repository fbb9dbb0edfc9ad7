//! From the configuration to what each part is told.
//!
//! The one place that knows both sides: no part below knows how it is configured.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use evergate_access::{Grants, Rules};
use evergate_control::{AdminToken, GroupSettings, Seeds, Timing};
use evergate_domain::cluster::Located;
use evergate_domain::{AgreedLimits, AgreedPolicies, SlowReaders, StreamLevels, StreamPolicies};
use evergate_edge::{
    AccessConfig, ClientLimits, ConnectionLimits, EdgeConfig, ForwardedHeader, Geographer, GrpcLimits,
    PeerNode, ProducerBinding, ProducerBindings, Proxies, ProxyProtocol, PublishLimits, SocketOptions,
    SseConfig,
};
use evergate_eventlog::{
    CursorStore, DiskCursors, DiskLog, DiskOptions, EventLog, MemoryCursors, MemoryLog, RedisLog,
    RedisOptions, SentinelLogin, SystemClock,
};
use evergate_fanout::HubConfig;
use evergate_telemetry::Tracer;
use evergate_tls::{
    CertificateFiles, Client, ClientCertificates, ClientSettings, Protocol, Resumption, Roots, Server,
    ServerSettings, Version,
};

use crate::certificates::Certificates;
use crate::config::{Access, Config, CorsOrigins, LogChoice, Peer, Rates};
use crate::geoip::Geoip;
use crate::node::Role;
use crate::{keys, memory};

/// What holds for which stream.
pub(crate) fn policies(config: &Config) -> StreamPolicies {
    StreamPolicies {
        closed: !config.streams.create,
        default: config.streams.retention,
        named: config.streams.listed.clone().into_iter().collect(),
        agreed: AgreedPolicies::default(),
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
                levels: StreamLevels { agreed: policies.agreed.clone(), ..config.redis.levels.clone() },
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

/// Who is let in.
pub(crate) async fn access(config: &Config) -> anyhow::Result<Option<AccessConfig>> {
    let Some(access) = &config.access else { return Ok(None) };
    let Access { anonymous_subscribe, anonymous_publish, .. } = access.clone();
    Ok(Some(AccessConfig {
        rules: Rules {
            issuers: access.issuers.clone(),
            audiences: access.audiences.clone(),
            required: access.required_claims.iter().cloned().collect(),
            leeway: access.leeway.as_secs(),
            claim: access.claim.clone(),
        },
        sources: keys::sources(&access.keys).await.context("access.keys")?,
        keys_refresh: access.keys_refresh,
        keys_stale_max: access.keys_stale_max,
        anonymous: Arc::new(Grants::new(anonymous_subscribe, anonymous_publish)?),
        reauth_before: access.reauth_before,
        cookie: access.cookie.clone(),
        query_token: access.query_token,
    }))
}

fn peer_node(peer: &Peer, certificates: &Certificates) -> PeerNode {
    let tls = certificates.links().filter(|_| peer.grpc.scheme_str() == Some("https"));
    PeerNode { node: peer.node.clone(), grpc: peer.grpc.clone(), tls }
}

/// What the edge of this process is told. HTTP may take so many `descriptors`.
pub(crate) fn edge(
    config: &Config,
    role: Role,
    policies: Arc<StreamPolicies>,
    descriptors: usize,
    access: Option<AccessConfig>,
    certificates: &Certificates,
) -> EdgeConfig {
    let agreed = policies.agreed.clone();
    EdgeConfig {
        node: config.node.clone(),
        region: config.region.clone(),
        http: config.http.address,
        grpc: config.grpc.address,
        http_tls: certificates.http(),
        grpc_tls: certificates.grpc(),
        producers: ProducerBindings::new(
            config
                .publish
                .producers
                .iter()
                .map(|bound| ProducerBinding {
                    identity: bound.identity.clone(),
                    producer: bound.producer.clone(),
                })
                .collect(),
        ),
        policies,
        publish: PublishLimits {
            payload_bytes_max: config.publish.payload_bytes_max.get(),
            batch_events_max: config.publish.batch_events_max.get(),
            batch_bytes_max: config.publish.batch_bytes_max.get(),
            stream_window: config.publish.stream_window.get(),
            rates: rates(config.limits.publishes),
        },
        grpc_connections: GrpcLimits {
            connections_max: config.grpc.connections_max,
            connections_per_address: config.limits.grpc_connections_per_address,
            first_word_timeout: config.http.head_timeout,
        },
        connections: ConnectionLimits {
            streams_max: config.http.connections_max.get(),
            head_bytes_max: config.http.head_bytes_max,
            head_timeout: config.http.head_timeout,
            idle_timeout: config.http.idle_timeout,
            descriptors_max: descriptors,
            pending_max: config.limits.pending_max.get(),
            connections_per_address: config.limits.connections_per_address,
            pending_per_address: config.limits.pending_per_address,
            accepts: config.limits.accepts,
            peer_timeout: config.http.peer_timeout,
            stall_timeout: config.http.stall_timeout,
        },
        sockets: SocketOptions {
            share_port: config.http.share_port,
            congestion: Some(config.http.congestion).filter(|name| *name != "system"),
            quick_ack: config.http.quick_ack,
        },
        clients: ClientLimits {
            streams_per_address: config.limits.streams_per_address,
            streams_per_client: config.limits.streams_per_client,
            streams_per_principal: config.limits.streams_per_principal,
            subscribers_per_stream: config.limits.subscribers_per_stream,
            connects: rates(config.limits.connects),
            calls: config.limits.calls,
            newcomers: config.limits.newcomers,
        },
        agreed_limits: AgreedLimits::default(),
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
            retry_refresh: config.sse.retry_refresh,
            busy_retry: config.sse.busy_retry,
            streams_max: config.sse.streams_max.get(),
            keys_max: config.sse.keys_max.get(),
            gzip: config.sse.gzip,
            cursor_overlap: config.cursors.overlap,
        },
        cors: match &config.http.cors_origins {
            CorsOrigins::Any => evergate_edge::CorsOrigins::Any,
            CorsOrigins::Listed(origins) if origins.is_empty() => evergate_edge::CorsOrigins::None,
            CorsOrigins::Listed(origins) => evergate_edge::CorsOrigins::Listed(origins.clone()),
        },
        access,
        hub: HubConfig {
            ring_events: config.fanout.ring_events.get(),
            ring_bytes: config.fanout.ring_bytes.get() as u64,
            replay_bytes: config.fanout.replay_cache_bytes.get() as u64,
            stall: config.http.stall_timeout,
            trail_interval: config.cursors.flush_interval,
            goaway_lead: config.shutdown.lead,
            retry: config.sse.retry,
            slow: Arc::new(SlowReaders { agreed, ..config.fanout.slow_readers.clone() }),
            ..HubConfig::default()
        },
        shards: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
        peers: config.cluster.peers.iter().map(|peer| peer_node(peer, certificates)).collect(),
        placement: None,
        tracer: Tracer::off(),
        memory: memory::limit(config.memory_bytes_max),
        geographer: None,
        links: certificates.links().filter(|_| config.grpc.tls.is_some()),
        demo: role == Role::Dev,
    }
}

fn rates(Rates { address, principal, stream }: Rates) -> evergate_edge::Rates {
    evergate_edge::Rates { address, principal, stream }
}

/// What tells where clients belong, if anything does.
pub(crate) fn geographer(config: &Config, geoip: Option<Geoip>) -> Option<Geographer> {
    let rules = config.cluster.geography.clone();
    (!rules.is_empty()).then(|| Geographer {
        rules,
        locate: match geoip {
            Some(geoip) => Arc::new(move |address| geoip.locate(address)),
            None => Arc::new(|_| Located::default()),
        },
    })
}

/// What a control node is told, and what it proves itself by.
pub(crate) struct ControlParts {
    pub(crate) settings: GroupSettings,
    pub(crate) client: Option<Client>,
    pub(crate) server: Option<Server>,
    /// What operators prove themselves by.
    pub(crate) token: Option<AdminToken>,
}

/// How long a handshake between control nodes may take.
const HANDSHAKE: Duration = Duration::from_secs(2);
/// The largest command that a control group takes.
const COMMAND_BYTES_MAX: usize = 256 << 10;
/// The name in `control.peers` that stands for all nodes behind one address.
const ANY: &str = "any";

/// What a control node is told that listens at `port`.
pub(crate) fn control(config: &Config, port: u16) -> anyhow::Result<ControlParts> {
    let control = &config.control;
    let id = match control.id {
        0 => id_of(&config.node)?,
        id => id,
    };
    let seeds = match control.peers.as_slice() {
        [] => Seeds::Nobody,
        [one] if one.node == ANY => Seeds::Named { name: place(&one.grpc)?, nodes: control.nodes.get() },
        peers => {
            let peers =
                peers.iter().map(|peer| Ok::<_, anyhow::Error>((id_in(&peer.node)?, place(&peer.grpc)?)));
            Seeds::Listed(peers.collect::<anyhow::Result<_>>()?)
        }
    };
    // Whoever is listed is reached where the list says.
    let listed = match &seeds {
        Seeds::Listed(peers) => peers.get(&id).cloned(),
        Seeds::Named { .. } | Seeds::Nobody => None,
    };
    let settings = GroupSettings {
        cluster: control.cluster.clone(),
        id,
        dir: control.data_dir.clone().context("control.data_dir: a control node needs a folder")?,
        address: listed.unwrap_or_else(|| host_and_port(&control.host, port)),
        seeds,
        identities: control.raft_identities.clone(),
        timing: Timing {
            heartbeat: control.heartbeat,
            election_min: control.election_min,
            election_max: control.election_max,
            ..Timing::default()
        },
        command_bytes_max: COMMAND_BYTES_MAX,
        snapshot_entries: control.snapshot_entries,
    };
    let files = (&control.certificate_file, &control.key_file, &control.ca_file);
    let (client, server) = match files {
        (None, None, None) => (None, None),
        (Some(certificate), Some(key), Some(ca)) => {
            let files = CertificateFiles { certificate: certificate.clone(), key: key.clone() };
            let client = Client::load(ClientSettings {
                roots: Roots::File(ca.clone()),
                identity: Some(files.clone()),
                protocols: vec![Protocol::Http2],
                handshake_timeout: HANDSHAKE,
            })?;
            let server = Server::load(ServerSettings {
                certificates: vec![files],
                clients: ClientCertificates::Required(vec![ca.clone()]),
                resumption: Resumption::None,
                oldest: Version::Tls13,
                protocols: vec![Protocol::Http2],
                handshake_timeout: HANDSHAKE,
            })?;
            (Some(client), Some(server))
        }
        _ => anyhow::bail!(
            "control.certificate_file, control.key_file and control.ca_file are given together, or none"
        ),
    };
    let token = |path| admin_token("control.admin_token_file", path);
    let token = control.admin_token_file.as_deref().map(token).transpose()?;
    Ok(ControlParts { settings, client, server, token })
}

/// Reads a file that holds an operator's token, which a setting names.
pub(crate) fn admin_token(setting: &str, path: &Path) -> anyhow::Result<AdminToken> {
    let bytes = read(path).with_context(|| setting.to_owned())?;
    let text = String::from_utf8(bytes).unwrap_or_default();
    let text = text.trim();
    // Shorter ones can be guessed.
    let fits = text.len() >= 16 && text.bytes().all(|byte| byte.is_ascii_graphic());
    anyhow::ensure!(
        fits,
        "{setting}: {} holds no token of at least 16 characters without spaces",
        path.display()
    );
    Ok(AdminToken::new(text))
}

/// `HOST:PORT`; an address of IPv6 is put into brackets.
pub(crate) fn host_and_port(host: &str, port: u16) -> String {
    match host.parse::<std::net::Ipv6Addr>() {
        Ok(address) => format!("[{address}]:{port}"),
        Err(_) => format!("{host}:{port}"),
    }
}

/// The number at the end of a name, counted from 1: the first of a set is called `…-0`.
fn id_of(node: &str) -> anyhow::Result<u64> {
    let number = node.rsplit('-').next().and_then(|end| end.parse::<u64>().ok());
    let id = number.and_then(|number| number.checked_add(1));
    id.with_context(|| {
        format!("control.id: give one, for the node's name {node:?} does not end with a number")
    })
}

fn id_in(name: &str) -> anyhow::Result<u64> {
    let id = name.parse().ok().filter(|id| *id > 0);
    id.with_context(|| format!("control.peers: {name:?} is no number of a control node, nor {ANY:?}"))
}

/// `HOST:PORT` of an address.
fn place(address: &http::Uri) -> anyhow::Result<String> {
    let authority = address.authority().filter(|authority| authority.port_u16().is_some());
    let authority = authority.with_context(|| format!("control.peers: {address} names no port"))?;
    Ok(authority.to_string())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_control_nodes_number_is_at_the_end_of_its_name() {
        assert_eq!(id_of("control-0").unwrap(), 1);
        assert_eq!(id_of("evergate-control-12").unwrap(), 13);
        for name in ["control", "control-", "control-x", "control-18446744073709551615"] {
            assert!(id_of(name).unwrap_err().to_string().contains("control.id"), "{name}");
        }
    }

    #[test]
    fn peers_of_a_group_are_numbers_with_ports() {
        assert_eq!(id_in("3").unwrap(), 3);
        assert!(id_in("0").is_err() && id_in("edge-1").is_err());
        assert_eq!(place(&"http://[::1]:8083/".parse().unwrap()).unwrap(), "[::1]:8083");
        assert!(place(&"http://control".parse().unwrap()).is_err());
    }
}
