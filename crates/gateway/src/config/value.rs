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
    Log(LogChoice),
    Directives(String),
    Path(Option<PathBuf>),
}

/// Another node, and where it serves gRPC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Peer {
    pub node: String,
    pub grpc: http::Uri,
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
            Self::Log(choice) => choice.fmt(f),
            Self::Path(path) => path.iter().try_for_each(|path| path.display().fmt(f)),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.node, self.grpc.to_string().trim_end_matches('/'))
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
