//! The same contract over HTTP/2, as a proxy in front would speak it.

use std::time::Duration;

use evergate_tests::http2::Client;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::subscription::{End, Subscription};
use serde_json::json;

use crate::events_of;

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn subscribing_and_publishing_share_one_connection() {
    let server = Evergate::start(Options::memory()).await;
    let mut client = Client::open(server.http()).await;
    let mut typed = Subscription::over_http2(&mut client, &events_of("s"), &[]).await;
    let mut keyed = Subscription::over_http2(&mut client, &(events_of("s") + "?key=k"), &[]).await;
    let head = typed.head().clone();
    assert_eq!(head.version, "HTTP/2.0");
    assert_eq!(head.must("cache-control"), "no-cache, no-store, no-transform");
    assert_eq!(head.must("x-accel-buffering"), "no");
    for forbidden in ["connection", "transfer-encoding", "keep-alive"] {
        assert_eq!(head.header(forbidden), None, "HTTP/2 forbids it: {head:?}");
    }
    let opened = typed.opened().await;
    assert_eq!(opened.trace_id, head.must("x-trace-id"));
    keyed.opened().await;

    let body = json!({ "data": "1", "type": "t" }).to_string();
    let answer = client.call("POST", &events_of("s"), &[JSON], body).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.json(), json!({ "offset": opened.offset().plus(1).to_string(), "duplicate": false }));
    let frame = typed.event().await;
    assert_eq!((frame.event.as_deref(), frame.data.as_str()), (Some("t"), "1"));
    client.call("POST", &events_of("s"), &[JSON], json!({ "data": "2", "key": "k" }).to_string()).await;
    assert_eq!(keyed.event().await.data, "2");

    let field = [("last-event-id", opened.cursor.as_str())];
    let mut resumed = Subscription::over_http2(&mut client, &events_of("s"), &field).await;
    assert_eq!(resumed.opened().await.resume, "exact");
    assert_eq!(resumed.data(2).await, ["1", "2"]);
}

#[tokio::test]
async fn errors_are_told_over_http_2_as_well() {
    let server = Evergate::start(Options::memory()).await;
    let mut client = Client::open(server.http()).await;
    client.call("GET", "/v1/nothing", &[], "").await.problem(404);
    client.call("GET", &events_of("s"), &[("last-event-id", "nonsense")], "").await.problem(400);
    client.call("DELETE", &events_of("s"), &[], "").await.problem(405);
}

#[tokio::test]
async fn many_events_flow_within_the_granted_window() {
    let server = Evergate::start(Options::memory()).await;
    let mut client = Client::open(server.http()).await;
    let mut stream = Subscription::over_http2(&mut client, &events_of("s"), &[]).await;
    stream.opened().await;
    let text = "x".repeat(100_000);
    for n in 0..30 {
        let body = json!({ "data": format!("{n} {text}") }).to_string();
        assert_eq!(client.call("POST", &events_of("s"), &[JSON], body).await.status(), 200);
    }
    for n in 0..30 {
        assert_eq!(stream.event().await.data, format!("{n} {text}"));
    }
}

#[tokio::test]
async fn a_shutdown_ends_http_2_streams_cleanly() {
    let mut server = Evergate::start(Options::memory().set("shutdown.drain", "300ms")).await;
    let mut client = Client::open(server.http()).await;
    let mut stream = Subscription::over_http2(&mut client, &events_of("s"), &[]).await;
    stream.opened().await;
    server.terminate();
    let (frames, end) = stream.end().await;
    assert_eq!(frames.len(), 1, "{frames:?}");
    assert_eq!(frames[0].event.as_deref(), Some("evergate.goaway"));
    assert_eq!(end, End::Clean);
    assert_eq!(server.ended(Duration::from_secs(20)).await.code(), Some(0), "{}", server.output());
}
