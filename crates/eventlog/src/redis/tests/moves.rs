//! Slots that a cluster moves: no loss is told where both primaries know that there was none, and one is
//! wherever either of them does not.

use evergate_domain::{GapReason, Retention};

use super::super::testing::{clock, until};
use super::deployments::{ALL, cluster_of, stream};
use super::*;

/// A cluster, a log on it at `HOME`, and a stream on its first node that holds one event.
struct Scene {
    nodes: [Server; 2],
    log: Arc<RedisLog>,
    name: StreamName,
    first: Offset,
}

impl Scene {
    async fn set() -> Self {
        let durable = ["--appendonly", "yes", "--appendfsync", "always"].map(str::to_owned).to_vec();
        let nodes = cluster_of(|_| durable.clone()).await;
        let url = format!("redis-cluster://127.0.0.1:{}", nodes[0].port());
        let options = RedisOptions::new(RedisUrl::parse(&url).expect("valid"));
        let log = log(options, StreamPolicies::open(Retention::FOREVER), clock()).await;
        let here = |n: &usize| Keys::of(&stream(*n)).slot.hash_slot().index() < 8192;
        let name = stream((0..).find(here).expect("half of them are there"));
        let first = log.append(&name, vec![EventDraft::new("a")]).await.expect("appends")[0].offset;
        until("the other node noted that it has nothing of it", || async {
            let told: String = nodes[1].ask(&["INFO", "commandstats"]).await.expect("tells");
            let counted =
                told.lines().find_map(|line| line.strip_prefix("cmdstat_cluster|countkeysinslot:calls="));
            counted.and_then(|it| it.split(',').next()?.parse::<usize>().ok()).is_some_and(|many| many >= 100)
        })
        .await;
        Self { nodes, log, name, first }
    }

    /// Moves the stream's slot to the other node, as `redis-cli` does.
    async fn reshard(&self) {
        let [from, to] = &self.nodes;
        let slot = Keys::of(&self.name).slot.hash_slot().index().to_string();
        let id = async |node: &Server| node.ask::<String>(&["CLUSTER", "MYID"]).await.expect("tells");
        let (source, target) = (id(from).await, id(to).await);
        let _: String = to.ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source]).await.expect("sets");
        let _: String = from.ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target]).await.expect("sets");
        let keys: Vec<String> = from.ask(&["CLUSTER", "GETKEYSINSLOT", &slot, "1000"]).await.expect("tells");
        let port = to.port().to_string();
        let mut migrate = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
        migrate.extend(keys.iter().map(String::as_str));
        let _: String = from.ask(&migrate).await.expect("moves");
        for node in [to, from] {
            let _: String = node.ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &target]).await.expect("sets");
        }
    }

    /// Waits until the log knows where the slot is now.
    async fn found(&self) {
        until("the log found it", || async {
            let map = self.log.shared.topology.now();
            let owner = map.node(Keys::of(&self.name).slot.hash_slot()).map(|node| node.place.address.port());
            owner == Some(self.nodes[1].port())
        })
        .await;
    }

    /// Appends, and says what who was there before is told.
    async fn told(&self) -> Page {
        until("it takes events", || async {
            self.log.append(&self.name, vec![EventDraft::new("b")]).await.is_ok()
        })
        .await;
        let page = self.log.read(&self.name, self.first, ALL).await.expect("reads");
        self.log.close().await;
        page
    }
}

#[track_caller]
fn assert_told_of_a_loss(page: &Page) {
    let Page::Gap(gap) = page else { panic!("{page:?}") };
    assert_eq!(gap.reason, GapReason::LostTail);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slot_that_moves_is_no_loss() {
    let scene = Scene::set().await;
    scene.reshard().await;
    let page = scene.told().await;
    let Page::Events { events, .. } = page else { panic!("{page:?}") };
    assert_eq!(events.iter().map(|event| event.data.as_str()).collect::<Vec<_>>(), ["b"]);
    assert!(events[0].offset.epoch > scene.first.epoch, "the gate was opened anew");
}

/// What it had acknowledged last nobody knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_word_of_a_former_primary_that_died_is_not_taken() {
    let scene = Scene::set().await;
    scene.reshard().await;
    scene.nodes[0].kill();
    scene.nodes[0].run().await;
    assert_told_of_a_loss(&scene.told().await);
}

/// Somebody may have opened the gate there, and what was appended under it be lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_primary_that_died_since_does_not_vouch_for_itself() {
    let scene = Scene::set().await;
    scene.reshard().await;
    scene.found().await;
    scene.nodes[1].kill();
    scene.nodes[1].run().await;
    assert_told_of_a_loss(&scene.told().await);
}
