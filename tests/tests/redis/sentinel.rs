//! Sentinel gives the primary's part to another server, in order and out of it, while many publish
//! and follow. At `REPLICATED` nobody loses anything and nobody is told of a loss.

use std::time::{Duration, Instant};

use evergate_tests::ledger::Totals;
use evergate_tests::process::Evergate;
use evergate_tests::redis::Watched;

use crate::work::{Gateway, Gateways, Way, Work};

/// Acknowledged between two faults.
const ROUND_MIN: usize = 200;

struct Scene {
    group: Watched,
    servers: [Evergate; 2],
    work: Work,
}

impl Scene {
    /// With as many replicas to confirm as this.
    async fn set(test: &str, confirmations: &str) -> Option<Self> {
        let group = Watched::start(test).await?;
        let options = || {
            let options = group.options().set("redis.level", "REPLICATED");
            options.set("redis.confirmations", confirmations).set("sse.heartbeat", "1s")
        };
        let servers = [Evergate::start(options()).await, Evergate::start(options()).await];
        let [a, b] = servers.each_ref().map(Gateway::of);
        let publishers =
            [(Way::Grpc, a), (Way::Grpc, b), (Way::Http, a), (Way::Http, b)].map(|(way, at)| (way, vec![at]));
        let mut work = Work::begin(Gateways::Immortal, &publishers, &[vec![a], vec![b]]);
        work.more(ROUND_MIN).await;
        Some(Self { group, servers, work })
    }

    /// How long it takes until somebody is answered again, by another primary than this one.
    async fn outage(&mut self, old: usize) -> Duration {
        let from = Instant::now();
        self.group.until_not(old).await;
        self.work.more(1).await;
        let outage = from.elapsed();
        self.work.more(ROUND_MIN).await;
        outage
    }

    /// Nothing was lost, and nobody was told that anything was.
    async fn judge(mut self, rounds: usize) -> (Totals, [Evergate; 2]) {
        let totals = self.work.judge(rounds * ROUND_MIN).await;
        for subscriber in &self.work.subscribers {
            assert_eq!(subscriber.connections(), 1, "live streams stay open");
            assert_eq!(subscriber.gaps(), Vec::<serde_json::Value>::new(), "nothing confirmed is ever lost");
        }
        (totals, self.servers)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_dies_is_replaced() {
    let test = "a_primary_that_dies_is_replaced";
    let Some(mut scene) = Scene::set(test, "1").await else { return };
    let old = scene.group.primary().await;
    scene.group.servers[old].kill();
    let outage = scene.outage(old).await;
    // It comes back, empty, and is made a replica.
    scene.group.servers[old].restart().await;
    scene.work.more(ROUND_MIN).await;
    println!("{test}: {:?}, outage {outage:?}", scene.judge(3).await.0);
}

/// It still takes itself for the primary when it wakes, and holds what nobody else does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_sleeps_and_wakes_confirms_nothing() {
    let test = "a_primary_that_sleeps_and_wakes_confirms_nothing";
    let Some(mut scene) = Scene::set(test, "1").await else { return };
    let old = scene.group.primary().await;
    scene.group.servers[old].pause();
    let outage = scene.outage(old).await;
    scene.group.servers[old].resume();
    scene.work.more(ROUND_MIN).await;
    // Until it was told what it is now.
    scene.group.servers[old].until_in_step().await;
    scene.work.more(ROUND_MIN).await;
    println!("{test}: {:?}, outage {outage:?}", scene.judge(4).await.0);
}

/// There and back again: the first primary never restarts, and its gate must be shut all the same.
///
/// Both replicas must confirm: while one of them is being promoted, the old primary goes on with the
/// other, and what only they have is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_change_and_another_lose_nothing() {
    let test = "a_planned_change_and_another_lose_nothing";
    let Some(mut scene) = Scene::set(test, "2").await else { return };
    let mut outages = Vec::new();
    for _ in 0..2 {
        let old = scene.group.primary().await;
        scene.group.hand_over().await;
        outages.push(scene.outage(old).await);
    }
    println!("{test}: {:?}, outages {outages:?}", scene.judge(3).await.0);
}
