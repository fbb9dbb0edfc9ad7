//! Streams of both levels in one process, a publisher that demands more than there is, and a process
//! that is configured otherwise than the streams were made.

use evergate_tests::http1::{Request, call};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::redis::{Keeps, RedisServer};
use evergate_tests::subscription::Subscription;
use tonic::Code;
use tonic_types::StatusExt as _;

/// Published while nobody confirms anything. Behind a `WAIT` each of them would take half a second,
/// and what waits for the replica is answered after eight.
const MEANWHILE: usize = 100;

fn orders_replicated(redis: &RedisServer) -> Options {
    redis.options().configured("[streams.\"order.*\"]\nlevel = \"REPLICATED\"\n")
}

async fn pair(test: &str) -> Option<(RedisServer, RedisServer)> {
    let redis = RedisServer::start(test, Keeps::Nothing).await?;
    let to = redis.port().to_string();
    let replica = RedisServer::start_with(test, Keeps::Nothing, &["--replicaof", "127.0.0.1", &to]).await?;
    replica.until_in_step().await;
    Some((redis, replica))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_of_both_levels_do_not_wait_for_each_other() {
    let Some((redis, replica)) = pair("streams_of_both_levels_do_not_wait").await else { return };
    let server = Evergate::start(orders_replicated(&redis)).await;
    let publisher = Publisher::connect(server.grpc()).await;
    publisher.publish("quote", event("0")).await;
    publisher.publish("order.eu", event("confirmed")).await;
    let mut quotes = Subscription::open(server.http(), "/v1/streams/quote/events").await;
    let mut orders = Subscription::open(server.http(), "/v1/streams/order.eu/events").await;
    quotes.opened().await;
    orders.opened().await;

    // A level may be demanded: no more than the stream has.
    let demand = |stream: &str| {
        let target = format!("/v1/streams/{stream}/events");
        call(
            server.http(),
            Request::post(&target, "text/plain", "demanded").header("Evergate-Level", "REPLICATED"),
        )
    };
    assert_eq!(demand("quote").await.problem(409)["code"], "level-unavailable");
    assert_eq!(demand("order.eu").await.status(), 200);
    assert_eq!(orders.event().await.data, "demanded");

    replica.pause();
    let waiting = tokio::spawn(async move {
        let publisher = publisher;
        publisher.try_publish("order.eu", event("late")).await
    });
    let publisher = Publisher::connect(server.grpc()).await;
    for n in 0..MEANWHILE {
        publisher.publish("quote", event(n.to_string())).await;
        assert_eq!(quotes.event().await.data, n.to_string());
    }
    assert!(!waiting.is_finished(), "without the replica nothing is confirmed");
    replica.resume();
    let late = waiting.await.expect("no panic");
    late.expect("the replica is back");
    assert_eq!(orders.event().await.data, "late");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_level_that_is_configured_later_changes_no_stream_and_is_told() {
    let Some((redis, _replica)) = pair("a_level_that_is_configured_later").await else { return };
    let server = Evergate::start(orders_replicated(&redis)).await;
    let publisher = Publisher::connect(server.grpc()).await;
    publisher.publish("quote", event("a")).await;
    publisher.publish("order.eu", event("a")).await;
    drop(server);

    let refused = Evergate::refusal(redis.options().set("streams.quote.level", "REPLICATED")).await;
    assert!(
        refused.contains("the stream quote was made at HOME, and REPLICATED is configured for it; a stream keeps its level, so configure that, or take another name"),
        "{refused}"
    );

    let server = Evergate::start(redis.options().set("streams.quot*.level", "REPLICATED")).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let refused = publisher.try_publish("quote", event("b")).await.expect_err("less than is configured");
    assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
    let details = refused.get_error_details();
    let violation = &details.precondition_failure().expect("it says what fails").violations[0];
    assert_eq!(
        (violation.r#type.as_str(), violation.subject.as_str()),
        ("LEVEL_UNAVAILABLE", "streams/quote")
    );
    publisher.publish("order.eu", event("b")).await;
    let ready = call(server.admin(), Request::get("/readyz")).await;
    assert_eq!(ready.status(), 200);
    for told in [
        "the stream order.eu was made at REPLICATED, and HOME is configured: it stays at that",
        "the stream quote was made at HOME, and REPLICATED is configured: publishes to it are refused",
    ] {
        assert!(ready.text().contains(told), "{}", ready.text());
        server.writes(told).await;
    }
    // Who reads is not concerned.
    let mut quotes = Subscription::open(server.http(), "/v1/streams/quote/events?from=earliest").await;
    quotes.opened().await;
    assert_eq!(quotes.event().await.data, "a");
}
