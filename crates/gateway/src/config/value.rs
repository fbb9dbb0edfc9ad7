//! The values settings take once they are read, and how each is printed.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use evergate_domain::Network;
use evergate_eventlog::RedisUrl;

use super::quantity::{DurationText, SizeText};

/// A value that has passed the check of its [`Kind`](super::kind::Kind).
///
/// `Display` prints it as it would be written in a flag or an environment variable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Value {
    Name(String),
    Address(SocketAddr),
    Duration(Duration),
    Size(u64),
    Count(u64),
    Switch(bool),
    Choice(&'static str),
    Origins(CorsOrigins),
    Networks(Vec<Network>),
    Peers(Vec<Peer>),
    Server(Option<http::Uri>),
    Log(LogChoice),
    Directives(String),
    Path(Option<PathBuf>),
    /// Entries that were checked each for itself.
    List(Vec<String>),
    Paths(Vec<PathBuf>),
    Producers(Vec<Producer>),
}

/// Another node, and where it serves gRPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub node: String,
    pub grpc: http::Uri,
}

/// Who proves to be `identity` may publish as `producer`; both may be patterns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Producer {
    pub identity: String,
    pub producer: String,
}

/// Where keys are that vouch for tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum KeysAt {
    /// A JSON Web Key Set of our own, which may hold shared secrets.
    File(PathBuf),
    /// One that an issuer publishes.
    Url(url::Url),
}

impl KeysAt {
    /// Reads `file:PATH`, `https://…`, or `http://…` where that does not leave the machine.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("file:") {
            return if path.is_empty() {
                Err("\"file:\" names no file; write file:PATH".to_owned())
            } else {
                Ok(Self::File(PathBuf::from(path)))
            };
        }
        // What stands behind the scheme is not repeated: it may hold a password.
        let url = url::Url::parse(text).map_err(|_| {
            "an entry is neither file:PATH nor an address such as https://issuer.example/keys".to_owned()
        })?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("an address with a user or a password in it would be written to the log".to_owned());
        }
        let local = match url.host() {
            Some(url::Host::Ipv4(address)) => address.is_loopback(),
            Some(url::Host::Ipv6(address)) => address.is_loopback(),
            Some(url::Host::Domain(name)) => name == "localhost",
            None => false,
        };
        match url.scheme() {
            "https" => Ok(Self::Url(url)),
            "http" if local => Ok(Self::Url(url)),
            "http" => Err("keys that come by http could be anybody's; write https".to_owned()),
            scheme => Err(format!("{scheme} is neither file nor https")),
        }
    }
}

/// Which pages of other origins may read the streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum CorsOrigins {
    Any,
    /// Exact origins, `scheme://host[:port]`. Empty: same-origin pages only.
    Listed(Vec<String>),
}

/// Which event log the process opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LogChoice {
    /// Kept in memory, lost with the process.
    Memory,
    /// Durable, in this directory.
    Disk(PathBuf),
    /// In this Redis.
    Redis(RedisUrl),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(text) | Self::Directives(text) => f.write_str(text),
            Self::Address(address) => address.fmt(f),
            Self::Duration(duration) => DurationText(*duration).fmt(f),
            Self::Size(bytes) => SizeText(*bytes).fmt(f),
            Self::Count(count) => count.fmt(f),
            Self::Switch(on) => on.fmt(f),
            Self::Choice(choice) => f.write_str(choice),
            Self::Origins(origins) => origins.fmt(f),
            Self::Networks(networks) => {
                let written: Vec<_> = networks.iter().map(Network::to_string).collect();
                f.write_str(&written.join(","))
            }
            Self::Peers(peers) => {
                let written: Vec<_> = peers.iter().map(Peer::to_string).collect();
                f.write_str(&written.join(","))
            }
            Self::Server(server) => {
                let written = server.as_ref().map(ToString::to_string).unwrap_or_default();
                f.write_str(written.trim_end_matches('/'))
            }
            Self::Log(choice) => choice.fmt(f),
            Self::List(entries) => f.write_str(&entries.join(",")),
            Self::Path(path) => path.iter().try_for_each(|path| path.display().fmt(f)),
            Self::Producers(producers) => {
                let written: Vec<_> = producers.iter().map(Producer::to_string).collect();
                f.write_str(&written.join(","))
            }
            Self::Paths(paths) => {
                let written: Vec<_> = paths.iter().map(|path| path.display().to_string()).collect();
                f.write_str(&written.join(","))
            }
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.node, self.grpc.to_string().trim_end_matches('/'))
    }
}

impl fmt::Display for Producer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.identity, self.producer)
    }
}

impl fmt::Display for CorsOrigins {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Any => f.write_str("*"),
            Self::Listed(origins) => f.write_str(&origins.join(",")),
        }
    }
}

impl fmt::Display for LogChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Memory => f.write_str("memory"),
            Self::Disk(directory) => write!(f, "disk:{}", directory.display()),
            // Without the password: it goes into logs.
            Self::Redis(url) => url.fmt(f),
        }
    }
}
