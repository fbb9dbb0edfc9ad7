//! Nodes that come and go.

use super::{
    Change, Lease, NODES_MAX, Node, NodeName, Refusal, Region, State, ZONES_MAX, check_text, has_room,
};

impl State {
    /// A node that nobody knows is taken at once. One that is known keeps its lease: if it was lost it gets
    /// clients when it has been back for long enough, whatever has been started in its name.
    pub(super) fn join(&self, node: &Node) -> Result<Vec<Change>, Refusal> {
        let agreed = self.view.format();
        if node.format < agreed {
            let (node, understands) = (node.name.clone(), node.format);
            return Err(Refusal::TooOld { node, understands, agreed });
        }
        check_text("version", &node.version, 64)?;
        if node.capacity == 0 || node.admits_per_second == 0 {
            return Err(Refusal::invalid("node", "capacity and admits_per_second are above 0"));
        }
        let before = self.view.nodes().get(&node.name);
        has_room("nodes", self.view.nodes().len(), NODES_MAX, before.is_some())?;
        let mut changes = self.region_of(node)?;
        let mut joined = Node { lease: Lease::Held, draining: false, ..node.clone() };
        if let Some(before) = before {
            if node.incarnation < before.incarnation {
                return Err(Refusal::NameInUse(node.name.clone()));
            }
            joined.lease = before.lease;
            if node.incarnation == before.incarnation {
                joined.draining = before.draining;
            } else {
                // What was asked of the run before is done: it has ended.
                changes.extend(self.drain_over(&node.name));
                changes.extend(self.moves_nobody(&node.name));
            }
        }
        if before != Some(&joined) {
            changes.push(Change::Node(Box::new(joined)));
        }
        Ok(changes)
    }

    /// The node's region and zone, if nobody has named them yet.
    fn region_of(&self, node: &Node) -> Result<Vec<Change>, Refusal> {
        let known = self.view.regions().get(&node.region);
        if known.is_some_and(|region| region.zones.contains(&node.zone)) {
            return Ok(Vec::new());
        }
        let mut region = known.cloned().unwrap_or_else(|| Region {
            name: node.region.clone(),
            public_host: None,
            zones: Default::default(),
        });
        has_room("zones of a region", region.zones.len(), ZONES_MAX, false)?;
        region.zones.insert(node.zone.clone());
        self.check_region(&region)?;
        Ok(vec![Change::Region(region)])
    }

    pub(super) fn lost(&self, name: &NodeName, incarnation: u64) -> Result<Vec<Change>, Refusal> {
        let node = self.same(name, incarnation)?;
        match node.lease {
            Lease::Lost => Ok(Vec::new()),
            Lease::Held => {
                let lost = Node { lease: Lease::Lost, ..node.clone() };
                let mut changes = vec![Change::Node(Box::new(lost))];
                changes.extend(self.drain_over(name));
                changes.extend(self.moves_nobody(name));
                Ok(changes)
            }
        }
    }

    pub(super) fn back(&self, name: &NodeName, incarnation: u64) -> Result<Vec<Change>, Refusal> {
        let node = self.same(name, incarnation)?;
        match node.lease {
            Lease::Held => Ok(Vec::new()),
            Lease::Lost => Ok(vec![Change::Node(Box::new(Node { lease: Lease::Held, ..node.clone() }))]),
        }
    }

    pub(super) fn leave(&self, name: &NodeName, incarnation: u64) -> Result<Vec<Change>, Refusal> {
        self.same(name, incarnation)?;
        let mut changes = vec![Change::NodeGone(name.clone())];
        changes.extend(self.drain_over(name));
        changes.extend(self.moves_nobody(name));
        Ok(changes)
    }

    pub(super) fn forget(&self, name: &NodeName) -> Result<Vec<Change>, Refusal> {
        match self.node(name)?.lease {
            Lease::Held => Err(Refusal::StillThere(name.clone())),
            Lease::Lost => {
                let mut changes = vec![Change::NodeGone(name.clone())];
                changes.extend(self.drain_over(name));
                Ok(changes)
            }
        }
    }
}
