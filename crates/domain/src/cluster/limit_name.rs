//! What a cluster can agree on a rate for.

use std::fmt;
use std::str::FromStr;

/// Something that each edge lets happen at a rate, called as the settings that give an edge its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LimitName {
    /// Events that one address publishes.
    Publishes,
    /// Events that one principal publishes.
    PrincipalPublishes,
    /// Events that all together publish to one stream.
    StreamPublishes,
    /// Event streams that one address opens.
    Connects,
    /// Event streams that one principal opens.
    PrincipalConnects,
    /// Openings of one stream by all together.
    StreamConnects,
    /// New names of clients that one address brings.
    Newcomers,
    /// Acknowledgements, pings and tokens of one address.
    Calls,
}

/// No edge goes by a limit of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no edge goes by a limit {0:?}; there are {all}", all = LimitName::ALL.map(LimitName::as_str).join(", "))]
pub struct LimitNameError(String);

impl LimitName {
    /// All there are.
    pub const ALL: [Self; 8] = [
        Self::Publishes,
        Self::PrincipalPublishes,
        Self::StreamPublishes,
        Self::Connects,
        Self::PrincipalConnects,
        Self::StreamConnects,
        Self::Newcomers,
        Self::Calls,
    ];

    /// The name.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Publishes => "publishes",
            Self::PrincipalPublishes => "principal_publishes",
            Self::StreamPublishes => "stream_publishes",
            Self::Connects => "connects",
            Self::PrincipalConnects => "principal_connects",
            Self::StreamConnects => "stream_connects",
            Self::Newcomers => "newcomers",
            Self::Calls => "calls",
        }
    }
}

impl fmt::Display for LimitName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LimitName {
    type Err = LimitNameError;

    fn from_str(name: &str) -> Result<Self, LimitNameError> {
        let known = Self::ALL.into_iter().find(|known| known.as_str() == name);
        known.ok_or_else(|| LimitNameError(name.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_is_read_as_it_is_written_and_no_other() {
        for (at, name) in LimitName::ALL.into_iter().enumerate() {
            assert_eq!(name.as_str().parse(), Ok(name));
            assert_eq!(name as usize, at, "its place among all");
        }
        let told = "acks".parse::<LimitName>().expect_err("there is none").to_string();
        assert!(told.starts_with("no edge goes by a limit \"acks\"; there are publishes, "), "{told}");
    }
}
