//! What holds for the cluster as a whole.

use crate::cluster::digest::Digester;

/// Settings that every node must have alike, and that are changed while it runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClusterSettings {
    /// A node that is not heard of for so long, in milliseconds, loses its clients.
    pub lease_ms: u32,
    /// A node that was lost gets clients again once it has been there for so long, in milliseconds.
    pub hysteresis_ms: u32,
    /// Nodes that are drained at the same time.
    pub drains_at_once: u32,
    /// What a drain takes of the rate at which the others can let clients in, in thousandths.
    pub drain_share_permille: u16,
    /// How far above its fair share a node may be loaded by placement, in thousandths of the share.
    pub bound_permille: u16,
    /// The longest that clients are asked to wait for fear of a crash, in milliseconds.
    pub retry_ms_max: u32,
    /// Once an edge has come to a region and its edges have been the same for so long, in milliseconds, clients are sent
    /// where they belong; 0 is never, but when somebody asks for it.
    pub rebalance_after_ms: u32,
}

/// A number that would make the cluster misbehave. Whoever wrote it must write another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{name} is from {min} to {max}, and {given} is not")]
pub struct SettingError {
    /// Which one.
    pub name: &'static str,
    /// What was given.
    pub given: u32,
    /// The least.
    pub min: u32,
    /// The most.
    pub max: u32,
}

impl ClusterSettings {
    /// Refuses the first number that is out of bounds.
    pub fn check(&self) -> Result<(), SettingError> {
        for (name, given, min, max) in [
            ("lease_ms", self.lease_ms, 200, 600_000),
            ("hysteresis_ms", self.hysteresis_ms, 0, 3_600_000),
            ("drains_at_once", self.drains_at_once, 1, 1_000),
            ("drain_share_permille", u32::from(self.drain_share_permille), 1, 1_000),
            ("bound_permille", u32::from(self.bound_permille), 1_001, 10_000),
            ("retry_ms_max", self.retry_ms_max, 1_000, 3_600_000),
            ("rebalance_after_ms", self.rebalance_after_ms, 0, 86_400_000),
        ] {
            if !(min..=max).contains(&given) {
                return Err(SettingError { name, given, min, max });
            }
        }
        Ok(())
    }

    /// But for what a format has brought, which is fed where there is some ([`crate::cluster::View::digest`]).
    pub(super) fn feed(&self, digester: &mut Digester) {
        for number in [
            self.lease_ms,
            self.hysteresis_ms,
            self.drains_at_once,
            u32::from(self.drain_share_permille),
            u32::from(self.bound_permille),
            self.retry_ms_max,
        ] {
            digester.number(number);
        }
    }
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            lease_ms: 3_000,
            hysteresis_ms: 15_000,
            drains_at_once: 1,
            drain_share_permille: 500,
            bound_permille: 1_250,
            retry_ms_max: 120_000,
            rebalance_after_ms: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_out_of_bounds_is_named_with_its_bounds() {
        assert_eq!(ClusterSettings::default().check(), Ok(()));
        let error =
            ClusterSettings { lease_ms: 0, ..ClusterSettings::default() }.check().expect_err("no lease");
        assert_eq!(error.to_string(), "lease_ms is from 200 to 600000, and 0 is not");
        // A bound of one share or less could not hold everybody.
        assert!(ClusterSettings { bound_permille: 1_000, ..ClusterSettings::default() }.check().is_err());
    }
}
