//! All control nodes are gone: nothing changes any more, and nothing ends.

use evergate_tests::controls::{Controls, wait};
use evergate_tests::figures::figure;
use evergate_tests::http1::{Request, call};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::redis::{Keeps, RedisServer};

use crate::audience::Audience;
use crate::places::{edge, knows, route, routes, troubles};

async fn told(edge: &Evergate, name: &str) -> f64 {
    let page = call(edge.admin(), Request::get("/metrics")).await;
    figure(page.text(), name).expect("it is told")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edges_serve_on_when_all_control_nodes_are_gone() {
    const TEST: &str = "edges_serve_on_when_all_control_nodes_are_gone";
    let Some(redis) = RedisServer::start(TEST, Keeps::Everything).await else { return };
    let mut controls = Controls::start(3).await;
    let mut edges = Vec::new();
    for name in ["edge-a", "edge-b"] {
        edges.push(Evergate::start(edge(&controls, redis.options(), name)).await);
    }
    for edge in &edges {
        knows(edge, 2).await;
    }
    let addresses: Vec<_> = edges.iter().map(Evergate::http).collect();
    let (version, before) = routes(&edges[0]).await;
    let mut audience = Audience::gather(40, &addresses).await;
    assert!(told(&edges[0], "evergate_view_age_seconds").await < 5.0);
    wait("the lease", async || (told(&edges[0], "evergate_lease_held").await == 1.0).then_some(())).await;

    for at in 0..3 {
        controls.kill(at);
        audience.injected();
    }
    for edge in &edges {
        let why = wait("it is told", async || {
            let why = troubles(edge).await;
            why.contains("no control node").then_some(why)
        })
        .await;
        assert!(why.contains(&format!("serving on by version {version}")), "{why}");
        assert!(told(edge, "evergate_view_age_seconds").await >= 5.0);
        assert_eq!(told(edge, "evergate_lease_held").await, 0.0);
        assert_eq!(told(edge, "evergate_ready").await, 1.0);
    }
    audience.goes_on().await;
    assert_eq!(routes(&edges[1]).await.0, version);

    // An edge that starts meanwhile knows nobody, and serves.
    let late = Evergate::start(edge(&controls, redis.options(), "edge-c")).await;
    assert!(troubles(&late).await.contains("no control node has told this node"));
    let seen = route(&late, "192.0.2.1").await;
    assert_eq!((&seen["edge"], &seen["view"]), (&"edge-c".into(), &serde_json::Value::Null), "{seen}");

    for at in 0..3 {
        controls.restart(at).await;
    }
    for edge in edges.iter().chain([&late]) {
        knows(edge, 3).await;
        wait("nothing is amiss", async || (troubles(edge).await == "[]").then_some(())).await;
        wait("the lease", async || (told(edge, "evergate_lease_held").await == 1.0).then_some(())).await;
    }
    audience.goes_on().await;
    assert_eq!(audience.cuts(), 0, "nobody noticed anything");
    let totals = audience.judge(0, 3).await;
    println!("{totals:?}, 0 lost, 0 doubled, no stream ended");
    drop(late);
    // Of those that were there before, nobody was taken for lost.
    for edge in &edges {
        wait("it is where it was", async || {
            let nodes = controls.json(0, &["nodes"])?;
            let nodes = nodes["nodes"].as_array()?.clone();
            let name = if std::ptr::eq(edge, &raw const edges[0]) { "edge-a" } else { "edge-b" };
            nodes.iter().any(|node| node["node"] == name && node["state"] == "here").then_some(())
        })
        .await;
    }
    assert_eq!(before.len(), crate::places::CLIENTS);
}

#[tokio::test]
async fn a_cluster_of_another_name_is_left_alone() {
    let controls = Controls::start(1).await;
    let options = edge(&controls, Options::memory(), "edge-a").set("control.cluster", "other");
    let stranger = Evergate::start(options).await;
    stranger.writes("this control node belongs to cluster \"evergate\", and the caller to \"other\"").await;
    stranger.writes("the cluster refuses this node").await;
    assert!(troubles(&stranger).await.contains("no control node has told this node"));
    let nodes = controls.json(0, &["nodes"]).expect("it is told");
    assert_eq!(nodes["nodes"], serde_json::json!([]));
}
