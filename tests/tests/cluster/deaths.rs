//! Nodes that are killed, of whatever kind.

use std::time::Instant;

use evergate_tests::controls::{Controls, wait};
use evergate_tests::figures::figure;
use evergate_tests::http1::{Request, call};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::redis::{Keeps, RedisServer};
use rustix::process::Signal;

use crate::audience::Audience;
use crate::places::{agreed, knows, route, three, troubles};

const SUBSCRIBERS: usize = 90;

async fn open_streams(edge: &Evergate) -> f64 {
    let page = call(edge.admin(), Request::get("/metrics")).await;
    figure(page.text(), "evergate_streams_open").expect("it is told")
}

#[tokio::test]
async fn a_killed_edge_s_clients_move_and_nobody_else_s() {
    let mut controls = Controls::start(3).await;
    let mut edges = three(&controls, Options::memory).await;
    let before = agreed(&edges.iter().collect::<Vec<_>>()).await;
    let of_b = before.values().filter(|edge| *edge == "edge-b").count();
    assert!((5..=40).contains(&of_b), "{of_b} of 60");
    assert_eq!(route(&edges[0], "192.0.2.1").await["reached"], "edge-a");
    assert_eq!(troubles(&edges[0]).await, "[]");

    edges[1].kill();
    let killed = Instant::now();
    knows(&edges[0], 2).await;
    println!("a killed edge was out after {:?}", killed.elapsed());
    knows(&edges[2], 2).await;
    let after = agreed(&[&edges[0], &edges[2]]).await;
    for (client, edge) in &before {
        let now = &after[client];
        assert!(edge == "edge-b" || now == edge, "{client} moved from {edge} to {now}");
        assert_ne!(now, "edge-b");
    }

    // It comes back while the leader is killed: placement goes on by those who are left.
    let leader = controls.leader().await;
    controls.kill(leader);
    let killed = Instant::now();
    edges[1].restart().await;
    knows(&edges[0], 3).await;
    println!("the leader was killed; an edge that came back was in after {:?}", killed.elapsed());
    knows(&edges[1], 3).await;
    assert_eq!(agreed(&edges.iter().collect::<Vec<_>>()).await, before, "as it was");
    controls.restart(leader).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_misses_an_event_when_an_edge_and_the_leader_are_killed() {
    const TEST: &str = "nobody_misses_an_event_when_an_edge_and_the_leader_are_killed";
    let Some(redis) = RedisServer::start(TEST, Keeps::Everything).await else { return };
    let mut controls = Controls::start(3).await;
    let mut edges = three(&controls, || redis.options()).await;
    let addresses: Vec<_> = edges.iter().map(Evergate::http).collect();
    let mut audience = Audience::gather(SUBSCRIBERS, &addresses).await;
    let of_b = open_streams(&edges[1]).await as usize;
    assert!(of_b >= 5, "{of_b} at the edge that is to be killed");

    // Whoever leads is killed at the same moment: the loss is agreed on by those who are left.
    let leader = controls.leader().await;
    controls.kill(leader);
    edges[1].kill();
    audience.gone(addresses[1]);
    audience.injected();
    let killed = Instant::now();
    for edge in [&edges[0], &edges[2]] {
        knows(edge, 2).await;
    }
    println!("an edge and the leader were killed; the edge was out after {:?}", killed.elapsed());
    audience.goes_on().await;
    println!("everybody listens again after {:?}", killed.elapsed());
    assert_eq!(audience.cuts(), of_b, "nobody else's stream was cut");

    controls.restart(leader).await;
    edges[1].restart().await;
    audience.back(addresses[1]);
    for edge in &edges {
        knows(edge, 3).await;
    }
    audience.goes_on().await;
    assert_eq!(audience.cuts(), of_b, "nobody is moved because an edge comes back");
    let totals = audience.judge(of_b, 2).await;
    println!("{totals:?}, 0 lost, 0 doubled; {of_b} of {SUBSCRIBERS} moved");
    wait("the same view at all control nodes", async || {
        let views: Vec<_> = (0..3).filter_map(|at| controls.json(at, &["status"])).collect();
        let digest = |at: usize| (views[at]["version"].as_u64(), views[at]["digest"].as_str());
        (views.len() == 3 && digest(0) == digest(1) && digest(1) == digest(2)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn nobody_is_lost_with_a_control_node_that_stands_still() {
    let controls = Controls::start(3).await;
    let edges = three(&controls, Options::memory).await;
    let before = agreed(&edges.iter().collect::<Vec<_>>()).await;
    // One after the other, the leader among them: whoever held a lease there finds another one in time.
    for still in 0..3 {
        controls.signal(still, Signal::STOP);
        let asked = (still + 1) % 3;
        // A change is agreed on without it, by which it is known that there is a leader.
        wait("a change", async || controls.json(asked, &["policy", "set", "quote", "--events", "7"])).await;
        for edge in &edges {
            wait("the lease at another one", async || {
                let page = call(edge.admin(), Request::get("/metrics")).await;
                (figure(page.text(), "evergate_lease_held") == Some(1.0)).then_some(())
            })
            .await;
        }
        controls.signal(still, Signal::CONT);
        wait("the one that stood still has caught up", async || {
            let (here, there) = (controls.json(still, &["status"])?, controls.json(asked, &["status"])?);
            (here["digest"] == there["digest"] && here["leader"] == there["leader"]).then_some(())
        })
        .await;
    }
    let audit = controls.json(0, &["audit", "--max", "0"]).expect("it is remembered").to_string();
    assert!(!audit.contains("lost edge-"), "{audit}");
    assert_eq!(agreed(&edges.iter().collect::<Vec<_>>()).await, before, "nobody's clients moved");
}
