//! Ways between control nodes, and between them and the edges, that are cut again and again.

use evergate_tests::controls::Plan;
use evergate_tests::ledger::Totals;

use crate::scene::{Scene, ids, network};

/// Where everybody is who is no control node.
fn home(controls: usize) -> u64 {
    controls as u64 + 1
}

/// No stream ended, no edge was lost, nothing was lost or doubled.
async fn unnoticed(mut scene: Scene, faults: usize) -> Totals {
    scene.one_history().await;
    scene.leases().await;
    scene.nobody_was_lost();
    scene.audience.goes_on().await;
    assert_eq!(scene.audience.cuts(), 0, "no stream ended");
    scene.audience.judge(0, faults).await
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
        let totals = unnoticed(scene, 8).await;
        println!("{totals:?}, 0 lost, 0 doubled, no stream ended by 8 faults");
    });
}
