//! What holds for which stream.

use std::collections::HashMap;

use crate::{Retention, StreamName};

/// The policies of all streams: one for each that is named, a default for the rest.
#[derive(Debug, Clone, Default)]
pub struct StreamPolicies {
    /// Whether only named streams exist. Otherwise every stream does, from its first subscribe or
    /// publish.
    pub closed: bool,
    /// Retention of streams that are not named.
    pub default: Retention,
    /// Retention of the named ones.
    pub named: HashMap<StreamName, Retention>,
}

impl StreamPolicies {
    /// Every stream exists, with this retention.
    #[must_use]
    pub fn open(default: Retention) -> Self {
        Self { closed: false, default, named: HashMap::new() }
    }

    /// Whether the stream may be used at all.
    #[must_use]
    pub fn exists(&self, stream: &StreamName) -> bool {
        !self.closed || self.named.contains_key(stream)
    }

    /// How much of the stream is kept.
    #[must_use]
    pub fn retention(&self, stream: &StreamName) -> Retention {
        self.named.get(stream).copied().unwrap_or(self.default)
    }
}
