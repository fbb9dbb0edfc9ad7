//! How long a connection lives: a stream for ever, anything else only as long as it is of use.

use evergate_tests::frame::Item;
use evergate_tests::http1::{Connection, Request};
use evergate_tests::http2::Client;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::subscription::{Next, Subscription};

use crate::events_of;

#[tokio::test]
async fn a_stream_outlives_every_limit_on_requests() {
    let options = Options::memory()
        .set("http.head_timeout", "100ms")
        .set("http.idle_timeout", "1s")
        .set("sse.heartbeat", "1s");
    let server = Evergate::start(options).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let request = Request::get(&events_of("s"));
    let mut client = Client::open(server.http()).await;
    let mut streams = [
        Subscription::request(server.http(), &request).await,
        Subscription::request(server.http(), &request.http10()).await,
        Subscription::over_http2(&mut client, &events_of("s"), &[]).await,
    ];
    for stream in &mut streams {
        stream.opened().await;
        for _ in 0..3 {
            assert_eq!(stream.next().await, Next::Item(Item::Comment(String::new())));
        }
    }
    publisher.publish("s", event("still here")).await;
    for stream in &mut streams {
        assert_eq!(stream.event().await.data, "still here");
    }
}

#[tokio::test]
async fn a_client_that_never_finishes_its_head_is_cut_off() {
    let server = Evergate::start(Options::memory().set("http.head_timeout", "200ms")).await;
    let mut silent = Connection::open(server.http()).await;
    let mut slow = Connection::open(server.http()).await;
    slow.send_bytes(b"GET /v1/route HTTP/1.1\r\nHost: x\r\nX-Slow: ").await;
    let mut slow_http2 = Connection::open(server.http()).await;
    slow_http2.send_bytes(b"PRI * HT").await;
    for connection in [&mut silent, &mut slow, &mut slow_http2] {
        connection.closed().await;
        let told = String::from_utf8_lossy(&connection.take_unread()).into_owned();
        assert!(told.is_empty() || told.starts_with("HTTP/1.1 408 "), "{told:?}");
    }
}

#[tokio::test]
async fn a_connection_without_a_stream_is_closed_when_idle() {
    let server = Evergate::start(Options::memory().set("http.idle_timeout", "1s")).await;
    let mut connection = Connection::open(server.http()).await;
    for _ in 0..2 {
        assert_eq!(connection.call(&Request::get("/v1/route")).await.status(), 200);
    }
    assert!(connection.closed().await, "an orderly end, not a reset");
}

#[tokio::test]
async fn a_reader_that_stalls_costs_nobody_and_catches_up() {
    let server = Evergate::start(Options::disk().set("fanout.ring_events", "64")).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let mut stalled = Subscription::open(server.http(), &events_of("s")).await;
    let mut reading = Subscription::open(server.http(), &events_of("s")).await;
    stalled.opened().await;
    reading.opened().await;
    // Far more than all buffers on the way hold.
    let text = |n: u64| format!("{n} {}", "x".repeat(100_000));
    for n in 1..=300 {
        publisher.publish("s", event(text(n))).await;
        assert_eq!(reading.event().await.data, text(n));
    }
    for n in 1..=300 {
        assert_eq!(stalled.event().await.data, text(n));
    }
    publisher.publish("s", event("together again")).await;
    for stream in [&mut stalled, &mut reading] {
        assert_eq!(stream.event().await.data, "together again");
    }
}
