//! What one client may have of an edge: event streams at a time, and openings of them a second; and how
//! many may have one stream.

use std::hash::{BuildHasher as _, Hash, RandomState};

use evergate_access::Principal;
use evergate_domain::cluster::LimitName;
use evergate_domain::{AddressGroup, AgreedLimits, ClientAddress, StreamSet};
use http::StatusCode;

use crate::config::ClientLimits;
use crate::http::tally::{Place, Tally};
use crate::meter::{self, Meter, Meters, Whose};
use crate::problem::Problem;

/// The bounds, and what counts against them.
pub(crate) struct Limits {
    connects: Meters,
    newcomers: Meter,
    calls: Meter,
    of_address: Option<Tally<AddressGroup>>,
    /// These by a digest: names may be long.
    of_client: Option<Tally<u64>>,
    of_principal: Option<Tally<u64>>,
    of_stream: Option<Tally<u64>>,
    digests: RandomState,
}

/// A client's places, for as long as they are held. A single word where nothing is bounded.
pub(crate) struct Admitted {
    _places: Option<Box<Places>>,
}

struct Places {
    _address: Option<Place<AddressGroup>>,
    _client: Option<Place<u64>>,
    _principal: Option<Place<u64>>,
    _streams: Box<[Place<u64>]>,
}

/// Which bound was met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// Its address opens streams too fast.
    Connects,
    /// Whoever its token names opens them too fast.
    PrincipalConnects,
    /// The stream is opened too fast, by all together.
    StreamConnects,
    /// Its address has all its streams.
    Address,
    /// Its `client_id` has all its streams.
    Client,
    /// Whoever its token names has all its streams.
    Principal,
    /// The stream has all its subscribers.
    Stream,
    /// Its address has brought too many a `client_id` of which nothing is kept.
    Newcomers,
}

/// Who asks for a stream, as far as it is counted.
pub(crate) struct Asking<'a> {
    pub(crate) from: ClientAddress,
    pub(crate) principal: Option<&'a Principal>,
    pub(crate) client_id: Option<&'a str>,
    /// What it asks for, and may see.
    pub(crate) streams: &'a StreamSet,
}

impl Limits {
    pub(crate) fn new(limits: &ClientLimits, agreed: &AgreedLimits) -> Self {
        Self {
            connects: Meters::of_connects(&limits.connects, agreed),
            newcomers: Meter::new(LimitName::Newcomers, limits.newcomers, agreed),
            calls: Meter::new(LimitName::Calls, limits.calls, agreed),
            of_address: limits.streams_per_address.map(Tally::new),
            of_client: limits.streams_per_client.map(Tally::new),
            of_principal: limits.streams_per_principal.map(Tally::new),
            of_stream: limits.subscribers_per_stream.map(Tally::new),
            digests: RandomState::new(),
        }
    }

    /// Places for one more stream of this client: all, or none.
    pub(crate) fn enter(&self, asking: &Asking<'_>) -> Result<Admitted, Refusal> {
        let group = asking.from.group();
        let names = asking.streams.names();
        let too_fast = |(whose, _)| match whose {
            Whose::Address => Refusal::Connects,
            Whose::Principal => Refusal::PrincipalConnects,
            Whose::Stream => Refusal::StreamConnects,
        };
        self.connects.of_sender(group, asking.principal, 1).map_err(too_fast)?;
        let address = match &self.of_address {
            Some(tally) => Some(tally.enter(group).ok_or(Refusal::Address)?),
            None => None,
        };
        let client = self.one(self.of_client.as_ref(), asking.client_id, Refusal::Client)?;
        let principal = asking.principal.map(meter::name);
        let principal = self.one(self.of_principal.as_ref(), principal, Refusal::Principal)?;
        let streams = match &self.of_stream {
            Some(tally) => {
                let enter = |name| self.one(Some(tally), Some(name), Refusal::Stream);
                names.iter().filter_map(|name| enter(name.as_str()).transpose()).collect::<Result<_, _>>()?
            }
            None => Box::default(),
        };
        for name in names {
            self.connects.of_stream(name, 1).map_err(too_fast)?;
        }
        let held = address.is_some() || client.is_some() || principal.is_some() || !streams.is_empty();
        let places = held.then(|| {
            Box::new(Places { _address: address, _client: client, _principal: principal, _streams: streams })
        });
        Ok(Admitted { _places: places })
    }

    /// A place under a name, where there is a name and a bound.
    fn one(
        &self,
        tally: Option<&Tally<u64>>,
        name: Option<impl Hash>,
        refusal: Refusal,
    ) -> Result<Option<Place<u64>>, Refusal> {
        match tally.zip(name) {
            Some((tally, name)) => tally.enter(self.digests.hash_one(name)).ok_or(refusal).map(Some),
            None => Ok(None),
        }
    }

    /// Room for one more call about a stream: an acknowledgement, a ping, a token.
    pub(crate) fn call(&self, from: ClientAddress) -> Result<(), Problem> {
        self.calls.take(from.group(), 1).map(drop).map_err(|too_fast| {
            let detail = format!("{} calls are allowed at once", too_fast.allowance.limit);
            Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate-limited",
                "Too many calls from this address",
                detail,
            )
            .with_allowance(Some(too_fast.allowance))
            .retry_after(too_fast.after)
        })
    }

    /// Whether new clients are counted at all.
    pub(crate) fn counts_newcomers(&self) -> bool {
        self.newcomers.rate().is_some()
    }

    /// Room for one more `client_id` from this address of which nothing is kept yet.
    pub(crate) fn newcomer(&self, from: ClientAddress) -> bool {
        self.newcomers.take(from.group(), 1).is_ok()
    }
}

impl Refusal {
    /// In a few words, for the client and for the metrics.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Connects => "connecting too fast",
            Self::PrincipalConnects => "connecting too fast with this token",
            Self::StreamConnects => "too many connect to this stream",
            Self::Address => "too many streams from this address",
            Self::Client => "too many streams of this client",
            Self::Principal => "too many streams with this token",
            Self::Stream => "too many subscribers of this stream",
            Self::Newcomers => "too many new clients from this address",
        }
    }

    /// The status of a refusal with this reason: 429 where the client itself is the cause, else 503.
    pub(crate) fn status(reason: &str) -> StatusCode {
        let own = [
            Self::Connects,
            Self::PrincipalConnects,
            Self::Address,
            Self::Client,
            Self::Principal,
            Self::Newcomers,
        ];
        let own = own.map(Self::reason);
        if own.contains(&reason) { StatusCode::TOO_MANY_REQUESTS } else { StatusCode::SERVICE_UNAVAILABLE }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Rates;
    use evergate_domain::{Rate, StreamName};
    use std::num::NonZeroU32;

    fn from(address: &str) -> ClientAddress {
        ClientAddress::resolve(&[], address.parse().expect("an address"), [])
    }

    fn limits_of(limits: ClientLimits) -> Limits {
        Limits::new(&limits, &AgreedLimits::default())
    }

    fn set(names: &[&str]) -> StreamSet {
        StreamSet::new(names.iter().map(|name| StreamName::new(name).expect("a name")).collect())
            .expect("a set")
    }

    fn enter(limits: &Limits, address: &str, client_id: Option<&str>) -> Result<Admitted, Refusal> {
        let streams = set(&["s"]);
        limits.enter(&Asking { from: from(address), principal: None, client_id, streams: &streams })
    }

    #[test]
    fn each_address_and_each_client_has_its_own_bound() {
        let limits = limits_of(ClientLimits {
            streams_per_address: NonZeroU32::new(2),
            streams_per_client: NonZeroU32::new(1),
            ..ClientLimits::default()
        });
        let (here, there) = ("2001:db8::1", "2001:db8:0:1::1");
        let first = enter(&limits, here, Some("a")).expect("room");
        assert_eq!(enter(&limits, there, Some("a")).err(), Some(Refusal::Client));
        let second = enter(&limits, "2001:db8::2", None).expect("room");
        assert_eq!(enter(&limits, here, Some("b")).err(), Some(Refusal::Address));
        // Who was refused for one thing holds nothing of the other.
        let other = enter(&limits, there, Some("b")).expect("room");
        drop(first);
        drop(enter(&limits, here, Some("a")).expect("a place was given back"));
        drop((second, other));
        let empty = |limits: &Limits| {
            limits.of_address.as_ref().is_some_and(Tally::is_empty)
                && limits.of_client.as_ref().is_some_and(Tally::is_empty)
        };
        assert!(empty(&limits), "nothing is kept of whoever is gone");
    }

    #[test]
    fn a_stream_has_its_subscribers_and_one_of_several_that_is_full_refuses_them_all() {
        let limits =
            limits_of(ClientLimits { subscribers_per_stream: NonZeroU32::new(1), ..ClientLimits::default() });
        let of = |names: &[&str]| {
            let streams = set(names);
            limits.enter(&Asking {
                from: from("192.0.2.1"),
                principal: None,
                client_id: None,
                streams: &streams,
            })
        };
        let first = of(&["a"]).expect("room");
        assert_eq!(of(&["b", "a"]).err(), Some(Refusal::Stream));
        let both = of(&["b", "c"]).expect("nothing was kept of what was refused");
        drop((first, both));
        assert!(limits.of_stream.as_ref().is_some_and(Tally::is_empty));
    }

    #[test]
    fn an_address_that_connects_too_fast_holds_up_nobody_else() {
        let once = NonZeroU32::MIN;
        let connects = Rates { address: Some(Rate::new(once, once)), ..Rates::UNBOUNDED };
        let limits = limits_of(ClientLimits { connects, ..ClientLimits::default() });
        assert!(enter(&limits, "192.0.2.1", None).is_ok());
        assert_eq!(enter(&limits, "192.0.2.1", None).err(), Some(Refusal::Connects));
        assert!(enter(&limits, "192.0.2.2", None).is_ok());
    }

    #[test]
    fn what_the_cluster_agrees_on_holds_before_what_is_configured() {
        use evergate_domain::cluster::{Limit, LimitName};

        let agreed = AgreedLimits::default();
        let limits = Limits::new(&ClientLimits::default(), &agreed);
        assert!(enter(&limits, "192.0.2.1", None).is_ok() && !limits.counts_newcomers());
        let once = Limit { per_second: 1, burst: 1 };
        agreed.replace(&LimitName::ALL.map(|name| (name.to_string(), once)).into());
        assert!(enter(&limits, "192.0.2.1", None).is_ok() && limits.counts_newcomers());
        assert_eq!(enter(&limits, "192.0.2.1", None).err(), Some(Refusal::Connects));
        assert_eq!(enter(&limits, "192.0.2.2", None).err(), Some(Refusal::StreamConnects));
        assert!(limits.newcomer(from("192.0.2.1")) && !limits.newcomer(from("192.0.2.1")));
        assert!(limits.call(from("192.0.2.1")).is_ok() && limits.call(from("192.0.2.1")).is_err());
        agreed.replace(&std::collections::BTreeMap::new());
        assert!(enter(&limits, "192.0.2.1", None).is_ok() && limits.newcomer(from("192.0.2.1")));
    }

    #[test]
    fn a_stream_is_opened_as_fast_as_it_may_be_by_all_together() {
        let once = NonZeroU32::MIN;
        let connects = Rates { stream: Some(Rate::new(once, once)), ..Rates::UNBOUNDED };
        let limits = limits_of(ClientLimits { connects, ..ClientLimits::default() });
        assert!(enter(&limits, "192.0.2.1", None).is_ok());
        assert_eq!(enter(&limits, "192.0.2.2", None).err(), Some(Refusal::StreamConnects));
    }

    #[test]
    fn calls_have_a_rate_and_whoever_is_above_it_is_told_when_to_come_again() {
        let once = NonZeroU32::MIN;
        let limits =
            limits_of(ClientLimits { calls: Some(Rate::new(once, once)), ..ClientLimits::default() });
        assert!(limits.call(from("192.0.2.1")).is_ok());
        let problem = limits.call(from("192.0.2.1")).expect_err("one at once").into_response();
        assert_eq!(problem.status(), StatusCode::TOO_MANY_REQUESTS);
        assert!(
            ["retry-after", "x-ratelimit-limit"].iter().all(|name| problem.headers().contains_key(*name))
        );
        assert!(limits.call(from("192.0.2.2")).is_ok());
    }

    #[test]
    fn nothing_is_held_where_nothing_is_bounded() {
        let limits = limits_of(ClientLimits::default());
        let admitted = enter(&limits, "192.0.2.1", Some("a")).unwrap_or_else(|_| unreachable!());
        assert!(admitted._places.is_none());
        assert_eq!(size_of::<Admitted>(), size_of::<usize>());
    }

    #[test]
    fn only_what_the_client_itself_causes_is_429() {
        assert_eq!(Refusal::status(Refusal::Connects.reason()), StatusCode::TOO_MANY_REQUESTS);
        assert_eq!(Refusal::status(Refusal::Stream.reason()), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(Refusal::status("full"), StatusCode::SERVICE_UNAVAILABLE);
    }
}
