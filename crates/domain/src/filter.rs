//! Which of a stream's events a subscriber wants to see.

use std::collections::BTreeSet;

use crate::{Key, NameError};

/// One wish: a key exactly, or every key with a prefix.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum KeyPattern {
    /// `AAPL`.
    Exact(Key),
    /// `A*`; a bare `*` is every event that has a key.
    Prefix(String),
}

impl KeyPattern {
    /// Reads `AAPL` or `A*`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        match text.strip_suffix('*') {
            Some("") => Ok(Self::Prefix(String::new())),
            Some(prefix) => Ok(Self::Prefix(Key::new(prefix)?.as_str().to_owned())),
            None => Ok(Self::Exact(Key::new(text)?)),
        }
    }
}

/// The wishes of one subscriber for one stream. No wish means everything; with any, an event
/// without a key is not shown.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct KeyFilter {
    exact: BTreeSet<Key>,
    prefixes: Vec<String>,
}

impl KeyFilter {
    /// Everything.
    #[must_use]
    pub fn all() -> Self {
        Self::default()
    }

    /// Adds a wish.
    pub fn add(&mut self, pattern: KeyPattern) {
        match pattern {
            KeyPattern::Exact(key) => {
                self.exact.insert(key);
            }
            KeyPattern::Prefix(prefix) => {
                if !self.prefixes.contains(&prefix) {
                    self.prefixes.push(prefix);
                }
            }
        }
    }

    /// Every wish once, in an order that does not depend on how they were given.
    #[must_use]
    pub fn patterns(&self) -> BTreeSet<KeyPattern> {
        let exact = self.exact.iter().cloned().map(KeyPattern::Exact);
        exact.chain(self.prefixes.iter().cloned().map(KeyPattern::Prefix)).collect()
    }

    /// Whether nothing is filtered.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.exact.is_empty() && self.prefixes.is_empty()
    }

    /// What of these wishes lies within `granted`; `None` if there is a wish of which nothing does.
    ///
    /// A wish that is granted in part is narrowed to that part. One that is not granted at all is not
    /// passed over in silence: whoever made it would wait for events that never come.
    #[must_use]
    pub fn within(&self, granted: &Self) -> Option<Self> {
        if granted.is_all() {
            return Some(self.clone());
        }
        if self.is_all() {
            return Some(granted.clone());
        }
        let granted = granted.patterns();
        let mut narrowed = Self::all();
        for wish in self.patterns() {
            let mut met = false;
            for pattern in granted.iter().filter_map(|pattern| wish.and(pattern)) {
                met = true;
                narrowed.add(pattern);
            }
            if !met {
                return None;
            }
        }
        Some(narrowed)
    }

    /// Whether everything that `other` shows is shown by this one, too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        if self.is_all() || other.is_all() {
            return self.is_all();
        }
        let own = self.patterns();
        other
            .patterns()
            .iter()
            .all(|pattern| own.iter().any(|one| one.and(pattern).as_ref() == Some(pattern)))
    }

    /// Whether an event with this key is wanted.
    #[must_use]
    pub fn matches(&self, key: Option<&Key>) -> bool {
        if self.is_all() {
            return true;
        }
        let Some(key) = key else { return false };
        self.exact.contains(key) || self.prefixes.iter().any(|prefix| key.as_str().starts_with(prefix))
    }
}

impl KeyPattern {
    /// Whether an event with this key is meant.
    #[must_use]
    pub fn matches(&self, key: &Key) -> bool {
        match self {
            Self::Exact(own) => own == key,
            Self::Prefix(prefix) => key.as_str().starts_with(prefix.as_str()),
        }
    }

    /// What both show; the shorter of two prefixes shows all of the longer.
    fn and(&self, other: &Self) -> Option<Self> {
        match (self, other) {
            (Self::Exact(a), Self::Exact(b)) => (a == b).then(|| self.clone()),
            (Self::Exact(key), Self::Prefix(prefix)) | (Self::Prefix(prefix), Self::Exact(key)) => {
                key.as_str().starts_with(prefix).then(|| Self::Exact(key.clone()))
            }
            (Self::Prefix(a), Self::Prefix(b)) if a.starts_with(b.as_str()) => Some(self.clone()),
            (Self::Prefix(a), Self::Prefix(b)) if b.starts_with(a.as_str()) => Some(other.clone()),
            (Self::Prefix(_), Self::Prefix(_)) => None,
        }
    }
}

impl FromIterator<KeyPattern> for KeyFilter {
    fn from_iter<I: IntoIterator<Item = KeyPattern>>(patterns: I) -> Self {
        let mut filter = Self::all();
        for pattern in patterns {
            filter.add(pattern);
        }
        filter
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(patterns: &[&str]) -> KeyFilter {
        patterns.iter().map(|p| KeyPattern::parse(p).expect("valid")).collect()
    }

    fn key(text: &str) -> Key {
        Key::new(text).expect("valid")
    }

    #[test]
    fn no_pattern_shows_everything() {
        assert!(filter(&[]).matches(None));
        assert!(filter(&[]).matches(Some(&key("a"))));
    }

    #[test]
    fn exact_and_prefix() {
        let filter = filter(&["AAPL", "order-*"]);
        assert!(filter.matches(Some(&key("AAPL"))));
        assert!(!filter.matches(Some(&key("AAPLX"))));
        assert!(filter.matches(Some(&key("order-7"))));
        assert!(filter.matches(Some(&key("order-"))));
        assert!(!filter.matches(Some(&key("order"))));
        assert!(!filter.matches(None));
    }

    #[test]
    fn a_star_alone_is_every_key_but_not_no_key() {
        assert!(filter(&["*"]).matches(Some(&key("x"))));
        assert!(!filter(&["*"]).matches(None));
    }

    #[test]
    fn wishes_are_narrowed_to_what_is_granted() {
        let within = |wishes: &[&str], granted: &[&str]| {
            filter(wishes).within(&filter(granted)).map(|filter| {
                let patterns = filter.patterns().into_iter().map(|pattern| match pattern {
                    KeyPattern::Exact(key) => key.to_string(),
                    KeyPattern::Prefix(prefix) => format!("{prefix}*"),
                });
                patterns.collect::<Vec<_>>().join(" ")
            })
        };
        assert_eq!(within(&["a", "b*"], &[]).as_deref(), Some("a b*"));
        assert_eq!(within(&[], &["a", "b*"]).as_deref(), Some("a b*"));
        assert_eq!(within(&["a*"], &["abc", "ab*", "b"]).as_deref(), Some("abc ab*"));
        assert_eq!(within(&["abc", "abd*"], &["ab*"]).as_deref(), Some("abc abd*"));
        // One wish that is not granted refuses all of them.
        assert_eq!(within(&["a", "b"], &["a*"]), None);
        assert_eq!(within(&["a*"], &["b*"]), None);
    }

    #[test]
    fn a_filter_covers_what_it_shows_itself() {
        for (own, other, covers) in [
            (&[][..], &["a"][..], true),
            (&["*"], &[], false),
            (&["a*", "ab*"], &["a*"], true),
            (&["a*", "b"], &["ab", "a*", "b"], true),
            (&["ab*"], &["a*"], false),
            (&["a"], &["a*"], false),
        ] {
            assert_eq!(filter(own).covers(&filter(other)), covers, "{own:?} {other:?}");
        }
    }

    #[test]
    fn a_star_elsewhere_is_refused() {
        for bad in ["", "a*b", "**", "a**"] {
            assert!(KeyPattern::parse(bad).is_err(), "{bad:?}");
        }
    }
}
