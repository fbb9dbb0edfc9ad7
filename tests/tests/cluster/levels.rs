//! The level that a cluster agrees on for a stream: its edges give it, or take nothing.

use evergate_tests::controls::Controls;
use evergate_tests::http1::{Request, call};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::redis::{Keeps, RedisServer};

use crate::places::edge;

async fn publish(edge: &Evergate, stream: &str) -> u16 {
    let target = format!("/v1/streams/{stream}/events");
    let answer = call(edge.http(), Request::post(&target, "text/plain", "x")).await;
    match answer.status() {
        409 => assert_eq!(answer.problem(409)["code"], "level-unavailable", "{stream}"),
        503 => assert_eq!(answer.problem(503)["code"], "log-unavailable", "{stream}"),
        _ => {}
    }
    answer.status()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_agreed_on_is_given_or_nothing_is_taken() {
    const TEST: &str = "what_is_agreed_on_is_given_or_nothing_is_taken";
    let Some(redis) = RedisServer::start(TEST, Keeps::Nothing).await else { return };
    let port = redis.port().to_string();
    let follow = ["--replicaof", "127.0.0.1", &port];
    let replica = RedisServer::start_with(TEST, Keeps::Nothing, &follow).await.expect("there is Redis");
    replica.until_in_step().await;
    let controls = Controls::start(1).await;
    for (stream, level) in [("order", "replicated"), ("deal", "quorum"), ("quote", "home")] {
        controls.json(0, &["policy", "set", stream, "--level", level]).expect("it is taken");
    }
    let memory = Evergate::start(edge(&controls, Options::memory(), "edge-memory")).await;
    let shared = Evergate::start(edge(&controls, redis.options(), "edge-redis")).await;
    for edge in [&memory, &shared] {
        edge.writes("streams go by the policies of the cluster streams=3").await;
    }
    for stream in ["order", "deal"] {
        assert_eq!(publish(&memory, stream).await, 409, "one process keeps {stream} in its memory only");
    }
    assert_eq!(publish(&shared, "deal").await, 409, "no log here asks a majority");
    for edge in [&memory, &shared] {
        assert_eq!(publish(edge, "quote").await, 200);
    }
    assert_eq!(publish(&shared, "order").await, 200);

    // Nobody confirms: it is not acknowledged, and what asks for less goes on.
    replica.pause();
    assert_eq!(publish(&shared, "order").await, 503);
    assert_eq!(publish(&shared, "quote").await, 200);
    replica.resume();
    assert_eq!(publish(&shared, "order").await, 200);
}
