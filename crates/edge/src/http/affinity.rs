//! Where clients belong, by what the cluster agrees on.
//!
//! It is only ever an optimisation: whoever comes here is served here. But clients are told where they
//! belong when they ask, strays are counted, and what clients are told to wait if this edge dies follows
//! from how many there are and what the other edges have free.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use evergate_domain::cluster::PlacementKey;
use evergate_domain::{ClientAddress, NodeName, RegionName, RetryRange};
use evergate_member::Placement;
use tokio::sync::watch;

/// Where clients belong. Without a cluster every client belongs here.
pub(crate) struct Affinity {
    cluster: Option<Cluster>,
    /// Clients that came since the start.
    arrived: AtomicU64,
}

struct Cluster {
    node: NodeName,
    region: RegionName,
    placement: watch::Receiver<Arc<Placement>>,
}

/// Where a client belongs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Belongs {
    pub(crate) region: String,
    pub(crate) edge: Site,
    /// Where else it may go, the best first.
    pub(crate) alternatives: Vec<Site>,
    /// The version of the view that says so.
    pub(crate) version: u64,
}

/// An edge, as clients are told of it.
#[derive(Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Site {
    pub(crate) edge: String,
    /// Where it serves HTTP, if it says so.
    pub(crate) http: Option<String>,
}

impl Affinity {
    /// As a node of a cluster, or alone.
    pub(crate) fn new(node: &str, region: &str, placement: Option<watch::Receiver<Arc<Placement>>>) -> Self {
        let cluster = placement.and_then(|placement| {
            let (node, region) = (NodeName::new(node).ok()?, RegionName::new(region).ok()?);
            Some(Cluster { node, region, placement })
        });
        Self { cluster, arrived: AtomicU64::new(0) }
    }

    /// Where a client belongs, if anybody has agreed on anything.
    pub(crate) fn route(&self, client: ClientAddress) -> Option<Belongs> {
        let cluster = self.cluster.as_ref()?;
        let placement = cluster.placement.borrow().clone();
        let load = |node: &NodeName| u64::from(placement.load(node).connections);
        let key = PlacementKey::of(client.group());
        let route = placement.rings().route([&cluster.region], key, placement.bound(), load)?;
        let site = |name: &NodeName| {
            let node = placement.view.nodes().get(name);
            let http = node.and_then(|node| node.addresses.http.as_ref());
            Site { edge: name.to_string(), http: http.map(ToString::to_string) }
        };
        Some(Belongs {
            region: route.region.to_string(),
            edge: site(route.placed.edge),
            alternatives: route.placed.alternatives.iter().map(|name| site(name)).collect(),
            version: placement.view.version(),
        })
    }

    /// How many clients came since the start.
    pub(crate) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Counts a client that came, by how far from its place it did.
    pub(crate) fn count(&self, client: ClientAddress) {
        self.arrived.fetch_add(1, Ordering::Relaxed);
        let Some(cluster) = &self.cluster else { return };
        let placement = cluster.placement.borrow().clone();
        let Some(ring) = placement.rings().by_region().get(&cluster.region) else { return };
        let candidates = ring.candidates(PlacementKey::of(client.group()), 3);
        let place = match candidates.iter().position(|name| **name == cluster.node) {
            Some(0) => "own",
            Some(_) => "alternative",
            None => "misplaced",
        };
        metrics::counter!("evergate_clients_placed_total", "place" => place).increment(1);
    }

    /// From what a stream's `retry:` is drawn while so many are open here: as configured, or longer where
    /// the other edges could not take all of them so soon.
    pub(crate) fn retry(&self, configured: RetryRange, open: usize) -> RetryRange {
        let Some(cluster) = &self.cluster else { return configured };
        let placement = cluster.placement.borrow().clone();
        if placement.view.version() == 0 {
            return configured;
        }
        let open = u32::try_from(open).unwrap_or(u32::MAX);
        let longest = Duration::from_millis(placement.settings().retry_ms_max.into());
        configured.widened(placement.survivors(&cluster.node).retry(open, longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evergate_domain::cluster::testing::edge;
    use evergate_domain::cluster::{Change, Load, Node, View};

    fn client(address: &str) -> ClientAddress {
        ClientAddress::resolve(&[], address.parse().expect("an address"), [])
    }

    fn affinity(nodes: Vec<Node>, loads: &[(&str, u32)]) -> Affinity {
        let mut view = View::default();
        view.advance(nodes.into_iter().map(Box::new).map(Change::Node).collect());
        let name = |name: &str| NodeName::new(name).expect("a name");
        let load = |connections| Load { connections, arrivals_per_second: 0 };
        let loads = loads.iter().map(|(node, connections)| (name(node), load(*connections))).collect();
        let placement = Placement::new(view, loads);
        Affinity::new("a", "eu", Some(watch::channel(Arc::new(placement)).1))
    }

    #[test]
    fn a_client_is_told_where_it_belongs_and_where_else_it_may_go() {
        let affinity = affinity(["a", "b", "c"].map(edge).into(), &[]);
        let belongs = affinity.route(client("192.0.2.1")).expect("there are edges");
        let mut all = vec![belongs.edge.edge.clone()];
        all.extend(belongs.alternatives.iter().map(|site| site.edge.clone()));
        all.sort();
        assert_eq!(all, ["a", "b", "c"]);
        assert_eq!(belongs.edge.http, Some(format!("{}:8080", belongs.edge.edge)));
        assert_eq!(affinity.route(client("192.0.2.1")), Some(belongs), "always the same");
        assert_eq!(Affinity::new("a", "eu", None).route(client("192.0.2.1")), None);
    }

    #[test]
    fn a_full_edge_is_passed_over() {
        let nodes: Vec<_> = ["a", "b", "c"].map(edge).into();
        let own = affinity(nodes.clone(), &[]).route(client("192.0.2.1")).expect("there are edges").edge.edge;
        let loaded = affinity(nodes, &[(&own, 1_000)]);
        assert_ne!(loaded.route(client("192.0.2.1")).expect("there are edges").edge.edge, own);
    }

    #[test]
    fn the_more_there_are_the_longer_they_are_asked_to_wait() {
        let configured = RetryRange::new(Duration::from_secs(1), Duration::from_secs(3)).expect("ordered");
        let affinity = affinity(["a", "b"].map(edge).into(), &[]);
        assert_eq!(affinity.retry(configured, 10), configured);
        // The other one lets in 2,000 a second.
        assert_eq!(affinity.retry(configured, 20_000).pick_ms(u64::MAX), 11_000);
        let alone = Affinity::new("a", "eu", None);
        assert_eq!(alone.retry(configured, 20_000), configured);
    }
}
