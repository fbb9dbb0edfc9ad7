//! Nodes, changes and commands for tests, here and in other crates.

use std::collections::BTreeSet;
use std::time::Duration;

use proptest::prelude::*;

use crate::cluster::{
    Addresses, AfterDegradation, Breaker, Canary, CanaryState, Change, ClusterSettings, Command, Digest,
    Drain, EpochSpan, Lease, Limit, Node, Rebalance, Region, Role, Slot, SlotNumber, StreamPolicy, Weight,
};
use crate::{Epoch, Level, NodeName, RegionName, Retention, SlowReader, StreamName, ZoneName};

/// An ordinary edge that takes clients.
///
/// # Panics
/// If that is no name.
#[must_use]
pub fn edge(name: &str) -> Node {
    Node {
        name: NodeName::new(name).expect("a name"),
        role: Role::Edge,
        addresses: Addresses {
            http: Some(format!("{name}:8080").parse().expect("an address")),
            ..Addresses::default()
        },
        region: RegionName::new("eu").expect("a name"),
        zone: ZoneName::new("eu-a").expect("a name"),
        capacity: 16_000,
        admits_per_second: 2_000,
        weight: Weight::ORDINARY,
        version: "0.1.0".to_owned(),
        format: 1,
        incarnation: 1,
        lease: Lease::Held,
        draining: false,
    }
}

fn name() -> impl Strategy<Value = String> + Clone {
    (0u8..6).prop_map(|number| format!("n{number}"))
}

fn node() -> impl Strategy<Value = Node> {
    (name(), 0u8..3, 0u8..3, 1u64..=1000, any::<bool>(), any::<bool>(), 0u64..3).prop_map(
        |(name, role, zone, weight, held, draining, incarnation)| Node {
            role: [Role::Edge, Role::Relay, Role::Control][usize::from(role)],
            region: RegionName::new(["eu", "us", "as"][usize::from(zone)]).expect("a name"),
            zone: ZoneName::new(&format!("z{zone}")).expect("a name"),
            weight: Weight::new(weight).expect("a weight"),
            lease: if held { Lease::Held } else { Lease::Lost },
            draining,
            incarnation,
            ..edge(&name)
        },
    )
}

/// Any change, to few enough things that they meet.
pub fn change() -> impl Strategy<Value = Change> {
    let region = |name: &str| RegionName::new(name).expect("a name");
    let stream = |name: &str| StreamName::new(name).expect("a name");
    let node_name = |name: &str| NodeName::new(name).expect("a name");
    prop_oneof![
        (0u32..9).prop_map(Change::Format),
        (1u32..9).prop_map(|n| Change::Settings(ClusterSettings {
            drains_at_once: n,
            rebalance_after_ms: n % 2 * 1_000,
            ..ClusterSettings::default()
        })),
        (name(), any::<bool>()).prop_map(move |(name, zoned)| Change::Region(Region {
            name: region(&name),
            public_host: zoned.then(|| format!("{name}.example.com")),
            zones: BTreeSet::from_iter(zoned.then(|| ZoneName::new("z").expect("a name"))),
        })),
        name().prop_map(move |name| Change::RegionGone(region(&name))),
        node().prop_map(|node| Change::Node(Box::new(node))),
        name().prop_map(move |name| Change::NodeGone(node_name(&name))),
        (0u64..3, 1u64..9, any::<Option<u64>>()).prop_map(move |(number, epoch, ends)| Change::Slot(
            SlotNumber::new(number).expect("a slot"),
            Slot::from_history(vec![EpochSpan {
                epoch: Epoch::new(epoch).expect("an epoch"),
                home: region("eu"),
                ends: ends.map(Digest::new),
            }])
            .expect("a history"),
        )),
        (name(), any::<Option<u64>>(), any::<Option<u32>>()).prop_map(move |(name, events, age)| {
            Change::Policy(
                stream(&name),
                StreamPolicy {
                    retention: Retention {
                        events,
                        bytes: None,
                        age: age.map(|ms| Duration::from_millis(u64::from(ms))),
                    },
                    level: Level::Quorum,
                    slow_reader: SlowReader::Gap,
                    after_degradation: AfterDegradation::Skip,
                },
            )
        }),
        name().prop_map(move |name| Change::PolicyGone(stream(&name))),
        (name(), 0u64..4, any::<bool>()).prop_map(move |(name, order, running)| Change::Drain(Drain {
            node: node_name(&name),
            order,
            force: false,
            running
        })),
        name().prop_map(move |name| Change::DrainOver(node_name(&name))),
        (name(), any::<u32>()).prop_map(|(name, failures)| Change::Breaker(
            name,
            Breaker { failures, budget_permille_min: 100, p99_ms_max: 5, open_ms: 7 }
        )),
        name().prop_map(Change::BreakerGone),
        (name(), any::<u32>()).prop_map(|(name, burst)| Change::Limit(name, Limit { per_second: 1, burst })),
        name().prop_map(Change::LimitGone),
        (0u16..1000, name()).prop_map(|(share_permille, why)| Change::Canary(Canary {
            share_permille,
            state: CanaryState::RolledBack { why }
        })),
        (name(), 0u64..9, prop::collection::btree_set(name(), 0..3)).prop_map(move |(name, plan, left)| {
            let left = left.iter().map(|name| node_name(name)).collect();
            Change::Rebalance(Rebalance { region: region(&name), plan, left })
        }),
        name().prop_map(move |name| Change::RebalanceDone(node_name(&name))),
        Just(Change::RebalanceOver),
        name().prop_map(move |name| Change::Balanced(region(&name))),
    ]
}

/// Any command, about few enough things that they meet.
pub fn command() -> impl Strategy<Value = Command> {
    let node_name = |name: &str| NodeName::new(name).expect("a name");
    let run = (name(), 0u64..3).prop_map(move |(name, incarnation)| (node_name(&name), incarnation));
    let of_changes = change().prop_map(|change| match change {
        Change::Format(format) => Command::RaiseFormat(format),
        Change::Settings(settings) => Command::SetSettings(settings),
        Change::Region(region) => Command::SetRegion(region),
        Change::RegionGone(region) => Command::RemoveRegion(region),
        Change::Node(node) => Command::Join(Box::new(Node { format: 1 + node.weight.get() % 3, ..*node })),
        Change::NodeGone(node) => Command::Forget(node),
        Change::Slot(slot, history) => match history.open() {
            Some(open) => Command::BeginEpoch { slot, home: open.home.clone(), at_least: open.epoch },
            None => Command::EndEpoch { slot, epoch: history.epochs()[0].epoch, ends: Digest::new(1) },
        },
        Change::Policy(stream, policy) => Command::SetPolicy(stream, policy),
        Change::PolicyGone(stream) => Command::RemovePolicy(stream),
        Change::Drain(drain) => Command::Drain { node: drain.node, force: drain.running && drain.order == 0 },
        Change::DrainOver(node) => Command::Undrain(node),
        Change::Breaker(name, breaker) => Command::SetBreaker(name, breaker),
        Change::BreakerGone(name) => Command::RemoveBreaker(name),
        Change::Limit(name, limit) => Command::SetLimit(name, limit),
        Change::LimitGone(name) => Command::RemoveLimit(name),
        Change::Canary(canary) => Command::SetCanary(canary),
        Change::Rebalance(rebalance) => Command::Rebalance(rebalance.region),
        Change::RebalanceDone(node) => Command::Note(format!("something about {node}")),
        Change::Balanced(region) => Command::Rebalance(region),
        Change::RebalanceOver => Command::CancelRebalance(RegionName::new("eu").expect("a name")),
    });
    prop_oneof![
        5 => of_changes,
        4 => node().prop_map(|node| Command::Join(Box::new(Node { role: Role::Edge, format: 2, ..node }))),
        1 => run.clone().prop_map(|(node, incarnation)| Command::Lost { node, incarnation }),
        1 => run.clone().prop_map(|(node, incarnation)| Command::Back { node, incarnation }),
        1 => run.clone().prop_map(|(node, incarnation)| Command::Ending { node, incarnation }),
        1 => run.clone().prop_map(|(node, incarnation)| Command::Leave { node, incarnation }),
        1 => run.clone().prop_map(|(node, incarnation)| Command::Drained { node, incarnation }),
        2 => (run, 0u64..60).prop_map(|((node, incarnation), plan)| Command::Rebalanced { node, incarnation, plan }),
        1 => prop::sample::select(vec!["eu", "us"]).prop_map(|region| {
            Command::Rebalance(RegionName::new(region).expect("a name"))
        }),
        1 => Just(Command::RaiseFormat(2)),
        2 => name().prop_map(move |name| Command::Drain { node: node_name(&name), force: false }),
    ]
}
