//! What everybody holds: all of it, or what has changed.

use std::collections::{BTreeMap, BTreeSet};

use crate::cluster::digest::Digester;
use crate::cluster::{
    Breaker, Canary, ClusterSettings, Digest, Limit, Node, Region, Slot, SlotNumber, StreamPolicy,
};
use crate::{NodeName, RegionName, StreamName};

/// The newest format that this program understands of what a cluster agrees on. A cluster raises the one it
/// needs ([`View::format`]) only when all of its nodes understand it.
///
/// | format | brings |
/// | --- | --- |
/// | 2 | rebalances of a region; changes of control nodes in the audit trail |
pub const FORMAT: u32 = 2;

/// What everybody understands who understands anything of it. A cluster that has agreed on no format has this one.
pub const FORMAT_OLDEST: u32 = 1;

/// All that a cluster agrees on, at one version.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    version: u64,
    ring_version: u64,
    format: u32,
    settings: ClusterSettings,
    regions: BTreeMap<RegionName, Region>,
    nodes: BTreeMap<NodeName, Node>,
    slots: BTreeMap<SlotNumber, Slot>,
    policies: BTreeMap<StreamName, StreamPolicy>,
    drains: BTreeMap<NodeName, Drain>,
    breakers: BTreeMap<String, Breaker>,
    limits: BTreeMap<String, Limit>,
    canary: Canary,
    rebalance: Option<Rebalance>,
    balanced: BTreeSet<RegionName>,
}

/// The wish to send a node's clients elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drain {
    /// Whose.
    pub node: NodeName,
    /// Earlier wishes have lower numbers, and come first.
    pub order: u64,
    /// Even if it leaves its region without an edge.
    pub force: bool,
    /// Whether its turn has come.
    pub running: bool,
}

/// The wish to have a region's clients at the edges they belong to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rebalance {
    /// Whose.
    pub region: RegionName,
    /// Which one it is: no two have the same number.
    pub plan: u64,
    /// The edges that may still have clients who belong to another. It is over when there is none.
    pub left: BTreeSet<NodeName>,
}

/// One thing that is different from the version before.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "each says what is there now, or is no longer")]
pub enum Change {
    Format(u32),
    Settings(ClusterSettings),
    Region(Region),
    RegionGone(RegionName),
    Node(Box<Node>),
    NodeGone(NodeName),
    Slot(SlotNumber, Slot),
    Policy(StreamName, StreamPolicy),
    PolicyGone(StreamName),
    Drain(Drain),
    DrainOver(NodeName),
    Breaker(String, Breaker),
    BreakerGone(String),
    Limit(String, Limit),
    LimitGone(String),
    Canary(Canary),
    Rebalance(Rebalance),
    RebalanceDone(NodeName),
    RebalanceOver,
    Balanced(RegionName),
}

/// Everything that makes one version of the next one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delta {
    /// The version that it is applied to; the one after it is what comes of it.
    pub from: u64,
    /// In order.
    pub changes: Vec<Change>,
    /// Of the view that comes of it.
    pub digest: Digest,
}

/// A delta does not lead on from here. The view is as it was; a full one must be asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DeltaError {
    /// Something lies between, or it was applied already.
    #[error("a change of version {from} came, and the view is at version {here}")]
    Hole {
        /// What it is applied to.
        from: u64,
        /// What there is.
        here: u64,
    },
    /// What came of it is not what the sender has.
    #[error("version {version} is {here} here and {there} where it came from")]
    Diverged {
        /// Of what came of it.
        version: u64,
        /// What was made here.
        here: Digest,
        /// What the sender has.
        there: Digest,
    },
}

impl View {
    /// From nothing but changes, as a full view comes over the wire. `None` if it is not what the sender
    /// has.
    #[must_use]
    pub fn whole(version: u64, ring_version: u64, changes: Vec<Change>, digest: Digest) -> Option<Self> {
        let mut view = Self::default();
        for change in changes {
            view.apply(change);
        }
        view.version = version;
        view.ring_version = ring_version;
        (view.digest() == digest).then_some(view)
    }

    /// All of it, as changes to nothing.
    #[must_use]
    pub fn contents(&self) -> Vec<Change> {
        let mut all = vec![Change::Format(self.format), Change::Settings(self.settings)];
        all.extend(self.regions.values().cloned().map(Change::Region));
        all.extend(self.nodes.values().cloned().map(Box::new).map(Change::Node));
        all.extend(self.slots.iter().map(|(number, slot)| Change::Slot(*number, slot.clone())));
        all.extend(
            self.policies.iter().map(|(stream, policy)| Change::Policy(stream.clone(), policy.clone())),
        );
        all.extend(self.drains.values().cloned().map(Change::Drain));
        all.extend(self.breakers.iter().map(|(name, breaker)| Change::Breaker(name.clone(), *breaker)));
        all.extend(self.limits.iter().map(|(name, limit)| Change::Limit(name.clone(), *limit)));
        all.push(Change::Canary(self.canary.clone()));
        all.extend(self.rebalance.clone().map(Change::Rebalance));
        all.extend(self.balanced.iter().cloned().map(Change::Balanced));
        all
    }

    /// Makes the next version, and tells how. Only whoever the cluster agrees by does this; everybody else
    /// [follows](Self::follow).
    pub fn advance(&mut self, changes: Vec<Change>) -> Delta {
        let from = self.version;
        self.take(&changes);
        Delta { from, changes, digest: self.digest() }
    }

    /// The next version, if the delta leads to it from here.
    pub fn follow(&self, delta: &Delta) -> Result<Self, DeltaError> {
        if delta.from != self.version {
            return Err(DeltaError::Hole { from: delta.from, here: self.version });
        }
        let mut next = self.clone();
        next.take(&delta.changes);
        let (version, here, there) = (next.version, next.digest(), delta.digest);
        if here == there { Ok(next) } else { Err(DeltaError::Diverged { version, here, there }) }
    }

    fn take(&mut self, changes: &[Change]) {
        self.version = self.version.checked_add(1).expect("a cluster never changes 2^64 times");
        let mut moves_clients = false;
        for change in changes {
            moves_clients |= self.apply(change.clone());
        }
        if moves_clients {
            self.ring_version = self.version;
        }
    }

    /// Whether clients may be placed otherwise after it.
    fn apply(&mut self, change: Change) -> bool {
        match change {
            Change::Format(format) => self.format = format,
            Change::Settings(settings) => self.settings = settings,
            Change::Region(region) => drop(self.regions.insert(region.name.clone(), region)),
            Change::RegionGone(name) => {
                self.regions.remove(&name);
                self.balanced.remove(&name);
            }
            Change::Node(node) => {
                let now = place_in_ring(&node);
                let before = self.nodes.insert(node.name.clone(), *node);
                let moves_clients = now != before.as_ref().and_then(place_in_ring);
                // What it gets others have, until they reconnect.
                if let Some((region, ..)) = now.filter(|_| moves_clients) {
                    self.balanced.remove(&region);
                }
                return moves_clients;
            }
            Change::NodeGone(name) => {
                return self.nodes.remove(&name).is_some_and(|node| place_in_ring(&node).is_some());
            }
            Change::Slot(number, slot) => drop(self.slots.insert(number, slot)),
            Change::Policy(stream, policy) => drop(self.policies.insert(stream, policy)),
            Change::PolicyGone(stream) => drop(self.policies.remove(&stream)),
            Change::Drain(drain) => drop(self.drains.insert(drain.node.clone(), drain)),
            Change::DrainOver(node) => drop(self.drains.remove(&node)),
            Change::Breaker(name, breaker) => drop(self.breakers.insert(name, breaker)),
            Change::BreakerGone(name) => drop(self.breakers.remove(&name)),
            Change::Limit(name, limit) => drop(self.limits.insert(name, limit)),
            Change::LimitGone(name) => drop(self.limits.remove(&name)),
            Change::Canary(canary) => self.canary = canary,
            Change::Rebalance(rebalance) => self.rebalance = Some(rebalance),
            Change::RebalanceDone(node) => {
                if let Some(rebalance) = &mut self.rebalance {
                    rebalance.left.remove(&node);
                }
            }
            Change::RebalanceOver => self.rebalance = None,
            Change::Balanced(region) => drop(self.balanced.insert(region)),
        }
        false
    }

    /// Of everything in it. Two views with the same digest are taken for the same.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut digester = Digester::new();
        digester.number(self.version);
        digester.number(self.ring_version);
        digester.number(self.format);
        self.settings.feed(&mut digester);
        digester.number(self.regions.len() as u64);
        self.regions.values().for_each(|region| region.feed(&mut digester));
        digester.number(self.nodes.len() as u64);
        self.nodes.values().for_each(|node| node.feed(&mut digester));
        digester.number(self.slots.len() as u64);
        for (number, slot) in &self.slots {
            digester.number(number.get());
            slot.feed(&mut digester);
        }
        digester.number(self.policies.len() as u64);
        for (stream, policy) in &self.policies {
            digester.text(stream.as_str());
            policy.feed(&mut digester);
        }
        digester.number(self.drains.len() as u64);
        for drain in self.drains.values() {
            digester.text(drain.node.as_str());
            digester.number(drain.order);
            digester.number(u8::from(drain.force));
            digester.number(u8::from(drain.running));
        }
        digester.number(self.breakers.len() as u64);
        for (name, breaker) in &self.breakers {
            digester.text(name);
            breaker.feed(&mut digester);
        }
        digester.number(self.limits.len() as u64);
        for (name, limit) in &self.limits {
            digester.text(name);
            limit.feed(&mut digester);
        }
        self.canary.feed(&mut digester);
        // Of what a format brings that not everybody may understand yet, nothing is fed while there is nothing.
        if self.settings.rebalance_after_ms != 0 {
            digester.text("rebalance_after_ms");
            digester.number(self.settings.rebalance_after_ms);
        }
        for region in &self.balanced {
            digester.text("balanced");
            digester.text(region.as_str());
        }
        if let Some(rebalance) = &self.rebalance {
            digester.text("rebalance");
            digester.text(rebalance.region.as_str());
            digester.number(rebalance.plan);
            digester.number(rebalance.left.len() as u64);
            rebalance.left.iter().for_each(|node| digester.text(node.as_str()));
        }
        digester.finish()
    }

    /// Of this view, what holds for streams and rates, and nothing of who is there.
    #[must_use]
    pub fn policies_alone(&self) -> Self {
        let Self { version, format, policies, limits, .. } = self;
        let (policies, limits) = (policies.clone(), limits.clone());
        Self { version: *version, format: *format, policies, limits, ..Self::default() }
    }

    /// Rises by one with every change.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The version at which clients were last placed otherwise than before.
    #[must_use]
    pub fn ring_version(&self) -> u64 {
        self.ring_version
    }

    /// What a node must understand to belong to the cluster.
    #[must_use]
    pub fn format(&self) -> u32 {
        self.format
    }

    /// What holds for the cluster as a whole.
    #[must_use]
    pub fn settings(&self) -> &ClusterSettings {
        &self.settings
    }

    /// Its regions.
    #[must_use]
    pub fn regions(&self) -> &BTreeMap<RegionName, Region> {
        &self.regions
    }

    /// Its nodes.
    #[must_use]
    pub fn nodes(&self) -> &BTreeMap<NodeName, Node> {
        &self.nodes
    }

    /// The slots that have a history.
    #[must_use]
    pub fn slots(&self) -> &BTreeMap<SlotNumber, Slot> {
        &self.slots
    }

    /// The policies of the streams that have one.
    #[must_use]
    pub fn policies(&self) -> &BTreeMap<StreamName, StreamPolicy> {
        &self.policies
    }

    /// The drains that are under way or wait for their turn.
    #[must_use]
    pub fn drains(&self) -> &BTreeMap<NodeName, Drain> {
        &self.drains
    }

    /// The rebalance that is under way.
    #[must_use]
    pub fn rebalance(&self) -> Option<&Rebalance> {
        self.rebalance.as_ref()
    }

    /// The regions to which no edge has come since their clients were last sent where they belong.
    #[must_use]
    pub fn balanced(&self) -> &BTreeSet<RegionName> {
        &self.balanced
    }

    /// Of the edges that take clients in a region, by which it is seen whether they are others.
    #[must_use]
    pub fn edges_of(&self, region: &RegionName) -> Digest {
        let mut digester = Digester::new();
        for node in self.nodes.values().filter(|node| node.region == *region && node.takes_clients()) {
            digester.text(node.name.as_str());
            digester.number(node.incarnation);
            digester.number(node.weight.get());
        }
        digester.finish()
    }

    /// When which dependency is left alone.
    #[must_use]
    pub fn breakers(&self) -> &BTreeMap<String, Breaker> {
        &self.breakers
    }

    /// Limits that hold cluster-wide.
    #[must_use]
    pub fn limits(&self) -> &BTreeMap<String, Limit> {
        &self.limits
    }

    /// The trial of a new log.
    #[must_use]
    pub fn canary(&self) -> &Canary {
        &self.canary
    }
}

/// What of a node a ring is made of, if it is in one.
fn place_in_ring(node: &Node) -> Option<(RegionName, crate::ZoneName, crate::cluster::Weight)> {
    node.takes_clients().then(|| (node.region.clone(), node.zone.clone(), node.weight))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::{change, edge};
    use crate::cluster::{Lease, Weight};
    use proptest::prelude::*;

    #[test]
    fn the_ring_s_version_rises_only_when_clients_are_placed_otherwise() {
        let mut view = View::default();
        view.advance(vec![Change::Node(Box::new(edge("a")))]);
        assert_eq!((view.version(), view.ring_version()), (1, 1));
        let newer = Node { version: "9.9.9".to_owned(), ..edge("a") };
        view.advance(vec![Change::Node(Box::new(newer))]);
        view.advance(vec![Change::Node(Box::new(Node { lease: Lease::Lost, ..edge("b") }))]);
        view.advance(vec![Change::NodeGone(edge("b").name)]);
        assert_eq!((view.version(), view.ring_version()), (4, 1));
        view.advance(vec![Change::Node(Box::new(Node { weight: Weight::MAX, ..edge("a") }))]);
        assert_eq!(view.ring_version(), 5);
        view.advance(vec![Change::Node(Box::new(Node { draining: true, ..edge("a") }))]);
        assert_eq!(view.ring_version(), 6);
    }

    #[test]
    fn a_hole_and_another_s_delta_are_found() {
        let mut there = View::default();
        let first = there.advance(vec![Change::Node(Box::new(edge("a")))]);
        let second = there.advance(vec![Change::NodeGone(edge("a").name)]);
        let here = View::default();
        assert_eq!(here.follow(&second), Err(DeltaError::Hole { from: 1, here: 0 }));
        let here = here.follow(&first).expect("it leads on");
        assert_eq!(here.follow(&first), Err(DeltaError::Hole { from: 0, here: 1 }), "twice");
        let other = View::default().advance(vec![Change::Node(Box::new(edge("b")))]);
        let lie = Delta { changes: other.changes, ..first };
        assert!(matches!(View::default().follow(&lie), Err(DeltaError::Diverged { version: 1, .. })));
        assert_eq!(here.follow(&second), Ok(there));
    }

    #[test]
    fn what_is_kept_of_policies_says_nothing_of_nodes() {
        let policy = crate::cluster::StreamPolicy {
            retention: crate::Retention::FOREVER,
            level: crate::Level::Replicated,
            slow_reader: crate::SlowReader::CatchUp,
            after_degradation: crate::cluster::AfterDegradation::Replay,
        };
        let mut view = View::default();
        let stream = StreamName::new("s").expect("a name");
        let limit = Change::Limit("calls".to_owned(), Limit { per_second: 1, burst: 2 });
        view.advance(vec![Change::Node(Box::new(edge("a"))), Change::Policy(stream, policy), limit]);
        assert!(view.rebalance().is_none() && view.balanced().is_empty());
        let kept = view.policies_alone();
        assert_eq!((kept.version(), kept.policies()), (view.version(), view.policies()));
        assert_eq!((kept.limits().len(), kept.limits()), (1, view.limits()));
        assert!(kept.nodes().is_empty());
        assert_eq!(View::whole(kept.version(), 0, kept.contents(), kept.digest()), Some(kept));
    }

    proptest! {
        /// Whoever follows holds what was made, and whoever comes late and asks for all of it does too.
        #[test]
        fn deltas_and_full_views_lead_to_the_same(steps in prop::collection::vec(prop::collection::vec(change(), 0..4), 0..12)) {
            let mut made = View::default();
            let mut followed = View::default();
            for changes in steps {
                let delta = made.advance(changes);
                followed = followed.follow(&delta).expect("it leads on");
                prop_assert_eq!(&followed, &made);
                let whole = View::whole(made.version(), made.ring_version(), made.contents(), made.digest());
                prop_assert_eq!(whole.as_ref(), Some(&made));
            }
        }

        /// Two views that differ differ in their digests too.
        #[test]
        fn a_digest_tells_views_apart(one in prop::collection::vec(change(), 0..4), other in prop::collection::vec(change(), 0..4)) {
            let view = |changes| { let mut view = View::default(); view.advance(changes); view };
            let (one, other) = (view(one), view(other));
            prop_assert_eq!(one == other, one.digest() == other.digest());
        }
    }
}
