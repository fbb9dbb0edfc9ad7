//! Rates by the generic cell rate algorithm, for one or for many who share a table of fixed size.
//!
//! Of everybody there is one number: the moment at which its budget will be full again (the theoretical
//! arrival time). Time is handed in as nanoseconds since any moment that stays the same.

use std::hash::{BuildHasher, Hash};
use std::num::NonZeroU32;
use std::time::Duration;

/// So many a second, and so many at once after a rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    per_second: NonZeroU32,
    burst: NonZeroU32,
}

/// What is left of a budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// The whole budget.
    pub limit: u32,
    /// What may be spent at once now.
    pub remaining: u32,
    /// Until the whole budget is there again.
    pub reset: Duration,
}

/// There is too little of the budget, and nothing was taken from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooFast {
    /// What is left.
    pub allowance: Allowance,
    /// When to ask again.
    pub after: Duration,
}

impl Rate {
    /// `burst` is the whole budget, and `per_second` what is added to it each second.
    #[must_use]
    pub fn new(per_second: NonZeroU32, burst: NonZeroU32) -> Self {
        Self { per_second, burst }
    }

    /// Takes `n` from a budget that is full again at `full_at`; says when it then will be.
    ///
    /// More than the whole budget is given when that is there, and paid back before anything else is:
    /// it could never be had otherwise.
    pub fn take(self, full_at: u64, now: u64, n: u32) -> Result<(u64, Allowance), TooFast> {
        let owed = full_at.saturating_sub(now);
        let needed = self.cost(self.burst.get() - n.min(self.burst.get()));
        if owed > needed {
            return Err(TooFast {
                allowance: self.allowance(owed),
                after: Duration::from_nanos(owed - needed),
            });
        }
        let owed = owed.saturating_add(self.cost(n));
        Ok((now.saturating_add(owed), self.allowance(owed)))
    }

    /// Of what `owed` at `before` is worth, as much as this budget can be short of.
    fn owes_instead(self, owed: u64, before: Self) -> u64 {
        let spent = u128::from(owed) * u128::from(before.per_second.get());
        let owed = spent.div_ceil(u128::from(self.per_second.get()));
        u64::try_from(owed).unwrap_or(u64::MAX).min(self.cost(self.burst.get()))
    }

    /// The time in which so much is added.
    fn cost(self, n: u32) -> u64 {
        const SECOND: u64 = 1_000_000_000;
        u64::from(n) * SECOND / u64::from(self.per_second.get())
    }

    fn allowance(self, owed: u64) -> Allowance {
        let limit = self.burst.get();
        let one = self.cost(1).max(1);
        let spent = u32::try_from(owed.div_ceil(one)).unwrap_or(u32::MAX);
        Allowance { limit, remaining: limit.saturating_sub(spent), reset: Duration::from_nanos(owed) }
    }
}

/// The budgets of any number of keys in memory that never grows and of which nobody is ever put out.
///
/// A key has a cell in each of two rows, which it may share with others; its budget is what the less
/// used of the two says, and whatever it takes is booked in both. So nobody ever gets more than its rate,
/// however many others there are; and somebody is held back for others only if both of its cells are kept
/// busy by them, which whoever does not know the hash can only reach by spending as much on all cells.
#[derive(Debug)]
pub struct RateTable<S> {
    rate: Rate,
    hasher: S,
    /// When each cell's budget is full again.
    rows: [Box<[u64]>; 2],
}

impl<S: BuildHasher> RateTable<S> {
    /// A table with two rows of this many cells. `hasher` must not be known outside.
    #[must_use]
    pub fn new(rate: Rate, cells: NonZeroU32, hasher: S) -> Self {
        let row = || vec![0; cells.get() as usize].into_boxed_slice();
        Self { rate, hasher, rows: [row(), row()] }
    }

    /// By what everybody is measured.
    #[must_use]
    pub fn rate(&self) -> Rate {
        self.rate
    }

    /// From now on everybody has another budget. What was spent of the one before is spent of it, too; but nobody
    /// is short of more than there is.
    pub fn set_rate(&mut self, rate: Rate, now: u64) {
        let before = std::mem::replace(&mut self.rate, rate);
        for cell in self.rows.iter_mut().flatten() {
            let owed = cell.saturating_sub(now);
            if owed > 0 {
                *cell = now.saturating_add(rate.owes_instead(owed, before));
            }
        }
    }

    /// Takes `n` from a key's budget.
    pub fn take(&mut self, key: impl Hash, now: u64, n: u32) -> Result<Allowance, TooFast> {
        let hash = self.hasher.hash_one(key);
        let [first, second] = &mut self.rows;
        let (a, b) = (&mut first[scaled(hash >> 32, first.len())], &mut second[scaled(hash, second.len())]);
        let (full_at, allowance) = self.rate.take(*(&*a).min(&*b), now, n)?;
        *a = full_at.max(*a);
        *b = full_at.max(*b);
        Ok(allowance)
    }
}

/// The low half of a hash as a place among `len`.
fn scaled(hash: u64, len: usize) -> usize {
    let place = ((hash & u64::from(u32::MAX)) * len as u64) >> 32;
    usize::try_from(place).expect("less than the length")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;
    use std::hash::{BuildHasherDefault, DefaultHasher};

    const SECOND: u64 = 1_000_000_000;

    fn nonzero(n: u32) -> NonZeroU32 {
        NonZeroU32::new(n).expect("above zero")
    }

    fn rate(per_second: u32, burst: u32) -> Rate {
        Rate::new(nonzero(per_second), nonzero(burst))
    }

    fn table(rate: Rate, cells: u32) -> RateTable<BuildHasherDefault<DefaultHasher>> {
        RateTable::new(rate, nonzero(cells), BuildHasherDefault::default())
    }

    #[test]
    fn a_rested_budget_gives_its_burst_and_then_its_rate() {
        let mut table = table(rate(10, 3), 64);
        for remaining in [2, 1, 0] {
            assert_eq!(table.take("k", 0, 1).expect("within the burst").remaining, remaining);
        }
        let refused = table.take("k", 0, 1).expect_err("spent");
        assert_eq!(refused.after, Duration::from_millis(100));
        assert_eq!(refused.allowance.reset, Duration::from_millis(300));
        assert!(table.take("k", SECOND / 10 - 1, 1).is_err(), "a moment too early");
        assert!(table.take("k", SECOND / 10, 1).is_ok());
        assert_eq!(
            table.take("k", 10 * SECOND, 1).expect("rested").remaining,
            2,
            "never more than the burst"
        );
    }

    #[test]
    fn more_than_a_budget_is_given_once_and_paid_back() {
        let mut table = table(rate(10, 3), 64);
        let allowance = table.take("k", 0, 10).expect("the whole budget is there");
        assert_eq!((allowance.remaining, allowance.reset), (0, Duration::from_secs(1)));
        assert_eq!(table.take("k", 0, 1).expect_err("in debt").after, Duration::from_millis(800));
        assert!(table.take("k", SECOND / 2, 10).is_err());
        assert!(table.take("k", SECOND, 10).is_ok(), "the whole budget is there again");
    }

    #[test]
    fn what_was_spent_stays_spent_when_the_rate_is_another_one() {
        let mut table = table(rate(10, 10), 64);
        for _ in 0..4 {
            table.take("k", 0, 1).expect("within the burst");
        }
        // As much a second, of a larger budget.
        table.set_rate(rate(10, 20), 0);
        assert_eq!(table.take("k", 0, 1).expect("more than enough").remaining, 15);
        // A tenth as fast: five are still spent, and come back a tenth as fast.
        table.set_rate(rate(1, 20), 0);
        let allowance = table.take("k", 0, 1).expect("more than enough");
        assert_eq!((allowance.remaining, allowance.reset), (14, Duration::from_secs(6)));
        // A budget smaller than what was spent is spent, and no more than that.
        table.set_rate(rate(1, 3), 0);
        assert_eq!(table.take("k", 0, 1).expect_err("nothing is left").after, Duration::from_secs(1));
        assert_eq!(table.take("other", 0, 1).expect("of somebody who has spent nothing").remaining, 2);
        table.set_rate(rate(1_000_000, 3), 0);
        assert!(
            table.take("k", 3_000, 3).is_ok(),
            "a debt lasts as long as the new budget takes to come back"
        );
        assert_eq!(table.rate(), rate(1_000_000, 3));
    }

    #[test]
    fn the_largest_numbers_are_no_trouble() {
        let (full_at, allowance) = rate(1, u32::MAX).take(0, u64::MAX, u32::MAX).expect("rested");
        assert_eq!((full_at, allowance.remaining), (u64::MAX, 0));
        assert!(rate(u32::MAX, 1).take(0, 0, 1).is_ok());
    }

    proptest! {
        /// However few cells there are, nobody gets more than its rate.
        #[test]
        fn nobody_gets_more_than_its_rate(
            cells in 1u32..6,
            (per_second, burst) in (1u32..50, 1u32..10),
            requests in prop::collection::vec((0u8..12, 0u64..SECOND / 4, 1u32..4), 1..200),
        ) {
            let mut table = table(rate(per_second, burst), cells);
            let mut now = 0;
            let mut taken: HashMap<u8, Vec<(u64, u64)>> = HashMap::new();
            for (key, later, n) in requests {
                now += later;
                if table.take(key, now, n.min(burst)).is_ok() {
                    taken.entry(key).or_default().push((now, u64::from(n.min(burst))));
                }
            }
            for of_key in taken.values() {
                for (from, &(begun, _)) in of_key.iter().enumerate() {
                    let mut sum = 0;
                    for &(at, n) in &of_key[from..] {
                        sum += n;
                        // One nanosecond for each rounding.
                        let added = ((at - begun + sum) * u64::from(per_second)).div_ceil(SECOND);
                        prop_assert!(sum <= u64::from(burst) + added, "{sum} within {} ns", at - begun);
                    }
                }
            }
        }

        /// Whoever keeps to its rate is never held back where it is alone.
        #[test]
        fn whoever_keeps_to_its_rate_is_never_held_back(per_second in 1u32..1000, burst in 1u32..10, waits in prop::collection::vec(0u64..SECOND, 1..50)) {
            let mut table = table(rate(per_second, burst), 8);
            let mut now = 0;
            for wait in waits {
                now += wait + SECOND.div_ceil(u64::from(per_second));
                prop_assert!(table.take("k", now, 1).is_ok());
            }
        }
    }
}
