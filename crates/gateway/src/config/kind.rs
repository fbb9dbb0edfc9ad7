//! The kinds of settings: what a value must look like, in text and in TOML, and what is said when
//! it does not.
//!
//! Pure: no kind looks at another setting; rules between settings are in
//! [`rules`](super::rules).

use std::ops::{Range, RangeInclusive};
use std::path::PathBuf;
use std::time::Duration;

use evergate_access::Grant;
use evergate_domain::cluster::GeographyRule;
use evergate_domain::{Network, ProducerId};
use evergate_eventlog::RedisUrl;
use toml::Spanned;
use toml::de::DeValue;
use tracing_subscriber::EnvFilter;

use super::quantity::{DurationText, SizeText, parse_duration, parse_size};
use super::value::{CorsOrigins, KeysAt, LogChoice, Peer, Producer, Value};

/// Names are written into ids, metrics and logs, so they stay short and plain.
const NAME_CHARS_MAX: usize = 64;

/// What a setting may hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kind {
    /// `[A-Za-z0-9._-]{1,64}`.
    Name,
    /// A name of DNS, or an IP address; one of IPv6 stands without brackets.
    Host,
    /// IP address and port; port 0 lets the system choose.
    Address,
    Duration(RangeInclusive<Duration>),
    /// Bytes.
    Size(RangeInclusive<u64>),
    Count(RangeInclusive<u64>),
    Switch,
    Choice(&'static [&'static str]),
    /// CORS origins: a list in TOML, separated by commas elsewhere.
    Origins,
    /// Networks of addresses: a list in TOML, separated by commas elsewhere.
    Networks,
    /// Other nodes with their gRPC addresses: a list in TOML, separated by commas elsewhere.
    Peers,
    /// A server by its URL; empty for none.
    Server,
    /// `memory`, `disk:DIR` or `redis://…`.
    Log,
    /// Filter directives of the log output.
    Directives,
    /// A path; empty for none.
    Path,
    /// Paths: a list in TOML, separated by commas elsewhere.
    Paths,
    /// Identities and what they may publish as: a list in TOML, separated by commas elsewhere.
    Producers,
    /// The name of a claim or a cookie; empty for none.
    Word,
    /// Several of one kind: a list in TOML, separated by commas elsewhere.
    List(Entries),
}

/// What a list is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Entries {
    /// Sources of keys.
    Keys,
    /// Grants.
    Grants,
    /// Any names that a token may hold.
    Words,
    /// Rules by which clients belong to regions.
    Geography,
    /// Where nodes of one kind serve, as `http://HOST:PORT` or `https://HOST:PORT`.
    Places,
}

/// What is wrong with a TOML value, and where in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub span: Range<usize>,
    pub message: String,
}

impl Kind {
    /// Reads a value from a flag, an environment variable or a TOML string.
    pub(crate) fn read_text(&self, text: &str) -> Result<Value, String> {
        match self {
            Self::Name => read_name(text),
            Self::Host => check_host(text).map(|()| Value::Name(text.to_owned())),
            Self::Address => text.parse().map(Value::Address).map_err(|_| {
                format!("{text:?} is not an IP address with a port, such as \"127.0.0.1:8080\"")
            }),
            Self::Duration(range) => {
                let duration = parse_duration(text)?;
                within(range, &duration, |duration| DurationText(*duration).to_string())?;
                Ok(Value::Duration(duration))
            }
            Self::Size(range) => {
                let bytes = parse_size(text)?;
                within(range, &bytes, |bytes| SizeText(*bytes).to_string())?;
                Ok(Value::Size(bytes))
            }
            Self::Count(range) => {
                let count = text.parse().map_err(|_| format!("{text:?} is not a whole number"))?;
                within(range, &count, u64::to_string)?;
                Ok(Value::Count(count))
            }
            Self::Switch => match text {
                "true" => Ok(Value::Switch(true)),
                "false" => Ok(Value::Switch(false)),
                _ => Err(format!("{text:?} is neither \"true\" nor \"false\"")),
            },
            Self::Choice(choices) => choices
                .iter()
                .find(|choice| **choice == text)
                .map(|choice| Value::Choice(choice))
                .ok_or_else(|| format!("{text:?} is none of {}", choices.join(", "))),
            Self::Origins => {
                let written: Vec<&str> =
                    text.split(',').map(str::trim).filter(|origin| !origin.is_empty()).collect();
                for origin in &written {
                    check_origin(origin, written.len())?;
                }
                Ok(origins(written.into_iter().map(str::to_owned).collect()))
            }
            Self::Networks => text
                .split(',')
                .map(str::trim)
                .filter(|network| !network.is_empty())
                .map(|network| network.parse::<Network>().map_err(|error| error.to_string()))
                .collect::<Result<_, _>>()
                .map(Value::Networks),
            Self::Peers => {
                let mut peers = Vec::new();
                for written in text.split(',').map(str::trim).filter(|peer| !peer.is_empty()) {
                    add_peer(&mut peers, written)?;
                }
                Ok(Value::Peers(peers))
            }
            Self::Server if text.is_empty() => Ok(Value::Server(None)),
            Self::Server => check_place(text).map(|server| Value::Server(Some(server))),
            Self::Log => read_log(text),
            Self::Directives => EnvFilter::builder()
                .parse(text)
                .map(|_| Value::Directives(text.to_owned()))
                .map_err(|error| format!("{text:?} is not a log level or filter: {error}")),
            Self::Path => Ok(Value::Path((!text.is_empty()).then(|| PathBuf::from(text)))),
            Self::Producers => {
                let written = text.split(',').map(str::trim).filter(|written| !written.is_empty());
                written.map(read_producer).collect::<Result<_, _>>().map(Value::Producers)
            }
            Self::Paths => {
                let written = text.split(',').map(str::trim).filter(|path| !path.is_empty());
                Ok(Value::Paths(written.map(PathBuf::from).collect()))
            }
            Self::Word if text.is_empty() => Ok(Value::Name(String::new())),
            Self::Word => check_word(text).map(|()| Value::Name(text.to_owned())),
            Self::List(of) => {
                let entries = text.split(',').map(str::trim).filter(|entry| !entry.is_empty());
                let entries: Vec<_> = entries.map(str::to_owned).collect();
                entries.iter().try_for_each(|entry| of.check(entry)).map(|()| Value::List(entries))
            }
        }
    }

    /// Reads a value from the configuration file, where numbers, switches and lists have types.
    pub(crate) fn read_toml(&self, value: &Spanned<DeValue<'_>>) -> Result<Value, Vec<Fault>> {
        let read = match (self, value.get_ref()) {
            (Self::Origins, DeValue::Array(array)) => return read_origins(array),
            (Self::Networks, DeValue::Array(array)) => return read_networks(array),
            (Self::Peers, DeValue::Array(array)) => return read_peers(array),
            (Self::List(of), DeValue::Array(array)) => return of.read(array),
            (Self::Paths, DeValue::Array(array)) => return read_paths(array),
            (Self::Producers, DeValue::Array(array)) => return read_producers(array),
            (Self::Switch, DeValue::Boolean(on)) => Ok(Value::Switch(*on)),
            (Self::Count(_) | Self::Size(_) | Self::Duration(_), DeValue::Integer(integer)) => {
                // A negative or huge integer is out of every range; the text says which it was.
                match u64::from_str_radix(integer.as_str(), integer.radix()) {
                    Ok(number) => self.read_text(&number.to_string()),
                    Err(_) => Err(format!("{integer} is out of range: {}", self.range())),
                }
            }
            (
                Self::Name
                | Self::Host
                | Self::Address
                | Self::Duration(_)
                | Self::Size(_)
                | Self::Choice(_)
                | Self::Log
                | Self::Server
                | Self::Directives
                | Self::Word
                | Self::Path,
                DeValue::String(text),
            ) => self.read_text(text),
            (
                _,
                other @ (DeValue::String(_)
                | DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_)
                | DeValue::Array(_)
                | DeValue::Table(_)),
            ) => Err(format!("expected {}, found {}", self.expected(), type_name(other))),
        };
        read.map_err(|message| vec![Fault { span: value.span(), message }])
    }

    /// What a TOML value of this kind is, in words: "expected …".
    pub(crate) fn expected(&self) -> &'static str {
        match self {
            Self::Duration(_) => "a duration in quotes, such as \"15s\"",
            Self::Size(_) => "a number of bytes or a size in quotes, such as \"256KiB\"",
            Self::Count(_) => "a whole number",
            Self::Switch => "true or false",
            Self::Origins => "a list of origins, such as [\"https://example.com\"]",
            Self::Networks => "a list of networks, such as [\"10.0.0.0/8\"]",
            Self::Peers => "a list of nodes, such as [\"edge-b=http://10.0.0.2:8081\"]",
            Self::List(of) => of.expected(),
            Self::Producers => "a list such as [\"spiffe://example.com/pricing/*=pricing-*\"]",
            Self::Paths => "a list of paths, such as [\"edge.pem\"]",
            Self::Name
            | Self::Host
            | Self::Address
            | Self::Choice(_)
            | Self::Log
            | Self::Server
            | Self::Directives
            | Self::Word
            | Self::Path => "text in quotes",
        }
    }

    /// The values allowed, in words, for the reference and for mistakes.
    pub(crate) fn range(&self) -> String {
        match self {
            Self::Name => format!(
                "1 to {NAME_CHARS_MAX} letters, digits, `.`, `_` or `-`"
            ),
            Self::Host => "a name of DNS or an IP address, without a port".to_owned(),
            Self::Address => "an IP address and a port; port 0 lets the system choose".to_owned(),
            Self::Duration(range) => {
                format!("{} to {}", DurationText(*range.start()), DurationText(*range.end()))
            }
            Self::Size(range) => {
                format!("{} to {}", SizeText(*range.start()), SizeText(*range.end()))
            }
            Self::Count(range) => format!("{} to {}", range.start(), range.end()),
            Self::Switch => "`true` or `false`".to_owned(),
            Self::Choice(choices) => choices
                .iter()
                .map(|choice| format!("`{choice}`"))
                .collect::<Vec<_>>()
                .join(" or "),
            Self::Origins => {
                "a list of exact origins, `scheme://host[:port]`, or `*` alone for any".to_owned()
            }
            Self::Networks => "a list of networks, such as `10.0.0.0/8`, `fd00::/8`, or single addresses".to_owned(),
            Self::Peers => {
                "a list of other nodes, `NAME=https://HOST:PORT` or `NAME=http://HOST:PORT`, each named once".to_owned()
            }
            Self::Server => "`https://HOST:PORT` or `http://HOST:PORT`; empty for none".to_owned(),
            Self::Log => "`memory`, `disk:DIR`, `redis://[USER:PASSWORD@]HOST[:PORT],…[/DATABASE]`, `redis-sentinel://HOST:PORT,…/NAME` or `redis-cluster://HOST:PORT,…`; with `rediss` over TLS".to_owned(),
            Self::Directives => {
                "`error`, `warn`, `info`, `debug`, `trace`, `off`, or directives such as `info,evergate_edge=debug`".to_owned()
            }
            Self::Path => "a path; empty for none".to_owned(),
            Self::Word => "printable ASCII without spaces, quotes, commas, semicolons and `=`; empty for none".to_owned(),
            Self::List(of) => of.range().to_owned(),
            Self::Paths => "a list of paths".to_owned(),
            Self::Producers => "a list of `IDENTITY=PRODUCER`; a `*` at the end of either stands for anything, and `*.` at the beginning of an identity for one label of a host's name".to_owned(),
        }
    }

    /// The placeholder of a flag of this kind.
    pub(crate) fn placeholder(&self) -> &'static str {
        match self {
            Self::Name => "NAME",
            Self::Host => "HOST",
            Self::Address => "ADDR",
            Self::Duration(_) => "DURATION",
            Self::Size(_) => "BYTES",
            Self::Count(_) => "N",
            Self::Switch => "BOOL",
            Self::Choice(_) => "CHOICE",
            Self::Origins => "ORIGINS",
            Self::Networks => "NETWORKS",
            Self::Peers => "PEERS",
            Self::Server => "URL",
            Self::Log => "LOG",
            Self::Directives => "LEVEL",
            Self::Path => "FILE",
            Self::Word => "NAME",
            Self::List(_) => "LIST",
            Self::Paths => "FILES",
            Self::Producers => "PRODUCERS",
        }
    }
}

impl Entries {
    fn check(self, entry: &str) -> Result<(), String> {
        match self {
            Self::Keys => KeysAt::parse(entry).map(drop),
            Self::Grants => {
                entry.parse::<Grant>().map(drop).map_err(|error| format!("{entry:?} is no grant: {error}"))
            }
            Self::Words => check_word(entry),
            Self::Places => check_place(entry).map(drop),
            Self::Geography => entry.parse::<GeographyRule>().map(drop).map_err(|error| error.to_string()),
        }
    }

    fn read(self, array: &toml::de::DeArray<'_>) -> Result<Value, Vec<Fault>> {
        let (mut entries, mut faults) = (Vec::new(), Vec::new());
        for element in array {
            let read = match element.get_ref() {
                DeValue::String(text) => self.check(text).map(|()| entries.push(text.to_string())),
                other @ (DeValue::Integer(_)
                | DeValue::Float(_)
                | DeValue::Boolean(_)
                | DeValue::Datetime(_)
                | DeValue::Array(_)
                | DeValue::Table(_)) => Err(format!("expected text in quotes, found {}", type_name(other))),
            };
            if let Err(message) = read {
                faults.push(Fault { span: element.span(), message });
            }
        }
        if faults.is_empty() { Ok(Value::List(entries)) } else { Err(faults) }
    }

    fn expected(self) -> &'static str {
        match self {
            Self::Keys => "a list of sources, such as [\"file:keys.json\"]",
            Self::Grants => "a list of grants, such as [\"news.*\"]",
            Self::Words => "a list of names in quotes",
            Self::Geography => "a list of rules, such as [\"country:DE=eu-west\"]",
            Self::Places => "a list of addresses, such as [\"http://control:8083\"]",
        }
    }

    fn range(self) -> &'static str {
        match self {
            Self::Keys => "a list of `file:PATH` and `https://…`; `http://…` only of this machine",
            Self::Grants => {
                "a list of grants: `STREAM` or `STREAM/KEY`, each exactly or as a prefix with `*` behind it"
            }
            Self::Geography => {
                "a list of `network:NETWORK=REGION`, `country:CODE=REGION`, `continent:CODE=REGION` and `elsewhere=REGION`"
            }
            Self::Places => "a list of addresses, `https://HOST:PORT` or `http://HOST:PORT`",
            Self::Words => {
                "a list of names: printable ASCII without spaces, quotes, commas, semicolons and `=`"
            }
        }
    }
}

/// Checks what stands in a token or a cookie.
fn check_word(text: &str) -> Result<(), String> {
    const BYTES_MAX: usize = 256;
    let plain =
        |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\'' | b',' | b';' | b'=' | b'\\');
    if (1..=BYTES_MAX).contains(&text.len()) && text.bytes().all(plain) {
        Ok(())
    } else {
        Err(format!(
            "{text:?} is no name: 1 to {BYTES_MAX} printable characters of ASCII without spaces, quotes, commas, semicolons and '='"
        ))
    }
}

fn within<T: PartialOrd>(
    range: &RangeInclusive<T>,
    value: &T,
    print: impl Fn(&T) -> String,
) -> Result<(), String> {
    if range.contains(value) {
        Ok(())
    } else {
        Err(format!("{} is out of range: {} to {}", print(value), print(range.start()), print(range.end())))
    }
}

fn check_host(text: &str) -> Result<(), String> {
    const BYTES_MAX: usize = 253;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    let is_name = (1..=BYTES_MAX).contains(&text.len()) && text.bytes().all(plain);
    if is_name || text.parse::<std::net::IpAddr>().is_ok() {
        Ok(())
    } else {
        Err(format!("{text:?} is no host, such as \"edge-a.internal\", \"10.0.0.2\" or \"fd00::2\""))
    }
}

fn read_name(text: &str) -> Result<Value, String> {
    check_name(text).map(Value::Name)
}

fn check_name(text: &str) -> Result<String, String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    if (1..=NAME_CHARS_MAX).contains(&text.len()) && text.chars().all(plain) {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not a name: 1 to {NAME_CHARS_MAX} letters, digits, '.', '_' or '-'"))
    }
}

/// Adds one of the list, `NAME=URL`. Nothing but a host and a port can be asked for.
fn add_peer(peers: &mut Vec<Peer>, written: &str) -> Result<(), String> {
    let (node, url) = written
        .split_once('=')
        .ok_or_else(|| format!("{written:?} is not a node such as \"edge-b=http://10.0.0.2:8081\""))?;
    let node = check_name(node)?;
    if peers.iter().any(|peer| peer.node == node) {
        return Err(format!("node {node:?} is named twice"));
    }
    peers.push(Peer { node, grpc: check_place(url)? });
    Ok(())
}

/// Where a node serves.
pub(super) fn check_place(url: &str) -> Result<http::Uri, String> {
    let wrong = || format!("{url:?} is not an address such as \"http://10.0.0.2:8081\"");
    let parsed = url::Url::parse(url).map_err(|_| wrong())?;
    let bare = parsed.username().is_empty() && parsed.password().is_none() && parsed.path() == "/";
    let whole = parsed.query().is_none() && parsed.fragment().is_none();
    let uri = url.parse::<http::Uri>().ok().filter(|uri| uri.port_u16().is_some_and(|port| port > 0));
    match uri {
        Some(uri) if matches!(parsed.scheme(), "http" | "https") && parsed.has_host() && bare && whole => {
            Ok(uri)
        }
        _ => Err(wrong()),
    }
}

fn read_log(text: &str) -> Result<Value, String> {
    if text == "memory" {
        return Ok(Value::Log(LogChoice::Memory));
    }
    if let Some(directory) = text.strip_prefix("disk:") {
        return if directory.is_empty() {
            Err("\"disk:\" names no directory; write disk:DIR".to_owned())
        } else {
            Ok(Value::Log(LogChoice::Disk(PathBuf::from(directory))))
        };
    }
    // Only the scheme is repeated: what follows it may hold a password.
    match text.split_once("://") {
        Some((scheme, _)) if scheme.starts_with("redis") => match RedisUrl::parse(text) {
            Ok(url) => Ok(Value::Log(LogChoice::Redis(url))),
            Err(error) => Err(error.to_string()),
        },
        Some((scheme, _)) => {
            Err(format!("{scheme}:// is no kind of log; use memory, disk:DIR or redis://HOST:PORT"))
        }
        None => Err(format!("{text:?} is no kind of log; use memory, disk:DIR or redis://HOST:PORT")),
    }
}

/// Checks one of `count` origins.
fn check_origin(origin: &str, count: usize) -> Result<(), String> {
    if origin == "*" {
        return if count == 1 {
            Ok(())
        } else {
            Err("\"*\" allows every origin already; write it alone".to_owned())
        };
    }
    let exact = url::Url::parse(origin)
        .ok()
        .map(|url| url.origin())
        .filter(url::Origin::is_tuple)
        .map(|origin| origin.ascii_serialization());
    match exact {
        Some(exact) if exact == origin => Ok(()),
        Some(exact) => Err(format!("{origin:?} is not an exact origin; a browser sends {exact:?}")),
        None => Err(format!("{origin:?} is not an origin such as \"https://example.com\"")),
    }
}

fn read_origins(array: &toml::de::DeArray<'_>) -> Result<Value, Vec<Fault>> {
    let mut written = Vec::new();
    let mut faults = Vec::new();
    for element in array {
        let checked = match element.get_ref() {
            DeValue::String(origin) => {
                check_origin(origin, array.len()).map(|()| written.push(origin.to_string()))
            }
            other @ (DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_)) => Err(format!("expected an origin in quotes, found {}", type_name(other))),
        };
        if let Err(message) = checked {
            faults.push(Fault { span: element.span(), message });
        }
    }
    if faults.is_empty() { Ok(origins(written)) } else { Err(faults) }
}

fn read_peers(array: &toml::de::DeArray<'_>) -> Result<Value, Vec<Fault>> {
    let (mut peers, mut faults) = (Vec::new(), Vec::new());
    for element in array {
        let read = match element.get_ref() {
            DeValue::String(text) => add_peer(&mut peers, text),
            other @ (DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_)) => Err(format!("expected a node in quotes, found {}", type_name(other))),
        };
        if let Err(message) = read {
            faults.push(Fault { span: element.span(), message });
        }
    }
    if faults.is_empty() { Ok(Value::Peers(peers)) } else { Err(faults) }
}

fn read_networks(array: &toml::de::DeArray<'_>) -> Result<Value, Vec<Fault>> {
    let mut networks = Vec::new();
    let mut faults = Vec::new();
    for element in array {
        let read = match element.get_ref() {
            DeValue::String(text) => text.parse::<Network>().map_err(|error| error.to_string()),
            other @ (DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_)) => Err(format!("expected a network in quotes, found {}", type_name(other))),
        };
        match read {
            Ok(network) => networks.push(network),
            Err(message) => faults.push(Fault { span: element.span(), message }),
        }
    }
    if faults.is_empty() { Ok(Value::Networks(networks)) } else { Err(faults) }
}

/// One of the list, `IDENTITY=PRODUCER`. The last `=` counts: a URI may hold one, a producer's id may not.
fn read_producer(written: &str) -> Result<Producer, String> {
    let (identity, producer) =
        written.rsplit_once('=').filter(|(identity, _)| !identity.is_empty()).ok_or_else(|| {
            format!("{written:?} is no pair such as \"spiffe://example.com/pricing/*=pricing-*\"")
        })?;
    let placed = identity.ends_with('*') || identity.starts_with("*.");
    let stars = identity.matches('*').count();
    if stars > 1 || (stars == 1 && !placed) {
        return Err(format!("{identity:?}: a * stands at the end, or with a dot at the beginning"));
    }
    let bare = producer.strip_suffix('*').unwrap_or(producer);
    if producer != "*" {
        ProducerId::new(bare).map_err(|error| format!("{producer:?}: {error}"))?;
    }
    Ok(Producer { identity: identity.to_owned(), producer: producer.to_owned() })
}

fn read_producers(array: &toml::de::DeArray<'_>) -> Result<Value, Vec<Fault>> {
    let (mut producers, mut faults) = (Vec::new(), Vec::new());
    for element in array {
        let read = match element.get_ref() {
            DeValue::String(text) => read_producer(text),
            other @ (DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_)) => Err(format!("expected a pair in quotes, found {}", type_name(other))),
        };
        match read {
            Ok(producer) => producers.push(producer),
            Err(message) => faults.push(Fault { span: element.span(), message }),
        }
    }
    if faults.is_empty() { Ok(Value::Producers(producers)) } else { Err(faults) }
}

fn read_paths(array: &toml::de::DeArray<'_>) -> Result<Value, Vec<Fault>> {
    let (mut paths, mut faults) = (Vec::new(), Vec::new());
    for element in array {
        let message = match element.get_ref() {
            DeValue::String(text) if text.is_empty() => "an empty path".to_owned(),
            DeValue::String(text) => {
                paths.push(PathBuf::from(text.as_ref()));
                continue;
            }
            other @ (DeValue::Integer(_)
            | DeValue::Float(_)
            | DeValue::Boolean(_)
            | DeValue::Datetime(_)
            | DeValue::Array(_)
            | DeValue::Table(_)) => format!("expected a path in quotes, found {}", type_name(other)),
        };
        faults.push(Fault { span: element.span(), message });
    }
    if faults.is_empty() { Ok(Value::Paths(paths)) } else { Err(faults) }
}

fn origins(written: Vec<String>) -> Value {
    Value::Origins(if written.iter().any(|origin| origin == "*") {
        CorsOrigins::Any
    } else {
        CorsOrigins::Listed(written)
    })
}

/// A TOML type as a reader of the file would call it.
pub(crate) fn type_name(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date or time",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
