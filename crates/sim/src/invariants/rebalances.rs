//! A rebalance waits for edges that are there, and no plan that is over begins again.

use std::collections::BTreeSet;

use evergate_domain::cluster::Lease;

use crate::world::World;

#[derive(Default)]
pub(crate) struct Rebalances {
    running: Option<u64>,
    over: BTreeSet<u64>,
}

impl Rebalances {
    pub(crate) fn check(&mut self, world: &World) -> Result<(), String> {
        let view = world.newest();
        let running = view.rebalance().map(|plan| plan.plan);
        if running != self.running {
            self.over.extend(self.running);
            self.running = running;
        }
        let Some(plan) = view.rebalance() else { return Ok(()) };
        if self.over.contains(&plan.plan) {
            return Err(format!("plan {} was over", plan.plan));
        }
        if plan.left.is_empty() {
            return Err(format!("plan {} waits for nobody", plan.plan));
        }
        let is_there = |name| view.nodes().get(name).is_some_and(|node| node.lease == Lease::Held);
        match plan.left.iter().find(|name| !is_there(*name)) {
            Some(name) => Err(format!("plan {} waits for {name}, which is not there", plan.plan)),
            None => Ok(()),
        }
    }
}
