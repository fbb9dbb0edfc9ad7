//! Where a subscriber wants to begin.

use std::fmt;

use crate::{Offset, OffsetError, UnixMillis};

/// Where to begin in one stream, for a subscriber that does not resume.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Start {
    /// After the newest event: only what comes from now on.
    #[default]
    Latest,
    /// At the oldest event that is kept.
    Earliest,
    /// After this position.
    After(Offset),
    /// At the last `n` events of the stream, before filters.
    Last(u64),
    /// At the first event accepted at or after this time, as far as the log's index tells.
    Time(UnixMillis),
}

/// Why a text names no place to begin. The sender's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StartError {
    /// It has the shape of an offset but is none.
    #[error(transparent)]
    Offset(#[from] OffsetError),
    /// `-N` with a number that is none, or none that fits.
    #[error("-N wants a whole number from 1 to 9007199254740991, as in -20")]
    Last,
    /// None of the forms.
    #[error(
        "expected latest, earliest, an offset such as 1-42, -N for the last N events, or an RFC 3339 time such as 2026-01-31T09:30:00Z"
    )]
    Shape,
}

impl std::str::FromStr for Start {
    type Err = StartError;

    fn from_str(text: &str) -> Result<Self, StartError> {
        match text {
            "latest" => return Ok(Self::Latest),
            "earliest" => return Ok(Self::Earliest),
            _ => {}
        }
        if let Some(count) = text.strip_prefix('-') {
            let digits = !count.is_empty() && count.bytes().all(|b| b.is_ascii_digit());
            return match count.parse::<u64>() {
                Ok(n) if digits && (1..=crate::NUMBER_MAX).contains(&n) => Ok(Self::Last(n)),
                Ok(_) | Err(_) => Err(StartError::Last),
            };
        }
        // An RFC 3339 time has dashes too, but also a colon; an offset never has one.
        if text.contains(':') {
            return UnixMillis::parse_rfc3339(text).map(Self::Time).ok_or(StartError::Shape);
        }
        match text.parse::<Offset>() {
            Ok(offset) => Ok(Self::After(offset)),
            Err(OffsetError::TooLarge) => Err(OffsetError::TooLarge.into()),
            Err(OffsetError::Shape) => Err(StartError::Shape),
        }
    }
}

/// How a subscriber's beginning came about, as `evergate.open` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ResumeKind {
    /// It did not ask for a position of its own.
    Live,
    /// It goes on exactly where it was.
    Exact,
    /// It goes on from a position the server kept for it, which is a hint.
    Stored,
    /// Something is missing: an `evergate.gap` follows.
    Gap,
}

impl ResumeKind {
    /// The word on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Exact => "exact",
            Self::Stored => "stored",
            Self::Gap => "gap",
        }
    }
}

impl fmt::Display for ResumeKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_form_is_read() {
        assert_eq!("latest".parse(), Ok(Start::Latest));
        assert_eq!("earliest".parse(), Ok(Start::Earliest));
        assert_eq!("1-42".parse(), Ok(Start::After("1-42".parse().expect("offset"))));
        assert_eq!("-20".parse(), Ok(Start::Last(20)));
        assert_eq!("1970-01-01T00:00:01Z".parse(), Ok(Start::Time(UnixMillis::new(1000))));
    }

    #[test]
    fn anything_else_is_refused_with_a_reason() {
        for bad in [
            "",
            "now",
            "$",
            "-",
            "-0",
            "--1",
            "-1-2",
            "1-",
            "- 1",
            "-1.5",
            "-9007199254740992",
            "2026-01-31",
            "10:30",
        ] {
            assert!(bad.parse::<Start>().is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn hostile_text_never_panics(text in ".{0,60}") {
            let _ = text.parse::<Start>();
        }
    }
}
