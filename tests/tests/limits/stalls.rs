//! Clients that stay connected and take nothing.

use std::time::Duration;

use evergate_tests::http1::{Connection, Request};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::subscription::Subscription;

use crate::{events_of, metric, until_metric};
use evergate_tests::PATIENCE;

const ENDED: &str = "evergate_connections_ended_total";

/// The system's own limit is far away, so that only ours is felt.
fn impatient() -> Options {
    Options::memory().set("http.stall_timeout", "1s").set("http.peer_timeout", "1h")
}

fn text(n: u32) -> String {
    format!("{n} {}", "x".repeat(100_000))
}

/// More than all buffers on the way hold.
async fn publish_much(server: &Evergate) {
    let publisher = Publisher::connect(server.grpc()).await;
    for n in 0..100 {
        publisher.publish("s", event(text(n))).await;
    }
}

async fn assert_let_go(server: &Evergate, streams: f64) {
    until_metric(server, ENDED, "stalled", streams, PATIENCE).await;
    until_metric(server, "evergate_streams_open", "", 0.0, PATIENCE).await;
}

#[tokio::test]
async fn a_live_client_that_takes_nothing_is_let_go() {
    let server = Evergate::start(impatient()).await;
    let mut one = Subscription::open(server.http(), &events_of("s")).await;
    one.opened().await;
    let mut old = Subscription::request(server.http(), &Request::get(&events_of("s")).http10()).await;
    old.opened().await;
    publish_much(&server).await;
    assert_let_go(&server, 2.0).await;
}

#[tokio::test]
async fn a_client_that_takes_nothing_of_its_replay_is_let_go() {
    // Most of it is not in the ring, so that the log is read for it.
    let server = Evergate::start(impatient().set("fanout.ring_events", "16")).await;
    publish_much(&server).await;
    let mut client = Connection::open(server.http()).await;
    client.send(&Request::get(&(events_of("s") + "?from=earliest"))).await;
    assert_let_go(&server, 1.0).await;
    assert!(!client.closed().await, "with a reset: what was not taken is not kept for it");
}

#[tokio::test]
async fn a_client_that_is_only_slow_is_not() {
    let server = Evergate::start(impatient()).await;
    let mut slow = Subscription::open(server.http(), &events_of("s")).await;
    slow.opened().await;
    publish_much(&server).await;
    for n in 0..100 {
        assert_eq!(slow.event().await.data, text(n));
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert!(metric(&server, ENDED, "stalled").await < 0.5);
}
