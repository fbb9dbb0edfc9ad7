//! What befalls the leader, and a voter whose disk is gone, with as many nodes as a large cluster has.

use evergate_tests::controls::{Plan, wait};
use rustix::process::Signal;

use crate::scene::Scene;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_stands_still_one_that_dies_and_a_voter_made_anew_are_not_noticed() {
    const TEST: &str = "a_leader_that_stands_still_one_that_dies_and_a_voter_made_anew_are_not_noticed";
    let Some(mut scene) = Scene::set(TEST, Plan::of(5), 6, 60).await else { return };
    scene.change(0).await;

    // It stands still, and comes to itself when there is another leader.
    let leader = scene.controls.leader_of(&scene.besides(&[])).await;
    let rest = scene.besides(&[leader]);
    scene.controls.signal(leader, Signal::STOP);
    scene.led_by_one_of(&rest, rest[0]).await;
    scene.controls.signal(leader, Signal::CONT);
    scene.one_history().await;

    // It dies, and comes back.
    let leader = scene.controls.leader_of(&scene.besides(&[])).await;
    let rest = scene.besides(&[leader]);
    scene.controls.kill(leader);
    scene.led_by_one_of(&rest, rest[1]).await;
    scene.controls.restart(leader).await;
    scene.one_history().await;

    // A voter has lost everything, and one that never was takes its place.
    let leader = scene.controls.leader_of(&scene.besides(&[])).await;
    let lost = (leader + 1) % 5;
    let asked = (leader + 2) % 5;
    scene.controls.kill(lost);
    scene.audience.injected();
    scene.gone.push(lost);
    let newcomer = scene.controls.newcomer();
    let (id, address) = ((newcomer + 1).to_string(), scene.controls.address(newcomer).to_string());
    wait("it follows", async || scene.controls.json(asked, &["members", "add", &id, &address])).await;
    scene.controls.ready(newcomer).await;
    wait("it votes", async || scene.controls.json(asked, &["members", "promote", &id])).await;
    let lost_id = (lost + 1).to_string();
    let remove = ["members", "remove", &lost_id, "--yes"];
    wait("the lost one is no member", async || scene.controls.json(asked, &remove)).await;
    scene.change(newcomer).await;
    scene.look(&scene.besides(&[]));
    scene.leases().await;
    scene.one_history().await;
    let members = scene.controls.json(newcomer, &["members"]).expect("it is told");
    let ids: Vec<_> = members["members"].as_array().expect("a list").iter().map(|one| &one["id"]).collect();
    assert!(ids.len() == 5 && ids.iter().any(|one| **one == newcomer + 1), "{members}");

    let totals = scene.unnoticed(3).await;
    println!("{totals:?}, 0 lost, 0 doubled, no stream ended by 3 faults");
}
