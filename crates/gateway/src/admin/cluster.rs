//! The cluster as this process sees it, for the admin page.

use std::collections::BTreeMap;
use std::sync::Arc;

use evergate_domain::NodeName;
use evergate_domain::cluster::{Rings, View};
use evergate_member::Placement;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::cluster::state;

/// Nodes that are shown; the rest is counted.
const NODES_MAX: usize = 256;

/// Looks at what is agreed on. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Cluster {
    placement: Arc<dyn Fn() -> Arc<Placement> + Send + Sync>,
    shares: Arc<Mutex<Shares>>,
}

/// Which part of the clients belongs to each edge. It is worked out once for each version of the rings: every page asks
/// every second.
#[derive(Default)]
struct Shares {
    ring_version: Option<u64>,
    of: BTreeMap<NodeName, f64>,
}

impl Cluster {
    /// Of whoever knows.
    pub(crate) fn new(placement: impl Fn() -> Arc<Placement> + Send + Sync + 'static) -> Self {
        Self { placement: Arc::new(placement), shares: Arc::default() }
    }

    /// What is agreed on now, as far as it is known here.
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&(self.placement)().view)
    }

    /// For the page.
    pub(super) fn told(&self) -> Value {
        let placement = (self.placement)();
        let view = &placement.view;
        let shares = self.shares(&placement);
        let nodes = view.nodes().values().take(NODES_MAX).map(|node| {
            let load = placement.loads.get(&node.name);
            json!({
                "node": node.name.as_str(),
                "role": node.role.as_str(),
                "region": node.region.as_str(),
                "zone": node.zone.as_str(),
                "state": state(node, view),
                "share": shares.get(&node.name),
                "capacity": node.capacity,
                "connections": load.map(|load| load.connections),
                "arrivals": load.map(|load| load.arrivals_per_second),
                "admits": node.admits_per_second,
                "version": node.version,
            })
        });
        json!({
            "version": view.version(),
            "ring_version": view.ring_version(),
            "age_ms": placement.age().map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            "nodes": nodes.collect::<Vec<_>>(),
            "more": view.nodes().len().saturating_sub(NODES_MAX),
        })
    }

    fn shares(&self, placement: &Placement) -> BTreeMap<NodeName, f64> {
        let mut shares = self.shares.lock();
        let version = placement.view.ring_version();
        if shares.ring_version != Some(version) {
            *shares = Shares { ring_version: Some(version), of: of(placement.rings()) };
        }
        shares.of.clone()
    }
}

fn of(rings: &Rings) -> BTreeMap<NodeName, f64> {
    let edges = rings
        .by_region()
        .values()
        .flat_map(|ring| ring.edges().map(|(edge, _, _)| (edge.clone(), ring.share(edge))));
    edges.collect()
}
