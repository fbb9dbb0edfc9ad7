//! Redis is there and refuses to write: its memory is full, or it hears nothing of its replica. Whoever
//! publishes is told when to try again; whoever reads goes on.

use std::time::{Duration, Instant};

use evergate_tests::PATIENCE;
use evergate_tests::http1::{Request, call};
use evergate_tests::process::Evergate;
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::redis::{Keeps, RedisServer};
use evergate_tests::subscription::Subscription;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

const EVENTS: &str = "/v1/streams/s/events";
const LARGE: u64 = 20;

fn text(n: u64) -> String {
    format!("{n} {}", "x".repeat(100_000))
}

#[track_caller]
fn assert_may_try_again(status: &Status, code: Code) {
    assert_eq!(status.code(), code, "{status:?}");
    let delay = status.get_error_details().retry_info().and_then(|info| info.retry_delay);
    assert!(delay.is_some_and(|delay| !delay.is_zero()), "when to try again is told: {status:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_whose_memory_is_full_takes_no_events_and_goes_on_giving_them() {
    let test = "a_redis_whose_memory_is_full_takes_no_events_and_goes_on_giving_them";
    let Some(redis) = RedisServer::start(test, Keeps::Nothing).await else { return };
    let server = Evergate::start(redis.options()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let mut live = Subscription::open(server.http(), EVENTS).await;
    let start = live.opened().await.offset();
    for n in 1..=LARGE {
        publisher.publish("s", event(text(n))).await;
    }

    // Less than is used already.
    redis.must(&["CONFIG", "SET", "maxmemory", "1mb"]).await;
    let status = publisher.try_publish("s", event("more")).await.expect_err("there is no room");
    assert_may_try_again(&status, Code::ResourceExhausted);
    call(server.http(), Request::post(EVENTS, "text/plain", "more")).await.problem(507);
    assert_eq!(call(server.admin(), Request::get("/readyz")).await.status(), 200);

    // Whoever was there and whoever comes now has all there is, also of a stream that is new here.
    let mut replay = Subscription::open(server.http(), &format!("{EVENTS}?from=earliest")).await;
    replay.opened().await;
    for n in 1..=LARGE {
        for stream in [&mut live, &mut replay] {
            let frame = stream.event().await;
            assert_eq!((frame.offset(), frame.data), (start.plus(n), text(n)));
        }
    }
    let mut other = Subscription::open(server.http(), "/v1/streams/other/events").await;
    other.opened().await;

    redis.must(&["CONFIG", "SET", "maxmemory", "0"]).await;
    publisher.publish("s", event("room")).await;
    publisher.publish("other", event("here too")).await;
    for stream in [&mut live, &mut replay] {
        let frame = stream.event().await;
        assert_eq!((frame.offset(), frame.data.as_str()), (start.plus(LARGE + 1), "room"), "nothing between");
    }
    assert_eq!(other.event().await.data, "here too");
}

/// As it is recommended: `min-replicas-to-write 1` and `min-replicas-max-lag 2`.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_hears_nothing_of_its_replica_takes_no_events_until_it_does() {
    let test = "a_redis_that_hears_nothing_of_its_replica_takes_no_events_until_it_does";
    let guarded = ["--min-replicas-to-write", "1", "--min-replicas-max-lag", "2"];
    let Some(redis) = RedisServer::start_with(test, Keeps::Nothing, &guarded).await else { return };
    let to = redis.port().to_string();
    let follows = ["--replicaof", "127.0.0.1", &to];
    let Some(replica) = RedisServer::start_with(test, Keeps::Nothing, &follows).await else { return };
    until_it_writes(&redis, true).await;
    let server = Evergate::start(redis.options()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let mut live = Subscription::open(server.http(), EVENTS).await;
    let start = live.opened().await.offset();
    publisher.publish("s", event("1")).await;

    replica.pause();
    until_it_writes(&redis, false).await;
    let status = publisher.try_publish("s", event("refused")).await.expect_err("there is no replica");
    assert_may_try_again(&status, Code::Unavailable);
    assert_eq!(call(server.admin(), Request::get("/readyz")).await.status(), 200);
    let mut replay = Subscription::open(server.http(), &format!("{EVENTS}?from=earliest")).await;
    replay.opened().await;
    for stream in [&mut live, &mut replay] {
        assert_eq!(stream.event().await.data, "1");
    }

    replica.resume();
    let deadline = Instant::now() + PATIENCE;
    while let Err(status) = publisher.try_publish("s", event("2")).await {
        assert_may_try_again(&status, Code::Unavailable);
        assert!(Instant::now() < deadline, "the replica is back, but {status:?}");
    }
    for stream in [&mut live, &mut replay] {
        let frame = stream.event().await;
        assert_eq!(
            (frame.offset(), frame.data.as_str()),
            (start.plus(2), "2"),
            "what was refused is nowhere"
        );
    }
}

/// Waits until a server writes, or writes no more.
async fn until_it_writes(redis: &RedisServer, writes: bool) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let answer = redis.ask(&["SET", "not-the-logs", "x"]).await;
        match &answer {
            Ok(_) if writes => return,
            Err(error) if !writes && error.to_string().contains("NOREPLICAS") => return,
            Ok(_) | Err(_) => {}
        }
        assert!(Instant::now() < deadline, "{answer:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}
