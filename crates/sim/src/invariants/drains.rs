//! So many drains at once as may be, and none that leaves a region without an edge unless it was forced.

use std::collections::BTreeMap;

use evergate_domain::NodeName;

use crate::world::World;

#[derive(Default)]
pub(crate) struct Drains {
    /// Who was being drained by whose wish, and which of them are known to have begun.
    running: BTreeMap<NodeName, u64>,
}

impl Drains {
    pub(crate) fn check(&mut self, world: &World) -> Result<(), String> {
        let view = world.newest();
        let running: BTreeMap<_, _> = view
            .drains()
            .values()
            .filter(|drain| drain.running)
            .map(|drain| (drain.node.clone(), drain.order))
            .collect();
        if running.len() > view.settings().drains_at_once as usize {
            return Err(format!("{running:?} are drained at once"));
        }
        for (node, order) in &running {
            let Some(facts) = view.nodes().get(node) else {
                return Err(format!("{node} is drained, and is no node"));
            };
            if !facts.draining {
                return Err(format!("{node} is drained, and gets clients"));
            }
            let begins = self.running.get(node) != Some(order);
            let mut others = view.nodes().values().filter(|other| other.region == facts.region);
            // A loss within the same step may have taken the last other one.
            let nobody_lost =
                view.nodes().values().all(|node| node.lease == evergate_domain::cluster::Lease::Held);
            if begins
                && nobody_lost
                && !view.drains()[node].force
                && !others.any(evergate_domain::cluster::Node::takes_clients)
            {
                return Err(format!("{node} leaves {} without an edge", facts.region));
            }
        }
        self.running = running;
        Ok(())
    }
}
