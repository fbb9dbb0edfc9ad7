//! How fast something may be done: by one address, by one principal, to one stream.

use std::hash::{Hash, RandomState};
use std::num::NonZeroU32;
use std::time::Instant;

use evergate_access::Principal;
use evergate_domain::cluster::LimitName;
use evergate_domain::{AddressGroup, AgreedLimits, Allowance, Rate, RateTable, StreamName, TooFast};
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;

use crate::config::Rates;

/// Cells of each of a table's two rows: 1 MiB in all, whoever comes.
const CELLS: NonZeroU32 = NonZeroU32::new(64 << 10).expect("above zero");

/// One rate, of which everybody has a budget of its own: what the cluster agrees on, or else what is configured.
#[derive(Debug)]
pub(crate) struct Meter {
    name: LimitName,
    agreed: AgreedLimits,
    configured: Option<Rate>,
    begun: Instant,
    /// Made when there is a rate for the first time.
    table: Mutex<Option<RateTable<RandomState>>>,
}

impl Meter {
    pub(crate) fn new(name: LimitName, configured: Option<Rate>, agreed: &AgreedLimits) -> Self {
        let agreed = agreed.clone();
        Self { name, agreed, configured, begun: Instant::now(), table: Mutex::new(None) }
    }

    /// The rate, where there is a bound now.
    pub(crate) fn rate(&self) -> Option<Rate> {
        self.agreed.of(self.name).or(self.configured)
    }

    /// Takes `n` from somebody's budget, where there is a bound.
    pub(crate) fn take(&self, whose: impl Hash, n: u32) -> Result<Option<Allowance>, TooFast> {
        let Some(rate) = self.rate() else { return Ok(None) };
        let now = u64::try_from(self.begun.elapsed().as_nanos()).expect("five hundred years are enough");
        let mut table = self.table.lock();
        let table = table.get_or_insert_with(|| RateTable::new(rate, CELLS, RandomState::new()));
        if table.rate() != rate {
            table.set_rate(rate, now);
        }
        table.take(whose, now, n).map(Some)
    }
}

/// The rates at which one thing may be done, each where it is bounded.
#[derive(Debug)]
pub(crate) struct Meters {
    address: Meter,
    principal: Meter,
    stream: Meter,
}

/// Whose budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    Address,
    Principal,
    Stream,
}

impl Meters {
    /// For publishing events.
    pub(crate) fn of_publishes(rates: &Rates, agreed: &AgreedLimits) -> Self {
        Self {
            address: Meter::new(LimitName::Publishes, rates.address, agreed),
            principal: Meter::new(LimitName::PrincipalPublishes, rates.principal, agreed),
            stream: Meter::new(LimitName::StreamPublishes, rates.stream, agreed),
        }
    }

    /// For opening event streams.
    pub(crate) fn of_connects(rates: &Rates, agreed: &AgreedLimits) -> Self {
        Self {
            address: Meter::new(LimitName::Connects, rates.address, agreed),
            principal: Meter::new(LimitName::PrincipalConnects, rates.principal, agreed),
            stream: Meter::new(LimitName::StreamConnects, rates.stream, agreed),
        }
    }

    /// Takes `n` from the budgets of whoever does it; tells the smaller rest, if there is a bound. What is
    /// refused for the second costs the first all the same: an attempt is an attempt.
    pub(crate) fn of_sender(
        &self,
        from: AddressGroup,
        who: Option<&Principal>,
        n: u32,
    ) -> Result<Option<Allowance>, (Whose, TooFast)> {
        let of_address = self.address.take(from, n).map_err(|too_fast| (Whose::Address, too_fast))?;
        let of_principal = who.map(|who| self.principal.take(name(who), n)).transpose();
        let of_principal = of_principal.map_err(|too_fast| (Whose::Principal, too_fast))?.flatten();
        Ok(smaller(of_address, of_principal))
    }

    /// The same of a stream's budget. Only for whoever may use the stream: nobody else is to use it up.
    pub(crate) fn of_stream(
        &self,
        stream: &StreamName,
        n: u32,
    ) -> Result<Option<Allowance>, (Whose, TooFast)> {
        self.stream.take(stream.as_str(), n).map_err(|too_fast| (Whose::Stream, too_fast))
    }
}

/// By what a principal is counted: its subject, however many tokens it has; else its token. Those that
/// name neither are one, as nobody can tell them apart.
pub(crate) fn name(principal: &Principal) -> (bool, &str) {
    match (principal.subject(), principal.token_id()) {
        (Some(subject), _) => (true, subject),
        (None, Some(token)) => (false, token),
        (None, None) => (false, ""),
    }
}

/// Which of two budgets is used up first.
pub(crate) fn smaller(one: Option<Allowance>, other: Option<Allowance>) -> Option<Allowance> {
    match (one, other) {
        (Some(one), Some(other)) => Some(if other.remaining < one.remaining { other } else { one }),
        (one, other) => one.or(other),
    }
}

/// Tells a client its budget: `X-RateLimit-Limit` is the whole of it, `-Remaining` what may be spent at
/// once, `-Reset` the seconds until the whole is there again.
pub(crate) fn tell(headers: &mut HeaderMap, allowance: &Allowance) {
    let mut set = |name, value| headers.insert(HeaderName::from_static(name), value);
    set("x-ratelimit-limit", HeaderValue::from(allowance.limit));
    set("x-ratelimit-remaining", HeaderValue::from(allowance.remaining));
    set("x-ratelimit-reset", HeaderValue::from(allowance.reset.as_nanos().div_ceil(1_000_000_000) as u64));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use evergate_domain::cluster::Limit;

    use super::*;

    #[test]
    fn what_is_agreed_on_holds_before_what_is_configured_and_nothing_is_held_without_both() {
        let agreed = AgreedLimits::default();
        let rate = |burst| Limit { per_second: 1, burst }.rate();
        let agree = |burst| {
            let limit = Limit { per_second: 1, burst };
            agreed.replace(&BTreeMap::from([(LimitName::Calls.to_string(), limit)]));
        };
        let free = Meter::new(LimitName::Calls, None, &agreed);
        let bounded = Meter::new(LimitName::Calls, rate(5), &agreed);
        let limit = |meter: &Meter, n| meter.take("k", n).map(|allowance| allowance.map(|all| all.limit));
        assert_eq!(limit(&free, 1_000), Ok(None));
        assert!(free.table.lock().is_none(), "a bound that is not there takes no room");
        assert_eq!(limit(&bounded, 2), Ok(Some(5)));
        agree(9);
        assert_eq!((limit(&free, 9), limit(&bounded, 1)), (Ok(Some(9)), Ok(Some(9))));
        assert_eq!(free.take("k", 1).expect_err("all is spent").allowance.limit, 9);
        agreed.replace(&BTreeMap::new());
        assert_eq!((limit(&free, 1_000), limit(&bounded, 1)), (Ok(None), Ok(Some(5))));
    }
}
