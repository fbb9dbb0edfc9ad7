//! What a ring promises: the same place everywhere, even shares, little movement, and room for crowds.

use std::collections::{BTreeMap, HashMap};

use proptest::prelude::*;

use super::*;
use crate::ClientAddress;

type Spec = (String, String, u64);

fn ring(specs: &[Spec]) -> Ring {
    Ring::new(specs.iter().map(|(name, zone, weight)| {
        let name = NodeName::new(name).expect("a name");
        (name, ZoneName::new(zone).expect("a name"), Weight::new(*weight).expect("a weight"))
    }))
}

fn spec(number: usize, zones: usize, weight: u64) -> Spec {
    (format!("edge-{number}"), format!("zone-{}", number % zones), weight)
}

fn ordinary(edges: usize, zones: usize) -> Vec<Spec> {
    (0..edges).map(|number| spec(number, zones, 100)).collect()
}

fn keys(n: u64) -> impl Iterator<Item = PlacementKey> {
    (0..n).map(|number| PlacementKey::of_bytes(&number.to_le_bytes()))
}

fn shares(ring: &Ring, n: u64) -> HashMap<NodeName, u64> {
    let mut shares = HashMap::new();
    for key in keys(n) {
        *shares.entry(ring.owner(key).expect("there are edges").clone()).or_default() += 1;
    }
    shares
}

fn group(address: &str) -> PlacementKey {
    PlacementKey::of(ClientAddress::resolve(&[], address.parse().expect("an address"), []).group())
}

/// If this fails, a cluster of two versions would place its clients in two ways.
#[test]
fn clients_are_placed_as_they_always_were() {
    let ring = ring(&[spec(0, 2, 100), spec(1, 2, 100), spec(2, 2, 200), spec(3, 2, 50)]);
    let placed = |address: &str| {
        let names = ring.candidates(group(address), 3);
        names.into_iter().map(NodeName::as_str).collect::<Vec<_>>().join(" ")
    };
    let addresses = [
        "192.0.2.1",
        "192.0.2.2",
        "192.0.2.3",
        "198.51.100.7",
        "203.0.113.200",
        "10.0.0.1",
        "127.0.0.1",
        "2001:db8::1",
        "2001:db8:0:1::1",
        "2001:db8:ffff::",
        "::1",
    ];
    let mut table = format!("{}\n", ring.digest());
    for address in addresses {
        table.push_str(&format!("{address} {}\n", placed(address)));
    }
    assert_eq!(table, GOLDEN);
}

/// The ring's digest; then addresses, each with its own edge and the alternatives.
const GOLDEN: &str = "7e74002222cf671e
192.0.2.1 edge-1 edge-2 edge-3
192.0.2.2 edge-2 edge-1 edge-0
192.0.2.3 edge-2 edge-3 edge-0
198.51.100.7 edge-1 edge-2 edge-0
203.0.113.200 edge-1 edge-2 edge-0
10.0.0.1 edge-1 edge-0 edge-2
127.0.0.1 edge-3 edge-2 edge-1
2001:db8::1 edge-2 edge-1 edge-0
2001:db8:0:1::1 edge-1 edge-2 edge-0
2001:db8:ffff:: edge-1 edge-0 edge-2
::1 edge-2 edge-1 edge-0
";

#[test]
fn addresses_of_one_owner_stand_at_one_point() {
    assert_eq!(group("2001:db8::1"), group("2001:db8::ffff:ffff:ffff:ffff"));
    assert_ne!(group("2001:db8::1"), group("2001:db8:0:1::1"));
    assert_eq!(group("::ffff:192.0.2.1"), group("192.0.2.1"));
    assert_ne!(group("192.0.2.1"), group("192.0.2.2"));
}

#[test]
fn a_ring_is_the_same_in_whatever_order_its_edges_came() {
    let mut specs = ordinary(9, 3);
    let forwards = ring(&specs);
    specs.reverse();
    specs.push(specs[0].clone());
    let backwards = ring(&specs);
    assert_eq!(forwards, backwards);
    specs.pop();
    specs[0].2 = 101;
    assert_ne!(ring(&specs).digest(), forwards.digest(), "a digest tells of a weight");
}

#[test]
fn nobody_is_placed_where_there_is_nobody() {
    let ring = ring(&[]);
    let key = PlacementKey::of_bytes(b"k");
    assert_eq!(ring.owner(key), None);
    assert!(ring.candidates(key, 3).is_empty());
    assert_eq!(ring.place(key, LoadBound::ORDINARY, |_| 0), None);
}

#[test]
fn shares_are_even_and_follow_the_weights() {
    let ring = ring(&ordinary(100, 4));
    let shares = shares(&ring, 200_000);
    let (min, max) = (shares.values().min(), shares.values().max());
    let within = 1_500..=2_500;
    assert!(
        min.is_some_and(|n| within.contains(n)) && max.is_some_and(|n| within.contains(n)),
        "{min:?} {max:?}"
    );

    let mut specs = ordinary(10, 2);
    specs[3].2 = 300;
    let shares = self::shares(&self::ring(&specs), 120_000);
    let heavy = shares[&NodeName::new("edge-3").expect("a name")];
    assert!((25_000..=35_000).contains(&heavy), "{heavy} of 120000, a quarter is fair");
}

#[test]
fn the_largest_and_the_least_weight_are_no_trouble() {
    let ring = ring(&[spec(0, 1, 1), spec(1, 1, 1000)]);
    let shares = shares(&ring, 100_000);
    let light = shares.get(&NodeName::new("edge-0").expect("a name")).copied().unwrap_or(0);
    assert!((1..1_000).contains(&light), "{light} of 100000, a thousandth is fair");
}

/// A crowd behind one address goes to its edge, then to a second and a third, and these are always the same.
#[test]
fn a_crowd_spills_over_to_the_same_two_others() {
    let ring = ring(&ordinary(12, 3));
    let crowd = group("192.0.2.1");
    let expected: Vec<_> = ring.candidates(crowd, 3).into_iter().cloned().collect();
    let mut runs = Vec::new();
    for _ in 0..2 {
        // Everybody else is spread as usual.
        let mut loads: BTreeMap<NodeName, u64> =
            ring.edges().map(|(name, ..)| (name.clone(), 1_000)).collect();
        let mut went: BTreeMap<NodeName, u64> = BTreeMap::new();
        for _ in 0..900 {
            let placed = ring.place(crowd, LoadBound::ORDINARY, |name| loads[name]).expect("there are edges");
            assert_eq!(placed.alternatives.len(), 2);
            assert!(!placed.alternatives.contains(&placed.edge));
            *went.entry(placed.edge.clone()).or_default() += 1;
            *loads.get_mut(placed.edge).expect("of the ring") += 1;
        }
        // A quarter above 12,900 among 12.
        assert!(loads.values().all(|load| *load <= 1_344), "{loads:?}");
        runs.push(went);
    }
    assert_eq!(runs[0], runs[1]);
    assert_eq!(runs[0].keys().collect::<Vec<_>>(), {
        let mut sorted: Vec<_> = expected.iter().collect();
        sorted.sort();
        sorted
    });
    let own = runs[0][&expected[0]];
    assert!(own > runs[0][&expected[2]], "the crowd's own edge comes first: {:?}", runs[0]);
}

fn specs(edges: std::ops::Range<usize>) -> impl Strategy<Value = Vec<Spec>> {
    (prop::collection::btree_map(0usize..1_000, 50u64..=200, edges), 1usize..5).prop_map(|(edges, zones)| {
        edges.into_iter().map(|(number, weight)| spec(number, zones, weight)).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A join takes clients from the others, about as many as it must, and moves none between them; a leave
    /// is the same backwards.
    #[test]
    fn only_those_move_that_must(specs in specs(4..24), weight in 100u64..=200) {
        let before = ring(&specs);
        let joining = spec(5_000, 1, weight);
        let mut more = specs.clone();
        more.push(joining.clone());
        let after = ring(&more);
        for key in keys(2_000) {
            let (old, new) = (before.owner(key), after.owner(key));
            let stays = old == new || new.map(NodeName::as_str) == Some(&*joining.0);
            prop_assert!(stays, "nobody moves between those who stay");
        }
        let weights: u64 = more.iter().map(|(_, _, weight)| weight).sum();
        let (moved, ideal) = (after.share(&NodeName::new(&joining.0).expect("a name")), weight as f64 / weights as f64);
        prop_assert!(moved < 1.3 * ideal, "{} moved, {} is ideal", moved, ideal);
    }

    /// Alternatives are in zones of their own as long as there are such.
    #[test]
    fn alternatives_stand_elsewhere(specs in specs(3..24), salt: u64) {
        let ring = ring(&specs);
        let zone: HashMap<_, _> = ring.edges().map(|(name, zone, _)| (name.clone(), zone.clone())).collect();
        let all: BTreeSet<_> = zone.values().collect();
        for key in keys(200).map(|PlacementKey(key)| PlacementKey::of_bytes(&(key.get() ^ salt).to_le_bytes())) {
            let candidates = ring.candidates(key, 3);
            prop_assert_eq!(candidates.first().copied(), ring.owner(key));
            let apart: BTreeSet<_> = candidates.iter().collect();
            prop_assert_eq!(apart.len(), 3, "nobody twice");
            let zones: BTreeSet<_> = candidates.iter().map(|name| &zone[*name]).collect();
            prop_assert_eq!(zones.len(), all.len().min(3));
        }
    }

    /// However clients come, nobody is loaded beyond the bound, and each is placed somewhere.
    #[test]
    fn nobody_is_loaded_beyond_the_bound(specs in specs(1..12), permille in 1_010u16..2_000, crowd in 1u64..50) {
        let ring = ring(&specs);
        let bound = LoadBound::new(permille).expect("above the share");
        let mut loads: HashMap<NodeName, u64> = HashMap::new();
        let weights: u64 = specs.iter().map(|(_, _, weight)| weight).sum();
        for (total, PlacementKey(key)) in (0u64..).zip(keys(600)) {
            let key = PlacementKey::of_bytes(&(key.get() % crowd).to_le_bytes());
            let load = |name: &NodeName| loads.get(name).copied().unwrap_or(0);
            let edge = ring.place(key, bound, load).expect("there are edges").edge.clone();
            let weight = ring.edges().find(|(name, ..)| **name == edge).expect("of the ring").2;
            let count = loads.entry(edge).or_default();
            *count += 1;
            prop_assert!(*count <= bound.of(total, weight, weights));
        }
    }

    /// Whatever an edge says of its load, a client is placed.
    #[test]
    fn loads_that_lie_lose_nobody(specs in specs(1..6), loads in prop::collection::vec(any::<u64>(), 6)) {
        let ring = ring(&specs);
        let names: Vec<_> = ring.edges().map(|(name, ..)| name.clone()).collect();
        let load = |name: &NodeName| loads[names.iter().position(|other| other == name).expect("of the ring")];
        prop_assert!(ring.place(PlacementKey::of_bytes(b"k"), LoadBound::ORDINARY, load).is_some());
    }
}
