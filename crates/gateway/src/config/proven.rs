//! The proven configuration: what the rest of the process works with.
//!
//! Every value here has been read, lies in its range and agrees with the others. Nothing below
//! this type reads a file, the environment or a flag.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use evergate_access::Grant;
use evergate_domain::cluster::{Geography, GeographyRule};
use evergate_domain::{
    AgreedPolicies, ByStream, Level, Network, Rate, Retention, RetryRange, SlowReader, SlowReaders,
    StreamLevels, StreamPattern,
};

use super::file::FileSource;
use super::flags::{self, FlagSource};
use super::kind::check_place;
use super::layer::{Key, Layer};
use super::mistake::{Mistake, Mistakes, Place};
use super::registry::SETTINGS;
use super::value::{CorsOrigins, KeysAt, LogChoice, Peer, Producer, Value};
use super::{environment, rules};

/// Everything a process of Evergate is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    pub node: String,
    pub region: String,
    pub log: LogChoice,
    /// Where to announce that all listeners are bound, if anybody wants to know.
    pub ready_file: Option<PathBuf>,
    pub http: Http,
    pub grpc: Grpc,
    pub tls: Tls,
    pub admin_address: SocketAddr,
    /// What the admin page is shown for, if anybody may see it.
    pub admin_token_file: Option<PathBuf>,
    pub cluster: Cluster,
    pub control: Control,
    pub sse: Sse,
    pub publish: Publish,
    pub limits: Limits,
    pub streams: Streams,
    pub fanout: Fanout,
    /// `None` lets everybody in.
    pub access: Option<Access>,
    pub cursors: Cursors,
    pub disk_reserve_bytes: u64,
    pub redis: Redis,
    pub shutdown: Shutdown,
    /// Where a successor may ask for the listeners.
    pub upgrade_socket: Option<PathBuf>,
    pub runtime_threads: Threads,
    /// `None` traces nothing.
    pub telemetry: Option<Telemetry>,
    /// 0 takes the container's limit.
    pub memory_bytes_max: u64,
    pub log_output: LogOutput,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Http {
    pub address: SocketAddr,
    pub head_bytes_max: usize,
    pub head_timeout: Duration,
    pub idle_timeout: Duration,
    pub connections_max: NonZeroUsize,
    pub cors_origins: CorsOrigins,
    pub peer_timeout: Duration,
    pub stall_timeout: Duration,
    pub share_port: bool,
    pub congestion: &'static str,
    pub quick_ack: bool,
    pub trusted_proxies: Vec<Network>,
    pub proxy_protocol: &'static str,
    pub forwarded_header: &'static str,
    pub tls: Option<Clients>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Grpc {
    pub address: SocketAddr,
    /// Connections that may be open at once.
    pub connections_max: NonZeroUsize,
    pub tls: Option<Clients>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cluster {
    /// The other edges.
    pub peers: Vec<Peer>,
    /// By which roots nodes are judged.
    pub ca_file: Option<PathBuf>,
    /// What this node shows to the others, and the key.
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// The control nodes that it follows, all by TLS or none.
    pub control: Vec<http::Uri>,
    /// Which region clients belong to.
    pub geography: Geography,
    /// By which database they are located.
    pub geoip_file: Option<PathBuf>,
    /// Where the policies that are agreed on are kept.
    pub policies_file: Option<PathBuf>,
    pub zone: String,
    pub host: String,
    pub weight: u64,
    pub admits_per_second: u64,
}

/// What a listener that speaks TLS asks of its clients.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Clients {
    Nothing,
    /// Who shows a certificate has to have it from a root in this file.
    Optional(PathBuf),
    /// Everybody has to show one.
    Required(PathBuf),
}

/// What holds for every listener that speaks TLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tls {
    /// Certificates, and the key of each.
    pub certificates: Vec<(PathBuf, PathBuf)>,
    /// Whether nothing before 1.3 is spoken.
    pub only_1_3: bool,
    pub resumption: Resumption,
    pub handshake_timeout: Duration,
    pub reload_interval: Duration,
}

/// How clients that come back are known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Resumption {
    /// With the file of the secrets, if there is one.
    Tickets(Option<PathBuf>),
    /// So many at the most, and how much each may bring before its handshake is over.
    Sessions {
        max: NonZeroUsize,
        early_data_bytes_max: u32,
    },
    Off,
}

/// Who is let in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Access {
    pub keys: Vec<KeysAt>,
    pub keys_refresh: Duration,
    pub keys_stale_max: Duration,
    pub issuers: Vec<String>,
    pub audiences: Vec<String>,
    pub required_claims: Vec<String>,
    pub claim: String,
    pub leeway: Duration,
    pub reauth_before: Duration,
    pub anonymous_subscribe: Vec<Grant>,
    pub anonymous_publish: Vec<Grant>,
    pub cookie: Option<String>,
    pub query_token: bool,
}

/// What a control node is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Control {
    pub cluster: String,
    /// 0 takes it from the node's name.
    pub id: u64,
    pub data_dir: Option<PathBuf>,
    pub address: SocketAddr,
    pub host: String,
    pub peers: Vec<Peer>,
    pub nodes: NonZeroUsize,
    pub heartbeat: Duration,
    pub election_min: Duration,
    pub election_max: Duration,
    pub snapshot_entries: u64,
    pub certificate_file: Option<PathBuf>,
    pub key_file: Option<PathBuf>,
    pub ca_file: Option<PathBuf>,
    /// What certificates of control nodes are for; empty for the hosts of the members.
    pub raft_identities: Vec<String>,
    pub admin_token_file: Option<PathBuf>,
}

/// How fast something may be done by one address, by one principal and to one stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rates {
    pub address: Option<Rate>,
    pub principal: Option<Rate>,
    pub stream: Option<Rate>,
}

/// `None` is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limits {
    pub pending_max: NonZeroUsize,
    pub connections_per_address: Option<NonZeroU32>,
    pub pending_per_address: Option<NonZeroU32>,
    pub accepts: Option<Rate>,
    pub streams_per_address: Option<NonZeroU32>,
    pub streams_per_client: Option<NonZeroU32>,
    pub streams_per_principal: Option<NonZeroU32>,
    pub subscribers_per_stream: Option<NonZeroU32>,
    pub grpc_connections_per_address: Option<NonZeroU32>,
    pub connects: Rates,
    pub newcomers: Option<Rate>,
    pub publishes: Rates,
    pub calls: Option<Rate>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Redis {
    pub levels: StreamLevels,
    pub confirmations: NonZeroU32,
    pub ca_file: Option<PathBuf>,
    pub sentinel_login_file: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Sse {
    pub heartbeat: Duration,
    pub ping_interval: Duration,
    pub retry: RetryRange,
    pub retry_refresh: Duration,
    pub busy_retry: RetryRange,
    pub streams_max: NonZeroUsize,
    pub keys_max: NonZeroUsize,
    pub gzip: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Publish {
    pub payload_bytes_max: NonZeroUsize,
    pub batch_events_max: NonZeroUsize,
    pub batch_bytes_max: NonZeroUsize,
    pub stream_window: NonZeroUsize,
    /// Who may publish as which producer.
    pub producers: Vec<Producer>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Streams {
    /// Whether a stream comes into being with its first use.
    pub create: bool,
    /// Retention of every stream not listed.
    pub retention: Retention,
    /// Streams with a table of their own, with their retention.
    pub listed: BTreeMap<StreamPattern, Retention>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fanout {
    pub ring_events: NonZeroUsize,
    pub ring_bytes: NonZeroUsize,
    pub replay_cache_bytes: NonZeroUsize,
    pub slow_readers: SlowReaders,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cursors {
    pub flush_interval: Duration,
    /// Events; `None` keeps no hint where one would have to stay behind.
    pub overlap: Option<NonZeroU32>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shutdown {
    /// From failing readiness to no longer accepting.
    pub grace: Duration,
    pub drain: Duration,
    /// From a stream's `goaway` to its end.
    pub lead: Duration,
    /// Streams ended a second at the most.
    pub pace: Option<NonZeroUsize>,
    pub deadline: Duration,
}

impl Shutdown {
    /// What of the deadline is kept for the time after the last stream.
    pub(crate) fn reserve(&self) -> Duration {
        self.deadline.mul_f64(0.2).min(Duration::from_secs(10))
    }

    /// The window over which so many streams are ended: longer than `drain` if the pace asks for it, or
    /// the cluster wishes it, but within the deadline.
    pub(crate) fn window(&self, streams: usize, wished: Duration) -> Duration {
        // They are told to go over what is left of the window without the lead.
        let paced = self.pace.map_or(Duration::ZERO, |pace| {
            Duration::from_secs_f64(streams as f64 / pace.get() as f64) + self.lead
        });
        let wished = if wished.is_zero() { wished } else { wished + self.lead };
        self.drain.max(paced.max(wished).min(self.deadline.mul_f64(0.6)))
    }
}

/// Where traces go, and which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Telemetry {
    pub endpoint: http::Uri,
    pub ca_file: Option<PathBuf>,
    /// Of those that begin here; 0 is none.
    pub sample_one_in: u64,
    /// Whether what others decided is decided anew.
    pub resample: bool,
    pub queue_spans: NonZeroUsize,
    pub export_timeout: Duration,
    /// Where this process stands, if it was told: what it is called by itself is nobody's region.
    pub region: Option<String>,
    /// The same of its zone.
    pub zone: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LogOutput {
    pub format: LogFormat,
    /// Filter directives that are known to be valid.
    pub directives: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Threads {
    /// As many as the processor quota of the container, or the machine, has cores.
    FromQuota,
    Fixed(NonZeroUsize),
}

/// Which defaults apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defaults {
    General,
    Dev,
}

/// Everything that is said about the settings, not read yet.
#[derive(Debug, Clone)]
pub(crate) struct Sources {
    pub defaults: Defaults,
    pub file: Option<FileSource>,
    /// The whole environment; what is not ours is skipped.
    pub environment: Vec<(OsString, OsString)>,
    pub flags: Vec<FlagSource>,
}

impl Config {
    /// Proves the configuration: flags over environment, environment over file, file over
    /// defaults. On failure, tells every mistake there is.
    pub(crate) fn prove(sources: &Sources) -> Result<Self, Mistakes> {
        let mut mistakes = Vec::new();
        let mut stack = defaults(sources.defaults, &mut mistakes);
        if let Some(file) = &sources.file {
            stack.cover(file.read(&mut mistakes));
        }
        stack.cover(environment::read(&sources.environment, &mut mistakes));
        stack.cover(flags::read(&sources.flags, &mut mistakes));
        rules::check(&stack, &mut mistakes);
        match Mistakes::from_list(mistakes) {
            Some(mistakes) => Err(mistakes),
            None => Ok(Self::build(&Proven(&stack))),
        }
    }

    fn build(proven: &Proven<'_>) -> Self {
        Self {
            node: proven.name("node"),
            region: proven.name("region"),
            log: proven.log("log"),
            ready_file: proven.path("ready_file"),
            http: Http {
                address: proven.address("http.address"),
                head_bytes_max: proven.bytes("http.head_bytes_max").get(),
                head_timeout: proven.duration("http.head_timeout"),
                idle_timeout: proven.duration("http.idle_timeout"),
                connections_max: proven.count("http.connections_max"),
                cors_origins: proven.origins("http.cors_origins"),
                peer_timeout: proven.duration("http.peer_timeout"),
                stall_timeout: proven.duration("http.stall_timeout"),
                share_port: proven.switch("http.share_port"),
                congestion: proven.choice("http.congestion"),
                quick_ack: proven.switch("http.quick_ack"),
                trusted_proxies: proven.networks("http.trusted_proxies"),
                proxy_protocol: proven.choice("http.proxy_protocol"),
                forwarded_header: proven.choice("http.forwarded_header"),
                tls: proven.clients("http.tls", "http.client_certificates", "http.client_ca_file"),
            },
            grpc: Grpc {
                address: proven.address("grpc.address"),
                connections_max: proven.count("grpc.connections_max"),
                tls: proven.clients("grpc.tls", "grpc.client_certificates", "grpc.client_ca_file"),
            },
            tls: proven.tls(),
            admin_address: proven.address("admin.address"),
            admin_token_file: proven.path("admin.token_file"),
            cluster: Cluster {
                peers: proven.peers("cluster.peers"),
                ca_file: proven.path("cluster.ca_file"),
                certificate: proven.path("cluster.certificate_file").zip(proven.path("cluster.key_file")),
                control: proven.places("cluster.control"),
                geography: proven.geography("cluster.geography"),
                geoip_file: proven.path("cluster.geoip_file"),
                policies_file: proven.path("cluster.policies_file"),
                zone: proven.name("cluster.zone"),
                host: proven.name("cluster.host"),
                weight: proven.number("cluster.weight"),
                admits_per_second: proven.number("cluster.admits_per_second"),
            },
            control: Control {
                cluster: proven.name("control.cluster"),
                id: proven.number("control.id"),
                data_dir: proven.path("control.data_dir"),
                address: proven.address("control.address"),
                host: proven.name("control.host"),
                peers: proven.peers("control.peers"),
                nodes: proven.count("control.nodes"),
                heartbeat: proven.duration("control.heartbeat"),
                election_min: proven.duration("control.election_min"),
                election_max: proven.duration("control.election_max"),
                snapshot_entries: proven.number("control.snapshot_entries"),
                certificate_file: proven.path("control.certificate_file"),
                key_file: proven.path("control.key_file"),
                ca_file: proven.path("control.ca_file"),
                raft_identities: proven.list("control.raft_identities"),
                admin_token_file: proven.path("control.admin_token_file"),
            },
            sse: Sse {
                heartbeat: proven.duration("sse.heartbeat"),
                ping_interval: proven.duration("sse.ping_interval"),
                retry: proven.retry("sse.retry_min", "sse.retry_max"),
                retry_refresh: proven.duration("sse.retry_refresh"),
                busy_retry: proven.retry("sse.busy_retry_min", "sse.busy_retry_max"),
                streams_max: proven.count("sse.streams_max"),
                keys_max: proven.count("sse.keys_max"),
                gzip: proven.choice("sse.compression") == "gzip",
            },
            publish: Publish {
                payload_bytes_max: proven.bytes("publish.payload_bytes_max"),
                batch_events_max: proven.count("publish.batch_events_max"),
                batch_bytes_max: proven.bytes("publish.batch_bytes_max"),
                stream_window: proven.count("publish.stream_window"),
                producers: proven.producers("publish.producers"),
            },
            limits: Limits {
                pending_max: proven.count("limits.pending_max"),
                connections_per_address: proven.bound("limits.connections_per_address"),
                pending_per_address: proven.bound("limits.pending_per_address"),
                accepts: proven.rate("limits.accepts_per_second", "limits.accepts_per_second"),
                streams_per_address: proven.bound("limits.streams_per_address"),
                streams_per_client: proven.bound("limits.streams_per_client"),
                streams_per_principal: proven.bound("limits.streams_per_principal"),
                subscribers_per_stream: proven.bound("limits.subscribers_per_stream"),
                grpc_connections_per_address: proven.bound("limits.grpc_connections_per_address"),
                connects: Rates {
                    address: proven.rate("limits.connects_per_second", "limits.connects_burst"),
                    principal: proven
                        .rate("limits.principal_connects_per_second", "limits.principal_connects_burst"),
                    stream: proven.rate("limits.stream_connects_per_second", "limits.stream_connects_burst"),
                },
                newcomers: proven.rate("limits.newcomers_per_second", "limits.newcomers_burst"),
                publishes: Rates {
                    address: proven.rate("limits.publishes_per_second", "limits.publishes_burst"),
                    principal: proven
                        .rate("limits.principal_publishes_per_second", "limits.principal_publishes_burst"),
                    stream: proven
                        .rate("limits.stream_publishes_per_second", "limits.stream_publishes_burst"),
                },
                calls: proven.rate("limits.calls_per_second", "limits.calls_burst"),
            },
            streams: Streams {
                create: proven.switch("streams.create"),
                retention: proven.retention(),
                listed: proven
                    .0
                    .streams()
                    .map(|stream| (stream.clone(), proven.retention_of(stream)))
                    .collect(),
            },
            fanout: Fanout {
                ring_events: proven.count("fanout.ring_events"),
                ring_bytes: proven.bytes("fanout.ring_bytes"),
                replay_cache_bytes: proven.bytes("fanout.replay_cache_bytes"),
                slow_readers: SlowReaders {
                    default: slow_reader(proven.choice("fanout.slow_reader")),
                    named: proven.named("slow_reader", slow_reader),
                    agreed: AgreedPolicies::default(),
                    lag_max: proven.number("fanout.slow_reader_lag_events"),
                },
            },
            access: proven.access(),
            cursors: Cursors {
                flush_interval: proven.duration("cursors.flush_interval"),
                overlap: proven.bound("cursors.overlap"),
            },
            disk_reserve_bytes: proven.size("disk.reserve_bytes"),
            redis: Redis {
                levels: StreamLevels {
                    default: level(proven.choice("redis.level")),
                    named: proven.named("level", level),
                    agreed: AgreedPolicies::default(),
                },
                confirmations: NonZeroU32::new(proven.whole("redis.confirmations") as u32)
                    .unwrap_or(NonZeroU32::MIN),
                ca_file: proven.path("redis.ca_file"),
                sentinel_login_file: proven.path("redis.sentinel_login_file"),
            },
            shutdown: Shutdown {
                grace: proven.duration("shutdown.grace"),
                drain: proven.duration("shutdown.drain"),
                lead: proven.duration("shutdown.lead"),
                pace: NonZeroUsize::new(proven.whole("shutdown.pace")),
                deadline: proven.duration("shutdown.deadline"),
            },
            upgrade_socket: proven.path("upgrade.socket"),
            runtime_threads: NonZeroUsize::new(proven.whole("runtime.threads"))
                .map_or(Threads::FromQuota, Threads::Fixed),
            telemetry: proven.telemetry(),
            memory_bytes_max: proven.size("memory.bytes_max"),
            log_output: LogOutput {
                format: match proven.choice("log_output.format") {
                    "json" => LogFormat::Json,
                    _ => LogFormat::Text,
                },
                directives: proven.directives("log_output.level"),
            },
        }
    }
}

impl Threads {
    /// The number of threads, at least one. The standard library reads the cgroup's quota.
    pub(crate) fn resolve(self) -> NonZeroUsize {
        match self {
            Self::Fixed(threads) => threads,
            Self::FromQuota => std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN),
        }
    }
}

/// The layer of defaults. A default that is no valid value shows as a mistake, and in the tests.
fn defaults(which: Defaults, mistakes: &mut Vec<Mistake>) -> Layer {
    let mut layer = Layer::default();
    for setting in SETTINGS {
        let (text, place) = match (which, setting.dev_default) {
            (Defaults::Dev, Some(default)) => (default, Place::RoleDefault),
            (Defaults::General, _) | (Defaults::Dev, None) => (setting.default, Place::Default),
        };
        layer.read(Key::General(setting.key), setting, text, place, mistakes);
    }
    layer
}

/// A stack of layers in which every setting has a value of its kind: each is at least a default,
/// and no mistake is left. A panic here is a mistake in the table of settings, which the tests
/// find by building a configuration from nothing.
struct Proven<'a>(&'a Layer);

impl Proven<'_> {
    fn value(&self, key: &'static str) -> &Value {
        self.0
            .get(&Key::General(key))
            .and_then(|written| written.value.as_ref())
            .expect("every setting has a default, and no mistake is left")
    }

    fn name(&self, key: &'static str) -> String {
        let Value::Name(name) = self.value(key) else { unreachable!("{key} is a name") };
        name.clone()
    }

    /// A name that somebody has chosen.
    fn chosen(&self, key: &'static str) -> Option<String> {
        let place = &self.0.get(&Key::General(key)).expect("every setting has a default").place;
        let is_default = matches!(place, Place::Default | Place::RoleDefault);
        (!is_default).then(|| self.name(key))
    }

    fn address(&self, key: &'static str) -> SocketAddr {
        let Value::Address(address) = self.value(key) else { unreachable!("{key} is an address") };
        *address
    }

    fn duration(&self, key: &'static str) -> Duration {
        let Value::Duration(duration) = self.value(key) else { unreachable!("{key} is a duration") };
        *duration
    }

    fn retry(&self, min: &'static str, max: &'static str) -> RetryRange {
        RetryRange::new(self.duration(min), self.duration(max)).expect("the rules have checked their order")
    }

    fn size(&self, key: &'static str) -> u64 {
        let Value::Size(bytes) = self.value(key) else { unreachable!("{key} is a size") };
        *bytes
    }

    fn bytes(&self, key: &'static str) -> NonZeroUsize {
        nonzero(self.size(key))
    }

    fn number(&self, key: &'static str) -> u64 {
        let Value::Count(count) = self.value(key) else { unreachable!("{key} is a count") };
        *count
    }

    fn whole(&self, key: &'static str) -> usize {
        usize::try_from(self.number(key)).unwrap_or(usize::MAX)
    }

    fn count(&self, key: &'static str) -> NonZeroUsize {
        nonzero(self.number(key))
    }

    fn switch(&self, key: &'static str) -> bool {
        let Value::Switch(on) = self.value(key) else { unreachable!("{key} is a switch") };
        *on
    }

    fn choice(&self, key: &'static str) -> &'static str {
        let Value::Choice(choice) = self.value(key) else { unreachable!("{key} is a choice") };
        choice
    }

    fn origins(&self, key: &'static str) -> CorsOrigins {
        let Value::Origins(origins) = self.value(key) else { unreachable!("{key} is a list of origins") };
        origins.clone()
    }

    fn networks(&self, key: &'static str) -> Vec<Network> {
        let Value::Networks(networks) = self.value(key) else { unreachable!("{key} is a list of networks") };
        networks.clone()
    }

    fn peers(&self, key: &'static str) -> Vec<Peer> {
        let Value::Peers(peers) = self.value(key) else { unreachable!("{key} is a list of nodes") };
        peers.clone()
    }

    fn producers(&self, key: &'static str) -> Vec<Producer> {
        let Value::Producers(producers) = self.value(key) else { unreachable!("{key} is a list of pairs") };
        producers.clone()
    }

    /// A number of which 0 means that there is no bound.
    fn bound(&self, key: &'static str) -> Option<NonZeroU32> {
        NonZeroU32::new(u32::try_from(self.number(key)).unwrap_or(u32::MAX))
    }

    fn rate(&self, per_second: &'static str, burst: &'static str) -> Option<Rate> {
        Some(Rate::new(self.bound(per_second)?, self.bound(burst)?))
    }

    fn log(&self, key: &'static str) -> LogChoice {
        let Value::Log(choice) = self.value(key) else { unreachable!("{key} is a log") };
        choice.clone()
    }

    fn directives(&self, key: &'static str) -> String {
        let Value::Directives(directives) = self.value(key) else { unreachable!("{key} is a filter") };
        directives.clone()
    }

    fn path(&self, key: &'static str) -> Option<PathBuf> {
        let Value::Path(path) = self.value(key) else { unreachable!("{key} is a path") };
        path.clone()
    }

    fn paths(&self, key: &'static str) -> Vec<PathBuf> {
        let Value::Paths(paths) = self.value(key) else { unreachable!("{key} is a list of paths") };
        paths.clone()
    }

    fn tls(&self) -> Tls {
        let (certificates, keys) = (self.paths("tls.certificate_files"), self.paths("tls.key_files"));
        Tls {
            certificates: certificates.into_iter().zip(keys).collect(),
            only_1_3: self.choice("tls.version_min") == "1.3",
            resumption: match self.choice("tls.resumption") {
                "sessions" => Resumption::Sessions {
                    max: self.count("tls.sessions_max"),
                    early_data_bytes_max: u32::try_from(self.size("tls.early_data_bytes_max"))
                        .expect("its bounds have been checked"),
                },
                "off" => Resumption::Off,
                _ => Resumption::Tickets(self.path("tls.ticket_secrets_file")),
            },
            handshake_timeout: self.duration("tls.handshake_timeout"),
            reload_interval: self.duration("tls.reload_interval"),
        }
    }

    /// `None` where no TLS is spoken.
    fn clients(&self, tls: &'static str, asked: &'static str, ca: &'static str) -> Option<Clients> {
        (self.choice(tls) == "on").then(|| match (self.choice(asked), self.path(ca)) {
            ("optional", Some(roots)) => Clients::Optional(roots),
            ("required", Some(roots)) => Clients::Required(roots),
            // The rules have seen to it that nothing is asked for without roots.
            _ => Clients::Nothing,
        })
    }

    fn telemetry(&self) -> Option<Telemetry> {
        let Value::Server(endpoint) = self.value("telemetry.endpoint") else {
            unreachable!("telemetry.endpoint is a server")
        };
        Some(Telemetry {
            endpoint: endpoint.clone()?,
            ca_file: self.path("telemetry.ca_file"),
            sample_one_in: self.number("telemetry.sample_one_in"),
            resample: self.choice("telemetry.brought") == "resample",
            queue_spans: self.count("telemetry.queue_spans"),
            export_timeout: self.duration("telemetry.export_timeout"),
            region: self.chosen("region"),
            zone: self.chosen("cluster.zone"),
        })
    }

    fn list(&self, key: &'static str) -> Vec<String> {
        let Value::List(entries) = self.value(key) else { unreachable!("{key} is a list") };
        entries.clone()
    }

    fn places(&self, key: &'static str) -> Vec<http::Uri> {
        let entries = self.list(key);
        entries.iter().map(|entry| check_place(entry).expect("each entry was checked")).collect()
    }

    fn geography(&self, key: &'static str) -> Geography {
        let entries = self.list(key);
        entries.iter().map(|entry| entry.parse::<GeographyRule>().expect("each entry was checked")).collect()
    }

    fn grants(&self, key: &'static str) -> Vec<Grant> {
        let entries = self.list(key);
        entries.iter().map(|entry| entry.parse().expect("each entry was checked")).collect()
    }

    fn access(&self) -> Option<Access> {
        if self.choice("access.mode") != "tokens" {
            return None;
        }
        let keys = self.list("access.keys");
        let cookie = self.name("access.cookie");
        Some(Access {
            keys: keys.iter().map(|entry| KeysAt::parse(entry).expect("each entry was checked")).collect(),
            keys_refresh: self.duration("access.keys_refresh"),
            keys_stale_max: self.duration("access.keys_stale_max"),
            issuers: self.list("access.issuers"),
            audiences: self.list("access.audiences"),
            required_claims: self.list("access.required_claims"),
            claim: self.name("access.claim"),
            leeway: self.duration("access.leeway"),
            reauth_before: self.duration("access.reauth_before"),
            anonymous_subscribe: self.grants("access.anonymous_subscribe"),
            anonymous_publish: self.grants("access.anonymous_publish"),
            cookie: (!cookie.is_empty()).then_some(cookie),
            query_token: self.switch("access.query_token"),
        })
    }

    fn retention(&self) -> Retention {
        Retention {
            events: Some(self.number("retention.events")),
            bytes: Some(self.size("retention.bytes")),
            age: Some(self.duration("retention.age")),
        }
    }

    /// What the streams have of their own of one setting.
    fn named<T>(&self, name: &'static str, read: impl Fn(&str) -> T) -> ByStream<T> {
        let of = |stream: &StreamPattern| {
            let value = self.own(stream, name)?;
            let Value::Choice(choice) = value else { unreachable!("{value:?} is no choice") };
            Some((stream.clone(), read(choice)))
        };
        self.0.streams().filter_map(of).collect()
    }

    /// What is said in the narrowest table that covers these streams and says something.
    fn own(&self, streams: &StreamPattern, name: &'static str) -> Option<&Value> {
        let mut tables: Vec<_> = self.0.streams().filter(|table| table.covers(streams)).collect();
        tables.sort_by_key(|table| Reverse(table.narrowness()));
        tables.into_iter().find_map(|table| {
            let key = Key::OfStream { stream: table.clone(), name };
            self.0.get(&key)?.value.as_ref()
        })
    }

    /// The general retention with whatever the streams have of their own.
    fn retention_of(&self, streams: &StreamPattern) -> Retention {
        let own = |name| self.own(streams, name);
        let mut retention = self.retention();
        if let Some(Value::Count(events)) = own("retention_events") {
            retention.events = Some(*events);
        }
        if let Some(Value::Size(bytes)) = own("retention_bytes") {
            retention.bytes = Some(*bytes);
        }
        if let Some(Value::Duration(age)) = own("retention_age") {
            retention.age = Some(*age);
        }
        retention
    }
}

/// On a machine of 32 bits a larger number means "as much as there is".
fn nonzero(number: u64) -> NonZeroUsize {
    let number = usize::try_from(number).unwrap_or(usize::MAX);
    NonZeroUsize::new(number).expect("the table's range of this setting starts above zero")
}

fn level(choice: &str) -> Level {
    match choice {
        "REPLICATED" => Level::Replicated,
        _ => Level::Home,
    }
}

fn slow_reader(choice: &str) -> SlowReader {
    match choice {
        "conflate" => SlowReader::Conflate,
        "gap" => SlowReader::Gap,
        "disconnect" => SlowReader::Disconnect,
        _ => SlowReader::CatchUp,
    }
}
