//! Rebalances: after an edge has come, the clients that belong to it are at others, which send them there.
//!
//! What is agreed on is that it is to be done, and who has not done it yet; whom an edge sends away, and how fast,
//! is its own to see ([`crate::cluster::Pace`]). One at a time, in the whole cluster.

use super::{Change, NodeName, Rebalance, Refusal, RegionName, State, known};

impl State {
    pub(super) fn rebalance(&self, region: &RegionName) -> Result<Vec<Change>, Refusal> {
        self.needs_format(2, "a rebalance")?;
        known("region", region, self.view.regions().contains_key(region))?;
        if let Some(running) = self.view.rebalance() {
            return Err(Refusal::Rebalancing(running.region.clone()));
        }
        if let Some(drain) = self.view.drains().values().find(|drain| drain.running) {
            return Err(Refusal::DrainFirst(drain.node.clone()));
        }
        let edges = self.view.nodes().values().filter(|node| node.region == *region && node.takes_clients());
        let left: std::collections::BTreeSet<_> = edges.map(|node| node.name.clone()).collect();
        if left.len() < 2 {
            return Err(Refusal::NothingToRebalance(region.clone()));
        }
        // The version that comes of it was never there before.
        let plan = self.view.version() + 1;
        Ok(vec![
            Change::Balanced(region.clone()),
            Change::Rebalance(Rebalance { region: region.clone(), plan, left }),
        ])
    }

    pub(super) fn cancel_rebalance(&self, region: &RegionName) -> Result<Vec<Change>, Refusal> {
        match self.view.rebalance() {
            Some(running) if running.region == *region => Ok(vec![Change::RebalanceOver]),
            Some(_) | None => Err(Refusal::NotRebalancing(region.clone())),
        }
    }

    /// Said again, or of a plan that is over, it says nothing.
    pub(super) fn rebalanced(
        &self,
        name: &NodeName,
        incarnation: u64,
        plan: u64,
    ) -> Result<Vec<Change>, Refusal> {
        self.needs_format(2, "a rebalance")?;
        self.same(name, incarnation)?;
        let is_this = self.view.rebalance().is_some_and(|running| running.plan == plan);
        Ok(if is_this { self.moves_nobody(name) } else { Vec::new() })
    }

    /// A node has nobody left whom a rebalance would move, if there is one that waits for it.
    pub(super) fn moves_nobody(&self, name: &NodeName) -> Vec<Change> {
        let waited_for = self.view.rebalance().and_then(|running| running.left.get(name));
        waited_for.map(|node| Change::RebalanceDone(node.clone())).into_iter().collect()
    }

    pub(super) fn rebalance_over(&self) -> Option<Change> {
        self.view.rebalance().filter(|running| running.left.is_empty()).map(|_| Change::RebalanceOver)
    }
}
