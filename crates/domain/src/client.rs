//! Who a client is, as far as its address tells.

use std::net::IpAddr;

use crate::Network;
use crate::network::masked;

/// Where a request came from, as far as anybody who may be believed knows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClientAddress {
    address: IpAddr,
    proxied: bool,
}

/// Addresses that are counted as one client: an IPv4 address, or an IPv6 network of 64 bits, which is
/// what a single household or machine is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct AddressGroup(IpAddr);

/// The prefix of an IPv6 address that stands for its owner.
const IPV6_OWNER_BITS: u8 = 64;

impl ClientAddress {
    /// The address of a request that came from `peer`, given the hops before it, the nearest first.
    ///
    /// A hop is believed only when the one that told of it is trusted, so the client is the first one
    /// from our side that is not: whatever stands before it, anybody could have written. `None` is a hop
    /// that its teller did not know or wrote illegibly; there the trail ends.
    #[must_use]
    pub fn resolve(
        trusted: &[Network],
        peer: IpAddr,
        hops: impl IntoIterator<Item = Option<IpAddr>>,
    ) -> Self {
        let is_trusted = |address| trusted.iter().any(|network| network.contains(address));
        let mut address = peer.to_canonical();
        let proxied = is_trusted(address);
        let mut hops = hops.into_iter();
        while is_trusted(address) {
            match hops.next() {
                Some(Some(hop)) => address = hop.to_canonical(),
                Some(None) | None => break,
            }
        }
        Self { address, proxied }
    }

    /// The address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }

    /// Whether a trusted proxy stands between us and the client: then what our socket took, the client
    /// need not have got.
    #[must_use]
    pub fn is_proxied(&self) -> bool {
        self.proxied
    }

    /// As what it is counted.
    #[must_use]
    pub fn group(&self) -> AddressGroup {
        match self.address {
            IpAddr::V4(_) => AddressGroup(self.address),
            IpAddr::V6(_) => AddressGroup(masked(self.address, IPV6_OWNER_BITS)),
        }
    }
}

impl AddressGroup {
    /// The address of an IPv4 client, or the network's of an IPv6 one.
    #[must_use]
    pub fn address(self) -> IpAddr {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    fn networks(texts: &[&str]) -> Vec<Network> {
        texts.iter().map(|text| text.parse().expect("a network")).collect()
    }

    fn resolved(trusted: &[&str], peer: &str, hops: &[&str]) -> (String, bool) {
        // "-" is a hop that nobody knows.
        let hops = hops.iter().map(|hop| hop.parse().ok());
        let client = ClientAddress::resolve(&networks(trusted), address(peer), hops);
        (client.address().to_string(), client.is_proxied())
    }

    #[test]
    fn the_client_is_the_nearest_hop_that_is_not_trusted() {
        let trusted = ["10.0.0.0/8", "fd00::/8"];
        let is = |peer, hops: &[&str]| resolved(&trusted, peer, hops);
        let direct = |text: &str| (text.to_owned(), false);
        let proxied = |text: &str| (text.to_owned(), true);
        assert_eq!(is("192.0.2.1", &["198.51.100.1"]), direct("192.0.2.1"), "nobody believes it");
        assert_eq!(is("10.0.0.1", &["192.0.2.1", "198.51.100.1"]), proxied("192.0.2.1"));
        assert_eq!(is("::ffff:10.0.0.1", &["::ffff:192.0.2.1"]), proxied("192.0.2.1"), "mapped");
        assert_eq!(is("10.0.0.1", &["fd00::1", "10.0.0.2", "2001:db8::1"]), proxied("2001:db8::1"));
        assert_eq!(is("10.0.0.1", &["10.0.0.2", "-", "192.0.2.1"]), proxied("10.0.0.2"), "the trail ends");
        assert_eq!(is("10.0.0.1", &["10.0.0.2"]), proxied("10.0.0.2"), "a client within");
        assert_eq!(is("10.0.0.1", &[]), proxied("10.0.0.1"));
    }

    #[test]
    fn ipv6_is_counted_by_its_owner() {
        let group = |text| ClientAddress::resolve(&[], address(text), []).group();
        assert_eq!(group("2001:db8::1"), group("2001:db8::ffff:1"));
        assert_ne!(group("2001:db8::1"), group("2001:db8:0:1::1"));
        assert_ne!(group("192.0.2.1"), group("192.0.2.2"));
        assert_eq!(group("::ffff:192.0.2.1"), group("192.0.2.1"));
    }

    proptest! {
        /// Whatever a client sends of its own before the hops that the proxies add, it changes nothing.
        #[test]
        fn a_client_cannot_choose_its_address(forged in prop::collection::vec(any::<Option<u32>>(), 0..8), client: u32, proxies in 1usize..4) {
            let trusted = networks(&["10.0.0.0/8"]);
            let client = IpAddr::from(client.to_be_bytes());
            prop_assume!(!trusted[0].contains(client));
            let honest = (1..proxies).map(|n| Some(IpAddr::from([10, 0, 0, u8::try_from(n).expect("few")]))).chain([Some(client)]);
            let forged = forged.into_iter().map(|hop| hop.map(|bits| IpAddr::from(bits.to_be_bytes())));
            let resolved = ClientAddress::resolve(&trusted, address("10.9.9.9"), honest.chain(forged));
            prop_assert_eq!(resolved.address(), client);
            prop_assert!(resolved.is_proxied());
        }
    }
}
