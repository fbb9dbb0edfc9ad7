//! The place of an event, read from the wire. Its own parser, so that it judges the server's.

use std::fmt;
use std::str::FromStr;

/// `<epoch>-<seq>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Offset {
    /// Goes up when the right to append changes hands.
    pub epoch: u64,
    /// Dense per stream, from 1.
    pub seq: u64,
}

/// The largest number either part may have.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;

impl Offset {
    /// Joins the parts.
    #[must_use]
    pub const fn new(epoch: u64, seq: u64) -> Self {
        Self { epoch, seq }
    }

    /// The same epoch, `n` later.
    #[must_use]
    pub const fn plus(self, n: u64) -> Self {
        Self::new(self.epoch, self.seq + n)
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}

impl FromStr for Offset {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let complaint = || format!("{text:?} is no offset");
        let (epoch, seq) = text.split_once('-').ok_or_else(complaint)?;
        let number = |digits: &str| {
            let number: u64 = digits.parse().map_err(|_| complaint())?;
            // One number, one spelling; and nothing that a double cannot hold.
            (number.to_string() == digits && number <= NUMBER_MAX).then_some(number).ok_or_else(complaint)
        };
        Ok(Self::new(number(epoch)?, number(seq)?))
    }
}

/// An offset that must be one.
#[must_use]
pub fn offset(text: &str) -> Offset {
    text.parse().unwrap_or_else(|complaint| panic!("{complaint}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spelling_only() {
        assert_eq!("1-42".parse(), Ok(Offset::new(1, 42)));
        for bad in ["", "1", "1-", "01-2", "1-+2", "1-2-3", "1-9007199254740992", " 1-2"] {
            assert!(bad.parse::<Offset>().is_err(), "{bad:?}");
        }
    }
}
