//! Points in time, as they are stored and shown.

use std::fmt;

/// Milliseconds since 1970-01-01T00:00:00Z. Shown to people and used by retention; never used to
/// decide what was lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct UnixMillis(u64);

/// 9999-12-30T22:00:00Z: beyond it some time zone would need a year of five digits.
const MAX: u64 = 253_402_207_200_000;

impl UnixMillis {
    /// The instant, cut to what RFC 3339 can print.
    #[must_use]
    pub fn new(millis: u64) -> Self {
        Self(millis.min(MAX))
    }

    /// Milliseconds since the Unix epoch.
    #[must_use]
    pub const fn get(self) -> u64 {
        self.0
    }

    /// The instant `earlier` milliseconds before, 1970 at the earliest.
    #[must_use]
    pub fn minus_millis(self, earlier: u64) -> Self {
        Self(self.0.saturating_sub(earlier))
    }

    /// Reads an RFC 3339 time with any offset from UTC. `None` if it is none, or before 1970.
    #[must_use]
    pub fn parse_rfc3339(text: &str) -> Option<Self> {
        let timestamp: jiff::Timestamp = text.parse().ok()?;
        u64::try_from(timestamp.as_millisecond()).ok().map(Self::new)
    }
}

/// RFC 3339 in UTC with milliseconds: `2026-01-31T09:30:00.000Z`.
impl fmt::Display for UnixMillis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = i64::try_from(self.0).map_err(|_| fmt::Error)?;
        let timestamp = jiff::Timestamp::from_millisecond(millis).map_err(|_| fmt::Error)?;
        write!(f, "{timestamp:.3}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prints_and_reads_rfc_3339() {
        let time = UnixMillis::new(1_769_851_800_007);
        assert_eq!(time.to_string(), "2026-01-31T09:30:00.007Z");
        assert_eq!(UnixMillis::parse_rfc3339("2026-01-31T10:30:00.007+01:00"), Some(time));
        assert_eq!(UnixMillis::new(0).to_string(), "1970-01-01T00:00:00.000Z");
        assert_eq!(UnixMillis::new(u64::MAX).to_string(), "9999-12-30T22:00:00.000Z");
    }

    #[test]
    fn refuses_what_is_no_instant() {
        for bad in [
            "",
            "yesterday",
            "2026-01-31",
            "2026-01-31T09:30:00",
            "1969-12-31T23:59:59Z",
            "2026-13-01T00:00:00Z",
        ] {
            assert_eq!(UnixMillis::parse_rfc3339(bad), None, "{bad}");
        }
    }
}
