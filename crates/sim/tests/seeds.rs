//! Thousands of clusters, each by its seed.
//!
//! `EVERGATE_SIM_SEED=n` runs one of them; `EVERGATE_SIM_SEEDS=n` so many.
#![allow(missing_docs, reason = "a test")]

use std::env;

use evergate_sim::run;

/// In a run that is no one's in particular.
const SEEDS: u64 = 2_000;

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().expect("a number"))
}

#[test]
fn every_cluster_agrees_and_comes_right_when_its_faults_have_healed() {
    let seeds = match number("EVERGATE_SIM_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("EVERGATE_SIM_SEEDS").unwrap_or(SEEDS),
    };
    let is_whole = seeds.end - seeds.start >= SEEDS;
    let (mut commands, mut losses, mut elections) = (0, 0, 0);
    for seed in seeds {
        let report = run(seed).unwrap_or_else(|violation| {
            panic!(
                "seed {seed}: {violation}\nto repeat it: EVERGATE_SIM_SEED={seed} cargo test -p evergate-sim --test seeds"
            )
        });
        commands += report.commands;
        losses += report.losses;
        elections += report.elections;
    }
    println!("{commands} commands agreed on, {losses} nodes lost, {elections} leaders");
    if is_whole {
        // Faults that never bite would prove nothing.
        assert!(losses > 1_000 && elections > 2_000, "{losses} losses, {elections} leaders");
    }
}

#[test]
fn a_seed_is_a_cluster() {
    for seed in [1, 2, 77] {
        assert_eq!(run(seed), run(seed));
    }
}
