//! How fast each client may do something.

use std::hash::RandomState;
use std::num::NonZeroU32;
use std::time::Instant;

use evergate_domain::{AddressGroup, Allowance, Rate, RateTable, TooFast};
use http::{HeaderMap, HeaderName, HeaderValue};
use parking_lot::Mutex;

/// Cells of each of a table's two rows: 1 MiB in all, whoever comes.
const CELLS: NonZeroU32 = NonZeroU32::new(64 << 10).expect("above zero");

/// One rate, of which every address has a budget of its own.
#[derive(Debug)]
pub(crate) struct Meter {
    begun: Instant,
    table: Mutex<RateTable<RandomState>>,
}

impl Meter {
    pub(crate) fn new(rate: Rate) -> Self {
        Self { begun: Instant::now(), table: Mutex::new(RateTable::new(rate, CELLS, RandomState::new())) }
    }

    /// Takes `n` from the budget of an address.
    pub(crate) fn take(&self, from: AddressGroup, n: u32) -> Result<Allowance, TooFast> {
        let now = u64::try_from(self.begun.elapsed().as_nanos()).expect("five hundred years are enough");
        self.table.lock().take(from, now, n)
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
