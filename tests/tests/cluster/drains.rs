//! Edges that are drained by the cluster's wish.

use std::time::{Duration, Instant};

use evergate_tests::controls::{Controls, wait};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::redis::{Keeps, RedisServer};
use evergate_tests::subscription::Subscription;
use serde_json::Value;

use crate::audience::Audience;
use crate::places::{knows, three};

/// For a drain, in which streams are ended over a window.
const END_MAX: std::time::Duration = std::time::Duration::from_secs(60);

fn states(nodes: &Value, state: &str) -> usize {
    let nodes = nodes["nodes"].as_array().expect("a list");
    nodes.iter().filter(|node| node["state"] == state).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn edges_are_drained_one_at_a_time_and_end() {
    const TEST: &str = "edges_are_drained_one_at_a_time_and_end";
    let Some(redis) = RedisServer::start(TEST, Keeps::Everything).await else { return };
    let controls = Controls::start(3).await;
    let options = || redis.options().set("shutdown.grace", "200ms").set("shutdown.drain", "2s");
    let mut edges = three(&controls, options).await;
    let addresses: Vec<_> = edges.iter().map(Evergate::http).collect();
    let mut audience = Audience::gather(60, &addresses).await;

    let asked = controls.ask(0, &["drain", "edge-a"]);
    assert!(!asked.status.success(), "it is asked first");
    let told = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert!(told.contains("write --yes"), "{told}");
    for name in ["edge-a", "edge-b"] {
        let drained = controls.json(0, &["drain", name, "--yes"]).expect("it is taken");
        assert!(drained["version"].is_number());
        audience.injected();
    }
    let (mut most, mut waited) = (0, 0);
    wait("both have left", async || {
        let nodes = controls.json(2, &["nodes"])?;
        most = most.max(states(&nodes, "draining"));
        waited = waited.max(states(&nodes, "to be drained"));
        (nodes["nodes"].as_array()?.len() == 1).then_some(())
    })
    .await;
    assert_eq!((most, waited), (1, 1), "one at a time, and the other one waits");
    for edge in &mut edges[..2] {
        let status = edge.ended(END_MAX).await;
        assert!(status.success(), "{status}");
        assert!(edge.output().contains("the cluster drains this node"));
    }
    // The last one of its region is not drained, unless by force.
    let refused = controls.ask(1, &["drain", "edge-c", "--yes"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("no other edge of region eu"), "{told}");

    audience.gone(addresses[0]);
    audience.gone(addresses[1]);
    audience.goes_on().await;
    knows(&edges[2], 1).await;
    assert_eq!(audience.goaways(), audience.cuts(), "every stream that was ended was told so");
    let cuts = audience.cuts();
    assert!(cuts >= 10, "{cuts}");
    let totals = audience.judge(cuts, 2).await;
    println!("{totals:?}, 0 lost, 0 doubled; {cuts} streams moved by two drains");

    let audit = controls.json(1, &["audit"]).expect("it is remembered");
    let entries = audit.as_array().expect("a list");
    let said = |what: &str| entries.iter().find(|entry| entry["what"] == what);
    for what in ["drain edge-a", "drain edge-b", "leave edge-a", "leave edge-b"] {
        assert!(said(what).is_some(), "{what}: {audit}");
    }
    let by = said("drain edge-a").map(|entry| entry["by"].to_string()).expect("it is there");
    assert!(by.contains("operator"), "{by}");
}

/// The others let in four clients a second each, of which a drain takes half: 24 streams take six seconds, where the
/// configuration alone would have them end within one.
#[tokio::test]
async fn a_drain_goes_no_faster_than_the_others_let_clients_in() {
    const STREAMS: u32 = 24;
    const PER_SECOND: u32 = 4;
    let controls = Controls::start(1).await;
    let options = || {
        Options::memory()
            .set("shutdown.grace", "0s")
            .set("shutdown.drain", "1s")
            .set("shutdown.lead", "100ms")
            .set("shutdown.deadline", "90s")
            .set("cluster.admits_per_second", &PER_SECOND.to_string())
    };
    let edges = three(&controls, options).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut stream = Subscription::open(edges[0].http(), "/v1/streams/quote/events").await;
        stream.opened().await;
        streams.push(stream);
    }
    let asked = Instant::now();
    controls.json(0, &["drain", "edge-a", "--yes"]).expect("it is taken");
    let mut told = Vec::new();
    for stream in &mut streams {
        stream.control("evergate.goaway").await;
        told.push(asked.elapsed());
    }
    // Whatever else the machine does makes it slower.
    let agreed = Duration::from_secs((STREAMS / PER_SECOND).into());
    let last = told.last().copied().expect("there are some");
    assert!(last >= agreed / 2, "{STREAMS} streams within {last:?}, where {agreed:?} were agreed on");
}

#[tokio::test]
async fn a_drain_that_waits_can_be_taken_back() {
    let controls = Controls::start(1).await;
    let mut edges = three(&controls, || Options::memory().set("shutdown.grace", "4s")).await;
    let refused = |arguments: &[&str], why: &str| {
        let output = controls.ask(0, arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(why), "{arguments:?}: {told}");
    };
    refused(&["undrain", "edge-b"], "edge-b is not being drained");
    refused(&["drain", "edge-x", "--yes"], "there is no node \"edge-x\"");
    refused(&["forget", "edge-b", "--yes"], "edge-b is there");
    for name in ["edge-a", "edge-b"] {
        controls.json(0, &["drain", name, "--yes"]).expect("it is taken");
    }
    refused(&["drain", "edge-b", "--yes"], "edge-b is being drained already");
    // The first one still accepts, for its grace; meanwhile the second one waits.
    controls.json(0, &["undrain", "edge-b"]).expect("it is taken");
    assert!(edges[0].ended(END_MAX).await.success());
    wait("it has left", async || {
        let nodes = controls.json(0, &["nodes"])?;
        assert_eq!(states(&nodes, "to be drained"), 0, "{nodes}");
        (states(&nodes, "here") == 2 && nodes["nodes"].as_array()?.len() == 2).then_some(())
    })
    .await;
    knows(&edges[1], 2).await;
}
