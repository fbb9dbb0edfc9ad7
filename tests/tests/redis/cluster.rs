//! A cluster whose primaries die and whose slots move while many publish and follow.

use std::time::{Duration, Instant};

use evergate_tests::PATIENCE;
use evergate_tests::figures;
use evergate_tests::http1::{Request, call};
use evergate_tests::process::Evergate;
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::redis::{Cluster, RedisServer};
use evergate_tests::subscription::Subscription;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::work::{Gateway, Gateways, STREAMS, Way, Work};

const ROUND_MIN: usize = 200;
/// Moved at a time, the streams' own among them.
const SLOTS: usize = 50;
/// Of one stream, and of the slot it is in.
const KEYS: usize = 7;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_and_a_primary_that_dies_lose_nothing() {
    let test = "slots_that_move_and_a_primary_that_dies_lose_nothing";
    let Some(mut cluster) = Cluster::start(test).await else { return };
    let options = || cluster.options().set("redis.level", "REPLICATED").set("sse.heartbeat", "1s");
    let servers = [Evergate::start(options()).await, Evergate::start(options()).await];
    let [a, b] = servers.each_ref().map(Gateway::of);
    let publishers =
        [(Way::Grpc, a), (Way::Grpc, b), (Way::Http, a), (Way::Http, b)].map(|(way, at)| (way, vec![at]));
    let mut work = Work::begin(Gateways::Immortal, &publishers, &[vec![a], vec![b]]);
    work.more(ROUND_MIN).await;

    let moved = move_all(&cluster, &mut work).await;

    let (dying, _) = cluster.owner(STREAMS[0]).await;
    let from = Instant::now();
    cluster.nodes[dying].kill();
    let deadline = Instant::now() + PATIENCE;
    while cluster.owner_now(STREAMS[0]).await.is_none_or(|now| now == dying) {
        assert!(Instant::now() < deadline, "nobody takes over");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // As a replica of who took over: without one nothing could be confirmed.
    cluster.nodes[dying].restart().await;
    work.more(1).await;
    let outage = from.elapsed();
    work.more(ROUND_MIN).await;
    let totals = work.judge(4 * ROUND_MIN).await;
    for subscriber in &work.subscribers {
        assert_eq!(subscriber.connections(), 1, "live streams stay open");
        assert_eq!(subscriber.gaps(), Vec::<serde_json::Value>::new(), "nothing confirmed is ever lost");
    }
    println!("{moved} slots moved, a primary replaced within {outage:?}: {totals:?}");
}

/// At `HOME` a crash may lose something, and everybody is told. A move loses nothing, and nobody is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slots_that_move_at_home_are_no_loss_to_anybody() {
    let test = "slots_that_move_at_home_are_no_loss_to_anybody";
    let Some(cluster) = Cluster::start(test).await else { return };
    let options = || cluster.options().set("sse.heartbeat", "1s");
    let servers = [Evergate::start(options()).await, Evergate::start(options()).await];
    let [a, b] = servers.each_ref().map(Gateway::of);
    let publishers =
        [(Way::Grpc, a), (Way::Grpc, b), (Way::Http, a), (Way::Http, b)].map(|(way, at)| (way, vec![at]));
    let mut work = Work::begin(Gateways::Immortal, &publishers, &[vec![a], vec![b]]);
    work.more(ROUND_MIN).await;
    for node in &cluster.nodes {
        if node.is_primary().await {
            until_it_noted_what_it_has_nothing_of(node).await;
        }
    }
    let moved = move_all(&cluster, &mut work).await;
    let totals = work.judge(2 * ROUND_MIN).await;
    for subscriber in &work.subscribers {
        assert_eq!(subscriber.connections(), 1, "live streams stay open");
        assert_eq!(subscriber.gaps(), Vec::<serde_json::Value>::new(), "nothing was lost, and all know it");
    }
    println!("{moved} slots moved: {totals:?}");
}

/// A gateway has it do so when it has found it.
async fn until_it_noted_what_it_has_nothing_of(node: &RedisServer) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let told = node.must(&["INFO", "commandstats"]).await;
        let counted = told.lines().find_map(|it| it.strip_prefix("cmdstat_cluster|countkeysinslot:calls="));
        let many = counted.and_then(|it| it.split(',').next()?.parse::<usize>().ok()).unwrap_or(0);
        // It holds about 85 of the log's 256 slots.
        if many >= 100 {
            return;
        }
        assert!(Instant::now() < deadline, "{told}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Moves the slots of all streams, and others around them, while events come and go.
async fn move_all(cluster: &Cluster, work: &mut Work) -> usize {
    let mut moved = 0;
    for stream in STREAMS {
        let (from, slot) = cluster.owner(stream).await;
        let mut to = (from + 1) % cluster.nodes.len();
        while !cluster.nodes[to].is_primary().await {
            to = (to + 1) % cluster.nodes.len();
        }
        let mine = cluster.held_around(from, slot, SLOTS).await;
        assert!(mine.contains(&slot), "the stream's own slot moves");
        let keys = cluster.keys_in(from, &mine).await;
        assert!(keys >= KEYS, "{keys} keys in {mine:?}");
        moved += mine.len();
        cluster.reshard(mine.iter().copied(), from, to).await;
        assert_eq!(cluster.owner(stream).await.0, to);
        assert!(cluster.keys_in(to, &mine).await >= KEYS, "with all that is in it");
        work.more(ROUND_MIN).await;
    }
    assert_eq!(moved, STREAMS.len() * SLOTS);
    moved
}

/// Publishes until it is taken.
async fn publish(publisher: &Publisher, stream: &str, text: &str) {
    let deadline = Instant::now() + PATIENCE;
    while let Err(status) = publisher.try_publish(stream, event(text)).await {
        assert_eq!(status.code(), Code::Unavailable, "{status:?}");
        assert!(Instant::now() < deadline, "{status:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shard_that_is_down_hurts_only_its_own_streams() {
    let test = "a_shard_that_is_down_hurts_only_its_own_streams";
    let Some(mut cluster) = Cluster::start(test).await else { return };
    let server = Evergate::start(cluster.options().set("sse.heartbeat", "1s")).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let streams = ["s0", "s1", "s2", "s3", "s4", "s5", "s6", "s7"];
    let mut live = Vec::new();
    for stream in streams {
        let mut subscription =
            Subscription::open(server.http(), &format!("/v1/streams/{stream}/events")).await;
        subscription.opened().await;
        live.push(subscription);
        publish(&publisher, stream, "before").await;
    }
    for subscription in &mut live {
        assert_eq!(subscription.event().await.data, "before");
    }
    let mut owners = Vec::new();
    for stream in streams {
        owners.push(cluster.owner(stream).await.0);
    }
    let down = owners[0];
    assert!(owners.iter().any(|&owner| owner != down), "the streams lie on several primaries");
    let replica = cluster.replica_of(down).await;
    cluster.nodes[replica].kill();
    cluster.nodes[down].kill();
    let at = format!("127.0.0.1:{}", cluster.nodes[down].port());

    let status = publisher.try_publish(streams[0], event("lost")).await.expect_err("nobody can take it");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let details = status.get_error_details();
    let delay = details.retry_info().and_then(|info| info.retry_delay);
    assert!(delay.is_some_and(|delay| !delay.is_zero()), "when to try again is told: {status:?}");
    let ready = call(server.admin(), Request::get("/readyz")).await;
    assert_eq!(ready.status(), 200, "{ready:?}");
    let body = ready.text();
    assert!(body.contains(&at), "the shard is named: {body}");
    let page = figures::page(&server).await;
    let labels = ["link=\"write\"", &format!("shard=\"{at}\"")];
    let told = figures::series(&page, "evergate_redis_connected", &labels);
    assert!(matches!(told[..], [(_, 0.0)]), "the shard is named: {told:?}");

    for ((stream, owner), subscription) in streams.iter().zip(&owners).zip(&mut live) {
        if *owner == down {
            continue;
        }
        publisher.try_publish(stream, event("meanwhile")).await.expect("the others are not concerned");
        assert_eq!(subscription.event().await.data, "meanwhile");
    }
    // Whoever comes now does without it, and says so.
    let newcomer = Evergate::start(cluster.options()).await;
    newcomer.writes("going on without this Redis").await;
    assert!(newcomer.output().contains(&at), "{}", newcomer.output());
    drop(newcomer);
    // Nothing was kept: the streams of that shard begin anew, and everybody is told.
    cluster.nodes[down].restart().await;
    publish(&publisher, streams[0], "after").await;
    let told = live[0].control("evergate.gap").await.json();
    assert_eq!(told["stream"], streams[0]);
    assert_eq!(live[0].event().await.data, "after");
}
