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

use evergate_domain::{
    ByStream, Level, Network, Rate, Retention, RetryRange, SlowReader, SlowReaders, StreamLevels,
    StreamPattern,
};

use super::file::FileSource;
use super::flags::{self, FlagSource};
use super::layer::{Key, Layer};
use super::mistake::{Mistake, Mistakes, Place};
use super::registry::SETTINGS;
use super::value::{CorsOrigins, LogChoice, Peer, Value};
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
    pub grpc_address: SocketAddr,
    pub admin_address: SocketAddr,
    /// The other edges.
    pub peers: Vec<Peer>,
    pub sse: Sse,
    pub publish: Publish,
    pub limits: Limits,
    pub streams: Streams,
    pub fanout: Fanout,
    pub cursor_flush_interval: Duration,
    pub disk_reserve_bytes: u64,
    pub redis: Redis,
    pub shutdown: Shutdown,
    /// Where a successor may ask for the listeners.
    pub upgrade_socket: Option<PathBuf>,
    pub runtime_threads: Threads,
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
    pub trusted_proxies: Vec<Network>,
    pub proxy_protocol: &'static str,
    pub forwarded_header: &'static str,
}

/// `None` is no limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limits {
    pub pending_max: NonZeroUsize,
    pub pending_per_address: Option<NonZeroU32>,
    pub accepts: Option<Rate>,
    pub streams_per_address: Option<NonZeroU32>,
    pub streams_per_client: Option<NonZeroU32>,
    pub connects: Option<Rate>,
    pub publishes: Option<Rate>,
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
pub(crate) struct Shutdown {
    /// From failing readiness to no longer accepting.
    pub grace: Duration,
    pub drain: Duration,
    /// Streams ended a second at the most.
    pub pace: Option<NonZeroUsize>,
    pub deadline: Duration,
}

impl Shutdown {
    /// What of the deadline is kept for the time after the last stream.
    pub(crate) fn reserve(&self) -> Duration {
        self.deadline.mul_f64(0.2).min(Duration::from_secs(10))
    }

    /// The window over which so many streams are ended: longer than `drain` if the pace asks for it,
    /// but within the deadline.
    pub(crate) fn window(&self, streams: usize) -> Duration {
        let paced = self
            .pace
            .map_or(Duration::ZERO, |pace| Duration::from_secs_f64(streams as f64 / pace.get() as f64));
        self.drain.max(paced.min(self.deadline.mul_f64(0.6)))
    }
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
                trusted_proxies: proven.networks("http.trusted_proxies"),
                proxy_protocol: proven.choice("http.proxy_protocol"),
                forwarded_header: proven.choice("http.forwarded_header"),
            },
            grpc_address: proven.address("grpc.address"),
            admin_address: proven.address("admin.address"),
            peers: proven.peers("cluster.peers"),
            sse: Sse {
                heartbeat: proven.duration("sse.heartbeat"),
                ping_interval: proven.duration("sse.ping_interval"),
                retry: proven.retry("sse.retry_min", "sse.retry_max"),
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
            },
            limits: Limits {
                pending_max: proven.count("limits.pending_max"),
                pending_per_address: proven.bound("limits.pending_per_address"),
                accepts: proven.rate("limits.accepts_per_second", "limits.accepts_per_second"),
                streams_per_address: proven.bound("limits.streams_per_address"),
                streams_per_client: proven.bound("limits.streams_per_client"),
                connects: proven.rate("limits.connects_per_second", "limits.connects_burst"),
                publishes: proven.rate("limits.publishes_per_second", "limits.publishes_burst"),
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
                    lag_max: proven.number("fanout.slow_reader_lag_events"),
                },
            },
            cursor_flush_interval: proven.duration("cursors.flush_interval"),
            disk_reserve_bytes: proven.size("disk.reserve_bytes"),
            redis: Redis {
                levels: StreamLevels {
                    default: level(proven.choice("redis.level")),
                    named: proven.named("level", level),
                },
                confirmations: NonZeroU32::new(proven.whole("redis.confirmations") as u32)
                    .unwrap_or(NonZeroU32::MIN),
                ca_file: proven.path("redis.ca_file"),
                sentinel_login_file: proven.path("redis.sentinel_login_file"),
            },
            shutdown: Shutdown {
                grace: proven.duration("shutdown.grace"),
                drain: proven.duration("shutdown.drain"),
                pace: NonZeroUsize::new(proven.whole("shutdown.pace")),
                deadline: proven.duration("shutdown.deadline"),
            },
            upgrade_socket: proven.path("upgrade.socket"),
            runtime_threads: NonZeroUsize::new(proven.whole("runtime.threads"))
                .map_or(Threads::FromQuota, Threads::Fixed),
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
