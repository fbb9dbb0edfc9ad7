//! Every setting there is, in one table.
//!
//! The readers of file, environment and flags, the command line's own flags and the reference all
//! come from this table, so a setting cannot exist in one of them only. A setting is documented
//! by its consequence: what an operator sees when it is too small or too large.

use std::time::Duration;

use super::kind::{Entries, Kind};

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
        "How long a client may take to send its request head; over gRPC, after its TLS handshake, its first word.",
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
        "http.share_port",
        Kind::Switch,
        "false",
        "Whether several processes of the same user may listen on this port (`SO_REUSEPORT`); the system spreads clients over them.",
        Choice(
            "For machines on which one process may not open enough files, or that have many cores. All of them need it, and each its own gRPC and admin port. One that closes takes along whoever waits in its queue, unless `net.ipv4.tcp_migrate_req` is 1 in the system; a process that is taken over (`upgrade.socket`) passes its queue on and needs neither. Without it a second process is refused the port, which is how a process started twice by mistake is noticed.",
        ),
    ),
    setting(
        "http.congestion",
        Kind::Choice(&["system", "cubic", "reno", "bbr"]),
        "system",
        "Which algorithm decides how fast is sent to a client (`TCP_CONGESTION`). The system must have it, else the process does not start.",
        Choice(
            "Small events leave at once whichever it is. It matters for replays and bursts over long or lossy ways, where `bbr` keeps its rate and the others halve it at each loss; on a local network nothing changes.",
        ),
    ),
    setting(
        "http.quick_ack",
        Kind::Switch,
        "false",
        "Whether what a client sends first is acknowledged at once (`TCP_QUICKACK`).",
        Choice(
            "A subscriber sends one request, and its answer carries the acknowledgement anyway, so nothing is gained here but for a client that sends its request in pieces and waits between them; it costs a system call for each connection.",
        ),
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
        "http.tls",
        Kind::Choice(&["off", "on"]),
        "off",
        "Whether subscribers connect by TLS, with the certificates of `tls.certificate_files`: HTTP/2 and HTTP/1.1, as the client chooses.",
        Choice(
            "With `off` everything goes over the network as it is, tokens too: for a listener that only a proxy in front reaches. With `on` whoever speaks plain HTTP is cut off.",
        ),
    ),
    setting(
        "http.client_certificates",
        Kind::Choice(&["off", "optional", "required"]),
        "off",
        "Whether subscribers and publishers over HTTP show a certificate of `http.client_ca_file`.",
        Choice(
            "With `required` nobody without one gets further than the handshake. With `optional` whoever shows one has to have it from there.",
        ),
    ),
    setting(
        "http.client_ca_file",
        Kind::Path,
        "",
        "A file with the roots, in PEM, by which the certificates of HTTP clients are judged.",
        Choice("When the file changes, those who come are judged by the new roots; whoever is connected stays."),
    ),
    setting(
        "access.mode",
        Kind::Choice(&["open", "tokens"]),
        "open",
        "Who is let in: `open` for everybody who reaches the listeners, `tokens` for whoever brings a JWT that grants what is asked for (see `security.md`).",
        Choice(
            "With `open` anybody may read and publish everything; the process says so when a listener is not on a loopback address.",
        ),
    ),
    setting(
        "access.keys",
        Kind::List(Entries::Keys),
        "",
        "Where the keys are that vouch for tokens: files with a JSON Web Key Set of your own, which may hold shared secrets, and addresses where issuers publish theirs.",
        Choice(
            "A file has to be there at the start. An issuer that is away is asked again, and its keys are believed meanwhile for `access.keys_stale_max`. Secrets belong in a file that only the server's user can read.",
        ),
    ),
    setting(
        "access.keys_refresh",
        seconds(10, 24 * 3600),
        "5m",
        "How often all keys are read anew. A token with a key that is not known causes a look of its own, at most every 5 seconds.",
        Bounds {
            small: "issuers are asked more often than their keys change",
            large: "a key that was withdrawn is believed for so long",
        },
    ),
    setting(
        "access.keys_stale_max",
        seconds(60, 30 * 24 * 3600),
        "1d",
        "For how long the keys of a source that cannot be read are believed.",
        Bounds {
            small: "nobody new is let in while an issuer is away",
            large: "whoever can keep an issuer away keeps a withdrawn key alive",
        },
    ),
    setting(
        "access.issuers",
        Kind::List(Entries::Words),
        "",
        "Whose tokens are taken: what their `iss` may say.",
        Choice("Empty takes the tokens of everybody who has one of the keys."),
    ),
    setting(
        "access.audiences",
        Kind::List(Entries::Words),
        "",
        "By which names this server is meant: one of them has to be in a token's `aud`.",
        Choice(
            "Empty takes only tokens without an `aud`. Where an issuer makes tokens for several services, a name of its own keeps those of the others out.",
        ),
    ),
    setting(
        "access.required_claims",
        Kind::List(Entries::Words),
        "exp,sub",
        "Claims that every token must have, whatever they say.",
        Choice(
            "Without `exp` tokens are taken that never expire; without `sub` their bearers cannot be called back by name, nor go on with a fresh token.",
        ),
    ),
    setting(
        "access.claim",
        Kind::Word,
        "evergate",
        "The claim that holds the grants, an object; issuers that want names to be addresses can have one here.",
        Choice("A token without this claim is known, and may do nothing."),
    ),
    setting(
        "access.leeway",
        seconds(0, 300),
        "30s",
        "How far an issuer's clock may be away from this one, for `exp` and `nbf`.",
        Bounds {
            small: "fresh tokens are refused where clocks differ",
            large: "tokens are taken for so long after they have expired",
        },
    ),
    setting(
        "access.reauth_before",
        seconds(0, 3600),
        "1m",
        "How long before its token expires a stream is told by `evergate.reauth`, so that its client can post a fresh one.",
        Bounds {
            small: "clients have no time to get a fresh token, and their streams end",
            large: "clients ask for fresh tokens long before they need them",
        },
    ),
    setting(
        "access.anonymous_subscribe",
        Kind::List(Entries::Grants),
        "",
        "What may be read without a token.",
        Choice("Whoever brings a token is judged by the token alone; one that is wrong is refused here, too."),
    ),
    setting(
        "access.anonymous_publish",
        Kind::List(Entries::Grants),
        "",
        "What may be published without a token.",
        Choice("Everybody who reaches the listeners can write there."),
    ),
    setting(
        "access.cookie",
        Kind::Word,
        "",
        "A cookie that may hold a token, for browsers; its name begins with `__Host-` or `__Secure-`, without which a browser would send it over plain HTTP, too.",
        Choice(
            "Whoever sets it should add `HttpOnly` and `SameSite`. It counts only for pages of this server and of `http.cors_origins`, and gives way to a token that was sent on purpose. Empty reads no cookie.",
        ),
    ),
    setting(
        "access.query_token",
        Kind::Switch,
        "false",
        "Whether a subscriber may have its token in the parameter `access_token`.",
        Choice(
            "A token in an address ends up in the logs of proxies and in the histories of browsers. This server writes no address into its own.",
        ),
    ),
    setting(
        "grpc.address",
        Kind::Address,
        "127.0.0.1:8081",
        "Where publishers connect: gRPC.",
        Choice("On 127.0.0.1 only this machine reaches it; whoever reaches it may publish."),
    )
    .flag("grpc"),
    setting(
        "grpc.tls",
        Kind::Choice(&["off", "on"]),
        "off",
        "Whether publishers and other nodes connect by TLS, with the certificates of `tls.certificate_files`.",
        Choice("With `off` events go over the network as they are, and nobody can prove anything. With `on` whoever speaks plain gRPC is cut off."),
    ),
    setting(
        "grpc.client_certificates",
        Kind::Choice(&["off", "optional", "required"]),
        "off",
        "Whether publishers show a certificate of `grpc.client_ca_file`.",
        Choice(
            "With `required` nobody without one gets further than the handshake; a node that shows one of `cluster.ca_file` does. With `optional` whoever shows one has to have it from there.",
        ),
    ),
    setting(
        "grpc.client_ca_file",
        Kind::Path,
        "",
        "A file with the roots, in PEM, by which the certificates of publishers over gRPC are judged.",
        Choice("When the file changes, those who come are judged by the new roots; whoever is connected stays."),
    ),
    setting(
        "grpc.connections_max",
        count(1, 1_000_000),
        "1000",
        "How many gRPC connections, of publishers and other edges, may be open at once. One more waits until another one ends. They are kept out of the file descriptors that event streams may take.",
        Bounds {
            small: "publishers wait for a connection, and calls from other edges are answered 503",
            large: "whoever reaches the port can take this many descriptors, and their memory",
        },
    ),
    setting(
        "admin.address",
        Kind::Address,
        "127.0.0.1:8082",
        "Where `/livez`, `/readyz` and `/metrics` are served, and the calls and the page for operators.",
        Choice("But for the page it needs no token, so keep it away from the public network."),
    )
    .flag("admin"),
    setting(
        "admin.token_file",
        Kind::Path,
        "",
        "The file that holds the token for the page at `/admin`: at least 16 printable characters, given as the password (any user), or as a bearer token.",
        Choice(
            "Without it there is no page, except on a loopback address of `evergate dev`. Whoever has it sees the newest events of every stream.",
        ),
    ),
    setting(
        "tls.certificate_files",
        Kind::Paths,
        "",
        "The certificates that listeners show, each a file in PEM with the chain, its own certificate first. A client is shown the one that stands for the name it asks for, else the first.",
        Choice(
            "The files are read anew when they change, without a restart. A file that does not work then is named in the log output, and what was read before goes on. An OCSP response to be stapled lies beside the certificate, under its name with `.ocsp` behind.",
        ),
    ),
    setting(
        "tls.key_files",
        Kind::Paths,
        "",
        "The keys of `tls.certificate_files`, in the same order, in PEM.",
        Choice("Whoever can read them can pretend to be this server, so only its user should."),
    ),
    setting(
        "tls.version_min",
        Kind::Choice(&["1.2", "1.3"]),
        "1.2",
        "The oldest version of TLS that is spoken.",
        Choice(
            "With `1.3` clients from before 2018 are refused. Of 1.2 only what is sound is spoken: ephemeral keys and authenticated encryption.",
        ),
    ),
    setting(
        "tls.resumption",
        Kind::Choice(&["tickets", "sessions", "off"]),
        "tickets",
        "How clients that come back are spared the full handshake: by tickets that they keep, or by sessions that this process keeps.",
        Choice(
            "Tickets are good at every edge that has the same `tls.ticket_secrets_file`; sessions only at the process that keeps them, so with several edges most clients shake hands in full. With `off` everybody does, and after a cut of thousands the processor is busy with that.",
        ),
    ),
    setting(
        "tls.ticket_secrets_file",
        Kind::Path,
        "",
        "A file with the secrets that tickets are made of, the same at every edge: 64 hexadecimal digits a line, the newest first; `openssl rand -hex 32` makes one. The keys made of them change every six hours by themselves.",
        Choice(
            "Without it tickets are good only at the process that gave them. To replace a secret without a full handshake for anybody, add the new one as the second line everywhere, then make it the first, and take the old one out half a day later. Whoever gets hold of a secret, and has recorded what went over the network, can read what was said over TLS 1.2 with clients that were given tickets.",
        ),
    ),
    setting(
        "tls.sessions_max",
        count(1, 10_000_000),
        "20000",
        "How many sessions are kept where `tls.resumption` is `sessions`; the oldest are dropped first.",
        Bounds {
            small: "clients that come back shake hands in full",
            large: "memory, about a kilobyte for each",
        },
    ),
    setting(
        "tls.early_data_bytes_max",
        size(0, 1 << 20),
        "0",
        "How much a client that comes back over TLS 1.3 may say to the HTTP listener before its handshake is over (0-RTT), where `tls.resumption` is `sessions`; 0 for nothing. A request that comes so is answered a round trip earlier if it changes nothing (GET, HEAD, OPTIONS without `client_id` and `ticket`), and with 425 otherwise.",
        Bounds {
            small: "requests with large tokens or cookies do not fit, and come after the handshake",
            large: "each client that comes back can have this much memory until its handshake is over",
        },
    ),
    setting(
        "tls.handshake_timeout",
        millis(100, 300_000),
        "5s",
        "How long a client may take for its TLS handshake; the time for its request head begins after it.",
        Bounds {
            small: "clients on slow networks are cut before they have asked for anything",
            large: "clients that never finish occupy connections for this long",
        },
    ),
    setting(
        "tls.reload_interval",
        millis(100, 3_600_000),
        "10s",
        "How often it is looked whether a file of TLS has changed. SIGHUP has it looked at once.",
        Bounds {
            small: "the files' metadata is asked for all the time",
            large: "a renewed certificate is shown late",
        },
    ),
    setting(
        "cluster.peers",
        Kind::Peers,
        "",
        "The other edges and where they serve gRPC, such as `edge-b=https://edge-b.internal:8081`, or with `http` where no TLS is spoken. Pings and acknowledgements that a balancer brings to the wrong edge are passed on to the one that the connection's id names.",
        Choice("Without a node in it, calls about that node's streams are answered 404 here, as if the streams were gone: clients open new ones, and what they acknowledged comes again. A node that is in it and cannot be reached is answered 503, so take nodes out that are gone for good. Each edge is told of all others, under the names that they have as `node`."),
    ),
    setting(
        "cluster.ca_file",
        Kind::Path,
        "",
        "A file with the roots, in PEM, that vouch for the nodes of the cluster.",
        Choice(
            "With it another node is connected to only if it shows a certificate from there that stands for the host in `cluster.peers`, and the calls of nodes are taken only from who shows one. Without it whoever reaches the gRPC listener may make them, and end or move on the streams of others.",
        ),
    ),
    setting(
        "cluster.certificate_file",
        Kind::Path,
        "",
        "The certificate, in PEM, by which this node proves to the others that it belongs to the cluster.",
        Choice("Without it the first of `tls.certificate_files` is shown, which then has to be from `cluster.ca_file`."),
    ),
    setting(
        "cluster.key_file",
        Kind::Path,
        "",
        "The key of `cluster.certificate_file`, in PEM.",
        Choice("Whoever can read it can pretend to be this node, so only its user should."),
    ),
    setting(
        "cluster.control",
        Kind::List(Entries::Places),
        "",
        "The control nodes that this process follows, such as `http://control-0.control:8083`, or one name behind which they all stand; with `https` where they speak TLS. With it the process belongs to the cluster named `control.cluster`.",
        Choice("It says that it is there to one of them, and is told by one of them who else is: clients learn where they belong, calls find other edges without `cluster.peers`, and the cluster can drain it. While none can be reached it serves on by what it was told last. Empty, it belongs to no cluster."),
    ),
    setting(
        "cluster.zone",
        Kind::Name,
        "local",
        "The zone of the region in which this process stands: a part of it that fails by itself.",
        Choice("The alternatives that a client is given stand in other zones than its own edge. With one zone for all, the loss of a zone may take all of them."),
    ),
    setting(
        "cluster.host",
        Kind::Host,
        "127.0.0.1",
        "The host by which others reach this edge, once it belongs to a cluster; the ports are those of `http.address` and `grpc.address`.",
        Choice("Clients that ask where they belong, and lists made for balancers, get it. With a wrong one, calls about this edge's streams that come to another edge are answered 503."),
    ),
    setting(
        "cluster.weight",
        count(1, 1000),
        "100",
        "This edge's share of its region's clients, beside those of the other edges.",
        Bounds {
            small: "the edge idles while others are full",
            large: "the edge is full while others idle, until placement passes it over",
        },
    ),
    setting(
        "cluster.admits_per_second",
        count(1, 1_000_000),
        "2000",
        "How many clients this edge can let in each second, on top of what it does otherwise.",
        Bounds {
            small: "the clients of an edge that dies are asked to wait for longer than they had to",
            large: "they all come at once, and wait in front of the others",
        },
    ),
    setting(
        "cluster.policies_file",
        Kind::Path,
        "",
        "The file in which this process keeps the policies of streams that the cluster has agreed on.",
        Choice("A process that starts while no control node can be reached goes by it, until one is heard; without one it goes by its configuration meanwhile, and may keep less, or acknowledge what is less safe, than was agreed on. It is small, and replaced as a whole with every change. One that is damaged, or another cluster's, is named in the log output and not used."),
    ),
    setting(
        "cluster.geography",
        Kind::List(Entries::Geography),
        "",
        "Which region clients belong to, by where they are: `network:10.0.0.0/8=eu-west`, `country:DE=eu-west`, `continent:NA=us-east`, `elsewhere=eu-west`. The narrowest that fits holds.",
        Choice("`GET /v1/route` tells it, with the region's host; whoever comes is served all the same. A client that no rule is about, or whose region has no edge, belongs to the region where it came. Countries and continents need `cluster.geoip_file`."),
    ),
    setting(
        "cluster.geoip_file",
        Kind::Path,
        "",
        "A database of MaxMind's form (GeoLite2-Country, GeoIP2-City or alike) by which addresses are located.",
        Choice("It is read anew within seconds when the file is replaced; one that does not work then is named in the log output, and the one before goes on. At the start it has to work."),
    ),
    setting(
        "control.cluster",
        Kind::Name,
        "evergate",
        "The name of the cluster that control nodes, and those that follow them, are of.",
        Choice("Nodes of two names refuse each other, so a node that is told a wrong address does no harm. It is written into a control node's folder and cannot be changed there."),
    ),
    setting(
        "control.id",
        count(0, 1 << 32),
        "0",
        "The number of this control node in its group; 0 takes it from the end of `node`: `control-0` is node 1.",
        Choice("A number that another node has, or ever had, is refused by all the others: whoever has lost its folder has forgotten what it voted for, and comes back under a new number."),
    ),
    setting(
        "control.data_dir",
        Kind::Path,
        "evergate-control",
        "The folder in which a control node keeps its vote, its log and its snapshot.",
        Choice("What is agreed on is only as safe as the folders of a majority: each on a disk of its own, of which a sync is a sync. A full disk stops the node, and the others go on."),
    ),
    setting(
        "control.address",
        Kind::Address,
        "127.0.0.1:8083",
        "Where other nodes reach this control node.",
        Choice("Without `control.certificate_file` whoever reaches it can change what is agreed on, so keep it in a private network."),
    ),
    setting(
        "control.host",
        Kind::Host,
        "127.0.0.1",
        "The host by which other control nodes reach this one; the port is that of `control.address`.",
        Choice("It goes into the list of members when the node joins, and stays there: a name that outlives the machine is better than an address that does not."),
    ),
    setting(
        "control.peers",
        Kind::Peers,
        "",
        "With whom a control group is founded: all its nodes, this one too, such as `1=http://10.0.0.1:8083,2=http://10.0.0.2:8083`; or one name behind which all of them stand, `any=http://control:8083`.",
        Choice("All nodes are told the same, and the group is founded once, when all of them are there; the log output says for whom a node waits. Afterwards the group knows its members, and this says nothing any more. Empty, a node waits until a group takes it in."),
    ),
    setting(
        "control.nodes",
        count(1, 9),
        "3",
        "How many nodes stand behind the one name in `control.peers`.",
        Choice("With fewer the group is not founded; with more, who is too many is not let in."),
    ),
    setting(
        "control.heartbeat",
        millis(20, 60_000),
        "250ms",
        "How often the leader of the control group says that it is there; and how long a message with entries may take.",
        Bounds {
            small: "messages are sent again and again where a disk, or the way to a far region, is slower",
            large: "the loss of a leader is noticed later",
        },
    ),
    setting(
        "control.election_min",
        millis(50, 120_000),
        "1500ms",
        "The shortest time without a leader after which a control node stands for election.",
        Bounds {
            small: "leaders change because of a slow disk or a lost packet, and commands wait meanwhile",
            large: "nothing can be changed for longer when a leader is lost; streams and publishes go on",
        },
    ),
    setting(
        "control.election_max",
        millis(50, 120_000),
        "3s",
        "The longest such time; each node draws one in between.",
        Bounds {
            small: "close to `control.election_min`, nodes stand against each other and nobody wins",
            large: "as with `control.election_min`",
        },
    ),
    setting(
        "control.snapshot_entries",
        count(10, 1_000_000),
        "5000",
        "After so many entries a control node makes a snapshot and drops the log before it.",
        Bounds {
            small: "snapshots all the time, and nodes that were away for a moment need a whole one",
            large: "a larger log, and a longer start",
        },
    ),
    setting(
        "control.certificate_file",
        Kind::Path,
        "",
        "A control node's certificate with its chain, in PEM, by which it proves to others that it belongs to them; they have to prove it too.",
        Choice("Without one control nodes talk without TLS and believe each other. Its names have to be those in `control.peers`."),
    ),
    setting(
        "control.key_file",
        Kind::Path,
        "",
        "The key of `control.certificate_file`, in PEM.",
        Choice("It is read anew with the certificate when the files change."),
    ),
    setting(
        "control.ca_file",
        Kind::Path,
        "",
        "The root, in PEM, from which the other control nodes have their certificates.",
        Choice("Edges have theirs from it, too. Which of its certificates speak for a control node is another matter: see `control.raft_identities`."),
    ),
    setting(
        "control.raft_identities",
        Kind::List(Entries::Words),
        "",
        "What a certificate of `control.ca_file` has to be for to speak for a control node: names of hosts, addresses or URIs, such as `spiffe://example.com/control/*`; a `*` at the end stands for anything, `*.` at the beginning for one label.",
        Choice("Empty, it has to be for a host by which a member is reached, in `control.peers` or in the group's list of members; so give an edge that runs on such a host a certificate for another name, or set this. Whoever has one of these certificates may vote, lead and replace all that was agreed on."),
    ),
    setting(
        "control.admin_token_file",
        Kind::Path,
        "",
        "A file with a token of at least 16 characters, without which `evergate cluster` is refused.",
        Choice("Empty, whoever reaches `control.address` can have the cluster changed; with `control.certificate_file` that is whoever has a certificate of the cluster's. What was changed, and in whose name, is remembered either way."),
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
        "sse.retry_refresh",
        seconds(1, 86_400),
        "5m",
        "How often clients with an open stream are told anew how long to wait, if that has changed: in a cluster it follows from how many streams are open and what the other edges can take.",
        Bounds {
            small: "a line more to everybody whenever an edge comes or goes",
            large: "clients that came when the edge was empty come back all at once when it dies full",
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
        "publish.producers",
        Kind::Producers,
        "",
        "Who may publish as which producer, such as `spiffe://example.com/pricing/*=pricing-*`: a name of a certificate, or the beginning of one, and the id of a producer, or the beginning of one.",
        Choice(
            "Without any, whoever reaches the listener may use any producer's id, and so make another's events count as duplicates. With one, a producer is used only by who showed a certificate with such a name, over gRPC or HTTP; anybody else is refused with PERMISSION_DENIED or 403. Events without a producer are not touched by it.",
        ),
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
            "With `catch-up` it gets everything, late. With `conflate` it gets the latest event of each key, and with `gap` nothing of what it missed, each time with an `evergate.gap` that says exactly what. With `disconnect` its connection is reset, and it comes back with its own position. Applies to subscribers over HTTP/1.1 and HTTP/2; those over HTTP/1.0 catch up.",
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
        "cursors.overlap",
        count(0, 1_000_000),
        "0",
        "How many events of each stream a kept place stays behind what was sent where the bytes on our socket are not yet the client's: over HTTP/2, compressed, or behind a trusted proxy. It is for clients that do not acknowledge. With 0 their places do not move there at all, and a stream whose place is followed is not compressed.",
        Bounds {
            small: "a client whose proxy held more events than this back when it broke misses those, if it brings no position of its own",
            large: "such a client gets this many events again, and a gap if the stream keeps fewer",
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
        "limits.connections_per_address",
        count(0, 10_000_000),
        "0",
        "How many HTTP connections one address may have, whatever they carry (an IPv6 network of 64 bits is one; trusted proxies are not counted); 0 sets no limit. One more is closed.",
        Bounds {
            small: "people who share an address are cut off: a browser alone has up to six",
            large: "one address can take all places for connections, and everybody else waits",
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
        "limits.grpc_connections_per_address",
        count(0, 1_000_000),
        "0",
        "How many gRPC connections one address may have; 0 sets no limit. One more is closed at once.",
        Bounds {
            small: "publishers that share an address, in one host or behind a translated network, turn each other away",
            large: "one publisher that leaks connections can take all of `grpc.connections_max`",
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
        "limits.newcomers_per_second",
        count(0, 10_000_000),
        "10",
        "How many times a second one address may come with a `client_id` of which nothing is kept; 0 sets no limit. Each takes about 50 bytes in the store, for one to two days. One more is answered `busy`; clients whose place is kept are served.",
        Bounds {
            small: "people who share an address and come for the first time are turned away",
            large: "one address that makes names up can fill the Redis, or the disk, that keeps the events, too",
        },
    ),
    setting(
        "limits.newcomers_burst",
        count(1, 10_000_000),
        "20000",
        "How many of these one address may bring at once after a rest.",
        Bounds {
            small: "a new audience behind one address is let in slowly",
            large: "the limit holds only in the long run",
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
        "limits.streams_per_principal",
        count(0, 10_000_000),
        "0",
        "How many event streams one subject of tokens may have (the `sub`; without one, the `jti`), from wherever it comes; 0 sets no limit. One more is answered `busy`. Of use only where `access.mode` is `tokens`.",
        Bounds {
            small: "somebody with several devices turns itself away",
            large: "one token that was passed on can take all of `http.connections_max`",
        },
    ),
    setting(
        "limits.subscribers_per_stream",
        count(0, 10_000_000),
        "0",
        "How many event streams of this process may carry one and the same stream; 0 sets no limit. One more is answered `busy`, with all the streams it asks for.",
        Bounds {
            small: "the audience of one stream is turned away while the process has room",
            large: "one popular stream can take all of `http.connections_max` from the others",
        },
    ),
    setting(
        "limits.principal_connects_per_second",
        count(0, 1_000_000),
        "0",
        "How many event streams one subject of tokens may open a second; 0 sets no limit. Those above it are answered `busy`.",
        Bounds {
            small: "a client with many streams is answered `busy` for some of them after a cut",
            large: "one token in a loop, from many addresses, is served each time",
        },
    ),
    setting(
        "limits.principal_connects_burst",
        count(1, 1_000_000),
        "50",
        "How many event streams one subject of tokens may open at once after a rest.",
        Bounds {
            small: "a page with several streams is answered `busy` for some of them",
            large: "`limits.principal_connects_per_second` is felt only late",
        },
    ),
    setting(
        "limits.stream_connects_per_second",
        count(0, 1_000_000),
        "0",
        "How many times a second one stream may be opened, by all subscribers of this process together; 0 sets no limit. Those above it are answered `busy`.",
        Bounds {
            small: "the audience of a stream comes back slowly after a cut",
            large: "a crowd that comes for one stream takes the processor from those of the others",
        },
    ),
    setting(
        "limits.stream_connects_burst",
        count(1, 1_000_000),
        "1000",
        "How many times one stream may be opened at once after a rest.",
        Bounds {
            small: "an audience that comes on the minute is answered `busy`",
            large: "`limits.stream_connects_per_second` is felt only late",
        },
    ),
    setting(
        "limits.principal_publishes_per_second",
        count(0, 10_000_000),
        "0",
        "How many events one subject of tokens may publish a second, by HTTP and gRPC together; 0 sets no limit. Those above it are refused with 429 or RESOURCE_EXHAUSTED and the time to wait.",
        Bounds {
            small: "a publisher with many processes is refused while the log has room",
            large: "one token, from many addresses, can fill the log",
        },
    ),
    setting(
        "limits.principal_publishes_burst",
        count(1, 10_000_000),
        "1000",
        "How many events one subject of tokens may publish at once after a rest. A larger batch is taken when all of it is there, and paid back afterwards.",
        Bounds {
            small: "batches are refused more often than single events",
            large: "`limits.principal_publishes_per_second` is felt only late",
        },
    ),
    setting(
        "limits.stream_publishes_per_second",
        count(0, 10_000_000),
        "0",
        "How many events a second may be published to one stream, by all publishers of this process together; 0 sets no limit. Those above it are refused with 429 or RESOURCE_EXHAUSTED and the time to wait; those who may not publish to the stream use nothing up.",
        Bounds {
            small: "publishers of one stream are refused while the log has room",
            large: "subscribers of one stream can be sent more than they can take",
        },
    ),
    setting(
        "limits.stream_publishes_burst",
        count(1, 10_000_000),
        "1000",
        "How many events may be published to one stream at once after a rest. A larger batch is taken when all of it is there, and paid back afterwards.",
        Bounds {
            small: "batches are refused more often than single events",
            large: "`limits.stream_publishes_per_second` is felt only late",
        },
    ),
    setting(
        "limits.calls_per_second",
        count(0, 1_000_000),
        "0",
        "How many calls about its streams one client address may make a second: acknowledgements, pings, tickets and fresh tokens; 0 sets no limit. Those above it are answered 429 and the time to wait.",
        Bounds {
            small: "clients that share an address lose leases, or their kept places stay behind",
            large: "one address that does nothing else takes processor time from everybody",
        },
    ),
    setting(
        "limits.calls_burst",
        count(1, 1_000_000),
        "1000",
        "How many of these one address may make at once after a rest.",
        Bounds {
            small: "pages that share an address are refused when they all acknowledge at once",
            large: "`limits.calls_per_second` is felt only late",
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
        "5s",
        "How long a process that was asked to end still accepts connections, with `/readyz` failing, so that a balancer in front can notice. Where there is one, a little more than it takes to look twice.",
        Bounds {
            small: "a balancer that has not noticed yet sends clients to a closed port",
            large: "a restart takes longer, and clients come to a process that is about to send them away",
        },
    )
    .dev("0s"),
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
        "shutdown.lead",
        millis(0, 60_000),
        "1s",
        "How long a stream goes on after its `goaway` at shutdown, within `shutdown.drain`, so that a client can open another one first.",
        Bounds {
            small: "clients that open the new stream first have no time to, and get what comes meanwhile late",
            large: "less of the window is left over which clients are told to go, and they come to the others closer together",
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
        "telemetry.endpoint",
        Kind::Server,
        "",
        "Where traces are sent: a collector that speaks OTLP over gRPC.",
        Choice("Without it nothing is traced. One that is away or slow costs traces, and nothing else."),
    ),
    setting(
        "telemetry.ca_file",
        Kind::Path,
        "",
        "Roots by which the collector is judged, beside the system's, PEM; for an `https` address.",
        Choice("Without it a collector with a certificate of one's own authority is not believed."),
    ),
    setting(
        "telemetry.sample_one_in",
        count(0, 1_000_000_000),
        "1000",
        "Of the traces that begin here, one in so many is kept; 0 keeps only those that somebody else began and keeps.",
        Bounds {
            small: "the collector has much to take, and each traced event and connect costs some microseconds",
            large: "what is looked for is rarely among the traces",
        },
    ),
    setting(
        "telemetry.brought",
        Kind::Choice(&["follow", "resample"]),
        "follow",
        "What is done about the decision in a `traceparent` that a publisher or a client brings.",
        Choice(
            "`follow` keeps a trace whole from its first service to the last; with `resample` nobody outside decides how much is traced here.",
        ),
    ),
    setting(
        "telemetry.queue_spans",
        count(16, 1 << 20),
        "8192",
        "Spans that may wait for the collector.",
        Bounds {
            small: "a burst is dropped that the collector could have taken (`evergate_spans_total{result=\"dropped\"}`)",
            large: "a collector that is away costs memory, about a kilobyte for each span",
        },
    ),
    setting(
        "telemetry.export_timeout",
        millis(100, 60_000),
        "5s",
        "How long the collector may take for a batch of spans before it is given up.",
        Bounds {
            small: "batches are given up that would have arrived",
            large: "the queue is full while a collector stalls that would have recovered",
        },
    ),
    setting(
        "memory.bytes_max",
        size(0, TIB),
        "0",
        "How much memory the process may take; 0 takes the limit of its container (cgroup, version 2), where there is one. From 80 % on new streams are answered `busy`, and less is kept of what the log has as well; from 95 % on streams are ended, those without a token and the newest first, with `evergate.goaway` and `reason: overload`; from 99 % on nothing is published.",
        Bounds {
            small: "streams are refused and ended while there is memory",
            large: "the kernel kills the process, and all streams end at once, without a word",
        },
    ),
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
