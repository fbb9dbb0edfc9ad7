//! What becomes of a subscriber that takes less than it is sent.

use crate::{AgreedPolicies, ByStream, StreamName};

/// What is done about a subscriber whose connection takes no more, once it lies too far behind.
/// Whatever it is, the subscriber is told of each event it does not get.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SlowReader {
    /// It gets everything, late: from memory as far as that reaches, then from the log.
    #[default]
    CatchUp,
    /// It gets the latest event of each key, and a notice (`policy`) for what lay between.
    Conflate,
    /// It is moved to the live end, with a notice (`slow`).
    Gap,
    /// Its connection is reset. It comes back with its own position.
    Disconnect,
}

/// The same for all streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SlowReaders {
    /// For streams that are not named.
    pub default: SlowReader,
    /// For the named ones.
    pub named: ByStream<SlowReader>,
    /// What the cluster agrees on, which holds before all of that.
    pub agreed: AgreedPolicies,
    /// How many events one may lie behind before anything but catching up is done about it.
    pub lag_max: u64,
}

impl SlowReaders {
    /// What holds for this stream.
    #[must_use]
    pub fn of(&self, stream: &StreamName) -> SlowReader {
        let agreed = self.agreed.of(stream, |policy| policy.slow_reader);
        agreed.or_else(|| self.named.get(stream).copied()).unwrap_or(self.default)
    }
}

impl Default for SlowReaders {
    fn default() -> Self {
        Self {
            default: SlowReader::CatchUp,
            named: ByStream::default(),
            agreed: AgreedPolicies::default(),
            lag_max: 1000,
        }
    }
}
