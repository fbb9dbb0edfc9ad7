//! What a node follows, ready to be used.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use evergate_domain::NodeName;
use evergate_domain::cluster::{ClusterSettings, Load, LoadBound, Rings, Spread, View};
use tokio::time::Instant;

/// The view, the rings that follow from it, and how loaded the nodes are. Replaced as a whole.
#[derive(Debug, Clone, Default)]
pub struct Placement {
    /// What is agreed on.
    pub view: Arc<View>,
    /// Where clients belong by it. Made when somebody asks, and once for all placements that have it in
    /// common: many nodes that come at once make many versions, and few of them are ever asked about.
    rings: Arc<OnceLock<Rings>>,
    /// What the nodes have told of themselves; of whom nothing is known, nothing is here.
    pub loads: BTreeMap<NodeName, Load>,
    /// When a control node that knows a leader last said something; `None` before the first time.
    pub heard: Option<Instant>,
}

impl Placement {
    /// By a view, with what is known of loads.
    #[must_use]
    pub fn new(view: View, loads: BTreeMap<NodeName, Load>) -> Self {
        Self { view: Arc::new(view), loads, ..Self::default() }
    }

    /// Where clients belong.
    #[must_use]
    pub fn rings(&self) -> &Rings {
        self.rings.get_or_init(|| Rings::of(&self.view))
    }

    /// The same, if anybody has asked for it yet.
    pub(super) fn rings_in_use(&self) -> Option<&Rings> {
        self.rings.get()
    }

    /// Takes a newer view.
    pub(super) fn take(&mut self, view: View) {
        if view.ring_version() != self.view.ring_version() {
            self.rings = Arc::default();
        }
        self.view = Arc::new(view);
    }

    /// How long the view may have been out of date; `None` if there is none.
    #[must_use]
    pub fn age(&self) -> Option<Duration> {
        self.heard.map(|heard| heard.elapsed())
    }

    /// What a node's load is known to be.
    #[must_use]
    pub fn load(&self, node: &NodeName) -> Load {
        self.loads.get(node).copied().unwrap_or_default()
    }

    /// By how much an edge may be loaded above its share.
    #[must_use]
    pub fn bound(&self) -> LoadBound {
        LoadBound::new(self.view.settings().bound_permille).unwrap_or(LoadBound::ORDINARY)
    }

    /// What would be left for an edge's clients if it died now: the other edges of its region or, if it has
    /// none, all others.
    #[must_use]
    pub fn survivors(&self, of: &NodeName) -> Spread {
        let region = self.view.nodes().get(of).map(|node| &node.region);
        let others =
            || self.view.nodes().values().filter(move |node| node.name != *of && node.takes_clients());
        let mut spread = Spread::default();
        let near = others().filter(|node| Some(&node.region) == region);
        near.for_each(|node| spread.add(node.capacity, node.admits_per_second, self.load(&node.name)));
        if spread == Spread::default() {
            others()
                .for_each(|node| spread.add(node.capacity, node.admits_per_second, self.load(&node.name)));
        }
        spread
    }

    /// How many clients an edge can let in each second beside those that come anyway; `None` if it takes none, or
    /// has no place for one more.
    #[must_use]
    pub fn free_at(&self, node: &NodeName) -> Option<u64> {
        let node = self.view.nodes().get(node).filter(|node| node.takes_clients())?;
        let mut spread = Spread::default();
        spread.add(node.capacity, node.admits_per_second, self.load(&node.name));
        spread.holds(1).then(|| spread.free_per_second())
    }

    /// What holds for the cluster as a whole.
    #[must_use]
    pub fn settings(&self) -> &ClusterSettings {
        self.view.settings()
    }
}
