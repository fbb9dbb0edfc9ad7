//! Durations and byte sizes as text: `15s`, `250ms`, `7d`, `256KiB`.
//!
//! What is printed here is read back to the same value, so a default, an error message and the
//! reference all speak the language of the file.

use std::fmt;
use std::time::Duration;

/// Largest first: printing takes the first unit that divides the value.
const DURATION_UNITS: [(&str, u64); 5] =
    [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Largest first, as above. `B` is last, so a size that divides by nothing larger is printed bare.
const SIZE_UNITS: [(&str, u64); 5] =
    [("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10), ("B", 1)];

/// Prints a duration of whole milliseconds as it is written in a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DurationText(pub Duration);

/// Prints a byte size as it is written in a configuration file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SizeText(pub u64);

impl fmt::Display for DurationText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = self.0.as_millis();
        if millis == 0 {
            return f.write_str("0s");
        }
        for (unit, factor) in DURATION_UNITS {
            if millis.is_multiple_of(u128::from(factor)) {
                return write!(f, "{}{unit}", millis / u128::from(factor));
            }
        }
        unreachable!("one millisecond divides every number of milliseconds")
    }
}

impl fmt::Display for SizeText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (unit, factor) in SIZE_UNITS {
            if factor > 1 && self.0 > 0 && self.0.is_multiple_of(factor) {
                return write!(f, "{}{unit}", self.0 / factor);
            }
        }
        write!(f, "{}", self.0)
    }
}

/// Reads `15s`, `250ms`, `2h`, `7d`. A bare number has no unit and is refused rather than guessed.
pub(crate) fn parse_duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text).ok_or_else(|| {
        format!("{text:?} is not a duration; write a whole number and a unit, such as \"15s\"")
    })?;
    if unit.is_empty() {
        return Err(format!(
            "{text:?} has no unit; write \"{number}s\", \"{number}ms\", \"{number}m\", \"{number}h\" or \"{number}d\""
        ));
    }
    let factor = factor(&DURATION_UNITS, unit)
        .ok_or_else(|| format!("{unit:?} is not a unit of time; use ms, s, m, h or d"))?;
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .map(Duration::from_millis)
        .ok_or_else(|| format!("{text:?} is more than can be counted"))
}

/// Reads `256KiB`, `8MiB`, `4096`, `4096B`.
pub(crate) fn parse_size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text).ok_or_else(|| {
        format!(
            "{text:?} is not a size; write a whole number of bytes or one with a unit, such as \"256KiB\""
        )
    })?;
    let factor = if unit.is_empty() {
        1
    } else {
        factor(&SIZE_UNITS, unit)
            .ok_or_else(|| format!("{unit:?} is not a unit of size; use B, KiB, MiB, GiB or TiB"))?
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(factor))
        .ok_or_else(|| format!("{text:?} is more than can be counted"))
}

/// Splits `15s` into `15` and `s`; `None` unless it begins with a digit.
fn split(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    if end == 0 {
        return None;
    }
    let (number, rest) = text.split_at(end);
    Some((number, rest.trim_start()))
}

fn factor(units: &[(&str, u64)], unit: &str) -> Option<u64> {
    units.iter().find(|(name, _)| *name == unit).map(|(_, factor)| *factor)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn durations_are_read_and_printed_back() {
        for (text, millis) in [
            ("0s", 0),
            ("250ms", 250),
            ("15s", 15_000),
            ("90s", 90_000),
            ("2m", 120_000),
            ("2h", 7_200_000),
            ("7d", 604_800_000),
        ] {
            assert_eq!(parse_duration(text).unwrap(), Duration::from_millis(millis));
            assert_eq!(DurationText(Duration::from_millis(millis)).to_string(), text);
        }
        assert_eq!(parse_duration("60 s").unwrap(), Duration::from_secs(60));
    }

    #[test]
    fn sizes_are_read_and_printed_back() {
        for (text, bytes) in [
            ("0", 0),
            ("4097", 4097),
            ("256KiB", 256 << 10),
            ("8MiB", 8 << 20),
            ("3GiB", 3 << 30),
            ("1TiB", 1 << 40),
        ] {
            assert_eq!(parse_size(text).unwrap(), bytes);
            assert_eq!(SizeText(bytes).to_string(), text);
        }
        assert_eq!(parse_size("4096B").unwrap(), 4096);
    }

    #[test]
    fn what_is_not_a_quantity_is_explained() {
        for (text, expected) in [
            ("soon", "\"soon\" is not a duration; write a whole number and a unit, such as \"15s\""),
            ("-1s", "\"-1s\" is not a duration; write a whole number and a unit, such as \"15s\""),
            ("", "\"\" is not a duration; write a whole number and a unit, such as \"15s\""),
            ("1.5s", "\".5s\" is not a unit of time; use ms, s, m, h or d"),
            ("15", "\"15\" has no unit; write \"15s\", \"15ms\", \"15m\", \"15h\" or \"15d\""),
            ("15sec", "\"sec\" is not a unit of time; use ms, s, m, h or d"),
            ("99999999999999999999s", "\"99999999999999999999s\" is more than can be counted"),
            ("9999999999999999999d", "\"9999999999999999999d\" is more than can be counted"),
        ] {
            assert_eq!(parse_duration(text).unwrap_err(), expected);
        }
        for (text, expected) in [
            (
                "big",
                "\"big\" is not a size; write a whole number of bytes or one with a unit, such as \"256KiB\"",
            ),
            ("8MB", "\"MB\" is not a unit of size; use B, KiB, MiB, GiB or TiB"),
            ("99999999999TiB", "\"99999999999TiB\" is more than can be counted"),
        ] {
            assert_eq!(parse_size(text).unwrap_err(), expected);
        }
    }
}
