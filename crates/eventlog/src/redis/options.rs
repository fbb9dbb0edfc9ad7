//! How a Redis log behaves.

use std::num::NonZeroU32;
use std::time::Duration;

use evergate_domain::StreamLevels;

use super::RedisUrl;

/// Settings of a [`RedisLog`](super::RedisLog), each with its consequence.
#[derive(Debug, Clone)]
pub struct RedisOptions {
    /// Where Redis is.
    pub url: RedisUrl,
    /// The certificates, in PEM, of those who may vouch for a server over TLS. None takes the system's.
    pub ca: Option<Vec<u8>>,
    /// User, which may be empty, and password for the Sentinels, if they want any.
    pub sentinel_login: Option<SentinelLogin>,
    /// How safe an acknowledged event is: in Redis' memory, or in a replica's too. Fixed for each
    /// stream at its first event.
    pub levels: StreamLevels,
    /// How many replicas must have an event before it is acknowledged above `HOME`. Fewer than there
    /// are, and one that never had it may be promoted; as many, and none may be missing.
    pub confirmations: NonZeroU32,
    /// How long a connection may take. Too small, and a busy server is never reached.
    pub connect_timeout: Duration,
    /// How long an answer may take before it counts as unknown. Too small, and a slow moment of
    /// Redis makes appends be sent twice (and stored once); too large, and a dead one is noticed late.
    pub response_timeout: Duration,
    /// How long an append is retried before its publisher is told that its fate is unknown.
    pub append_timeout: Duration,
    /// How long one confirmation by a replica may take. It holds up everything behind it.
    pub confirm_timeout: Duration,
    /// How often the tails of followed streams are compared: what bounds a silent stall.
    pub compare_every: Duration,
    /// Appends that wait to be sent. When it is full, callers wait.
    pub queue_batches: usize,
    /// Bytes that wait to be sent or answered, at `HOME` and as many above it. When they are used up,
    /// callers wait.
    pub queue_bytes: u64,
}

/// Who to be for Sentinels.
#[derive(Clone)]
pub struct SentinelLogin {
    /// The user; empty for the default one.
    pub user: String,
    /// The password.
    pub password: String,
}

/// Never shows a password.
impl std::fmt::Debug for SentinelLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SentinelLogin").field("user", &self.user).finish_non_exhaustive()
    }
}

impl RedisOptions {
    /// The defaults.
    #[must_use]
    pub fn new(url: RedisUrl) -> Self {
        Self {
            url,
            ca: None,
            sentinel_login: None,
            levels: StreamLevels::default(),
            confirmations: NonZeroU32::MIN,
            connect_timeout: Duration::from_secs(2),
            response_timeout: Duration::from_secs(2),
            append_timeout: Duration::from_secs(8),
            confirm_timeout: Duration::from_millis(500),
            compare_every: Duration::from_secs(1),
            queue_batches: 4096,
            queue_bytes: 64 << 20,
        }
    }
}
