//! How much of a ring a node takes.

use std::fmt;

/// A node's share of its region's clients, beside those of the others: 100 is an ordinary node, 200 gets
/// twice as many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Weight(u32);

/// The number is no weight. Whoever wrote it must write another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a weight is from {min} to {max}, and {0} is not; to take a node's clients away, drain it",
    min = Weight::MIN.0,
    max = Weight::MAX.0
)]
pub struct WeightError(pub u64);

impl Weight {
    /// The least.
    pub const MIN: Self = Self(1);
    /// The most: a ring holds points in proportion, and they all have to be made.
    pub const MAX: Self = Self(1000);
    /// What a node has of which nothing is said.
    pub const ORDINARY: Self = Self(100);

    /// Checks a number. Zero is none: a node that is to get nobody is drained, which is a thing of its own
    /// and can be taken back.
    pub fn new(number: u64) -> Result<Self, WeightError> {
        u32::try_from(number)
            .ok()
            .map(Self)
            .filter(|weight| (Self::MIN..=Self::MAX).contains(weight))
            .ok_or(WeightError(number))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl Default for Weight {
    fn default() -> Self {
        Self::ORDINARY
    }
}

impl fmt::Display for Weight {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_weight_is_told_in_one_sentence() {
        for number in [0, 1001, 1_000_000_000, u64::from(u32::MAX) + 101, u64::MAX] {
            let error = Weight::new(number).expect_err("no weight");
            assert_eq!(
                error.to_string(),
                format!(
                    "a weight is from 1 to 1000, and {number} is not; to take a node's clients away, drain it"
                )
            );
        }
        for number in [1, 100, 1000] {
            assert_eq!(u64::from(Weight::new(number).expect("a weight").get()), number);
        }
    }
}
