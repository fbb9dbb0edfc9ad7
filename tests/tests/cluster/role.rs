//! `evergate control` as it is shipped: founded once, restarted, killed.

use evergate_tests::authority::{Authority, text};
use evergate_tests::controls::{Controls, wait};
use evergate_tests::process::{Evergate, Options, binary};

use crate::places::{knows, troubles};

/// Has a change agreed on, through whoever can.
async fn change(controls: &Controls, at: usize, events: usize) {
    let events = events.to_string();
    wait("a change", async || controls.json(at, &["policy", "set", "quote", "--events", &events])).await;
}

/// What all of these nodes have, which must be the same.
async fn same(controls: &Controls, nodes: &[usize]) -> (u64, String, u64) {
    wait("the same view everywhere", async || {
        let mut all = Vec::new();
        for &at in nodes {
            let status = controls.json(at, &["status"])?;
            let policies = controls.json(at, &["policy"])?;
            all.push((
                status["version"].as_u64()?,
                status["digest"].as_str()?.to_owned(),
                policies["streams"][0]["events"].as_u64()?,
            ));
        }
        all.iter().all(|seen| *seen == all[0]).then(|| all.remove(0))
    })
    .await
}

#[tokio::test]
async fn a_group_is_founded_and_outlives_its_leader_and_itself() {
    let mut controls = Controls::start(3).await;
    change(&controls, 0, 1).await;
    let (version, _, events) = same(&controls, &[0, 1, 2]).await;
    assert_eq!(events, 1);

    let leader = controls.leader().await;
    controls.kill(leader);
    let rest: Vec<_> = (0..3).filter(|at| *at != leader).collect();
    change(&controls, rest[0], 2).await;
    let (newer, _, events) = same(&controls, &rest).await;
    assert!(newer > version && events == 2);
    assert_ne!(controls.leader().await, leader);
    controls.restart(leader).await;
    assert_eq!(same(&controls, &[0, 1, 2]).await.2, 2, "whoever was away has caught up");
    assert_eq!(controls.figure(leader, "evergate_raft_members").await, Some(3.0));

    // One after the other, as for an upgrade.
    for at in 0..3 {
        let status = controls.end(at).await;
        assert!(status.success(), "{status}");
        controls.restart(at).await;
    }
    change(&controls, 1, 3).await;
    let before = same(&controls, &[0, 1, 2]).await;

    // All at once: what was agreed on is on the disks.
    for at in 0..3 {
        controls.kill(at);
    }
    for at in 0..3 {
        controls.restart(at).await;
    }
    assert_eq!(same(&controls, &[0, 1, 2]).await, before);
}

#[tokio::test]
async fn a_majority_that_is_gone_is_missed_and_nothing_is_changed_without_it() {
    let mut controls = Controls::start(3).await;
    change(&controls, 0, 1).await;
    let leader = controls.leader().await;
    let gone: Vec<_> = (0..3).filter(|at| *at != leader).collect();
    for at in gone {
        controls.kill(at);
    }
    let told = wait("a refusal", async || {
        let output = controls.ask(leader, &["policy", "set", "quote", "--events", "2"]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (!output.status.success() && told.contains("majority")).then_some(told)
    })
    .await;
    assert!(told.starts_with("evergate cluster: "), "{told}");
    let ready = wait("the trouble", async || {
        let ready = controls.page(leader, "/readyz").await;
        assert_eq!(ready.status(), 200, "it is no fault of this node's");
        let ready = ready.json();
        let troubles = ready["troubles"].to_string();
        // It was the leader, and goes on trying.
        (troubles.contains("no leader") || troubles.contains("not heard from a majority")).then_some(ready)
    })
    .await;
    assert!(ready["troubles"].is_array());
    assert_eq!(controls.figure(leader, "evergate_raft_has_leader").await, Some(0.0));
    // What is known can still be looked at.
    let policies = controls.json(leader, &["policy"]).expect("it is told");
    assert_eq!(policies["streams"][0]["events"], 1);
}

#[tokio::test]
async fn nodes_prove_themselves_to_each_other() {
    let (authority, strangers) = (Authority::new(), Authority::new());
    let shown = authority.sign("control", &["127.0.0.1"]);
    let (ca, certificate, key) = (authority.file(), text(&shown.certificate), text(&shown.key));
    let tls = [
        ("control.ca_file", text(&ca)),
        ("control.certificate_file", certificate),
        ("control.key_file", key),
    ];
    let controls = Controls::start_with(3, &tls).await;
    let places: Vec<_> = (0..3).map(|at| format!("https://{}", controls.address(at))).collect();
    let places = places.join(",");
    // Not the nodes' own: whoever has that may vote.
    let edge = authority.sign("edge", &["edge-a.example.com"]);
    let own = |name: &str| {
        let options = Options::memory().as_edge().set("node", name).set("cluster.control", &places);
        options
            .set("grpc.tls", "on")
            .set("tls.certificate_files", text(&edge.certificate))
            .set("tls.key_files", text(&edge.key))
            .set("cluster.ca_file", text(&ca))
    };
    let member = Evergate::start(own("edge-a")).await;
    knows(&member, 1).await;
    wait("nothing is amiss", async || (troubles(&member).await == "[]").then_some(())).await;
    // Whoever shows another authority's certificate, or none, gets no further than the handshake.
    let other = strangers.sign("edge", &["edge-b.example.com"]);
    let stranger = own("edge-b")
        .set("cluster.certificate_file", text(&other.certificate))
        .set("cluster.key_file", text(&other.key));
    let stranger = Evergate::start(stranger).await;
    let asked = |arguments: &[&str]| {
        let mut command = std::process::Command::new(binary());
        command.args(["cluster", "nodes", "--output", "json", "--server"]);
        command.arg(format!("https://{}", controls.address(1))).arg("--token-file").arg(controls.token());
        command.args(arguments).stdin(std::process::Stdio::null()).output().expect("the binary starts")
    };
    let by_tls = ["--ca", text(&ca), "--cert", text(&edge.certificate), "--cert-key", text(&edge.key)];
    let nodes = asked(&by_tls);
    assert!(nodes.status.success(), "{nodes:?}");
    let nodes: serde_json::Value = serde_json::from_slice(&nodes.stdout).expect("JSON");
    assert_eq!(nodes["nodes"].as_array().map(Vec::len), Some(1), "{nodes}");
    assert_eq!(nodes["nodes"][0]["node"], "edge-a");
    let unproven = asked(&by_tls[..2]);
    assert!(!unproven.status.success(), "{unproven:?}");
    assert!(troubles(&stranger).await.contains("no control node has told this node"));
}
