//! Kept places between edges: a client comes to another one, and to one whose Redis is gone.

use std::time::{Duration, Instant};

use evergate_tests::PATIENCE;
use evergate_tests::figures::metric;
use evergate_tests::http1::{Request, call};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::redis::{Keeps, RedisServer};
use evergate_tests::subscription::{End, Subscription};
use serde_json::json;

const NAMED: &str = "/v1/streams/quote/events?client_id=alice&from=latest";

fn options(redis: &RedisServer) -> Options {
    redis.options().set("cursors.flush_interval", "100ms")
}

#[tokio::test]
async fn a_client_that_comes_to_another_edge_is_known_there() {
    let Some(redis) = RedisServer::start("a_client_that_comes_to_another_edge", Keeps::Everything).await
    else {
        return;
    };
    let (here, there) = (Evergate::start(options(&redis)).await, Evergate::start(options(&redis)).await);
    let publisher = Publisher::connect(here.grpc()).await;
    let mut first = Subscription::open(here.http(), NAMED).await;
    assert_eq!(first.opened().await.resume, "live");
    publisher.publish_all("quote", (1..=5).map(|n: u64| n.to_string())).await;
    assert_eq!(first.data(5).await.len(), 5);
    tokio::time::sleep(Duration::from_millis(500)).await;

    let mut second = Subscription::open(there.http(), NAMED).await;
    assert_eq!(second.opened().await.resume, "stored");
    publisher.publish("quote", event("6")).await;
    // It may be given again what it had, but what is new comes once and after that.
    loop {
        let frame = second.event().await;
        if frame.data == "6" {
            break;
        }
    }
    // The first edge learns it with the next move, and lets its stream go.
    let (frames, end) = first.end().await;
    assert_eq!(frames.last().expect("last words").json()["reason"], "replaced", "{frames:?}");
    assert_eq!(end, End::Clean);
}

/// An edge that ends writes what was acknowledged there, though no flush has come: the client goes on elsewhere.
#[tokio::test]
async fn what_was_acknowledged_at_an_edge_that_ends_is_known_at_another_one() {
    let test = "what_was_acknowledged_at_an_edge_that_ends_is_known_at_another_one";
    let Some(redis) = RedisServer::start(test, Keeps::Everything).await else { return };
    let options = || redis.options().set("cursors.flush_interval", "60s").set("shutdown.drain", "100ms");
    let (mut here, there) = (Evergate::start(options()).await, Evergate::start(options()).await);
    let publisher = Publisher::connect(there.grpc()).await;
    let named = format!("{NAMED}&acks=1");
    let mut first = Subscription::open(here.http(), &named).await;
    let connection = first.opened().await.connection;
    let offsets = publisher.publish_all("quote", (1..=5).map(|n: u64| n.to_string())).await;
    first.data(5).await;
    let acknowledged = offsets[2].to_string();
    let body = json!({ "connection": connection, "cursor": acknowledged }).to_string();
    let told = call(here.http(), Request::post("/v1/acks", "application/json", body)).await;
    assert_eq!(told.status(), 204, "{}", told.text());
    here.terminate();
    let (frames, _) = first.end().await;
    assert_eq!(frames.last().expect("last words").event.as_deref(), Some("evergate.goaway"));
    assert_eq!(here.ended(PATIENCE).await.code(), Some(0), "{}", here.output());
    let mut second = Subscription::open(there.http(), &named).await;
    let opened = second.opened().await;
    assert_eq!((opened.resume.as_str(), opened.cursor), ("stored", acknowledged));
    assert_eq!(second.data(2).await, ["4", "5"]);
}

/// Regions have a log each: the same name stands at another place in each of them, also where both take
/// the same `client_id`, the same stream and offsets that look alike.
#[tokio::test]
async fn a_name_has_a_place_of_its_own_in_each_region() {
    let test = "a_name_has_a_place_of_its_own_in_each_region";
    let Some(of_here) = RedisServer::start(test, Keeps::Everything).await else { return };
    let Some(of_there) = RedisServer::start(test, Keeps::Everything).await else { return };
    let in_region = |redis, region| options(redis).set("region", region);
    let here = Evergate::start(in_region(&of_here, "eu")).await;
    let there = Evergate::start(in_region(&of_there, "us")).await;
    for (edge, word) in [(&here, "eu"), (&there, "us")] {
        Publisher::connect(edge.grpc())
            .await
            .publish_all("quote", (1..=9).map(|n: u64| format!("{word}{n}")))
            .await;
    }
    let target = "/v1/streams/quote/events?client_id=alice&acks=1&from=earliest";
    for (edge, done) in [(&here, 7), (&there, 2)] {
        let mut stream = Subscription::open(edge.http(), target).await;
        let connection = stream.opened().await.connection;
        let cursor = stream.events(done).await.last().expect("some").must_id().to_owned();
        let body = json!({ "connection": connection, "cursor": cursor }).to_string();
        let told = call(edge.http(), Request::post("/v1/acks", "application/json", body)).await;
        assert_eq!(told.status(), 204, "{}", told.text());
        drop(stream);
    }
    // Acknowledged, and written within an interval; nobody is told when.
    for (edge, next) in [(&here, "eu8"), (&there, "us3")] {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut back = Subscription::open(edge.http(), target).await;
            let resume = back.opened().await.resume;
            let first = back.events(1).await.remove(0).data;
            if first == next {
                assert_eq!(resume, "stored");
                break;
            }
            assert!(Instant::now() < deadline, "{first} and not {next}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

#[tokio::test]
async fn without_redis_nobody_is_sent_to_a_guessed_place() {
    let Some(mut redis) = RedisServer::start("without_redis_nobody_is_sent", Keeps::Everything).await else {
        return;
    };
    let server = Evergate::start(options(&redis)).await;
    let publisher = Publisher::connect(server.grpc()).await;
    // Keeps the stream's ring here.
    let mut witness = Subscription::open(server.http(), "/v1/streams/quote/events").await;
    witness.opened().await;
    let offsets = publisher.publish_all("quote", (1..=5).map(|n: u64| n.to_string())).await;
    witness.data(5).await;
    redis.kill();

    let mut turned_away = Subscription::open(server.http(), NAMED).await;
    let busy = turned_away.control("evergate.busy").await;
    assert_eq!((busy.json()["reason"].as_str(), busy.id), (Some("the stored cursor cannot be read"), None));
    let own = Request::get(NAMED).header("Last-Event-ID", offsets[2].to_string());
    let mut served = Subscription::request(server.http(), &own).await;
    assert_eq!(served.opened().await.resume, "exact");
    assert_eq!(served.data(2).await, ["4", "5"]);

    redis.restart().await;
    let mut back = Subscription::open(server.http(), NAMED).await;
    loop {
        if back.frame().await.event.as_deref() == Some("evergate.open") {
            break;
        }
        back = Subscription::open(server.http(), NAMED).await;
    }
}

/// A client that says itself where it is needs no Redis to begin. Its place is kept all the same, from
/// the moment on that Redis answers again.
#[tokio::test]
async fn who_came_while_redis_was_silent_has_its_place_later() {
    let test = "who_came_while_redis_was_silent_has_its_place_later";
    let Some(redis) = RedisServer::start(test, Keeps::Everything).await else { return };
    let (here, there) = (Evergate::start(options(&redis)).await, Evergate::start(options(&redis)).await);
    let publisher = Publisher::connect(here.grpc()).await;
    // Keeps the stream's ring here.
    let mut witness = Subscription::open(here.http(), "/v1/streams/quote/events").await;
    witness.opened().await;
    let offsets = publisher.publish_all("quote", (1..=5).map(|n: u64| n.to_string())).await;
    witness.data(5).await;

    redis.pause();
    let own = Request::get(NAMED).header("Last-Event-ID", offsets[2].to_string());
    let mut late = Subscription::request(here.http(), &own).await;
    assert_eq!(late.opened().await.resume, "exact");
    assert_eq!(late.data(2).await, ["4", "5"]);
    let until = Instant::now() + PATIENCE;
    while metric(&here, "evergate_cursors_late", "").await < 1.0 {
        assert!(Instant::now() < until, "it has no place yet, and that is not said");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    redis.resume();
    while metric(&here, "evergate_cursors_late", "").await > 0.0 {
        assert!(Instant::now() < until, "it never came to its place");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    // Flushes pass.
    tokio::time::sleep(Duration::from_millis(800)).await;
    let mut back = Subscription::open(there.http(), NAMED).await;
    let opened = back.opened().await;
    assert_eq!((opened.resume.as_str(), opened.cursor), ("stored", offsets[4].to_string()));
    // And it is a place like any other: whoever comes later has it.
    publisher.publish("quote", event("6")).await;
    assert_eq!(back.data(1).await, ["6"]);
    let (frames, _) = late.end().await;
    assert_eq!(frames.last().expect("last words").json()["reason"], "replaced", "{frames:?}");
}
