//! Where an event stands in its stream: `<epoch>-<seq>`.

use std::fmt;
use std::str::FromStr;

/// The largest epoch and sequence: 2^53 − 1. Redis functions compute in doubles, which hold every
/// whole number up to here and not the next one.
pub const NUMBER_MAX: u64 = (1 << 53) - 1;

/// Why a text is not an offset. Always the sender's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OffsetError {
    /// The text is not two decimal numbers joined by `-`.
    #[error("an offset is two decimal numbers joined by \"-\", as in 1-42")]
    Shape,
    /// A number is beyond [`NUMBER_MAX`].
    #[error("a number in an offset is at most {NUMBER_MAX}")]
    TooLarge,
}

/// Goes up whenever the right to append changes hands. An id, never a time: no rule compares it
/// with a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Epoch(u64);

/// Counts the events of a stream: 1, 2, 3 … without holes, across epochs. 0 is before the first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Seq(u64);

macro_rules! number {
    ($type:ident) => {
        impl $type {
            /// The number, if it is within [`NUMBER_MAX`].
            #[must_use]
            pub const fn new(number: u64) -> Option<Self> {
                if number <= NUMBER_MAX { Some(Self(number)) } else { None }
            }

            /// The bare number.
            #[must_use]
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

number!(Epoch);
number!(Seq);

impl Seq {
    /// Before the first event.
    pub const ZERO: Self = Self(0);

    /// The sequence `n` further on.
    ///
    /// # Panics
    /// Beyond [`NUMBER_MAX`]: at a million events a second that is 285 years away.
    #[must_use]
    pub fn plus(self, n: u64) -> Self {
        self.0.checked_add(n).and_then(Self::new).expect("a stream never holds 2^53 events")
    }

    /// The sequence before this one; 0 stays 0.
    #[must_use]
    pub fn before(self) -> Self {
        Self(self.0.saturating_sub(1))
    }
}

/// A position in a stream. As the id of an event it names that event; as a cursor it says that
/// everything up to and including it was seen.
///
/// Ordered by epoch, then sequence. Within one history that is also the order of the sequences
/// alone, because a later epoch goes on where the earlier one ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Offset {
    /// The epoch in which the event was appended.
    pub epoch: Epoch,
    /// The event's place in the stream.
    pub seq: Seq,
}

impl Offset {
    /// `0-0`, the beginning of every stream.
    pub const BEGINNING: Self = Self { epoch: Epoch(0), seq: Seq(0) };

    /// Joins the two numbers.
    #[must_use]
    pub const fn new(epoch: Epoch, seq: Seq) -> Self {
        Self { epoch, seq }
    }

    /// The position of the next event in the same epoch.
    #[must_use]
    pub fn next(self) -> Self {
        Self::new(self.epoch, self.seq.plus(1))
    }

    /// Writes `<epoch>-<seq>` at the end of `out`.
    pub fn write_to(self, out: &mut Vec<u8>) {
        use std::io::Write as _;
        write!(out, "{self}").expect("a Vec takes every byte");
    }
}

impl fmt::Display for Offset {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}

impl FromStr for Offset {
    type Err = OffsetError;

    fn from_str(text: &str) -> Result<Self, OffsetError> {
        let (epoch, seq) = text.split_once('-').ok_or(OffsetError::Shape)?;
        Ok(Self { epoch: Epoch(number(epoch)?), seq: Seq(number(seq)?) })
    }
}

impl serde::Serialize for Offset {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A decimal number in its one canonical form: no sign, no leading zero, at most [`NUMBER_MAX`].
fn number(text: &str) -> Result<u64, OffsetError> {
    let digits = text.bytes().all(|b| b.is_ascii_digit());
    if text.is_empty() || !digits || (text.len() > 1 && text.starts_with('0')) {
        return Err(OffsetError::Shape);
    }
    match text.parse::<u64>() {
        Ok(number) if number <= NUMBER_MAX => Ok(number),
        Ok(_) | Err(_) => Err(OffsetError::TooLarge),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn numbers_end_at_two_to_the_53() {
        assert!("9007199254740991-9007199254740991".parse::<Offset>().is_ok());
        for large in [
            "9007199254740992-1",
            "1-9007199254740992",
            "1-18446744073709551616",
            "99999999999999999999999-1",
        ] {
            assert_eq!(large.parse::<Offset>(), Err(OffsetError::TooLarge), "{large}");
        }
    }

    #[test]
    fn hostile_texts_are_refused() {
        for bad in [
            "", "-", "1", "1-", "-1", "1-2-3", "+1-2", "1-+2", "01-2", "1-02", " 1-2", "1-2 ", "1_0-2",
            "١-٢", "0x1-2", "1-2\n", "1\u{0}-2", "$", "*",
        ] {
            assert_eq!(bad.parse::<Offset>(), Err(OffsetError::Shape), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn printing_and_parsing_agree(epoch in 0..=NUMBER_MAX, seq in 0..=NUMBER_MAX) {
            let offset = Offset::new(Epoch(epoch), Seq(seq));
            prop_assert_eq!(offset.to_string().parse::<Offset>(), Ok(offset));
        }

        #[test]
        fn parsing_never_panics_and_is_canonical(text in ".{0,40}") {
            if let Ok(offset) = text.parse::<Offset>() {
                prop_assert_eq!(offset.to_string(), text);
            }
        }
    }
}
