//! From a client to a region to an edge.

use std::collections::BTreeMap;

use crate::cluster::digest::Digester;
use crate::cluster::{Digest, LoadBound, Node, Placed, PlacementKey, Ring, View};
use crate::{NodeName, RegionName};

/// The rings of all regions that have an edge to place clients on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Rings {
    version: u64,
    by_region: BTreeMap<RegionName, Ring>,
}

/// Where a client belongs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route<'r> {
    /// The region.
    pub region: &'r RegionName,
    /// The edge in it, and others.
    pub placed: Placed<'r>,
}

impl Rings {
    /// The rings that follow from a view.
    #[must_use]
    pub fn of(view: &View) -> Self {
        let mut edges: BTreeMap<RegionName, Vec<&Node>> = BTreeMap::new();
        for node in view.nodes().values().filter(|node| node.takes_clients()) {
            edges.entry(node.region.clone()).or_default().push(node);
        }
        let ring = |nodes: Vec<&Node>| {
            Ring::new(nodes.into_iter().map(|node| (node.name.clone(), node.zone.clone(), node.weight)))
        };
        let by_region = edges.into_iter().map(|(region, nodes)| (region, ring(nodes))).collect();
        Self { version: view.ring_version(), by_region }
    }

    /// The version of the view at which clients were last placed otherwise.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// The ring of each region.
    #[must_use]
    pub fn by_region(&self) -> &BTreeMap<RegionName, Ring> {
        &self.by_region
    }

    /// Of all rings.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut digester = Digester::new();
        for (region, ring) in &self.by_region {
            digester.text(region.as_str());
            digester.number(ring.digest().get());
        }
        digester.finish()
    }

    /// Where a client belongs: in the first region of `wanted` that has an edge for it, or else in any.
    /// `None` if no region has one.
    pub fn route<'r>(
        &'r self,
        wanted: impl IntoIterator<Item = &'r RegionName>,
        key: PlacementKey,
        bound: LoadBound,
        load: impl Fn(&NodeName) -> u64,
    ) -> Option<Route<'r>> {
        let mut found = wanted.into_iter().find_map(|region| self.by_region.get_key_value(region));
        if found.is_none() {
            found = self.by_region.first_key_value();
        }
        let (region, ring) = found?;
        Some(Route { region, placed: ring.place(key, bound, load)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::edge;
    use crate::cluster::{Change, Lease};

    #[test]
    fn a_client_goes_to_its_region_unless_nobody_is_there() {
        let region = |name: &str| RegionName::new(name).expect("a name");
        let (eu, us, asia) = (region("eu"), region("us"), region("as"));
        let mut view = View::default();
        view.advance(vec![
            Change::Node(Box::new(edge("a"))),
            Change::Node(Box::new(Node { region: us.clone(), ..edge("b") })),
            Change::Node(Box::new(Node { region: asia.clone(), lease: Lease::Lost, ..edge("c") })),
        ]);
        let rings = Rings::of(&view);
        assert_eq!((rings.version(), rings.by_region().len()), (1, 2));
        let route = |wanted: &[&RegionName]| {
            let key = PlacementKey::of_bytes(b"k");
            let found = rings.route(wanted.iter().copied(), key, LoadBound::ORDINARY, |_| 0);
            found.map(|route| (route.region.to_string(), route.placed.edge.to_string()))
        };
        let is = |region: &str, edge: &str| Some((region.to_owned(), edge.to_owned()));
        assert_eq!(route(&[&us, &eu]), is("us", "b"));
        assert_eq!(route(&[&asia, &eu]), is("eu", "a"), "nobody is there");
        assert_eq!(route(&[]), is("eu", "a"));
        assert_eq!(
            Rings::default().route([&eu], PlacementKey::of_bytes(b"k"), LoadBound::ORDINARY, |_| 0),
            None
        );
    }
}
