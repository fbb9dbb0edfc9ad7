//! What a cluster agrees on for streams, as whoever goes by it sees it.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use crate::StreamName;
use crate::cluster::StreamPolicy;

/// The policies of the streams that have one. It holds before what a process is configured with; clones are
/// the same, and are told the same. Empty until somebody says otherwise.
#[derive(Clone, Default)]
pub struct AgreedPolicies(Arc<RwLock<BTreeMap<StreamName, StreamPolicy>>>);

impl AgreedPolicies {
    /// From now on these hold, and no others.
    pub fn replace(&self, policies: BTreeMap<StreamName, StreamPolicy>) {
        // Nothing can fail while it is held, so it is never poisoned.
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = policies;
    }

    /// Looks at a stream's policy, if it has one.
    pub fn of<T>(&self, stream: &StreamName, look: impl FnOnce(&StreamPolicy) -> T) -> Option<T> {
        self.0.read().unwrap_or_else(PoisonError::into_inner).get(stream).map(look)
    }
}

impl PartialEq for AgreedPolicies {
    /// Whether they are told the same.
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
            || *self.0.read().unwrap_or_else(PoisonError::into_inner)
                == *other.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Eq for AgreedPolicies {}

impl fmt::Debug for AgreedPolicies {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.read().unwrap_or_else(PoisonError::into_inner).fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::AfterDegradation;
    use crate::{Level, Retention, SlowReader, SlowReaders, StreamLevels, StreamPolicies};

    #[test]
    fn a_level_that_is_agreed_on_raises_what_is_configured_and_never_lowers_it() {
        let stream = |name: &str| StreamName::new(name).expect("a name");
        let mut levels = StreamLevels::all(Level::Home);
        levels.named.insert(stream("order"), Level::Replicated);
        let policy = |level| StreamPolicy {
            retention: Retention::FOREVER,
            level,
            slow_reader: SlowReader::CatchUp,
            after_degradation: AfterDegradation::Replay,
        };
        levels.agreed.replace(
            [("order", Level::Home), ("quote", Level::Replicated)]
                .map(|(name, level)| (stream(name), policy(level)))
                .into(),
        );
        assert_eq!(levels.of(&stream("order")), Level::Replicated);
        assert_eq!(levels.of(&stream("quote")), Level::Replicated);
        assert_eq!(levels.of(&stream("news")), Level::Home);
    }

    #[test]
    fn what_is_agreed_on_holds_before_what_is_configured() {
        let stream = |name: &str| StreamName::new(name).expect("a name");
        let kept = |events| Retention { events: Some(events), ..Retention::FOREVER };
        let mut policies = StreamPolicies { closed: true, ..StreamPolicies::open(kept(1)) };
        policies.named.insert(stream("quote"), kept(2));
        let slow = SlowReaders { agreed: policies.agreed.clone(), ..SlowReaders::default() };
        assert!(policies.exists(&stream("quote")) && !policies.exists(&stream("news")));
        let policy = |events| StreamPolicy {
            retention: kept(events),
            level: Level::Home,
            slow_reader: SlowReader::Gap,
            after_degradation: AfterDegradation::Replay,
        };
        let agreed = [("quote", 3), ("news", 4)].map(|(name, events)| (stream(name), policy(events)));
        policies.agreed.replace(agreed.into());
        assert_eq!(policies.retention(&stream("quote")), kept(3));
        assert_eq!(policies.retention(&stream("news")), kept(4));
        assert!(policies.exists(&stream("news")), "somebody has said what holds for it");
        assert_eq!(slow.of(&stream("quote")), SlowReader::Gap);
        assert_eq!(slow.of(&stream("weather")), SlowReader::CatchUp);
        policies.agreed.replace(BTreeMap::new());
        assert_eq!(policies.retention(&stream("quote")), kept(2), "as it was configured");
        assert!(!policies.exists(&stream("news")));
    }
}
