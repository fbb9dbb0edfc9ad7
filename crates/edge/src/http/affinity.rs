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

use crate::config::{EdgeConfig, Geographer};

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
    geographer: Option<Geographer>,
}

/// Where a client belongs.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Belongs {
    pub(crate) region: String,
    /// By which name the region is found from outside, if it has one.
    pub(crate) host: Option<String>,
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
    pub(crate) fn new(config: &EdgeConfig) -> Self {
        let EdgeConfig { node, region, placement, geographer, .. } = config;
        Self::of(node, region, placement.clone(), geographer.clone())
    }

    fn of(
        node: &str,
        region: &str,
        placement: Option<watch::Receiver<Arc<Placement>>>,
        geographer: Option<Geographer>,
    ) -> Self {
        let cluster = placement.and_then(|placement| {
            let (node, region) = (NodeName::new(node).ok()?, RegionName::new(region).ok()?);
            Some(Cluster { node, region, placement, geographer })
        });
        Self { cluster, arrived: AtomicU64::new(0) }
    }

    /// Where a client belongs, if anybody has agreed on anything.
    pub(crate) fn route(&self, client: ClientAddress) -> Option<Belongs> {
        let cluster = self.cluster.as_ref()?;
        let placement = cluster.placement.borrow().clone();
        let load = |node: &NodeName| u64::from(placement.load(node).connections);
        let key = PlacementKey::of(client.group());
        let wanted = cluster.wanted(client);
        let route = placement.rings().route(wanted, key, placement.bound(), load)?;
        let site = |name: &NodeName| {
            let node = placement.view.nodes().get(name);
            let http = node.and_then(|node| node.addresses.http.as_ref());
            Site { edge: name.to_string(), http: http.map(ToString::to_string) }
        };
        Some(Belongs {
            region: route.region.to_string(),
            host: placement.view.regions().get(route.region).and_then(|region| region.public_host.clone()),
            edge: site(route.placed.edge),
            alternatives: route.placed.alternatives.iter().map(|name| site(name)).collect(),
            version: placement.view.version(),
        })
    }

    /// How many clients came since the start.
    pub(crate) fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Counts a client that came, by how far from its place it did, and answers where it stands on the ring of this
    /// edge's region, if it belongs there.
    pub(crate) fn count(&self, client: ClientAddress) -> Option<PlacementKey> {
        self.arrived.fetch_add(1, Ordering::Relaxed);
        let cluster = self.cluster.as_ref()?;
        let placement = cluster.placement.borrow().clone();
        let rings = placement.rings().by_region();
        let key = PlacementKey::of(client.group());
        // Where nobody serves in the region it belongs to, the next one is its own; and this one, as long as nobody
        // is known.
        let own = cluster.wanted(client).into_iter().find_map(|region| rings.get_key_value(region));
        let Some((region, ring)) = own else { return Some(key) };
        let candidates = || ring.candidates(key, 3);
        let place = if *region != cluster.region {
            "other-region"
        } else {
            match candidates().iter().position(|name| **name == cluster.node) {
                Some(0) => "own",
                Some(_) => "alternative",
                None => "misplaced",
            }
        };
        metrics::counter!("evergate_clients_placed_total", "place" => place).increment(1);
        (*region == cluster.region).then_some(key)
    }

    /// The edge of this region to which a client belongs that stands here, if it is another one.
    pub(crate) fn elsewhere(&self, key: PlacementKey) -> Option<NodeName> {
        let cluster = self.cluster.as_ref()?;
        let placement = cluster.placement.borrow().clone();
        let ring = placement.rings().by_region().get(&cluster.region)?;
        let load = |node: &NodeName| u64::from(placement.load(node).connections);
        let edge = ring.place(key, placement.bound(), load)?.edge;
        (*edge != cluster.node).then(|| edge.clone())
    }

    /// How many clients another edge can let in each second, and what share of that those have who send it some.
    /// `None` if it takes none.
    pub(crate) fn room_at(&self, edge: &NodeName) -> Option<(u64, u16)> {
        let placement = self.cluster.as_ref()?.placement.borrow().clone();
        Some((placement.free_at(edge)?, placement.settings().drain_share_permille))
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

impl Cluster {
    /// The regions a client belongs to, the best first: by where it is, and then where it came.
    fn wanted(&self, client: ClientAddress) -> impl IntoIterator<Item = &RegionName> {
        let by_place = self.geographer.as_ref().and_then(|geographer| geographer.region(client.address()));
        by_place.into_iter().chain([&self.region])
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
        Affinity::of("a", "eu", Some(watch::channel(Arc::new(placement)).1), None)
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
        assert_eq!(Affinity::of("a", "eu", None, None).route(client("192.0.2.1")), None);
    }

    #[test]
    fn a_client_belongs_where_it_is_as_long_as_somebody_serves_there() {
        let us = RegionName::new("us").expect("a name");
        let rules = ["network:198.51.100.0/24=us", "network:203.0.113.0/24=as"];
        let rules =
            rules.map(|rule| rule.parse::<evergate_domain::cluster::GeographyRule>().expect("a rule"));
        let nodes = vec![edge("a"), Node { region: us, ..edge("b") }];
        let mut affinity = affinity(nodes, &[]);
        let cluster = affinity.cluster.as_mut().expect("it belongs to one");
        cluster.geographer =
            Some(Geographer { rules: rules.into_iter().collect(), locate: Arc::new(|_| Default::default()) });
        let region = |address: &str| affinity.route(client(address)).expect("there are edges").region;
        assert_eq!(region("198.51.100.7"), "us");
        assert_eq!(region("192.0.2.7"), "eu", "of which no rule says anything");
        assert_eq!(region("203.0.113.7"), "eu", "nobody serves there");
        assert_eq!(affinity.count(client("198.51.100.7")), None, "no edge of this region is its own");
        assert!(affinity.count(client("192.0.2.7")).is_some());
    }

    #[test]
    fn who_belongs_elsewhere_is_known_by_where_it_stands() {
        let affinity = affinity(["a", "b", "c"].map(edge).into(), &[]);
        let mut others = 0;
        for client in (0..60).map(|n| client(&format!("192.0.2.{n}"))) {
            let key = affinity.count(client).expect("it belongs to this region");
            let own = affinity.route(client).expect("there are edges").edge.edge;
            let elsewhere = affinity.elsewhere(key).map(|edge| edge.to_string());
            assert_eq!(elsewhere, (own != "a").then_some(own));
            others += usize::from(elsewhere.is_some());
        }
        assert!((20..60).contains(&others), "{others}");
        let b = NodeName::new("b").expect("a name");
        assert_eq!(affinity.room_at(&b), Some((2_000, 500)));
        assert_eq!(affinity.room_at(&NodeName::new("x").expect("a name")), None);
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
        let alone = Affinity::of("a", "eu", None, None);
        assert_eq!(alone.retry(configured, 20_000), configured);
    }
}
