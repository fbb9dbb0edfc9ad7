//! Ways between control nodes, and between them and the edges, that are cut: both ways, one way, and again and again.

use std::time::Instant;

use evergate_tests::controls::Plan;

use crate::places::knows;
use crate::scene::{Scene, ids, network, refusal};

/// Where everybody is who is no control node.
fn home(controls: usize) -> u64 {
    controls as u64 + 1
}

#[test]
fn a_leader_that_is_cut_off_refuses_and_nobody_notices() {
    const TEST: &str = "a_leader_that_is_cut_off_refuses_and_nobody_notices";
    let Some(network) = network(TEST, 3) else { return };
    network.story(home(3), async |network| {
        let plan = Plan::of(3).on(network);
        let Some(mut scene) = Scene::set(TEST, plan, 3, 45).await else { return };

        // Both ways.
        let leader = scene.controls.leader().await;
        let rest = scene.besides(&[leader]);
        scene.change(rest[0]).await;
        scene.part(&[leader]);
        let parted = Instant::now();
        scene.audience.injected();
        let told = refusal(&scene.controls, leader).await;
        println!("a leader without a majority says: {}", told.trim_end());
        scene.controls.leader_of(&rest).await;
        println!("another one leads {:?} after the leader was cut off", parted.elapsed());
        scene.change(rest[0]).await;
        scene.look(&[leader]);
        scene.look(&rest);
        scene.leases().await;
        scene.audience.goes_on().await;
        scene.join(&[leader]);
        scene.one_history().await;

        // One way: a leader that is heard by nobody, and one that hears nobody.
        for it_is_deaf in [true, false] {
            let leader = scene.controls.leader_of(&[0, 1, 2]).await;
            let rest = scene.besides(&[leader]);
            let network = scene.controls.network();
            let way = |other: u64, leader: u64| if it_is_deaf { (other, leader) } else { (leader, other) };
            let ways: Vec<_> = ids(&rest).into_iter().map(|other| way(other, ids(&[leader])[0])).collect();
            ways.iter().for_each(|(from, to)| network.cut(*from, *to));
            scene.led_by_one_of(&rest, rest[1]).await;
            let network = scene.controls.network();
            ways.iter().for_each(|(from, to)| network.mend(*from, *to));
            scene.one_history().await;
        }

        // A leader that hears the edges and cannot answer them: they are not lost with it.
        let leader = scene.controls.leader_of(&[0, 1, 2]).await;
        let rest = scene.besides(&[leader]);
        let network = scene.controls.network();
        network.cut(ids(&[leader])[0], home(3));
        scene.audience.injected();
        // A change reaches the edges by the others, and their beats the leader.
        scene.change(rest[0]).await;
        scene.leases().await;
        for edge in &scene.edges {
            knows(edge, 3).await;
        }
        scene.audience.goes_on().await;
        scene.controls.network().mend(ids(&[leader])[0], home(3));
        let totals = scene.unnoticed(4).await;
        println!("{totals:?}, 0 lost, 0 doubled, no stream ended by 4 faults");
    });
}

#[test]
fn links_that_flap_cost_nobody_anything() {
    const TEST: &str = "links_that_flap_cost_nobody_anything";
    let Some(network) = network(TEST, 3) else { return };
    network.story(home(3), async |network| {
        let plan = Plan::of(3).on(network);
        let Some(mut scene) = Scene::set(TEST, plan, 2, 30).await else { return };
        let mut random = fastrand::Rng::with_seed(11);
        scene.change(0).await;
        for round in 0..8 {
            let flapping = random.usize(..3);
            let mut others = ids(&scene.besides(&[flapping]));
            if round % 2 == 1 {
                // For the edges, too.
                others.push(home(3));
            }
            scene.controls.network().divide(&ids(&[flapping]), &others);
            scene.audience.injected();
            tokio::time::sleep(std::time::Duration::from_millis(random.u64(50..1_200))).await;
            scene.controls.network().unite(&ids(&[flapping]), &others);
            scene.look(&scene.besides(&[flapping]));
        }
        scene.change(1).await;
        let totals = scene.unnoticed(8).await;
        println!("{totals:?}, 0 lost, 0 doubled, no stream ended by 8 faults");
    });
}

#[test]
fn the_majority_of_five_loses_an_edge_and_the_minority_learns_of_it() {
    const TEST: &str = "the_majority_of_five_loses_an_edge_and_the_minority_learns_of_it";
    let Some(network) = network(TEST, 5) else { return };
    network.story(home(5), async |network| {
        let plan = Plan::of(5).on(network);
        let Some(mut scene) = Scene::set(TEST, plan, 6, 60).await else { return };
        let leader = scene.controls.leader().await;
        let minority = [leader, (leader + 1) % 5];
        let majority = scene.besides(&minority);
        scene.change(minority[1]).await;
        scene.part(&minority);
        scene.audience.injected();
        for at in minority {
            refusal(&scene.controls, at).await;
        }
        scene.controls.leader_of(&majority).await;
        scene.change(majority[0]).await;
        scene.leases().await;
        assert_eq!(scene.audience.cuts(), 0, "nobody noticed");

        // What happens meanwhile is agreed on by those who can.
        let gone = scene.edges[5].http();
        scene.edges[5].kill();
        scene.audience.gone(gone);
        let lost = evergate_tests::controls::wait("its loss", async || {
            let status = scene.controls.json(majority[1], &["nodes"])?;
            (status["nodes"][5]["state"] == "lost").then_some(status)
        });
        assert_eq!(lost.await["nodes"][5]["node"], "edge-f");
        for at in minority {
            let nodes = scene.controls.json(at, &["nodes"]).expect("what is known can be looked at");
            assert_eq!(
                nodes["nodes"][5]["state"], "here",
                "nobody told it otherwise, and it decides nothing"
            );
        }
        scene.look(&minority);
        scene.look(&majority);
        scene.audience.goes_on().await;
        let moved = scene.audience.cuts();

        scene.join(&minority);
        scene.edges[5].restart().await;
        scene.audience.back(gone);
        scene.one_history().await;
        scene.leases().await;
        scene.audience.goes_on().await;
        assert_eq!(scene.audience.cuts(), moved, "only its clients moved");
        let audit = scene.controls.json(0, &["audit", "--max", "0"]).expect("it is remembered").to_string();
        assert_eq!(audit.matches("lost edge-").count(), 1, "{audit}");
        assert!(!audit.contains("policy of refused"), "what was refused took effect: {audit}");
        let totals = scene.audience.judge(moved, 2).await;
        println!("{totals:?}, 0 lost, 0 doubled; {moved} of 60 moved with an edge that was killed");
    });
}
