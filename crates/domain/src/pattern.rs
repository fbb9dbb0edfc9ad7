//! Which streams something is meant for: one by its name, or all whose names begin alike.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use crate::{NameError, StreamName};

/// A stream's name, or the beginning of many, written with a `*` at the end: `quote`, `quote.*`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum StreamPattern {
    /// This stream.
    Exact(StreamName),
    /// Every stream whose name begins so, with or without more after it.
    Prefix(StreamName),
}

impl StreamPattern {
    /// Whether whatever fits `other` fits this too.
    #[must_use]
    pub fn covers(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Exact(name), Self::Exact(other)) => name == other,
            (Self::Exact(_), Self::Prefix(_)) => false,
            (Self::Prefix(start), Self::Exact(other) | Self::Prefix(other)) => {
                other.as_str().starts_with(start.as_str())
            }
        }
    }

    /// Orders patterns that cover the same stream: the narrower one is greater.
    #[must_use]
    pub fn narrowness(&self) -> impl Ord + use<> {
        match self {
            Self::Exact(name) => (name.as_str().len(), true),
            Self::Prefix(start) => (start.as_str().len(), false),
        }
    }
}

impl FromStr for StreamPattern {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        match text.strip_suffix('*') {
            Some(start) => StreamName::new(start).map(Self::Prefix),
            None => StreamName::new(text).map(Self::Exact),
        }
    }
}

impl fmt::Display for StreamPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(name) => write!(f, "{name}"),
            Self::Prefix(start) => write!(f, "{start}*"),
        }
    }
}

impl From<StreamName> for StreamPattern {
    fn from(name: StreamName) -> Self {
        Self::Exact(name)
    }
}

/// Something that differs from stream to stream. Where several patterns fit, the narrowest counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ByStream<T> {
    exact: HashMap<StreamName, T>,
    /// The longest first. There are few: each is written by hand.
    prefixes: Vec<(StreamName, T)>,
}

impl<T> ByStream<T> {
    /// Notes what holds for streams that fit the pattern, in place of what held before.
    pub fn insert(&mut self, pattern: impl Into<StreamPattern>, value: T) {
        match pattern.into() {
            StreamPattern::Exact(name) => {
                self.exact.insert(name, value);
            }
            StreamPattern::Prefix(start) => {
                self.prefixes.retain(|(known, _)| *known != start);
                let length = Reverse(start.as_str().len());
                let at = self.prefixes.partition_point(|(known, _)| Reverse(known.as_str().len()) <= length);
                self.prefixes.insert(at, (start, value));
            }
        }
    }

    /// What holds for this stream, if any pattern fits it.
    #[must_use]
    pub fn get(&self, stream: &StreamName) -> Option<&T> {
        let by_prefix = || {
            let fits = |(start, _): &&(StreamName, T)| stream.as_str().starts_with(start.as_str());
            self.prefixes.iter().find(fits).map(|(_, value)| value)
        };
        self.exact.get(stream).or_else(by_prefix)
    }

    /// Whether this stream is named in full.
    #[must_use]
    pub fn is_exact(&self, stream: &StreamName) -> bool {
        self.exact.contains_key(stream)
    }

    /// All there are, in no order.
    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.exact.values().chain(self.prefixes.iter().map(|(_, value)| value))
    }

    /// Every stream that is named in full, in no order.
    pub fn exact(&self) -> impl Iterator<Item = (&StreamName, &T)> {
        self.exact.iter()
    }
}

impl<T> Default for ByStream<T> {
    fn default() -> Self {
        Self { exact: HashMap::new(), prefixes: Vec::new() }
    }
}

impl<P: Into<StreamPattern>, T> FromIterator<(P, T)> for ByStream<T> {
    fn from_iter<I: IntoIterator<Item = (P, T)>>(pairs: I) -> Self {
        let mut all = Self::default();
        for (pattern, value) in pairs {
            all.insert(pattern, value);
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pattern(text: &str) -> StreamPattern {
        text.parse().expect("valid")
    }

    fn name(text: &str) -> StreamName {
        StreamName::new(text).expect("valid")
    }

    #[test]
    fn a_pattern_is_a_name_or_the_beginning_of_names() {
        for text in ["quote", "quote*", "quote.*", "q*"] {
            assert_eq!(pattern(text).to_string(), text);
        }
        for bad in ["", "*", "a*b", "**", "a**", ".*", "a b*"] {
            assert!(bad.parse::<StreamPattern>().is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn a_pattern_covers_what_is_no_wider() {
        let covers = |wide: &str, narrow: &str| pattern(wide).covers(&pattern(narrow));
        assert!(covers("quote", "quote") && covers("quote*", "quote") && covers("quote*", "quote.eu"));
        assert!(covers("quote*", "quote.*") && covers("quote*", "quote*"));
        assert!(!covers("quote", "quote.eu") && !covers("quote", "quote*") && !covers("quote.*", "quote*"));
    }

    #[test]
    fn the_narrowest_pattern_counts_in_whatever_order_they_came() {
        let patterns = ["q*", "quote*", "quote.*", "quote.eu*", "quote", "quote.eu"];
        for turn in 0..patterns.len() {
            let mut turned = patterns;
            turned.rotate_left(turn);
            let all: ByStream<&str> = turned.iter().map(|text| (pattern(text), *text)).collect();
            let of = |stream| all.get(&name(stream)).copied();
            assert_eq!(of("quote"), Some("quote"));
            assert_eq!(of("quotes"), Some("quote*"));
            assert_eq!(of("quote.us"), Some("quote.*"));
            assert_eq!(of("quote.eu"), Some("quote.eu"));
            assert_eq!(of("quote.eu2"), Some("quote.eu*"));
            assert_eq!(of("q"), Some("q*"));
            assert_eq!(of("news"), None);
        }
        let mut sorted = patterns.map(pattern);
        sorted.sort_by_key(StreamPattern::narrowness);
        assert_eq!(
            sorted.map(|one| one.to_string()),
            ["q*", "quote*", "quote", "quote.*", "quote.eu*", "quote.eu"]
        );
    }

    #[test]
    fn what_is_said_again_takes_the_place_of_what_was_said() {
        let mut all = ByStream::default();
        for value in [1, 2] {
            all.insert(pattern("a*"), value);
            all.insert(name("b"), value);
        }
        assert_eq!((all.get(&name("a1")), all.get(&name("b"))), (Some(&2), Some(&2)));
        assert_eq!((all.prefixes.len(), all.exact().count()), (1, 1));
    }
}
