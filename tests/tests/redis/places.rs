//! Kept places between edges: a client comes to another one, and to one whose Redis is gone.

use std::time::Duration;

use evergate_tests::http1::Request;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::redis::{Keeps, RedisServer};
use evergate_tests::subscription::{End, Subscription};

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
