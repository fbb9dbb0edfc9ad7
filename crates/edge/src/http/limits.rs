//! What one client may have of an edge: event streams at a time, and openings of them a second.

use std::hash::{BuildHasher as _, RandomState};

use evergate_domain::{AddressGroup, ClientAddress};
use http::StatusCode;

use crate::config::ClientLimits;
use crate::http::tally::{Place, Tally};
use crate::meter::Meter;

/// The bounds, and what counts against them.
pub(crate) struct Limits {
    connects: Option<Meter>,
    of_address: Option<Tally<AddressGroup>>,
    /// By a digest: what a client calls itself may be long.
    of_client: Option<Tally<u64>>,
    digests: RandomState,
}

/// A client's places, for as long as they are held. A single word where nothing is bounded.
pub(crate) struct Admitted {
    _places: Option<Box<Places>>,
}

struct Places {
    _address: Option<Place<AddressGroup>>,
    _client: Option<Place<u64>>,
}

/// Which bound was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// It opens streams too fast.
    Connects,
    /// Its address has all its streams.
    Address,
    /// Its `client_id` has all its streams.
    Client,
}

impl Limits {
    pub(crate) fn new(limits: &ClientLimits) -> Self {
        Self {
            connects: limits.connects.map(Meter::new),
            of_address: limits.streams_per_address.map(Tally::new),
            of_client: limits.streams_per_client.map(Tally::new),
            digests: RandomState::new(),
        }
    }

    /// Places for one more stream of this client.
    pub(crate) fn enter(&self, from: ClientAddress, client_id: Option<&str>) -> Result<Admitted, Refusal> {
        let group = from.group();
        if let Some(connects) = &self.connects {
            connects.take(group, 1).map_err(|_| Refusal::Connects)?;
        }
        let address = match &self.of_address {
            Some(tally) => Some(tally.enter(group).ok_or(Refusal::Address)?),
            None => None,
        };
        let client = match (&self.of_client, client_id) {
            (Some(tally), Some(id)) => Some(tally.enter(self.digests.hash_one(id)).ok_or(Refusal::Client)?),
            (Some(_), None) | (None, _) => None,
        };
        let held = address.is_some() || client.is_some();
        let places = held.then(|| Box::new(Places { _address: address, _client: client }));
        Ok(Admitted { _places: places })
    }
}

impl Refusal {
    /// In a few words, for the client and for the metrics.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Connects => "connecting too fast",
            Self::Address => "too many streams from this address",
            Self::Client => "too many streams of this client",
        }
    }

    /// The status of a refusal with this reason: 429 where the client itself is the cause, else 503.
    pub(crate) fn status(reason: &str) -> StatusCode {
        let own = [Self::Connects, Self::Address, Self::Client].map(Self::reason);
        if own.contains(&reason) { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::SERVICE_UNAVAILABLE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evergate_domain::Rate;
    use std::num::NonZeroU32;

    fn from(address: &str) -> ClientAddress {
        ClientAddress::resolve(&[], address.parse().expect("an address"), [])
    }

    #[test]
    fn each_address_and_each_client_has_its_own_bound() {
        let limits = Limits::new(&ClientLimits {
            streams_per_address: NonZeroU32::new(2),
            streams_per_client: NonZeroU32::new(1),
            connects: None,
        });
        let (here, there) = (from("2001:db8::1"), from("2001:db8:0:1::1"));
        let first = limits.enter(here, Some("a")).expect("room");
        assert_eq!(limits.enter(there, Some("a")).err(), Some(Refusal::Client));
        let second = limits.enter(from("2001:db8::2"), None).expect("room");
        assert_eq!(limits.enter(here, Some("b")).err(), Some(Refusal::Address));
        // Who was refused for one thing holds nothing of the other.
        let other = limits.enter(there, Some("b")).expect("room");
        drop(first);
        drop(limits.enter(here, Some("a")).expect("a place was given back"));
        drop((second, other));
        let empty = |limits: &Limits| {
            limits.of_address.as_ref().is_some_and(Tally::is_empty)
                && limits.of_client.as_ref().is_some_and(Tally::is_empty)
        };
        assert!(empty(&limits), "nothing is kept of whoever is gone");
    }

    #[test]
    fn an_address_that_connects_too_fast_holds_up_nobody_else() {
        let once = NonZeroU32::MIN;
        let limits =
            Limits::new(&ClientLimits { connects: Some(Rate::new(once, once)), ..ClientLimits::default() });
        assert!(limits.enter(from("192.0.2.1"), None).is_ok());
        assert_eq!(limits.enter(from("192.0.2.1"), None).err(), Some(Refusal::Connects));
        assert!(limits.enter(from("192.0.2.2"), None).is_ok());
    }

    #[test]
    fn nothing_is_held_where_nothing_is_bounded() {
        let limits = Limits::new(&ClientLimits::default());
        let admitted = limits.enter(from("192.0.2.1"), Some("a")).unwrap_or_else(|_| unreachable!());
        assert!(admitted._places.is_none());
        assert_eq!(size_of::<Admitted>(), size_of::<usize>());
    }

    #[test]
    fn only_what_the_client_itself_causes_is_429() {
        assert_eq!(Refusal::status(Refusal::Connects.reason()), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(Refusal::status("full"), StatusCode::SERVICE_UNAVAILABLE);
    }
}
