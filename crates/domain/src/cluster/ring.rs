//! Consistent hashing: which edge of a region a client belongs to, and who is next.
//!
//! Every edge has a number of points on a circle of 64 bits, in proportion to its weight; a client belongs
//! to the first point at or after its own. An edge that joins takes clients from the others and moves none
//! between them; one that leaves gives up its own and nobody else's. Why this is not a library's ring:
//! [adr/0011](../../../../docs/adr/0011-placement.md).

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::num::NonZeroU64;

use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::cluster::digest::Digester;
use crate::cluster::{Digest, LoadBound, Weight};
use crate::{AddressGroup, NodeName, ZoneName};

/// Points of an ordinary edge. More make the shares more even, and the ring longer: with 256 the largest
/// share of a hundred edges is about a sixth above the mean.
const POINTS_ORDINARY: u32 = 256;

/// To how many edges a hot address spills over, its own one included.
const SPILL: usize = 3;

/// How many edges are looked at for one in another zone.
const LOOKAHEAD: usize = 32;

/// Points of nodes and keys of clients must not follow from each other.
const POINTS_SEED: u64 = 0x6576_6572_6761_7465;

/// Where a client stands on the circle. Not at its very beginning, so that to have none costs no room.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PlacementKey(NonZeroU64);

/// The edges of a region on their circle. Made once for each version of the ring, and read by many.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ring {
    /// Rising.
    points: Box<[u64]>,
    /// To whom each point belongs: an index into `edges`.
    owners: Box<[u32]>,
    /// By name.
    edges: Box<[RingEdge]>,
    zones: usize,
    weights: u64,
    digest: Digest,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct RingEdge {
    name: NodeName,
    zone: ZoneName,
    weight: Weight,
}

/// Where a client was placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed<'r> {
    /// The edge.
    pub edge: &'r NodeName,
    /// How many edges before it were full: 0 is the client's own one.
    pub passed_over: usize,
    /// Where to go if that one cannot be reached, the best first.
    pub alternatives: Vec<&'r NodeName>,
}

impl PlacementKey {
    /// Of a client's address. All addresses of one owner have the same.
    #[must_use]
    pub fn of(group: AddressGroup) -> Self {
        match group.address() {
            IpAddr::V4(address) => Self::of_bytes(&address.octets()),
            // The half behind the prefix is zero.
            IpAddr::V6(address) => Self::of_bytes(&address.octets()[..8]),
        }
    }

    /// Of anything else that clients can be told apart by.
    #[must_use]
    pub fn of_bytes(bytes: &[u8]) -> Self {
        Self(NonZeroU64::new(xxh3_64(bytes)).unwrap_or(NonZeroU64::MIN))
    }
}

impl Ring {
    /// A ring of these edges, whatever their order. Of two with one name, one counts.
    #[must_use]
    pub fn new(edges: impl IntoIterator<Item = (NodeName, ZoneName, Weight)>) -> Self {
        let mut edges: Vec<_> =
            edges.into_iter().map(|(name, zone, weight)| RingEdge { name, zone, weight }).collect();
        edges.sort_by(|a, b| (&a.name, &a.zone, a.weight).cmp(&(&b.name, &b.zone, b.weight)));
        edges.dedup_by(|b, a| a.name == b.name);
        let mut placed = Vec::new();
        for (index, edge) in (0u32..).zip(&edges) {
            placed.extend((0..points_of(edge.weight)).map(|number| (point(&edge.name, number), index)));
        }
        // Points that fall together, if ever, are in the order of their owners' names.
        placed.sort_unstable();
        let mut digester = Digester::new();
        for edge in &edges {
            digester.text(edge.name.as_str());
            digester.text(edge.zone.as_str());
            digester.number(edge.weight.get());
        }
        for &(point, owner) in &placed {
            digester.number(point);
            digester.number(owner);
        }
        Self {
            points: placed.iter().map(|(point, _)| *point).collect(),
            owners: placed.iter().map(|(_, owner)| *owner).collect(),
            zones: edges.iter().map(|edge| &edge.zone).collect::<BTreeSet<_>>().len(),
            weights: edges.iter().map(|edge| u64::from(edge.weight.get())).sum(),
            digest: digester.finish(),
            edges: edges.into(),
        }
    }

    /// How many edges there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.edges.len()
    }

    /// Whether there is none, so that nobody can be placed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edges.is_empty()
    }

    /// The edges with their weights, by name.
    pub fn edges(&self) -> impl Iterator<Item = (&NodeName, &ZoneName, Weight)> {
        self.edges.iter().map(|edge| (&edge.name, &edge.zone, edge.weight))
    }

    /// Which part of the circle belongs to an edge, and so about which part of the clients.
    #[must_use]
    pub fn share(&self, name: &NodeName) -> f64 {
        let Some(last) = self.points.last() else { return 0.0 };
        let before = std::iter::once(last).chain(&self.points);
        let arcs = self.points.iter().zip(before).map(|(point, before)| point.wrapping_sub(*before));
        let own = arcs.zip(&self.owners).filter(|(_, owner)| self.edges[**owner as usize].name == *name);
        own.map(|(arc, _)| arc as f64).sum::<f64>() / 2f64.powi(64)
    }

    /// Of every point and whose it is: two nodes whose rings have the same place every client alike.
    #[must_use]
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The edge that a client belongs to.
    #[must_use]
    pub fn owner(&self, key: PlacementKey) -> Option<&NodeName> {
        let first = self.points.partition_point(|point| *point < key.0.get());
        let owner = self.owners.get(first).or(self.owners.first())?;
        Some(&self.edges[*owner as usize].name)
    }

    /// The edges for a client, the best first, `n` at the most: its own one, then others, which are in
    /// zones of their own as far as there are some, since edges of one zone are likely to fail together.
    #[must_use]
    pub fn candidates(&self, key: PlacementKey, n: usize) -> Vec<&NodeName> {
        self.chosen(key, n).into_iter().map(|edge| &self.edges[edge].name).collect()
    }

    /// Places one more client where nobody gets more than the bound allows: at its own edge, or else at the
    /// second or third of its candidates, or else further on. The same loads lead to the same place.
    #[must_use]
    pub fn place(
        &self,
        key: PlacementKey,
        bound: LoadBound,
        load: impl Fn(&NodeName) -> u64,
    ) -> Option<Placed<'_>> {
        let chosen = self.chosen(key, SPILL);
        let total = self.edges.iter().map(|edge| load(&edge.name)).fold(0, u64::saturating_add);
        let has_room = |edge: &usize| {
            let RingEdge { name, weight, .. } = &self.edges[*edge];
            load(name) < bound.of(total, *weight, self.weights)
        };
        let beyond = || self.walk(key).filter(|edge| !chosen.contains(edge));
        let found = chosen.iter().copied().chain(beyond()).enumerate().find(|(_, edge)| has_room(edge));
        // Somebody is always below the bound, for it is above the mean; only loads that lie can hide it.
        let (passed_over, edge) = found.or_else(|| Some((0, *chosen.first()?)))?;
        let alternatives =
            chosen.iter().filter(|other| **other != edge).map(|other| &self.edges[*other].name);
        Some(Placed { edge: &self.edges[edge].name, passed_over, alternatives: alternatives.collect() })
    }

    /// The candidates as indices.
    fn chosen(&self, key: PlacementKey, n: usize) -> Vec<usize> {
        let mut near: Vec<usize> = Vec::new();
        let mut zones: Vec<&ZoneName> = Vec::new();
        for edge in self.walk(key) {
            near.push(edge);
            let zone = &self.edges[edge].zone;
            if !zones.contains(&zone) {
                zones.push(zone);
            }
            let all_zones_seen = zones.len() >= self.zones.min(n);
            if (near.len() >= n && all_zones_seen) || near.len() == LOOKAHEAD.max(n) {
                break;
            }
        }
        let mut chosen: Vec<usize> = Vec::new();
        for zone in zones.into_iter().take(n) {
            chosen.extend(near.iter().copied().find(|edge| &self.edges[*edge].zone == zone));
        }
        let rest = near.into_iter().filter(|edge| !chosen.contains(edge)).collect::<Vec<_>>();
        chosen.extend(rest);
        chosen.truncate(n);
        chosen
    }

    /// The edges in the order in which they come on the circle after the key, each once.
    fn walk(&self, key: PlacementKey) -> impl Iterator<Item = usize> {
        let from = self.points.partition_point(|point| *point < key.0.get());
        let (before, after) = self.owners.split_at(from);
        let mut seen = vec![false; self.edges.len()];
        after
            .iter()
            .chain(before)
            .map(|owner| *owner as usize)
            .filter(move |owner| !std::mem::replace(&mut seen[*owner], true))
            // The rest of the circle holds nobody new.
            .take(self.edges.len())
    }
}

fn points_of(weight: Weight) -> u32 {
    (weight.get() * POINTS_ORDINARY).div_ceil(Weight::ORDINARY.get())
}

fn point(name: &NodeName, number: u32) -> u64 {
    xxh3_64_with_seed(name.as_str().as_bytes(), POINTS_SEED ^ (u64::from(number) << 32 | u64::from(number)))
}

#[cfg(test)]
mod tests;
