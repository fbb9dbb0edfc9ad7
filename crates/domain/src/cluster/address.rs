//! Where a node can be reached.

use std::fmt;
use std::str::FromStr;

/// `HOST:PORT`, the host being a name, an IPv4 address, or an IPv6 address in brackets.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeAddress(Box<str>);

/// The text is no address of a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} is no address of a node such as \"10.0.0.2:8080\", \"[fd00::2]:8080\" or \"edge-2.internal:8080\""
)]
pub struct NodeAddressError(pub String);

/// Everything a node serves that others may want.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Addresses {
    /// SSE and the HTTP API, of an edge.
    pub http: Option<NodeAddress>,
    /// The links between nodes.
    pub grpc: Option<NodeAddress>,
    /// Probes, metrics and the admin page.
    pub admin: Option<NodeAddress>,
}

/// A DNS name's longest form, a colon and a port.
const BYTES_MAX: usize = 253 + 6;

impl NodeAddress {
    /// The address as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Host (an IPv6 address without its brackets) and port.
    #[must_use]
    pub fn parts(&self) -> (&str, u16) {
        let (host, port) = self.0.rsplit_once(':').expect("checked when it was made");
        let host = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        (host, port.parse().expect("checked when it was made"))
    }
}

impl FromStr for NodeAddress {
    type Err = NodeAddressError;

    fn from_str(text: &str) -> Result<Self, NodeAddressError> {
        let error = || NodeAddressError(text.chars().take(BYTES_MAX).collect());
        let (host, port) = text.rsplit_once(':').ok_or_else(error)?;
        // Digits only: a number's parser would take "+80" too. A listener's port 0 is nobody's address.
        let is_port =
            port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok_and(|n| n > 0);
        let is_host = match host.strip_prefix('[').and_then(|host| host.strip_suffix(']')) {
            Some(inner) => inner.parse::<std::net::Ipv6Addr>().is_ok(),
            None => {
                let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_');
                !host.is_empty() && host.bytes().all(fits)
            }
        };
        if is_port && is_host && text.len() <= BYTES_MAX { Ok(Self(text.into())) } else { Err(error()) }
    }
}

impl fmt::Display for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for NodeAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port_and_nothing_else() {
        for (text, parts) in [
            ("10.0.0.2:8080", ("10.0.0.2", 8080)),
            ("[fd00::2]:1", ("fd00::2", 1)),
            ("edge-2.internal:65535", ("edge-2.internal", 65535)),
        ] {
            let address: NodeAddress = text.parse().expect("an address");
            assert_eq!((address.parts(), address.as_str()), (parts, text));
        }
        let long = format!("{}:1", "h".repeat(300));
        for text in [
            "",
            "h",
            "h:",
            ":1",
            "h:0",
            "h:65536",
            "h:+1",
            "fd00::2:1",
            "[h]:1",
            "a b:1",
            "a\n:1",
            "a/b:1",
            &long,
        ] {
            assert!(text.parse::<NodeAddress>().is_err(), "{text:?} was taken");
        }
    }
}
