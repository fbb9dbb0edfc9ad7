//! An edge comes, and the clients that belong to it are sent there by those who have them.

use evergate_tests::controls::{Controls, wait};
use evergate_tests::figures::{figure, page, value_on};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::redis::{Keeps, RedisServer};

use crate::audience::{Audience, address_of};
use crate::places::{edge, knows, route};

const SUBSCRIBERS: usize = 60;
/// For a process without any streams.
const END_MAX: std::time::Duration = std::time::Duration::from_secs(60);

fn refused(controls: &Controls, arguments: &[&str], why: &str) {
    let output = controls.ask(0, arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains(why), "{arguments:?}: {told}");
}

async fn over(controls: &Controls) {
    wait("the end of the rebalance", async || {
        controls.json(0, &["status"])?["rebalance"].is_null().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_edge_that_comes_gets_its_clients_and_nobody_else_moves() {
    const TEST: &str = "an_edge_that_comes_gets_its_clients_and_nobody_else_moves";
    let Some(redis) = RedisServer::start(TEST, Keeps::Everything).await else { return };
    let controls = Controls::start(1).await;
    // So that places follow from the ring alone, and not from how many happen to be where.
    controls.json(0, &["policy", "cluster", "--bound-permille", "9000"]).expect("it is taken");
    let mut edges = Vec::new();
    for name in ["edge-a", "edge-b"] {
        edges.push(Evergate::start(edge(&controls, redis.options(), name)).await);
    }
    for edge in &edges {
        knows(edge, 2).await;
    }
    let mut addresses: Vec<_> = edges.iter().map(Evergate::http).collect();
    refused(&controls, &["rebalance", "eu"], "write --yes");
    refused(
        &controls,
        &["rebalance", "eu", "--yes"],
        "a rebalance needs format 2, and the cluster has agreed on 0",
    );
    refused(&controls, &["format", "2"], "write --yes");
    refused(&controls, &["format", "9", "--yes"], "control node 1 reads commands up to format 2, and not 9");
    controls.json(0, &["format", "2", "--yes"]).expect("all understand it");
    refused(&controls, &["rebalance", "as", "--yes"], "there is no region");

    // One that lets in few, so that it takes a while; its clients come while it is not there.
    let slow = edge(&controls, redis.options(), "edge-c").set("cluster.admits_per_second", "8");
    let mut third = Evergate::start(slow.set("shutdown.grace", "0s")).await;
    addresses.push(third.http());
    third.terminate();
    assert!(third.ended(END_MAX).await.success());
    for edge in &edges {
        knows(edge, 2).await;
    }
    let mut audience = Audience::gather(SUBSCRIBERS, &addresses).await;
    third.restart().await;
    audience.injected();
    edges.push(third);
    for edge in &edges {
        knows(edge, 3).await;
    }
    let mut strays = 0;
    for n in 0..SUBSCRIBERS {
        let told = route(&edges[0], &address_of(n)).await;
        strays += usize::from(told["edge"] == "edge-c");
    }
    assert!((8..=40).contains(&strays), "{strays} of {SUBSCRIBERS} belong to the edge that came");
    audience.goes_on().await;
    assert_eq!(audience.cuts(), 0, "nobody is moved because an edge comes");

    // It is cancelled when some have gone: the others stay.
    controls.json(0, &["rebalance", "eu", "--yes"]).expect("it is taken");
    refused(&controls, &["rebalance", "eu", "--yes"], "region eu is being rebalanced already");
    audience.cut(2).await;
    controls.json(0, &["rebalance", "eu", "--cancel"]).expect("it runs");
    refused(&controls, &["rebalance", "eu", "--cancel"], "region eu is not being rebalanced");
    for edge in &edges[..2] {
        wait("the end of it at an edge", async || {
            let said = edge.output();
            (said.contains("the rebalance was cancelled") || said.contains("everybody was sent away"))
                .then_some(())
        })
        .await;
    }
    audience.goes_on().await;
    let gone = audience.cuts();
    assert!((2..strays).contains(&gone), "{gone} of {strays} had gone");

    // Then all of them.
    controls.json(0, &["rebalance", "eu", "--yes"]).expect("it is taken");
    over(&controls).await;
    audience.goes_on().await;
    assert_eq!(audience.cuts(), strays, "only those, and each once");
    assert_eq!(audience.goaways(), strays, "each was told so");
    let mut told = 0.0;
    for edge in &edges {
        let page = page(edge).await;
        told += value_on(&page, "evergate_streams_ended_total", "reason=\"rebalance\"");
        assert_eq!(figure(&page, "evergate_streams_to_move"), Some(0.0));
    }
    assert_eq!(told as usize, strays);
    assert_eq!(figure(&page(&edges[2]).await, "evergate_streams_open"), Some(strays as f64));

    // Once more: everybody is where they belong.
    controls.json(0, &["rebalance", "eu", "--yes"]).expect("it is taken");
    over(&controls).await;
    audience.goes_on().await;
    assert_eq!(audience.cuts(), strays);
    let totals = audience.judge(strays, 1).await;
    println!("{totals:?}, 0 lost, 0 doubled; {strays} of {SUBSCRIBERS} moved to the edge that came");
    let audit = controls.json(0, &["audit"]).expect("it is remembered").to_string();
    for what in ["rebalance eu", "cancel the rebalance of eu", "raise format to 2"] {
        assert!(audit.contains(what), "{what}: {audit}");
    }
}

#[tokio::test]
async fn a_rebalance_outlives_the_edges_it_waits_for() {
    let mut controls = Controls::start(3).await;
    let mut edges = Vec::new();
    for name in ["edge-a", "edge-b", "edge-c"] {
        edges.push(Evergate::start(edge(&controls, Options::memory(), name)).await);
    }
    for edge in &edges {
        knows(edge, 3).await;
    }
    controls.json(1, &["format", "2", "--yes"]).expect("all understand it");
    // One that stands still says nothing; it is lost, and then not waited for.
    edges[1].signal(rustix::process::Signal::STOP);
    controls.json(1, &["rebalance", "eu", "--yes"]).expect("it is taken");
    let leader = controls.leader().await;
    controls.kill(leader);
    let asked = (leader + 1) % 3;
    wait("the end of the rebalance", async || {
        controls.json(asked, &["status"])?["rebalance"].is_null().then_some(())
    })
    .await;
    edges[1].signal(rustix::process::Signal::CONT);
    controls.restart(leader).await;

    // Without anybody asking for it, once an edge has come.
    controls.json(asked, &["policy", "cluster", "--rebalance-after-ms", "500"]).expect("it is taken");
    let told = wait("a rebalance by itself", async || {
        let audit = controls.json(asked, &["audit", "--max", "0"])?;
        let by_itself =
            |entry: &&serde_json::Value| entry["by"] == "control" && entry["what"] == "rebalance eu";
        audit.as_array()?.iter().find(by_itself).cloned()
    })
    .await;
    assert!(told["version"].is_number());
}
