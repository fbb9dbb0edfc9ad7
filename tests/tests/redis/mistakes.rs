//! What an operator gets wrong is told at the start, in one sentence that says what to do. What breaks
//! later is told while everything else goes on.

use std::time::{Duration, Instant};

use evergate_tests::PATIENCE;
use evergate_tests::figures;
use evergate_tests::frame::Item;
use evergate_tests::http1::{Request, call};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::redis::{Keeps, RedisServer};
use evergate_tests::subscription::{Next, Subscription};
use tonic::Code;
use tonic_types::StatusExt as _;

#[tokio::test]
async fn an_address_with_a_mistake_is_told_before_anything_is_asked() {
    for (url, told) in [
        ("redis:/127.0.0.1:6379", "is no kind of log; use memory, disk:DIR or redis://HOST:PORT"),
        ("redsi://127.0.0.1:6379", "redsi:// is no kind of log"),
        ("redis://127.0.0.1:1", "no Redis answers at 127.0.0.1:1: "),
        ("redis://127.0.0.1:99999", "the Redis URL "),
        ("redis://127.0.0.1:6379/zero", "ends in something that is no database number, such as /0"),
        ("redis-sentinel://127.0.0.1:26379", "names no primary; write redis-sentinel://"),
        ("redis-cluster://127.0.0.1:6379/3", "a cluster has only database 0"),
    ] {
        let refused = Evergate::refusal(Options::redis(url)).await;
        assert!(refused.contains(told), "{url}: {refused}");
        assert!(!refused.contains("going on"), "it does not: {refused}");
    }
}

#[tokio::test]
async fn a_server_that_will_not_do_is_told_in_one_sentence() {
    let Some(redis) = RedisServer::start("a_server_that_will_not_do", Keeps::Nothing).await else { return };
    let at = format!("127.0.0.1:{}", redis.port());

    let user = [
        "ACL",
        "SETUSER",
        "edge",
        "on",
        ">secret-word",
        "~evergate:*",
        "~stream:offsets:*",
        "&evergate*",
        "+@all",
        "-xadd",
    ];
    redis.must(&user).await;
    let options = Options::redis(&format!("redis://edge:secret-word@{at}"));
    let told = Evergate::refusal(options).await;
    let sentence = "the Redis user lacks the permission for XADD; docs/redis.md has an ACL that suffices";
    assert!(told.contains(sentence), "{told}");
    // What it was started with is not what it says.
    let said = |told: &str| told.rsplit_once("it wrote:").expect("it says something").1.to_owned();
    assert!(!said(&told).contains("secret-word"), "{told}");
    let told = Evergate::refusal(Options::redis(&format!("redis://edge:wrong-word@{at}"))).await;
    assert!(told.contains(&format!("Redis at {at} refuses the user or password")), "{told}");
    assert!(!said(&told).contains("wrong-word"), "{told}");

    redis.must(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    let told = Evergate::refusal(redis.options()).await;
    assert!(
        told.contains("has maxmemory-policy allkeys-lru, which throws events away without a word"),
        "{told}"
    );
    redis.must(&["CONFIG", "SET", "maxmemory-policy", "noeviction"]).await;

    redis.must(&["SET", "evergate:{7}:slot", "mine"]).await;
    let told = Evergate::refusal(redis.options()).await;
    let sentence = "the Redis key evergate:{7}:slot holds a string where the log keeps a hash; something else uses keys that begin with \"evergate:\"";
    assert!(told.contains(sentence), "{told}");
    redis.must(&["DEL", "evergate:{7}:slot"]).await;
    Evergate::start(redis.options()).await;
}

#[tokio::test]
async fn a_library_of_a_newer_version_is_used_and_told() {
    let Some(redis) = RedisServer::start("a_library_of_a_newer_version", Keeps::Nothing).await else {
        return;
    };
    let source = include_str!("../../../crates/eventlog/src/redis/evergate.lua");
    let line = source.lines().find(|line| line.starts_with("local VERSION = ")).expect("it has one");
    redis.must(&["FUNCTION", "LOAD", &source.replacen(line, "local VERSION = 999", 1)]).await;
    let server = Evergate::start(redis.options()).await;
    server.writes("Redis holds a newer function library").await;
    let publisher = Publisher::connect(server.grpc()).await;
    publisher.publish("quote", event("x")).await;
    let version = redis.must(&["FCALL_RO", "evergate_1_version", "0"]).await;
    assert_eq!(version, "999", "it is never replaced by an older one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_gone_is_named_while_live_streams_go_on() {
    let test = "a_redis_that_is_gone_is_named_while_live_streams_go_on";
    let Some(mut redis) = RedisServer::start(test, Keeps::Everything).await else { return };
    let server = Evergate::start(redis.options().set("sse.heartbeat", "1s")).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let mut live = Subscription::open(server.http(), "/v1/streams/quote/events").await;
    live.opened().await;
    publisher.publish("quote", event("before")).await;
    assert_eq!(live.event().await.data, "before");
    let ready = async || call(server.admin(), Request::get("/readyz")).await;
    let shard = format!("127.0.0.1:{}", redis.port());
    assert!(!ready().await.text().contains(&shard), "nothing is wrong yet");

    redis.kill();
    let status = publisher.try_publish("quote", event("lost")).await.expect_err("nobody takes it");
    assert_eq!(status.code(), Code::Unavailable, "{status:?}");
    let details = status.get_error_details();
    let delay = details.retry_info().and_then(|info| info.retry_delay);
    assert!(delay.is_some_and(|delay| !delay.is_zero()), "when to try again is told: {status:?}");
    let answer = ready().await;
    assert_eq!(answer.status(), 200, "it still serves whoever is there");
    assert!(answer.text().contains(&format!("Redis at {shard} cannot be reached")), "{}", answer.text());
    // Nothing goes over some of the links; they notice it all the same.
    for link in ["write", "confirm", "read", "listen"] {
        let labels = [format!("link=\"{link}\""), format!("shard=\"{shard}\"")];
        let deadline = Instant::now() + PATIENCE;
        loop {
            let page = figures::page(&server).await;
            let labels = labels.each_ref().map(String::as_str);
            let told = figures::series(&page, "evergate_redis_connected", &labels);
            if matches!(told[..], [(_, 0.0)]) {
                break;
            }
            assert!(Instant::now() < deadline, "{labels:?}: {told:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
    server.writes(&shard).await;
    let mut heartbeats = 0;
    while heartbeats < 2 {
        match live.next().await {
            Next::Item(Item::Comment(_)) => heartbeats += 1,
            Next::Item(_) => {}
            Next::End(end) => panic!("the stream ended: {end:?}"),
        }
    }

    redis.restart().await;
    let deadline = Instant::now() + PATIENCE;
    while ready().await.text().contains(&shard) {
        assert!(Instant::now() < deadline, "it is there again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    publisher.publish("quote", event("after")).await;
    // Behind the notice that something may be lost.
    while live.frame().await.data != "after" {}
}
