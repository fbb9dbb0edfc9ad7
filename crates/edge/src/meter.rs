//! How fast something may be done: by one address, by one principal, to one stream.

use std::hash::{Hash, RandomState};
use std::num::NonZeroU32;
use std::time::Instant;

use evergate_access::Principal;
use evergate_domain::{AddressGroup, Allowance, Rate, RateTable, StreamName, TooFast};
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;

use crate::config::Rates;

/// Cells of each of a table's two rows: 1 MiB in all, whoever comes.
const CELLS: NonZeroU32 = NonZeroU32::new(64 << 10).expect("above zero");

/// One rate, of which everybody has a budget of its own.
#[derive(Debug)]
pub(crate) struct Meter {
    begun: Instant,
    table: Mutex<RateTable<RandomState>>,
}

impl Meter {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { begun: Instant::now(), table: Mutex::new(RateTable::new(rate, CELLS, RandomState::new())) }
    }

    /// Takes `n` from somebody's budget.
    pub(crate) fn take(&self, whose: impl Hash, n: u32) -> Result<Allowance, TooFast> {
        let now = u64::try_from(self.begun.elapsed().as_nanos()).expect("five hundred years are enough");
        self.table.lock().take(whose, now, n)
    }
}

/// The rates at which one thing may be done, each where it is bounded.
#[derive(Debug)]
pub(crate) struct Meters {
    address: Option<Meter>,
    principal: Option<Meter>,
    stream: Option<Meter>,
}

/// Whose budget is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    Address,
    Principal,
    Stream,
}

impl Meters {
    pub(crate) fn new(rates: &Rates) -> Self {
        Self {
            address: rates.address.map(Meter::new),
            principal: rates.principal.map(Meter::new),
            stream: rates.stream.map(Meter::new),
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
        let of_address = self.address.as_ref().map(|meter| meter.take(from, n));
        let of_address = of_address.transpose().map_err(|too_fast| (Whose::Address, too_fast))?;
        let of_principal = self.principal.as_ref().zip(who).map(|(meter, who)| meter.take(name(who), n));
        let of_principal = of_principal.transpose().map_err(|too_fast| (Whose::Principal, too_fast))?;
        Ok(smaller(of_address, of_principal))
    }

    /// The same of a stream's budget. Only for whoever may use the stream: nobody else is to use it up.
    pub(crate) fn of_stream(
        &self,
        stream: &StreamName,
        n: u32,
    ) -> Result<Option<Allowance>, (Whose, TooFast)> {
        let taken = self.stream.as_ref().map(|meter| meter.take(stream.as_str(), n));
        taken.transpose().map_err(|too_fast| (Whose::Stream, too_fast))
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
