//! What holds for which stream.

use crate::{AgreedPolicies, ByStream, Level, Retention, StreamName};

/// The policies of all streams: one for those that are named, a default for the rest.
#[derive(Debug, Clone, Default)]
pub struct StreamPolicies {
    /// Whether only named streams exist. Otherwise every stream does, from its first subscribe or
    /// publish.
    pub closed: bool,
    /// Retention of streams that are not named.
    pub default: Retention,
    /// Retention of the named ones.
    pub named: ByStream<Retention>,
    /// What the cluster agrees on, which holds before all of that.
    pub agreed: AgreedPolicies,
}

impl StreamPolicies {
    /// Every stream exists, with this retention.
    #[must_use]
    pub fn open(default: Retention) -> Self {
        Self { closed: false, default, named: ByStream::default(), agreed: AgreedPolicies::default() }
    }

    /// Whether the stream may be used at all.
    #[must_use]
    pub fn exists(&self, stream: &StreamName) -> bool {
        !self.closed || self.named.get(stream).is_some() || self.agreed.of(stream, |_| ()).is_some()
    }

    /// How much of the stream is kept.
    #[must_use]
    pub fn retention(&self, stream: &StreamName) -> Retention {
        let agreed = self.agreed.of(stream, |policy| policy.retention);
        agreed.or_else(|| self.named.get(stream).copied()).unwrap_or(self.default)
    }
}

/// The levels at which streams are made, where the log has more than one to give.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StreamLevels {
    /// For streams that are not named.
    pub default: Level,
    /// For the named ones.
    pub named: ByStream<Level>,
    /// What the cluster agrees on, which raises what is configured and never lowers it: a policy also speaks of
    /// streams about whose level nobody has thought.
    pub agreed: AgreedPolicies,
}

impl StreamLevels {
    /// The same for all streams.
    #[must_use]
    pub fn all(default: Level) -> Self {
        Self { default, named: ByStream::default(), agreed: AgreedPolicies::default() }
    }

    /// The highest that any stream is configured to have.
    #[must_use]
    pub fn highest(&self) -> Level {
        self.named.values().copied().fold(self.default, Level::max)
    }

    /// What holds for this stream, unless it was made at another level before.
    #[must_use]
    pub fn of(&self, stream: &StreamName) -> Level {
        let configured = self.named.get(stream).copied().unwrap_or(self.default);
        self.agreed.of(stream, |policy| policy.level).map_or(configured, |agreed| agreed.max(configured))
    }
}
