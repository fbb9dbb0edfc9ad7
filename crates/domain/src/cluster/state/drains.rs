//! Drains: asked for at any time, done a few at a time, and never so that a region is left without an edge.

use super::{Change, Drain, Lease, Node, NodeName, Refusal, Role, State};

impl State {
    pub(super) fn drain(&self, name: &NodeName, force: bool) -> Result<Vec<Change>, Refusal> {
        let node = self.node(name)?;
        match node.role {
            Role::Edge => {}
            Role::Relay | Role::Control => {
                return Err(Refusal::invalid("node", format!("{name} has no clients: it is no edge")));
            }
        }
        if node.draining || self.view.drains().contains_key(name) {
            return Err(Refusal::AlreadyDraining(name.clone()));
        }
        if !force && self.is_last(node) {
            return Err(Refusal::LastOfRegion { node: name.clone(), region: node.region.clone() });
        }
        let (node, order) = (name.clone(), self.drains_asked + 1);
        Ok(vec![Change::Drain(Drain { node, order, force, running: false })])
    }

    pub(super) fn drained(&self, name: &NodeName, incarnation: u64) -> Result<Vec<Change>, Refusal> {
        self.same(name, incarnation)?;
        let is_running = self.view.drains().get(name).is_some_and(|drain| drain.running);
        // The node stays without clients, until it ends or somebody wants it back.
        if is_running { Ok(vec![Change::DrainOver(name.clone())]) } else { Ok(Vec::new()) }
    }

    /// It does not wait for its turn, for it ends in any case; a wish to drain it has come true.
    pub(super) fn ending(&self, name: &NodeName, incarnation: u64) -> Result<Vec<Change>, Refusal> {
        let node = self.same(name, incarnation)?;
        let is_waiting = self.view.drains().get(name).is_some_and(|drain| !drain.running);
        let mut changes = if is_waiting { self.drain_over(name) } else { Vec::new() };
        // It sends everybody away now.
        changes.extend(self.moves_nobody(name));
        if !node.draining {
            changes.push(Change::Node(Box::new(Node { draining: true, ..node.clone() })));
        }
        Ok(changes)
    }

    pub(super) fn undrain(&self, name: &NodeName) -> Result<Vec<Change>, Refusal> {
        let node = self.node(name)?;
        let mut changes = self.drain_over(name);
        if node.draining {
            changes.push(Change::Node(Box::new(Node { draining: false, ..node.clone() })));
        }
        if changes.is_empty() { Err(Refusal::NotDraining(name.clone())) } else { Ok(changes) }
    }

    /// The drain of a node comes to nothing, if there is one.
    pub(super) fn drain_over(&self, name: &NodeName) -> Vec<Change> {
        let known = self.view.drains().get_key_value(name);
        known.map(|(node, _)| Change::DrainOver(node.clone())).into_iter().collect()
    }

    /// What follows from what has changed, without anybody asking for it: whose turn it is to be drained, and
    /// that a rebalance is over. A drain that would leave its region without an edge waits until another is there.
    pub(super) fn turn(&self) -> Vec<Change> {
        let drains = self.view.drains();
        let running = drains.values().filter(|drain| drain.running).count();
        let free = (self.view.settings().drains_at_once as usize).saturating_sub(running);
        let mut waiting: Vec<_> = drains.values().filter(|drain| !drain.running).collect();
        waiting.sort_unstable_by_key(|drain| drain.order);
        let mut changes: Vec<_> = self.rebalance_over().into_iter().collect();
        let mut begun: Vec<&Node> = Vec::new();
        for drain in waiting {
            let Some(node) = self.view.nodes().get(&drain.node) else { continue };
            let draining = Change::Node(Box::new(Node { draining: true, ..node.clone() }));
            if node.lease == Lease::Lost {
                // It has no clients, and nobody would ever say so.
                changes.extend([draining, Change::DrainOver(node.name.clone())]);
                continue;
            }
            // Those whose drain begins with this one's count as gone.
            let others = self.view.nodes().values().filter(|other| {
                other.region == node.region && other.name != node.name && other.takes_clients()
            });
            let left = others.filter(|other| !begun.iter().any(|begun| begun.name == other.name)).count();
            if begun.len() < free && (drain.force || left > 0) {
                changes.extend([Change::Drain(Drain { running: true, ..drain.clone() }), draining]);
                begun.push(node);
            }
        }
        changes
    }

    fn is_last(&self, node: &Node) -> bool {
        let mut others = self.view.nodes().values().filter(|other| other.name != node.name);
        node.takes_clients() && !others.any(|other| other.region == node.region && other.takes_clients())
    }
}
