//! How loaded edges are, and how loaded they may be.

use crate::cluster::Weight;

/// What an edge has told of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Load {
    /// Event streams that are open.
    pub connections: u32,
    /// Clients that it lets in each second now.
    pub arrivals_per_second: u32,
}

/// How far above its fair share an edge may be loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadBound {
    /// Above 1000, which is the share itself.
    permille: u16,
}

impl LoadBound {
    /// A quarter above.
    pub const ORDINARY: Self = Self { permille: 1_250 };

    /// So many thousandths of the share; `None` unless that is more than all of them.
    #[must_use]
    pub fn new(permille: u16) -> Option<Self> {
        (permille > 1_000).then_some(Self { permille })
    }

    /// How many clients an edge may have of `total` and the one that is being placed, if it has `weight` of
    /// `weights`. Rounded up, so that there is always room for one more somewhere.
    pub(super) fn of(self, total: u64, weight: Weight, weights: u64) -> u64 {
        let clients = u128::from(total) + 1;
        let bound = (clients * u128::from(self.permille) * u128::from(weight.get()))
            .div_ceil(1_000 * u128::from(weights.max(1)));
        u64::try_from(bound).unwrap_or(u64::MAX)
    }
}
