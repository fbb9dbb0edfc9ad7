//! What operators ask, in words and for programs.

use std::process::{Command, Stdio};

use evergate_tests::controls::{Controls, wait};
use evergate_tests::process::{Evergate, Options, binary};
use evergate_tests::publisher::Publisher;
use evergate_tests::subscription::Subscription;
use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, BufReader};

use crate::places::{edge, knows};

fn words(controls: &Controls, arguments: &[&str]) -> String {
    let output = controls.ask(0, arguments);
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn refused(controls: &Controls, arguments: &[&str], why: &str) {
    let output = controls.ask(0, arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains(why), "{arguments:?}: {told}");
}

#[tokio::test]
async fn a_cluster_is_looked_at_and_changed_by_commands() {
    let mut controls = Controls::start(3).await;
    let a = Evergate::start(edge(&controls, Options::memory(), "edge-a")).await;
    let heavy = edge(&controls, Options::memory(), "edge-b").set("cluster.weight", "300");
    let mut b = Evergate::start(heavy).await;
    knows(&a, 2).await;

    // Another node may be a moment behind the one that the edges follow.
    let status = wait("the nodes at another node", async || {
        let status = controls.json(1, &["status"])?;
        (status["nodes"] == 2).then_some(status)
    })
    .await;
    assert_eq!(status["cluster"], "evergate");
    assert!(status["leader"].is_string() && status["asked"] == "control-1", "{status}");
    for at in [0, 2] {
        wait("the nodes everywhere", async || (controls.json(at, &["status"])?["nodes"] == 2).then_some(()))
            .await;
    }
    let text = words(&controls, &["status"]);
    assert!(text.contains("2, of which 2 take clients and 0 are lost"), "{text}");
    let raise = "all nodes understand 2, and what it brings begins with `evergate cluster format 2`";
    assert!(text.contains(raise), "{text}");
    assert_eq!((&status["format"], &status["format_possible"]), (&0.into(), &2.into()));

    let nodes = controls.json(0, &["nodes"]).expect("it is told");
    let node = &nodes["nodes"][1];
    assert_eq!(
        (&node["node"], &node["weight"], &node["state"]),
        (&"edge-b".into(), &300.into(), &"here".into())
    );
    assert_eq!(node["http"], b.http().to_string());
    assert_eq!(node["grpc"], b.grpc().to_string());
    let text = words(&controls, &["nodes"]);
    assert!(text.starts_with("NODE") && text.contains("edge-a"), "{text}");

    let ring = controls.json(0, &["ring"]).expect("it is told");
    let share = |at: usize| ring["regions"][0]["edges"][at]["share"].as_f64().expect("a share");
    assert!(share(1) > 0.6 && (share(0) + share(1) - 1.0).abs() < 1e-9, "{ring}");
    assert_eq!(ring["digest"], status["ring_digest"]);
    assert!(words(&controls, &["ring"]).contains("SHARE"));

    let set = ["policy", "set", "quote", "--events", "100", "--level", "replicated", "--slow-reader", "gap"];
    controls.json(0, &set).expect("it is taken");
    let policies = wait("the policy at another node", async || {
        let policy = controls.json(2, &["policy"])?["streams"][0].clone();
        (policy["events"] == 100).then_some(policy)
    })
    .await;
    assert_eq!((&policies["level"], &policies["slow_reader"]), (&"REPLICATED".into(), &"Gap".into()));
    refused(&controls, &["policy", "set", "quote", "--level", "home"], "was fixed by its first policy");
    refused(&controls, &["policy", "remove", "quote"], "write --yes");
    controls.json(0, &["policy", "remove", "quote", "--yes"]).expect("it is taken");
    // What is agreed on holds at the edges, before their own configuration. The second tells it from the one
    // there was before.
    for stream in ["short", "other"] {
        controls.json(0, &["policy", "set", stream, "--events", "2"]).expect("it is taken");
    }
    a.writes("streams go by the policies of the cluster streams=2").await;
    let publisher = Publisher::connect(a.grpc()).await;
    publisher.publish_all("short", ["one", "two", "three", "four", "five"]).await;
    let mut reader = Subscription::open(a.http(), "/v1/streams/short/events?from=earliest").await;
    reader.opened().await;
    assert_eq!(reader.data(2).await, ["four", "five"], "more is not kept");
    controls.json(0, &["policy", "remove", "short", "--yes"]).expect("it is taken");
    controls.json(0, &["policy", "cluster", "--hysteresis-ms", "500"]).expect("it is taken");
    refused(
        &controls,
        &["policy", "cluster", "--lease-ms", "1"],
        "lease_ms is from 200 to 600000, and 1 is not",
    );

    controls.json(0, &["format", "2", "--yes"]).expect("all understand it");
    let text = words(&controls, &["status"]);
    assert!(!text.contains("begins with"), "{text}");

    // One sentence, of whoever would have to agree on it.
    let long = "h".repeat(70_000);
    let output = controls.ask(0, &["regions", "set", "eu", "--host", &long]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), told.lines().count()), (Some(1), 1), "{told}");
    assert!(told.starts_with("evergate cluster: the command has 70"), "{told}");
    assert!(told.ends_with(" bytes, and 65536 are allowed\n"), "{told}");

    // Whoever is lost is told of, and can be forgotten.
    b.kill();
    wait("it is lost", async || {
        let nodes = controls.json(0, &["nodes"])?;
        (nodes["nodes"][1]["state"] == "lost").then_some(())
    })
    .await;
    refused(&controls, &["forget", "edge-b"], "write --yes");
    controls.json(0, &["forget", "edge-b", "--yes"]).expect("it is taken");
    let snapshot = wait("the snapshot without it", async || {
        let snapshot = controls.json(0, &["snapshot"])?;
        (snapshot["nodes"].as_array()?.len() == 1).then_some(snapshot)
    })
    .await;
    assert_eq!(snapshot["policies"]["cluster"]["hysteresis_ms"], 500);
    let audit = controls.json(0, &["audit", "--max", "1"]).expect("it is told");
    assert_eq!((audit.as_array().map(Vec::len), &audit[0]["what"]), (Some(1), &"forget edge-b".into()));
    assert!(words(&controls, &["audit"]).contains("VERSION"));

    // A node that cannot be asked, and one that does not know the asker.
    for arguments in [&["status"][..], &["drain", "edge-a", "--yes"], &["members"], &["snapshot"]] {
        let output = controls.ask_as_stranger(0, arguments);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(told.contains("a token is needed"), "{arguments:?}: {told}");
    }
    controls.kill(0);
    let output = controls.ask(0, &["status"]);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1));
    assert!(told.starts_with(&format!("evergate cluster: {}: ", controls.address(0))), "{told}");
    let output = Command::new(binary())
        .args(["cluster", "status", "--server", "127.0.0.1:1"])
        .stdin(Stdio::null())
        .output()
        .expect("the binary starts");
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("not a URL such as"), "{told}");
}

#[tokio::test]
async fn changes_are_printed_as_they_are_agreed_on() {
    let controls = Controls::start(1).await;
    let mut watching = tokio::process::Command::new(binary())
        .args(["cluster", "watch", "--output", "json", "--server"])
        .arg(format!("http://{}", controls.address(0)))
        .arg("--token-file")
        .arg(controls.token())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the binary starts");
    let mut lines = BufReader::new(watching.stdout.take().expect("it is piped")).lines();
    let a = Evergate::start(edge(&controls, Options::memory(), "edge-a")).await;
    let mut version = None;
    loop {
        let line = lines.next_line().await.expect("it is read").expect("it goes on");
        let told: Value = serde_json::from_str(&line).expect("JSON in each line");
        let now = told["version"].as_u64().expect("a version");
        assert!(version.is_none_or(|version| now > version), "{told}");
        version = Some(now);
        if told["changes"].to_string().contains("edge edge-a (eu/edge-a, weight 100) is here") {
            break;
        }
    }
    drop(a);
}
