//! How long a ring takes to make and to ask, how even it is, and how much moves.
//!
//!     cargo run --release -p evergate-domain --example ring_rate
#![allow(clippy::print_stdout, reason = "it prints its figures")]

use std::collections::HashMap;
use std::time::Instant;

use evergate_domain::cluster::{LoadBound, PlacementKey, Ring, Weight};
use evergate_domain::{NodeName, ZoneName};

const KEYS: u64 = 200_000;

fn ring(edges: usize) -> Ring {
    Ring::new((0..edges).map(|number| {
        let name = NodeName::new(&format!("edge-{number}")).expect("a name");
        (name, ZoneName::new(&format!("zone-{}", number % 4)).expect("a name"), Weight::ORDINARY)
    }))
}

fn main() {
    let keys: Vec<_> = (0..KEYS).map(|number| PlacementKey::of_bytes(&number.to_le_bytes())).collect();
    println!(
        "edges  build ms  owner ns  3 candidates ns  placed ns  max/mean  min/mean  moved by a join / ideal"
    );
    for edges in [3, 10, 100, 200] {
        let mut builds: Vec<_> = (0..9)
            .map(|_| {
                let began = Instant::now();
                std::hint::black_box(ring(edges));
                began.elapsed().as_secs_f64() * 1e3
            })
            .collect();
        builds.sort_by(f64::total_cmp);
        let (before, after) = (ring(edges), ring(edges + 1));
        let each = |what: &dyn Fn(PlacementKey)| {
            let began = Instant::now();
            keys.iter().for_each(|key| what(*key));
            began.elapsed().as_secs_f64() * 1e9 / KEYS as f64
        };
        let owner = each(&|key| {
            std::hint::black_box(before.owner(key));
        });
        let candidates = each(&|key| drop(std::hint::black_box(before.candidates(key, 3))));
        let placed =
            each(&|key| drop(std::hint::black_box(before.place(key, LoadBound::ORDINARY, |_| 1_000))));
        let mut shares: HashMap<&NodeName, u64> = HashMap::new();
        let mut moved = 0u64;
        for key in &keys {
            let owner = before.owner(*key).expect("there are edges");
            *shares.entry(owner).or_default() += 1;
            moved += u64::from(after.owner(*key) != Some(owner));
        }
        let mean = KEYS as f64 / edges as f64;
        let (max, min) =
            (shares.values().max().copied().unwrap_or(0), shares.values().min().copied().unwrap_or(0));
        println!(
            "{edges:5}  {:8.2}  {owner:8.0}  {candidates:15.0}  {placed:9.0}  {:8.2}  {:8.2}  {:.2}",
            builds[4],
            max as f64 / mean,
            min as f64 / mean,
            moved as f64 * (edges as f64 + 1.0) / KEYS as f64,
        );
    }
}
