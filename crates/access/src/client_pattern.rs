//! Which kept places a token's bearer may use.

use evergate_domain::{ClientId, NameError};

/// One `client_id` exactly, or every one with a prefix.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientPattern {
    /// `alice`.
    Exact(ClientId),
    /// `alice/*`; never a bare `*`, which would be everybody's.
    Prefix(ClientId),
}

impl ClientPattern {
    /// Reads `alice` or `alice/*`.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        match text.strip_suffix('*') {
            Some(prefix) => ClientId::new(prefix).map(Self::Prefix),
            None => ClientId::new(text).map(Self::Exact),
        }
    }

    /// Whether this `client_id` may be used.
    #[must_use]
    pub fn matches(&self, client: &ClientId) -> bool {
        match self {
            Self::Exact(own) => own == client,
            Self::Prefix(prefix) => client.as_str().starts_with(prefix.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_its_own_or_of_a_family() {
        let matches = |pattern: &str, client: &str| {
            let client = ClientId::new(client).expect("valid");
            ClientPattern::parse(pattern).expect("valid").matches(&client)
        };
        assert!(matches("alice", "alice") && !matches("alice", "alice2") && !matches("alice", "ali"));
        assert!(matches("alice/*", "alice/phone") && !matches("alice/*", "alice"));
        for bad in ["", "*", "a b", "a*b", "a**"] {
            assert!(ClientPattern::parse(bad).is_err(), "{bad}");
        }
    }
}
