//! Sentinel gives the primary's part to another server, in order and out of it, while many publish
//! and follow. At `REPLICATED` nobody loses anything and nobody is told of a loss; at `HOME` whatever is
//! lost is told to everybody who was there.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::{Duration, Instant};

use evergate_tests::clients::system;
use evergate_tests::ledger::Totals;
use evergate_tests::left_out::left_out;
use evergate_tests::process::Evergate;
use evergate_tests::redis::Watched;

use crate::work::{Gateway, Gateways, Outage, STREAMS, Way, Work};

/// Acknowledged between two faults.
const ROUND_MIN: usize = 200;

struct Scene {
    group: Watched,
    servers: [Evergate; 2],
    work: Work,
}

/// How things stood before a change, and when that was.
#[derive(Debug, Clone, Copy)]
struct Before {
    primary: usize,
    epoch: u64,
    at: Instant,
}

/// How long a change took.
#[derive(Debug)]
#[expect(dead_code, reason = "printed, and nothing else")]
struct Change {
    /// Until another primary was named.
    promoted: Duration,
    /// Counted from then.
    outage: Outage,
}

impl Scene {
    /// With as many replicas to confirm as this.
    async fn set(test: &str, confirmations: &str) -> Option<Self> {
        Some(Self::of(Watched::start(test).await?, confirmations).await)
    }

    async fn of(group: Watched, confirmations: &str) -> Self {
        Self::at(group, "REPLICATED", confirmations).await
    }

    async fn at(group: Watched, level: &str, confirmations: &str) -> Self {
        let options = || {
            let options = group.options().set("redis.level", level);
            options.set("redis.confirmations", confirmations).set("sse.heartbeat", "1s")
        };
        let servers = [Evergate::start(options()).await, Evergate::start(options()).await];
        let [a, b] = servers.each_ref().map(Gateway::of);
        let publishers =
            [(Way::Grpc, a), (Way::Grpc, b), (Way::Http, a), (Way::Http, b)].map(|(way, at)| (way, vec![at]));
        let mut work = Work::begin(Gateways::Immortal, &publishers, &[vec![a], vec![b]]);
        work.more(ROUND_MIN).await;
        Self { group, servers, work }
    }

    async fn before(&self) -> Before {
        let (primary, epoch) = (self.group.primary().await, self.work.books.ledger().epoch_received());
        Before { primary, epoch, at: Instant::now() }
    }

    /// How long it takes until another primary is named, and from then until somebody is answered, and
    /// receives something, again.
    async fn change(&mut self, before: Before) -> Change {
        self.group.until_not(before.primary).await;
        let promoted = before.at.elapsed();
        let outage = self.work.outage(before.epoch).await;
        self.work.more(ROUND_MIN).await;
        Change { promoted, outage }
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
    let before = scene.before().await;
    let old = before.primary;
    scene.group.servers[old].kill();
    let change = scene.change(before).await;
    // It comes back, empty, and is made a replica.
    scene.group.servers[old].restart().await;
    scene.work.more(ROUND_MIN).await;
    println!("{test}: {:?}, {change:?}", scene.judge(3).await.0);
}

/// It still takes itself for the primary when it wakes, and holds what nobody else does.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_sleeps_and_wakes_confirms_nothing() {
    let test = "a_primary_that_sleeps_and_wakes_confirms_nothing";
    let Some(mut scene) = Scene::set(test, "1").await else { return };
    let before = scene.before().await;
    let old = before.primary;
    scene.group.servers[old].pause();
    let change = scene.change(before).await;
    scene.group.servers[old].resume();
    scene.work.more(ROUND_MIN).await;
    // Until it was told what it is now.
    scene.group.servers[old].until_in_step().await;
    scene.work.more(ROUND_MIN).await;
    println!("{test}: {:?}, {change:?}", scene.judge(4).await.0);
}

/// There and back again: the first primary never restarts, and its gate must be shut all the same.
///
/// Both replicas must confirm: while one of them is being promoted, the old primary goes on with the
/// other, and what only they have is lost.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_change_and_another_lose_nothing() {
    let test = "a_planned_change_and_another_lose_nothing";
    let Some(mut scene) = Scene::set(test, "2").await else { return };
    let mut changes = Vec::new();
    for _ in 0..2 {
        let before = scene.before().await;
        scene.group.hand_over().await;
        changes.push(scene.change(before).await);
    }
    println!("{test}: {:?}, {changes:?}", scene.judge(3).await.0);
}

/// The replicas have nothing of what is acknowledged last, and one of them is promoted: that is lost, and
/// everybody who was there is told.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_home_loses_with_its_primary_is_told_to_everybody() {
    let test = "what_home_loses_with_its_primary_is_told_to_everybody";
    let Some(group) = Watched::start(test).await else { return };
    let mut scene = Scene::at(group, "HOME", "1").await;
    for stream in STREAMS {
        scene.work.books.ledger().may_lose(stream);
    }
    let before = scene.before().await;
    let old = before.primary;
    let replicas: Vec<usize> = (0..scene.group.servers.len()).filter(|&at| at != old).collect();
    for &replica in &replicas {
        scene.group.servers[replica].pause();
    }
    // What is on its way to them already still arrives when they wake; what comes now never sets out.
    scene.group.servers[old].must(&["CLIENT", "KILL", "TYPE", "replica"]).await;
    scene.work.more(ROUND_MIN).await;
    scene.group.servers[old].kill();
    for &replica in &replicas {
        scene.group.servers[replica].resume();
    }
    let change = scene.change(before).await;
    scene.group.servers[old].restart().await;
    scene.work.more(ROUND_MIN).await;
    let totals = scene.work.judge(3 * ROUND_MIN).await;
    let losses = scene.work.books.ledger().losses();
    // Both streams lost some, and whoever reads one of them was told so.
    assert!(losses.events >= ROUND_MIN, "{losses:?}");
    assert!(losses.notices - losses.unneeded >= scene.work.subscribers.len(), "{losses:?}");
    for subscriber in &scene.work.subscribers {
        assert_eq!(subscriber.connections(), 1, "live streams stay open");
        assert_eq!(subscriber.crossings(), [], "untold; told were {:?}", subscriber.gaps());
        for gap in subscriber.gaps() {
            assert_eq!(gap["reason"], "lost-tail", "{gap}");
            assert!(gap["lost"].is_null(), "nobody can know: {gap}");
        }
    }
    println!("{test}: {totals:?}, {losses:?}, {change:?}");
}

/// The address of the primary that is to be cut off. It exists in a namespace of the test's own.
const CUT_OFF: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 99, 0, 1));
/// Set for the test that runs in the namespace.
const INSIDE: &str = "EVERGATE_TESTS_INSIDE";

/// Does something with the network of this namespace.
fn ip(words: &str) {
    let done = Command::new("ip").args(words.split(' ')).output().expect("ip can be started");
    assert!(done.status.success(), "ip {words}: {}", String::from_utf8_lossy(&done.stderr));
}

#[test]
fn a_primary_that_is_cut_off_confirms_nothing() {
    let test = "a_primary_that_is_cut_off_confirms_nothing";
    let Some(unshare) = system(test, &["unshare"]) else { return };
    if system(test, &["ip"]).is_none() {
        return;
    }
    let own = || {
        let mut own = Command::new(&unshare);
        own.args(["--net", "--"]);
        own
    };
    let may = own().arg("true").output().expect("unshare can be started");
    if !may.status.success() {
        let why = String::from_utf8_lossy(&may.stderr);
        return left_out(test, &format!("no network namespace of its own: {}", why.trim()));
    }
    let inside = "sentinel::inside_a_network_of_its_own";
    let mut command = own();
    command.arg(std::env::current_exe().expect("this program")).args(["--ignored", "--exact", inside]);
    let run = command.arg("--nocapture").env(INSIDE, "1").output().expect("this program can be started");
    let told = [run.stdout, run.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(run.status.success() && told.contains("1 passed"), "{told}");
    println!("{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "run in a network namespace by a_primary_that_is_cut_off_confirms_nothing"]
async fn inside_a_network_of_its_own() {
    let test = "a_primary_that_is_cut_off_confirms_nothing";
    if std::env::var_os(INSIDE).is_none() {
        return left_out(test, "it is run by another test");
    }
    ip("link set lo up");
    ip(&format!("address add {CUT_OFF}/32 dev lo"));
    let Some(group) = Watched::start_at(test, CUT_OFF).await else { return };
    let mut scene = Scene::of(group, "1").await;
    let before = scene.before().await;
    let old = before.primary;
    assert_eq!(old, 0);
    // It runs on, hears nobody, and nobody hears it.
    ip(&format!("address del {CUT_OFF}/32 dev lo"));
    let change = scene.change(before).await;
    ip(&format!("address add {CUT_OFF}/32 dev lo"));
    scene.work.more(ROUND_MIN).await;
    // Until it was told what it is now, it takes itself for the primary.
    scene.group.servers[old].until_in_step().await;
    scene.work.more(ROUND_MIN).await;
    println!("{test}: {:?}, {change:?}", scene.judge(4).await.0);
}
