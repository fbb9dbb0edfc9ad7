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
    fn a_star_elsewhere_is_refused() {
        for bad in ["", "a*b", "**", "a**"] {
            assert!(KeyPattern::parse(bad).is_err(), "{bad:?}");
        }
    }
}
