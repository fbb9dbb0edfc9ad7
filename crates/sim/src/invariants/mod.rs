//! What must hold after every step, and what must have come right in the end.

mod agreement;
mod drains;
mod hysteresis;
mod liveness;
mod rebalances;
mod ring;

use crate::world::World;

/// Something that must not be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which rule.
    pub rule: &'static str,
    /// When, in simulated milliseconds.
    pub at_ms: u64,
    /// What there was instead.
    pub what: String,
}

impl std::fmt::Display for Violation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ms: {}: {}", self.at_ms, self.rule, self.what)
    }
}

#[derive(Default)]
pub(crate) struct Invariants {
    agreement: agreement::Agreement,
    ring: ring::RingAgreement,
    drains: drains::Drains,
    rebalances: rebalances::Rebalances,
    hysteresis: hysteresis::Hysteresis,
}

impl Invariants {
    pub(crate) fn check(&mut self, world: &World) -> Result<(), Violation> {
        let at_ms = world.now_ms;
        let violated = |rule: &'static str| move |what: String| Violation { rule, at_ms, what };
        self.agreement.check(world).map_err(violated("no two views disagree at one version"))?;
        self.ring.check(world).map_err(violated("no two rings disagree at one version"))?;
        self.drains.check(world).map_err(violated("drains leave somebody to take the clients"))?;
        self.rebalances.check(world).map_err(violated("a rebalance waits for who is there"))?;
        self.hysteresis.check(world).map_err(violated("whoever was lost stays out for a while"))
    }

    pub(crate) fn check_end(&self, world: &World) -> Result<(), Violation> {
        let violated = |what: String| Violation { rule: "all comes right", at_ms: world.now_ms, what };
        liveness::check(world).map_err(violated)
    }
}
