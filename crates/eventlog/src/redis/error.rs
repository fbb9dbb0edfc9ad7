//! Why a Redis log cannot be used, and what an error from Redis means for the call that met it.

use evergate_domain::{Level, StreamName};
use redis::{ErrorKind, RedisError, ServerErrorKind};

use crate::BackendError;

/// Why the log could not be opened. Each message is one sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum RedisOpenError {
    /// The address makes no sense.
    #[error("the Redis URL {0}")]
    Url(String),
    /// Nobody answers.
    #[error("no Redis answers at {at}: {why}; check the address, that the server runs, and what is between")]
    Unreachable {
        /// Host and port.
        at: String,
        /// What happened.
        why: String,
    },
    /// The user or the password is wrong.
    #[error(
        "Redis at {at} refuses the user or password ({why}); write them as redis://USER:PASSWORD@HOST:PORT"
    )]
    Login {
        /// Host and port.
        at: String,
        /// What Redis said.
        why: String,
    },
    /// Functions and sharded Pub/Sub came with 7.0.
    #[error("Redis at {at} is version {version}; the log needs 7.0 or later, or any Valkey")]
    TooOld {
        /// Host and port.
        at: String,
        /// What it says it is.
        version: String,
    },
    /// A replica takes no appends.
    #[error("Redis at {at} is a replica of {primary}; give the address of the primary")]
    Replica {
        /// Host and port.
        at: String,
        /// Host and port of its primary.
        primary: String,
    },
    /// A node of a cluster needs a slot map.
    #[error("Redis at {at} is a node of a cluster; write redis-cluster://{at}")]
    Cluster {
        /// Host and port.
        at: String,
    },
    /// It answers, but there is no cluster.
    #[error("Redis at {at} is no node of a cluster; write redis://HOST:PORT for a server that stands alone")]
    NoCluster {
        /// Hosts and ports.
        at: String,
    },
    /// A cluster has no primary for some of the keys.
    #[error(
        "the Redis cluster has no primary for {many} of the log's 256 slots; repair it, see CLUSTER INFO"
    )]
    Uncovered {
        /// How many.
        many: usize,
    },
    /// No Sentinel can tell who the primary is.
    #[error(
        "no Sentinel answers at {at}: {why}; check the addresses, and the login in redis.sentinel_login_file"
    )]
    NoSentinel {
        /// Hosts and ports.
        at: String,
        /// What happened.
        why: String,
    },
    /// The Sentinels know no primary of this name.
    #[error("the Sentinels at {at} monitor nothing called {name}; see SENTINEL MASTERS")]
    NotMonitored {
        /// Hosts and ports.
        at: String,
        /// The name.
        name: String,
    },
    /// The keys were divided among other servers, or in another order.
    #[error(
        "Redis at {at} holds the log's share {found}, and in this list it would be {wanted}; give the servers in the order in which the log was begun, or move it to new ones"
    )]
    Divided {
        /// Host and port.
        at: String,
        /// What it says it is.
        found: String,
        /// What it would be.
        wanted: String,
    },
    /// A server holds what would be looked for elsewhere.
    #[error(
        "Redis at {at} holds events of the log's slot {slot}, which in this list of servers would be looked for at {elsewhere}; give the servers with which the log was begun, in that order"
    )]
    Misplaced {
        /// Host and port.
        at: String,
        /// The slot.
        slot: u8,
        /// Where its keys belong.
        elsewhere: String,
    },
    /// It would throw events away without a word.
    #[error(
        "Redis at {at} has maxmemory-policy {policy}, which throws events away without a word; set it to noeviction"
    )]
    Evicts {
        /// Host and port.
        at: String,
        /// The policy.
        policy: String,
    },
    /// The user may not do what the log does.
    #[error("the Redis user lacks the permission for {commands}; docs/redis.md has an ACL that suffices")]
    Permissions {
        /// What is missing.
        commands: String,
    },
    /// Somebody else uses our names.
    #[error(
        "the Redis key {key} holds a {found} where the log keeps a {wanted}; something else uses keys that begin with \"evergate:\", so rename those or give the log a database of its own"
    )]
    Foreign {
        /// The key.
        key: String,
        /// What type it has.
        found: String,
        /// What type it should have.
        wanted: &'static str,
    },
    /// A stream has another level for good.
    #[error(
        "the stream {stream} was made at {}, and {} is configured for it; a stream keeps its level, so configure that, or take another name", made.as_str(), configured.as_str()
    )]
    Level {
        /// The stream.
        stream: StreamName,
        /// What it was made at.
        made: Level,
        /// What is configured for it.
        configured: Level,
    },
    /// Anything else Redis said.
    #[error("Redis at {at} failed while the log was being opened: {why}")]
    Failed {
        /// Host and port.
        at: String,
        /// What it said.
        why: String,
    },
}

/// What became of a call that failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fate {
    /// Redis refused it before it began: it may be sent again at once.
    NotExecuted,
    /// Nobody knows. It may only be repeated if that is harmless.
    Unknown,
    /// Refused for want of memory or disk.
    Full,
    /// The library is not there: it was flushed, or the server lost its data.
    NoLibrary,
    /// It will fail again.
    Hopeless,
}

/// Judges an error.
pub(super) fn fate(error: &RedisError) -> Fate {
    match error.code() {
        Some("OOM" | "MISCONF") => return Fate::Full,
        Some("NOREPLICAS" | "BUSY" | "UNBLOCKED" | "CLUSTERDOWN" | "TRYAGAIN") => return Fate::NotExecuted,
        Some(_) | None => {}
    }
    match error.kind() {
        ErrorKind::Server(kind) => match kind {
            ServerErrorKind::BusyLoading
            | ServerErrorKind::Moved
            | ServerErrorKind::Ask
            | ServerErrorKind::TryAgain
            | ServerErrorKind::ClusterDown
            | ServerErrorKind::MasterDown
            | ServerErrorKind::ReadOnly
            | ServerErrorKind::ExecAbort => Fate::NotExecuted,
            ServerErrorKind::ResponseError if no_function(error) => Fate::NoLibrary,
            _ => Fate::Hopeless,
        },
        ErrorKind::Io | ErrorKind::Parse => Fate::Unknown,
        _ if error.is_timeout() || error.is_connection_dropped() => Fate::Unknown,
        _ => Fate::Hopeless,
    }
}

fn no_function(error: &RedisError) -> bool {
    error.detail().is_some_and(|detail| detail.contains("Function not found"))
}

/// Whether the connection is of no use any more. A timeout does not say so: the server may have
/// been stopped for a moment, and the connection still keeps the order of what was sent over it.
pub(super) fn breaks(error: &RedisError) -> bool {
    match fate(error) {
        Fate::Unknown => !error.is_timeout() || error.is_connection_dropped(),
        // Reconnecting looks whether the server is still the one to talk to, and loads the library.
        Fate::NoLibrary => true,
        Fate::NotExecuted => matches!(error.code(), Some("READONLY" | "MASTERDOWN")),
        Fate::Full | Fate::Hopeless => false,
    }
}

/// An answer that makes no sense.
pub(super) fn odd(what: &str) -> BackendError {
    BackendError::message(format!("Redis answered {what} in a form that is not known"))
}
