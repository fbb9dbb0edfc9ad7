//! Every setting there is, in one table.
//!
//! The readers of file, environment and flags, the command line's own flags and the reference all
//! come from this table, so a setting cannot exist in one of them only. A setting is documented
//! by its consequence: what an operator sees when it is too small or too large.

use std::time::Duration;

use super::kind::Kind;

/// One setting.
#[derive(Debug)]
pub(crate) struct Setting {
    /// Dotted key, as in the file: `http.address`.
    pub key: &'static str,
    pub kind: Kind,
    /// As it would be written in a flag; checked like any other value.
    pub default: &'static str,
    /// The default of `evergate dev`, where it differs.
    pub dev_default: Option<&'static str>,
    /// Its own long flag, without dashes, if it is given often enough to have one.
    pub flag: Option<&'static str>,
    /// What it is, in one sentence.
    pub meaning: &'static str,
    pub consequence: Consequence,
}

/// What follows from the choice of a value.
#[derive(Debug)]
pub(crate) enum Consequence {
    /// For a quantity: what is seen on either side of a good value.
    Bounds { small: &'static str, large: &'static str },
    /// For a choice: what hangs on it.
    Choice(&'static str),
}

use Consequence::{Bounds, Choice};

impl Setting {
    /// `http.address` is `EVERGATE_HTTP_ADDRESS`.
    pub(crate) fn variable(&self) -> String {
        format!("{ENVIRONMENT_PREFIX}{}", self.key.replace('.', "_").to_ascii_uppercase())
    }

    /// The part before the first dot, if there is one.
    pub(crate) fn section(&self) -> Option<&'static str> {
        self.key.split_once('.').map(|(section, _)| section)
    }

    const fn dev(mut self, default: &'static str) -> Self {
        self.dev_default = Some(default);
        self
    }

    const fn flag(mut self, flag: &'static str) -> Self {
        self.flag = Some(flag);
        self
    }
}

/// What every variable of ours begins with.
pub(crate) const ENVIRONMENT_PREFIX: &str = "EVERGATE_";

/// The table under which a stream's own settings stand, and the section of `streams.create`.
pub(crate) const STREAMS: &str = "streams";

/// The setting with this key.
pub(crate) fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// The per-stream setting with this name.
pub(crate) fn find_of_stream(name: &str) -> Option<&'static Setting> {
    STREAM_SETTINGS.iter().find(|setting| setting.key == name)
}

const fn setting(
    key: &'static str,
    kind: Kind,
    default: &'static str,
    meaning: &'static str,
    consequence: Consequence,
) -> Setting {
    Setting { key, kind, default, dev_default: None, flag: None, meaning, consequence }
}

const fn seconds(min: u64, max: u64) -> Kind {
    millis(min * 1000, max * 1000)
}

const fn millis(min: u64, max: u64) -> Kind {
    Kind::Duration(Duration::from_millis(min)..=Duration::from_millis(max))
}

const fn size(min: u64, max: u64) -> Kind {
    Kind::Size(min..=max)
}

const fn count(min: u64, max: u64) -> Kind {
    Kind::Count(min..=max)
}

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;
const TIB: u64 = 1 << 40;
const YEARS_10_S: u64 = 10 * 365 * 24 * 3600;
/// The largest sequence number an offset can hold.
const EVENTS_MAX: u64 = (1 << 53) - 1;

/// All settings, in the order of the reference: `static`, so that there is one table.
pub(crate) static SETTINGS: &[Setting] = &[
    setting(
        "node",
        Kind::Name,
        "local",
        "The name of this process.",
        Choice(
            "It stands in connection ids, in the log output, at `/readyz` and in the metric `evergate_build_info`; two processes of one name cannot be told apart there.",
        ),
    )
    .flag("node"),
    setting(
        "region",
        Kind::Name,
        "local",
        "The region this process stands in.",
        Choice("It stands beside the node's name in the log output, at `/readyz` and in the metric `evergate_build_info`, so that figures can be compared between regions."),
    )
    .flag("region"),
    setting(
        "log",
        Kind::Log,
        "disk:evergate-data",
        "The event log: `memory`, `disk:DIR` for a durable one in that directory, or a Redis that many processes share, such as `redis://HOST:PORT` (see `redis.md` for all forms).",
        Choice(
            "With `memory` every event is lost when the process ends, and clients that come back are told of a gap. With `disk:DIR` an acknowledged event is on the disk; a relative directory counts from where the process was started. In a Redis it is as safe as `redis.level` says.",
        ),
    )
    .flag("log"),
    setting(
        "ready_file",
        Kind::Path,
        "",
        "A file written in one step once every listener is bound, and removed at exit.",
        Choice(
            "It holds the process id and the real addresses as JSON, for a supervisor or a test that lets the system choose ports. Two processes must not share it.",
        ),
    )
    .flag("ready-file"),
    setting(
        "http.address",
        Kind::Address,
        "127.0.0.1:8080",
        "Where subscribers connect: SSE and the HTTP API.",
        Choice(
            "On 127.0.0.1 only this machine reaches it; `0.0.0.0:8080` or `[::]:8080` opens it to the network.",
        ),
    )
    .flag("http"),
    setting(
        "http.head_bytes_max",
        size(8 * KIB, MIB),
        "16KiB",
        "The largest request head that is read.",
        Bounds {
            small: "requests with long cookies or tokens are refused with 431",
            large: "a hostile client can make the process hold this much for each connection",
        },
    ),
    setting(
        "http.head_timeout",
        millis(100, 300_000),
        "5s",
        "How long a client may take to send its request head.",
        Bounds {
            small: "clients on slow networks are cut before they have asked for anything",
            large: "clients that send a byte now and then occupy connections for this long",
        },
    ),
    setting(
        "http.idle_timeout",
        seconds(1, 3600),
        "30s",
        "How long a connection that carries no stream may wait for its next request.",
        Bounds {
            small: "publishers over HTTP reconnect for nearly every request",
            large: "forgotten connections hold a file descriptor for this long",
        },
    ),
    setting(
        "http.connections_max",
        count(1, 10_000_000),
        "16000",
        "How many event streams are open at once; one more is answered `busy` and closed.",
        Bounds {
            small: "clients are told to come back later while the machine idles",
            large: "the process meets its limit of open files or of memory first, and fails less politely",
        },
    ),
    setting(
        "http.peer_timeout",
        seconds(1, 3600),
        "30s",
        "How long what was sent to a client may stay unacknowledged before the client counts as gone.",
        Bounds {
            small: "phones are cut off in every tunnel",
            large: "whoever vanished without a word holds its place for this long after the next heartbeat",
        },
    ),
    setting(
        "http.stall_timeout",
        seconds(1, 3600),
        "1m",
        "How long a client that has more to get may leave its connection full. It may be cut off sooner by `http.peer_timeout`, when it takes nothing at all.",
        Bounds {
            small: "clients on slow networks are cut off in the middle of a replay, and begin again where they were",
            large: "clients that were put to sleep hold their place for this long",
        },
    ),
    setting(
        "http.trusted_proxies",
        Kind::Networks,
        "",
        "The addresses of the proxies and balancers in front, which are believed when they say where a client is.",
        Choice(
            "Without it every client behind a proxy counts as that proxy. A network in it that clients can reach from lets them choose their own address, and so pass every limit of an address.",
        ),
    ),
    setting(
        "http.proxy_protocol",
        Kind::Choice(&["off", "accept", "require"]),
        "off",
        "Whether trusted proxies begin each connection with a PROXY header, version 1 or 2.",
        Choice(
            "With `accept` they may, so every trusted proxy must either write the header or be unable to pass one on from its clients. With `require` every other connection is closed, those of untrusted peers too. A header from an untrusted peer is never believed: its connection is closed.",
        ),
    ),
    setting(
        "http.forwarded_header",
        Kind::Choice(&["x-forwarded-for", "forwarded", "none"]),
        "x-forwarded-for",
        "The field in which trusted proxies note where a request came from: `X-Forwarded-For`, or `Forwarded` as in RFC 7239. Over gRPC it is read too.",
        Choice(
            "Only this one is read. If it is not the one that the proxies write, they pass it on as the client sent it, and the client chooses its own address.",
        ),
    ),
    setting(
        "http.cors_origins",
        Kind::Origins,
        "",
        "The origins whose pages may read streams: exact, such as `https://app.example.com`, or `*` for any.",
        Choice(
            "A page of another origin sees only a network error in its `EventSource`. With `*` any page may read every stream that needs no token.",
        ),
    )
    .dev("*"),
    setting(
        "grpc.address",
        Kind::Address,
        "127.0.0.1:8081",
        "Where publishers connect: gRPC.",
        Choice("On 127.0.0.1 only this machine reaches it; whoever reaches it may publish."),
    )
    .flag("grpc"),
    setting(
        "admin.address",
        Kind::Address,
        "127.0.0.1:8082",
        "Where `/livez`, `/readyz` and `/metrics` are served.",
        Choice("It needs no token, so keep it away from the public network."),
    )
    .flag("admin"),
    setting(
        "cluster.peers",
        Kind::Peers,
        "",
        "The other edges and where they serve gRPC, such as `edge-b=http://10.0.0.2:8081`. Pings and acknowledgements that a balancer brings to the wrong edge are passed on to the one that the connection's id names.",
        Choice("Without a node in it, calls about that node's streams are answered 404 here, as if the streams were gone: clients open new ones, and what they acknowledged comes again. A node that is in it and cannot be reached is answered 503, so take nodes out that are gone for good. Each edge is told of all others, under the names that they have as `node`."),
    ),
    setting(
        "sse.heartbeat",
        seconds(1, 25),
        "15s",
        "How often an otherwise silent stream sends a comment.",
        Bounds {
            small: "more packets and processor time for nothing, and phones that cannot sleep",
            large: "proxies with short idle limits cut quiet streams, and dead clients are noticed later",
        },
    ),
    setting(
        "sse.ping_interval",
        millis(100, 3_600_000),
        "30s",
        "How often a client must ping that opened its stream with `lease=1`. After three pings missed the stream ends with `evergate.goaway`, `lease-expired`.",
        Bounds {
            small: "a call for every such stream this often, and phones that cannot sleep",
            large: "a client that vanished behind a proxy holds its place for up to three times this long",
        },
    ),
    setting(
        "sse.retry_min",
        millis(100, 3_600_000),
        "1s",
        "The shortest wait before a client whose stream was cut comes back.",
        Bounds {
            small: "after a restart all clients come back at once",
            large: "a cut is noticed by people before it is mended",
        },
    ),
    setting(
        "sse.retry_max",
        millis(100, 3_600_000),
        "3s",
        "The longest wait before a client whose stream was cut comes back; each client draws its own between the two.",
        Bounds {
            small: "close to `sse.retry_min`, all clients come back together",
            large: "some clients stay away for this long after a cut",
        },
    ),
    setting(
        "sse.busy_retry_min",
        millis(100, 3_600_000),
        "2s",
        "The shortest wait asked of a client that was turned away as `busy`.",
        Bounds {
            small: "clients that cannot be served knock all the time",
            large: "capacity that became free stays unused",
        },
    ),
    setting(
        "sse.busy_retry_max",
        millis(100, 3_600_000),
        "15s",
        "The longest wait asked of a client that was turned away as `busy`.",
        Bounds {
            small: "close to `sse.busy_retry_min`, clients that were turned away come back together",
            large: "some clients stay away for this long after capacity became free",
        },
    ),
    setting(
        "sse.streams_max",
        count(1, 16),
        "16",
        "How many streams one connection may carry.",
        Bounds {
            small: "clients need several connections, of which a browser has six per origin",
            large: "cursors grow long, and browsers treat ids over 128 bytes with suspicion",
        },
    ),
    setting(
        "sse.keys_max",
        count(1, 10_000),
        "64",
        "How many key filters one connection may carry.",
        Bounds {
            small: "clients with many keys are refused with 400 and must subscribe to more than they want",
            large: "one client can make the process hold this many filters and match them with every event",
        },
    ),
    setting(
        "sse.compression",
        Kind::Choice(&["gzip", "off"]),
        "gzip",
        "Whether a client that sends `Accept-Encoding: gzip`, as every browser does, gets its stream compressed.",
        Choice(
            "With `gzip` each event is deflated once for everybody and by itself, so that any cursor can begin anywhere: payloads of 50 bytes do not shrink, of 200 bytes by about a sixth, of 750 bytes to about 40 %. A proxy that holds compressed answers back until they are large needs `off`.",
        ),
    ),
    setting(
        "publish.payload_bytes_max",
        size(1, MIB),
        "256KiB",
        "The largest `data` of one event.",
        Bounds {
            small: "publishers of large events are refused",
            large: "one event fills much of `fanout.ring_bytes`, and subscribers on slow networks wait for it",
        },
    ),
    setting(
        "publish.batch_events_max",
        count(1, 1000),
        "1000",
        "How many events one batch may hold.",
        Bounds {
            small: "publishers pay a round trip and a write to the disk for fewer events",
            large: "a batch holds up the events behind it for longer",
        },
    ),
    setting(
        "publish.batch_bytes_max",
        size(1, MIB),
        "1MiB",
        "How many bytes of events one batch may hold.",
        Bounds {
            small: "publishers of large events can hardly batch",
            large: "each publisher can make the process hold this much",
        },
    ),
    setting(
        "publish.stream_window",
        count(1, 1_024),
        "1024",
        "How many events of one `PublishStream` call may await their acknowledgement.",
        Bounds {
            small: "a single publisher is limited to this many events a round trip",
            large: "a single publisher can make the process hold this many events; the bound is what the log remembers of a producer, so that everything unanswered can be repeated",
        },
    ),
    setting(
        "streams.create",
        Kind::Switch,
        "true",
        "Whether a stream comes into being with its first publish or subscribe.",
        Choice(
            "With `false` only the streams that have a `[streams.\"name\"]` table exist, and any other is answered 404 or NOT_FOUND.",
        ),
    ),
    setting(
        "retention.events",
        count(1, EVENTS_MAX),
        "1000000",
        "How many events of a stream are kept.",
        Bounds {
            small: "clients that were away for a while are told of a gap instead of getting what they missed",
            large: "the log grows until `retention.bytes` or `retention.age` trims it",
        },
    ),
    setting(
        "retention.bytes",
        size(1, TIB),
        "1GiB",
        "How many bytes of events of a stream are kept.",
        Bounds {
            small: "streams with large events reach back only for a short time",
            large: "many streams together fill the disk or the memory",
        },
    ),
    setting(
        "retention.age",
        seconds(1, YEARS_10_S),
        "7d",
        "For how long events are kept.",
        Bounds {
            small: "clients that were away for longer are told of a gap",
            large: "the log grows until `retention.events` or `retention.bytes` trims it",
        },
    ),
    setting(
        "fanout.ring_events",
        count(16, 16_777_216),
        "4096",
        "How many of its newest events a stream keeps in memory, encoded, for live delivery.",
        Bounds {
            small: "readers only slightly behind are served from the log, which costs more",
            large: "memory, for every stream in use",
        },
    ),
    setting(
        "fanout.ring_bytes",
        size(64 * KIB, 16 * GIB),
        "8MiB",
        "How many bytes of its newest events a stream keeps in memory for live delivery.",
        Bounds {
            small: "readers only slightly behind are served from the log, which costs more",
            large: "memory, for every stream in use",
        },
    ),
    setting(
        "fanout.replay_cache_bytes",
        size(MIB, TIB),
        "64MiB",
        "How much memory the ranges of the log that several replaying clients share may take.",
        Bounds {
            small: "clients that come back together each read the log for themselves",
            large: "memory, until the replays are over",
        },
    ),
    setting(
        "fanout.slow_reader",
        Kind::Choice(&["catch-up", "conflate", "gap", "disconnect"]),
        "catch-up",
        "What is done about a subscriber that takes less than it is sent and lies more than `fanout.slow_reader_lag_events` behind.",
        Choice(
            "With `catch-up` it gets everything, late. With `conflate` it gets the latest event of each key, and with `gap` nothing of what it missed, each time with an `evergate.gap` that says exactly what. With `disconnect` its connection is reset, and it comes back with its own position. Applies to subscribers over HTTP/1.1; all others catch up.",
        ),
    ),
    setting(
        "fanout.slow_reader_lag_events",
        count(1, 1_000_000),
        "1000",
        "How many events a subscriber may lie behind before `fanout.slow_reader` applies to it.",
        Bounds {
            small: "with a policy other than `catch-up`, short stalls cost events or connections",
            large: "slow subscribers are shown old events for longer",
        },
    ),
    setting(
        "cursors.flush_interval",
        millis(100, 60_000),
        "5s",
        "How often the places of clients with a `client_id` are written down, those that moved, in batches.",
        Bounds {
            small: "Redis, or the disk, is kept busy by clients that all move",
            large: "a client that comes back without a position of its own gets more again that it had",
        },
    ),
    setting(
        "disk.reserve_bytes",
        size(0, TIB),
        "64MiB",
        "How much space must be free on the log's disk for events to be accepted.",
        Bounds {
            small: "a disk that runs full leaves no room to trim and merge in, and has to be cleared by hand",
            large: "publishes are refused although there is room",
        },
    ),
    setting(
        "redis.level",
        Kind::Choice(&["HOME", "REPLICATED"]),
        "HOME",
        "How safe an event in a Redis log is when its publish is acknowledged. Fixed for each stream at its first event.",
        Choice("With `HOME` it is in the primary, and if that dies the newest events may be lost, which every subscriber is told. With `REPLICATED` a replica has confirmed it, and nobody is shown it before; without a replica nothing is acknowledged. A stream that was made at another level keeps that: publishes to one that is less safe than this are refused."),
    ),
    setting(
        "redis.confirmations",
        count(1, 16),
        "1",
        "How many replicas must have an event at `REPLICATED` before its publish is acknowledged.",
        Bounds {
            small: "with more replicas than that, one that never had an acknowledged event may be promoted, surely so by `SENTINEL FAILOVER` under load",
            large: "with fewer replicas than that nothing is acknowledged, also while one of them is only away",
        },
    ),
    setting(
        "limits.pending_max",
        count(1, 1_000_000),
        "4096",
        "How many connections may be open that have not sent a whole request head yet. Beyond it none is accepted; those that come wait.",
        Bounds {
            small: "clients that are slow to ask hold up those behind them",
            large: "a storm of connects is taken on all at once, and everybody is served late",
        },
    ),
    setting(
        "limits.pending_per_address",
        count(0, 1_000_000),
        "0",
        "How many of those one address may have (an IPv6 network of 64 bits is one; trusted proxies are not counted); 0 sets no limit. One more is closed.",
        Bounds {
            small: "people who share an address are cut off when they all come at once",
            large: "one address that asks nothing can take all of `limits.pending_max`, and everybody else waits",
        },
    ),
    setting(
        "limits.accepts_per_second",
        count(0, 1_000_000),
        "0",
        "How many HTTP connections are accepted a second, and as many at once after a rest; 0 sets no limit. Those above it wait, and none is refused.",
        Bounds {
            small: "after a restart clients wait until they give up and come again",
            large: "a storm of connects takes the processor from those who are connected",
        },
    ),
    setting(
        "limits.streams_per_address",
        count(0, 10_000_000),
        "0",
        "How many event streams one client address may have (an IPv6 network of 64 bits is one); 0 sets no limit. One more is answered `busy`.",
        Bounds {
            small: "people who share an address, in an office or behind a mobile network, turn each other away",
            large: "one client can take all of `http.connections_max`",
        },
    ),
    setting(
        "limits.streams_per_client",
        count(0, 10_000_000),
        "0",
        "How many event streams one `client_id` may have; 0 sets no limit. One more is answered `busy`.",
        Bounds {
            small: "a client whose old connection was not noticed to be gone is turned away",
            large: "a client that leaks connections is never told",
        },
    ),
    setting(
        "limits.connects_per_second",
        count(0, 1_000_000),
        "0",
        "How many event streams one client address may open a second; 0 sets no limit. Those above it are answered `busy`.",
        Bounds {
            small: "people who share an address wait for each other after a cut",
            large: "a client that reconnects in a loop is served each time",
        },
    ),
    setting(
        "limits.connects_burst",
        count(1, 1_000_000),
        "50",
        "How many event streams one client address may open at once after a rest.",
        Bounds {
            small: "a page with several streams is answered `busy` for some of them",
            large: "`limits.connects_per_second` is felt only late",
        },
    ),
    setting(
        "limits.publishes_per_second",
        count(0, 10_000_000),
        "0",
        "How many events one client address may publish a second, by HTTP and gRPC together; 0 sets no limit. Those above it are refused with 429 or RESOURCE_EXHAUSTED and the time to wait.",
        Bounds {
            small: "publishers are refused while the log has room",
            large: "one publisher can fill the log and push out what others published",
        },
    ),
    setting(
        "limits.publishes_burst",
        count(1, 10_000_000),
        "1000",
        "How many events one client address may publish at once after a rest. A larger batch is taken when all of it is there, and paid back afterwards.",
        Bounds {
            small: "batches are refused more often than single events",
            large: "`limits.publishes_per_second` is felt only late",
        },
    ),
    setting(
        "redis.ca_file",
        Kind::Path,
        "",
        "A file with the certificates, in PEM, of those who may vouch for a Redis that is reached over TLS.",
        Choice("With a file only these vouch. Without one those that the system trusts do, among which a private authority is not."),
    ),
    setting(
        "redis.sentinel_login_file",
        Kind::Path,
        "",
        "A file with `USER:PASSWORD`, or `:PASSWORD`, for the Sentinels themselves; the login in the log's URL is for the servers they watch.",
        Choice("Without a file nothing is said to the Sentinels, and those that want a password do not answer."),
    ),
    setting(
        "shutdown.grace",
        millis(0, 600_000),
        "0s",
        "How long a process that was asked to end still accepts connections, with `/readyz` failing, so that a balancer in front can notice. Where there is one, a little more than it takes to look twice.",
        Bounds {
            small: "a balancer that has not noticed yet sends clients to a closed port",
            large: "a restart takes longer, and clients come to a process that is about to send them away",
        },
    ),
    setting(
        "shutdown.pace",
        count(0, 10_000_000),
        "0",
        "How many streams are ended a second at the most; 0 leaves it to `shutdown.drain`. What the other edges can take on, together. It is kept within three fifths of `shutdown.deadline`.",
        Bounds {
            small: "the drain of a full process takes long",
            large: "all clients come to the other edges at once",
        },
    ),
    setting(
        "shutdown.drain",
        millis(0, 3_600_000),
        "5s",
        "The window over which open streams are ended at shutdown, each with a `goaway`.",
        Bounds {
            small: "all clients reconnect at once, to whoever is left",
            large: "a restart takes longer, and a supervisor may kill the process in the middle",
        },
    ),
    setting(
        "shutdown.deadline",
        millis(100, 7_200_000),
        "15s",
        "How long the whole shutdown may take before the process ends regardless.",
        Bounds {
            small: "streams are cut without a word, and the log recovers at the next start",
            large: "a supervisor with less patience kills the process first",
        },
    ),
    setting(
        "upgrade.socket",
        Kind::Path,
        "",
        "Where a running process is met by its successor, which is started with the same setting and takes over all listeners while the old process drains: a Unix socket, in a directory that only its owner may write to (see `operating/upgrade.md`).",
        Choice(
            "Without it a restart refuses connections for a moment. It needs a log in Redis, which both processes can use at once.",
        ),
    )
    .flag("takeover"),
    setting(
        "runtime.threads",
        count(0, 1024),
        "0",
        "How many worker threads the process runs; 0 takes the processor quota of the container, or else the number of cores.",
        Bounds {
            small: "cores idle while subscribers wait",
            large: "threads take turns on the cores, and a container over its quota is halted for tens of milliseconds",
        },
    )
    .flag("runtime-threads"),
    setting(
        "log_output.format",
        Kind::Choice(&["text", "json"]),
        "text",
        "How log lines are written to standard error: for people or one JSON object a line.",
        Choice("Collectors read `json`; people read `text`."),
    )
    .flag("log-format"),
    setting(
        "log_output.level",
        Kind::Directives,
        "info",
        "How much is logged: a level, or directives per module.",
        Choice(
            "`debug` tells of every connection, which is too much for a busy process; `warn` hides starts and stops.",
        ),
    )
    .flag("log-level"),
];

/// What a stream may have of its own, in a table `[streams."name"]`. The default of each is the
/// general setting, which the table's `default` names.
pub(crate) static STREAM_SETTINGS: &[Setting] = &[
    setting(
        "retention_events",
        count(1, EVENTS_MAX),
        "retention.events",
        "How many events of this stream are kept.",
        Choice("It takes the place of `retention.events` for this stream."),
    ),
    setting(
        "retention_bytes",
        size(1, TIB),
        "retention.bytes",
        "How many bytes of events of this stream are kept.",
        Choice("It takes the place of `retention.bytes` for this stream."),
    ),
    setting(
        "retention_age",
        seconds(1, YEARS_10_S),
        "retention.age",
        "For how long events of this stream are kept.",
        Choice("It takes the place of `retention.age` for this stream."),
    ),
    setting(
        "slow_reader",
        Kind::Choice(&["catch-up", "conflate", "gap", "disconnect"]),
        "fanout.slow_reader",
        "What is done about a subscriber of this stream that lies too far behind.",
        Choice("It takes the place of `fanout.slow_reader` for this stream."),
    ),
    setting(
        "level",
        Kind::Choice(&["HOME", "REPLICATED"]),
        "redis.level",
        "How safe an event of this stream is when its publish is acknowledged.",
        Choice(
            "It takes the place of `redis.level` for this stream. A process does not start if a stream that is named in full was made at another level: name it anew, or say what it was made at.",
        ),
    ),
];

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn keys_variables_and_flags_are_unique() {
        let keys: BTreeSet<_> = SETTINGS.iter().map(|setting| setting.key).collect();
        let variables: BTreeSet<_> = SETTINGS.iter().map(Setting::variable).collect();
        assert_eq!(keys.len(), SETTINGS.len());
        assert_eq!(variables.len(), SETTINGS.len());
        let flags: Vec<_> = SETTINGS.iter().filter_map(|setting| setting.flag).collect();
        assert_eq!(flags.iter().collect::<BTreeSet<_>>().len(), flags.len());
    }

    #[test]
    fn a_section_is_never_a_setting_too() {
        // `log` beside `log.format` could not both be written in one file.
        for setting in SETTINGS {
            let section = setting.section();
            assert!(section.is_none_or(|section| find(section).is_none()), "{section:?}");
        }
    }

    #[test]
    fn defaults_are_valid_and_written_as_they_are_printed() {
        for setting in SETTINGS {
            for default in std::iter::once(setting.default).chain(setting.dev_default) {
                let value = setting.kind.read_text(default).unwrap();
                assert_eq!(value.to_string(), default, "{}", setting.key);
            }
        }
    }

    #[test]
    fn a_stream_setting_takes_the_values_of_the_general_one() {
        for own in STREAM_SETTINGS {
            assert_eq!(own.kind, find(own.default).unwrap().kind, "{}", own.key);
        }
    }
}
