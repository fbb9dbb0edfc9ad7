//! What a cluster agrees on for streams and rates, as whoever goes by it sees it.

use std::collections::BTreeMap;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::cluster::{Limit, LimitName, StreamPolicy};
use crate::{Rate, StreamName};

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

/// The rates that are agreed on. Each holds before what a process is configured with; clones are the same, and are
/// told the same. None until somebody says otherwise. Looked at wherever something is counted, so a look is one load.
#[derive(Debug, Clone, Default)]
pub struct AgreedLimits(Arc<[AtomicU64; LimitName::ALL.len()]>);

impl AgreedLimits {
    /// From now on these hold, and no others. What no edge goes by is passed over.
    pub fn replace(&self, limits: &BTreeMap<String, Limit>) {
        for (name, place) in LimitName::ALL.into_iter().zip(&*self.0) {
            let limit = limits.get(name.as_str()).map_or(0, |limit| packed(*limit));
            place.store(limit, Ordering::Relaxed);
        }
    }

    /// The rate of something, if one is agreed on.
    #[must_use]
    pub fn of(&self, name: LimitName) -> Option<Rate> {
        let packed = self.0[name as usize].load(Ordering::Relaxed);
        let number = |bits: u64| u32::try_from(bits & u64::from(u32::MAX)).ok().and_then(NonZeroU32::new);
        Some(Rate::new(number(packed >> 32)?, number(packed)?))
    }
}

/// Both numbers of a limit in one, so that nobody sees halves of two.
fn packed(limit: Limit) -> u64 {
    u64::from(limit.per_second) << 32 | u64::from(limit.burst)
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
    fn a_limit_holds_until_it_is_taken_back() {
        let agreed = AgreedLimits::default();
        let seen = agreed.clone();
        assert_eq!(LimitName::ALL.map(|name| seen.of(name)), [None; LimitName::ALL.len()]);
        let limit = |per_second, burst| Limit { per_second, burst };
        let rate = |limit: Limit| limit.rate();
        let (few, many) = (limit(1, 2), limit(u32::MAX, u32::MAX));
        let both = [("calls", few), ("stream_publishes", many), ("of another release", few)];
        agreed.replace(&both.map(|(name, limit)| (name.to_owned(), limit)).into());
        assert_eq!(seen.of(LimitName::Calls), rate(few));
        assert_eq!(seen.of(LimitName::StreamPublishes), rate(many));
        assert_eq!(seen.of(LimitName::Publishes), None);
        agreed.replace(&BTreeMap::new());
        assert_eq!(seen.of(LimitName::Calls), None);
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
