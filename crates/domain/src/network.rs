//! Networks of addresses, as an operator writes them: `10.0.0.0/8`, `fd00::/8`, `192.0.2.7`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

/// One network. An IPv4 network written in IPv6 (`::ffff:10.0.0.0/104`) is the IPv4 network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Network {
    /// Canonical, with all bits behind the prefix zero.
    address: IpAddr,
    prefix: u8,
}

/// Why a text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NetworkError {
    /// It does not begin with an address.
    #[error("{0:?} is not a network such as \"10.0.0.0/8\", \"fd00::/8\" or a single address")]
    NoAddress(String),
    /// The prefix is no number, or longer than the address.
    #[error("{text:?} has no prefix from 0 to {max} behind the slash")]
    Prefix {
        /// The text.
        text: String,
        /// The longest prefix of such an address.
        max: u8,
    },
    /// Bits behind the prefix are set, so that two networks may have been meant.
    #[error("{text:?} has bits set behind its prefix; the network is {network}")]
    HostBits {
        /// The text.
        text: String,
        /// What the prefix covers.
        network: Network,
    },
}

impl Network {
    /// How many bits all of its addresses have in common.
    #[must_use]
    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Whether the address lies in it. An IPv4 address that an IPv6 socket shows as
    /// `::ffff:192.0.2.1` is the IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.address.is_ipv4() && masked(address, self.prefix) == self.address
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let written: IpAddr = address.parse().map_err(|_| NetworkError::NoAddress(text.to_owned()))?;
        let max: u8 = if written.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            None => max,
            // Digits only: a number's parser would take "+8" too.
            Some(digits) => Some(digits)
                .filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok())
                .filter(|prefix| *prefix <= max)
                .ok_or_else(|| NetworkError::Prefix { text: text.to_owned(), max })?,
        };
        let (address, prefix) = match (written, written.to_canonical()) {
            // Only within the mapped part; `::/0` stays what it is.
            (IpAddr::V6(_), mapped @ IpAddr::V4(_)) if prefix >= 96 => (mapped, prefix - 96),
            (written, _) => (written, prefix),
        };
        let network = Self { address: masked(address, prefix), prefix };
        if network.address == address {
            Ok(network)
        } else {
            Err(NetworkError::HostBits { text: text.to_owned(), network })
        }
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The address with all bits behind the prefix zero.
pub(crate) fn masked(address: IpAddr, prefix: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn an_address_is_found_in_its_network_however_it_is_written() {
        for (text, inside, outside) in [
            ("10.0.0.0/8", "10.255.0.1", "11.0.0.0"),
            ("10.0.0.0/8", "::ffff:10.1.2.3", "::ffff:11.1.2.3"),
            ("::ffff:10.0.0.0/104", "10.1.2.3", "::10.1.2.3"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.6"),
            ("0.0.0.0/0", "255.0.0.1", "::1"),
            ("::/0", "2001:db8::1", "192.0.2.1"),
            ("fd00::/8", "fdff::1", "fe00::1"),
            ("2001:db8::1", "2001:db8::1", "2001:db8::2"),
        ] {
            let address = |text: &str| text.parse::<IpAddr>().expect("an address");
            assert!(network(text).contains(address(inside)), "{inside} in {text}");
            assert!(!network(text).contains(address(outside)), "{outside} in {text}");
        }
    }

    #[test]
    fn what_is_no_network_says_why() {
        for text in ["", "/8", "10.0.0/8", "host", "10.0.0.0:80", "fe80::1%eth0"] {
            assert!(matches!(text.parse::<Network>(), Err(NetworkError::NoAddress(_))), "{text:?}");
        }
        for text in ["10.0.0.0/", "10.0.0.0/33", "::/129", "::/+8", "10.0.0.0/8/8", "10.0.0.0/256"] {
            assert!(matches!(text.parse::<Network>(), Err(NetworkError::Prefix { .. })), "{text:?}");
        }
        let error = "10.0.0.1/8".parse::<Network>().expect_err("host bits");
        assert_eq!(
            error.to_string(),
            "\"10.0.0.1/8\" has bits set behind its prefix; the network is 10.0.0.0/8"
        );
    }

    proptest! {
        #[test]
        fn a_network_holds_exactly_what_begins_like_it(bits: u32, other: u32, prefix in 0u8..=32) {
            let network = Network { address: masked(Ipv4Addr::from_bits(bits).into(), prefix), prefix };
            let alike = prefix == 0 || (bits ^ other).leading_zeros() >= u32::from(prefix);
            prop_assert_eq!(network.contains(Ipv4Addr::from_bits(other).into()), alike);
            prop_assert_eq!(network.contains(Ipv4Addr::from_bits(other).to_ipv6_mapped().into()), alike);
            prop_assert_eq!(network.to_string().parse::<Network>().expect("printed"), network);
        }

        #[test]
        fn any_text_is_judged(text in ".{0,40}") {
            let _ = text.parse::<Network>();
        }
    }
}
