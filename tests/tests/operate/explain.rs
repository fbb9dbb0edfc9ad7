//! `evergate explain`, one test for each answer.

use std::process::Command;
use std::time::Duration;

use evergate_tests::PATIENCE;
use evergate_tests::http1::{Request, call};
use evergate_tests::offset::Offset;
use evergate_tests::process::{Evergate, Options, binary};
use evergate_tests::publisher::{Publisher, event, keyed};
use evergate_tests::redis::{Keeps, RedisServer};
use evergate_tests::subscription::Subscription;
use serde_json::Value;

/// What the command says of an event, and its exit code.
fn explain(server: &Evergate, stream: &str, event: &str) -> (Value, i32) {
    explain_of(server, stream, event, &[])
}

/// The same with more words, which say what the client subscribes to.
fn explain_of(server: &Evergate, stream: &str, event: &str, more: &[&str]) -> (Value, i32) {
    let admin = server.admin().to_string();
    let words = ["explain", "--admin", &admin, "--client", "ann", "--stream", stream, "--event", event];
    let words = words.iter().chain(more);
    let told = Command::new(binary()).args(words).args(["--output", "json"]).output().expect("it runs");
    let code = told.status.code().expect("it ends by itself");
    let body = serde_json::from_slice(&told.stdout).unwrap_or(Value::Null);
    assert!(code != 0 || body != Value::Null, "{told:?}");
    (body, code)
}

/// The one answer, in its word.
fn answer(server: &Evergate, stream: &str, event: &str) -> (String, Value) {
    answer_of(server, stream, event, &[])
}

fn answer_of(server: &Evergate, stream: &str, event: &str, more: &[&str]) -> (String, Value) {
    let (told, code) = explain_of(server, stream, event, more);
    assert_eq!(code, 0);
    let answers = told["answers"].as_array().expect("a list");
    assert_eq!(answers.len(), 1, "{told}");
    assert!(answers[0]["sentence"].as_str().is_some_and(|sentence| sentence.ends_with('.')), "{told}");
    (answers[0]["answer"].as_str().expect("a word").to_owned(), answers[0].clone())
}

fn expect(server: &Evergate, stream: &str, event: impl std::fmt::Display, word: &str) -> Value {
    let (told, whole) = answer(server, stream, &event.to_string());
    assert_eq!(told, word, "{whole}");
    whole
}

/// Waits until the answer is this: how far a client has come is looked at from time to time.
async fn until(server: &Evergate, event: Offset, word: &str) -> Value {
    until_of(server, event, word, &[]).await
}

async fn until_of(server: &Evergate, event: Offset, word: &str, more: &[&str]) -> Value {
    let deadline = std::time::Instant::now() + PATIENCE;
    loop {
        let (told, whole) = answer_of(server, "quote", &event.to_string(), more);
        if told == word {
            return whole;
        }
        assert!(std::time::Instant::now() < deadline, "{whole}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn an_event_is_explained_to_a_client_that_is_connected() {
    let server = Evergate::start(Options::memory().set("cursors.flush_interval", "200ms")).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let early = publisher.publish("quote", keyed("AAPL", "0")).await;
    expect(&server, "quote", early, "not-connected");

    let target = "/v1/streams/quote/events?client_id=ann&key=A*";
    let mut ann = Subscription::open(server.http(), target).await;
    ann.opened().await;
    let wanted = publisher.publish("quote", keyed("AAPL", "1")).await;
    let unwanted = publisher.publish("quote", keyed("MSFT", "2")).await;
    let without = publisher.publish("quote", event("3")).await;
    let elsewhere = publisher.publish("news", event("4")).await;
    assert_eq!(ann.event().await.data, "1");

    let before = expect(&server, "quote", early, "before-cursor");
    assert_eq!(before["began_at"], early.to_string());
    for other in [unwanted, without] {
        expect(&server, "quote", other, "filtered");
    }
    expect(&server, "news", elsewhere, "not-subscribed");
    expect(&server, "quote", format!("{}-999", early.epoch), "not-published");
    expect(&server, "quote", format!("{}-{}", early.epoch + 1, wanted.seq), "other-history");
    let delivered = until(&server, wanted, "delivered").await;
    for time in ["accepted", "opened", "come_to_found"] {
        assert!(delivered[time].as_str().is_some_and(|time| time.ends_with('Z')), "{time}: {delivered}");
    }
    assert!(delivered["accepted"].as_str() <= delivered["come_to_found"].as_str(), "{delivered}");

    drop(ann);
    until(&server, wanted, "not-connected").await;
}

/// What is foretold comes true.
async fn is_foretold(options: Options) {
    let server = Evergate::start(options.set("cursors.flush_interval", "200ms")).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let target = "/v1/streams/quote/events?client_id=ann&key=A*";
    let mut ann = Subscription::open(server.http(), target).await;
    ann.opened().await;
    let had = publisher.publish("quote", keyed("AAPL", "1")).await;
    assert_eq!(ann.event().await.data, "1");
    let keys = ["--key", "A*"];
    until_of(&server, had, "delivered", &keys).await;
    drop(ann);
    let told = until_of(&server, had, "before-place", &keys).await;
    assert_eq!(told["kept_at"], had.to_string());

    let unwanted = publisher.publish("quote", keyed("MSFT", "2")).await;
    let next = publisher.publish("quote", keyed("AMD", "3")).await;
    let word = |event: Offset, more: &[&str]| answer_of(&server, "quote", &event.to_string(), more);
    let (told, whole) = word(next, &keys);
    assert_eq!((told.as_str(), &whole["kept_at"]), ("next-time", &Value::from(had.to_string())));
    assert_eq!(word(unwanted, &keys).0, "filtered");
    // Of a subscription that it never had, nothing is kept.
    for other in [&[][..], &["--key", "A"], &["--with", "news"]] {
        let (told, whole) = word(next, other);
        assert_eq!((told.as_str(), &whole["kept_at"]), ("not-connected", &Value::Null), "{other:?}");
    }
    let mut ann = Subscription::open(server.http(), target).await;
    assert_eq!(ann.opened().await.resume, "stored");
    assert_eq!(ann.event().await.data, "3");
}

#[tokio::test]
async fn what_comes_next_time_is_told_by_the_place_that_is_kept() {
    for options in [Options::memory(), Options::disk()] {
        is_foretold(options).await;
    }
}

/// Where they are shared, any edge knows them; and that somebody else has them.
#[tokio::test]
async fn a_place_in_redis_is_known_to_edges_that_the_client_never_saw() {
    let Some(redis) = RedisServer::start("a_place_in_redis_is_known", Keeps::Everything).await else {
        return;
    };
    is_foretold(redis.options()).await;
    let (here, there) = (Evergate::start(redis.options()).await, Evergate::start(redis.options()).await);
    let publisher = Publisher::connect(here.grpc()).await;
    publisher.publish("news", event("of old")).await;
    let target = "/v1/events?stream=news&stream=quote&key=quote/A*&client_id=ann&acks=1";
    let mut ann = Subscription::open(here.http(), target).await;
    let connection = ann.opened().await.connection;
    let had = publisher.publish("quote", keyed("AAPL", "1")).await;
    let cursor = ann.event().await.must_id().to_owned();
    let body = serde_json::json!({ "connection": connection, "cursor": cursor }).to_string();
    let acknowledged = call(here.http(), Request::post("/v1/acks", "application/json", body)).await;
    assert!(acknowledged.status() < 300, "{acknowledged:?}");
    let of_both = ["--with", "news", "--key", "quote/A*"];
    let told = until_of(&there, had, "before-place", &of_both).await;
    assert_eq!(told["kept_at"], had.to_string());
    for part in ["as it acknowledged", "A connection holds it"] {
        assert!(told["sentence"].as_str().is_some_and(|sentence| sentence.contains(part)), "{told}");
    }
    let next = publisher.publish("quote", keyed("AMD", "2")).await;
    until_of(&there, next, "next-time", &of_both).await;
}

#[tokio::test]
async fn only_an_acknowledgement_tells_that_it_was_worked_through() {
    let server = Evergate::start(Options::memory()).await;
    let mut ann = Subscription::open(server.http(), "/v1/streams/quote/events?client_id=ann&acks=1").await;
    let connection = ann.opened().await.connection;
    let offset = Publisher::connect(server.grpc()).await.publish("quote", event("1")).await;
    ann.event().await;
    expect(&server, "quote", offset, "on-its-way");
    let body = serde_json::json!({ "connection": connection, "cursor": offset.to_string() }).to_string();
    let acknowledged = call(server.http(), Request::post("/v1/acks", "application/json", body)).await;
    assert!(acknowledged.status() < 300, "{acknowledged:?}");
    expect(&server, "quote", offset, "acknowledged");
}

#[tokio::test]
async fn what_retention_removed_is_told_so() {
    let options = Options::memory().set("retention.events", "2");
    let server = Evergate::start(options).await;
    let mut ann = Subscription::open(server.http(), "/v1/streams/quote/events?client_id=ann").await;
    ann.opened().await;
    let offsets =
        Publisher::connect(server.grpc()).await.publish_all("quote", ["1", "2", "3", "4", "5"]).await;
    assert_eq!(ann.data(5).await.len(), 5);
    expect(&server, "quote", offsets[0], "trimmed");
    drop(ann);
    let mut told = answer(&server, "quote", &offsets[0].to_string());
    let deadline = std::time::Instant::now() + PATIENCE;
    while !told.1["opened"].is_null() && std::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
        told = answer(&server, "quote", &offsets[0].to_string());
    }
    assert_eq!((told.0.as_str(), told.1["opened"].is_null()), ("trimmed", true));
}

#[tokio::test]
async fn what_no_replica_has_confirmed_is_told_so() {
    let Some(redis) = RedisServer::start("what_no_replica_has_confirmed", Keeps::Nothing).await else {
        return;
    };
    let server = Evergate::start(redis.options().set("redis.level", "REPLICATED")).await;
    let publisher = Publisher::connect(server.grpc()).await;
    // There is no replica, so it waits until its publisher gives up.
    let publishing = tokio::spawn(async move { publisher.try_publish("quote", event("1")).await });
    let deadline = std::time::Instant::now() + PATIENCE;
    let epoch = loop {
        let page = redis.ask(&["KEYS", "evergate:*:meta:quote"]).await.unwrap_or_default();
        let key = page.lines().find(|line| line.contains("meta:quote")).map(str::to_owned);
        if let Some(key) = key {
            break redis.must(&["HGET", &key, "epoch"]).await;
        }
        assert!(std::time::Instant::now() < deadline, "the event is never appended");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    expect(&server, "quote", format!("{}-1", epoch.trim()), "not-committed");
    publishing.abort();
}

#[tokio::test]
async fn a_question_that_makes_no_sense_is_no_question_for_the_edge() {
    let server = Evergate::start(Options::memory()).await;
    for (stream, event) in [("no name", "1-1"), ("quote", "yesterday"), ("quote", "1-0")] {
        assert_eq!(explain(&server, stream, event).1, 2, "{stream} {event}");
    }
    for more in [["--with", "no name"], ["--key", ""]] {
        assert_eq!(explain_of(&server, "quote", "1-1", &more).1, 2, "{more:?}");
    }
    let admin = server.admin();
    drop(server);
    let told = Command::new(binary())
        .args(["explain", "--admin", &admin.to_string()])
        .args(["--client", "ann", "--stream", "quote", "--event", "1-1"])
        .output()
        .expect("it runs");
    assert_eq!(told.status.code(), Some(1), "{told:?}");
    assert!(String::from_utf8_lossy(&told.stderr).contains("cannot be asked"), "{told:?}");
}
