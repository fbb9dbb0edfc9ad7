//! An edge: it says that it is there, follows the view, and is drained and restarted.

use evergate_domain::cluster::{Addresses, Lease, Node, Rings, Role, View, Weight};
use evergate_domain::{NodeName, RegionName, ZoneName};

/// An edge.
pub(crate) struct Edge {
    pub(crate) name: NodeName,
    pub(crate) is_up: bool,
    pub(crate) incarnation: u64,
    /// The control node that it talks to.
    pub(crate) control: usize,
    /// Whether that one has its lease.
    pub(crate) is_joined: bool,
    pub(crate) beat_ms: u64,
    /// Since when it has had no answer.
    pub(crate) silent_since_ms: Option<u64>,
    /// When it will have no clients left, while it is being drained.
    pub(crate) drained_at_ms: Option<u64>,
    /// By which rebalance, and when, it will have sent everybody away who belongs elsewhere.
    pub(crate) moved_at_ms: Option<(u64, u64)>,
    pub(crate) view: View,
    pub(crate) rings: Rings,
    region: RegionName,
    zone: ZoneName,
}

impl Edge {
    pub(crate) fn new(number: usize) -> Self {
        Self {
            name: NodeName::new(&format!("edge-{number}")).expect("a name"),
            is_up: true,
            incarnation: 1,
            control: number % 3,
            is_joined: false,
            beat_ms: 0,
            silent_since_ms: None,
            drained_at_ms: None,
            moved_at_ms: None,
            view: View::default(),
            rings: Rings::default(),
            region: RegionName::new(["eu", "us"][number % 2]).expect("a name"),
            zone: ZoneName::new(["a", "b", "c"][number % 3]).expect("a name"),
        }
    }

    /// What it says of itself.
    pub(crate) fn facts(&self) -> Node {
        Node {
            name: self.name.clone(),
            role: Role::Edge,
            addresses: Addresses::default(),
            region: self.region.clone(),
            zone: self.zone.clone(),
            capacity: 1_000,
            admits_per_second: 100,
            // Few points, so that thousands of clusters fit into a minute.
            weight: Weight::MIN,
            version: "1".to_owned(),
            format: 2,
            incarnation: self.incarnation,
            lease: Lease::Held,
            draining: false,
        }
    }

    /// Ends, and forgets all.
    pub(crate) fn stop(&mut self) {
        self.is_up = false;
        self.is_joined = false;
        self.drained_at_ms = None;
        self.moved_at_ms = None;
        self.silent_since_ms = None;
        self.view = View::default();
        self.rings = Rings::default();
    }

    pub(crate) fn start(&mut self) {
        self.is_up = true;
        self.incarnation += 1;
    }

    /// Takes a newer view.
    pub(crate) fn take(&mut self, view: View) {
        if view.ring_version() != self.rings.version() {
            self.rings = Rings::of(&view);
        }
        self.view = view;
    }
}
