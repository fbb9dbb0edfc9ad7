//! Subscribing, wrongly.

use evergate_tests::http1::{Connection, Request};
use evergate_tests::process::{Evergate, Options};

use crate::{EVENTS, assert_nothing_stored, assert_usable};

async fn refused(server: &Evergate, request: Request, part: &str) {
    let mut connection = Connection::open(server.http()).await;
    let answer = connection.call(&request).await;
    answer.problem_with(400, part);
    assert_usable(connection, answer.head.lists("connection", "close")).await;
}

#[tokio::test]
async fn malformed_stream_names() {
    let server = Evergate::start(Options::memory()).await;
    let long = "x".repeat(129);
    let names = [
        "-a",
        ".a",
        ":a",
        "a%20b",
        "a%00b",
        "a%0Ab",
        "a%0D%0Ab",
        "a%2Fb",
        "%C3%BC",
        "a*",
        "%FF",
        "a%",
        long.as_str(),
    ];
    for name in names {
        for request in [
            Request::get(&format!("/v1/streams/{name}/events")),
            Request::get(&format!("/v1/events?stream={name}")),
            Request::post(&format!("/v1/streams/{name}/events"), "text/plain", "x"),
        ] {
            refused(&server, request, "stream").await;
        }
    }
    // The longest that is one.
    let target = format!("/v1/streams/{}/events", "x".repeat(128));
    let answer = evergate_tests::http1::call(server.http(), Request::new("HEAD", &target)).await;
    assert_eq!(answer.status(), 200);
}

#[tokio::test]
async fn malformed_keys() {
    let server = Evergate::start(Options::memory()).await;
    let long = "x".repeat(257);
    for key in ["", "a%0Ab", "a%0Db", "a%00b", "a*b", "**", "%FF", long.as_str()] {
        refused(&server, Request::get(&format!("{EVENTS}?key={key}")), "key").await;
    }
    let many: Vec<String> = (0..65).map(|n| format!("key=k{n}")).collect();
    refused(&server, Request::get(&format!("{EVENTS}?{}", many.join("&"))), "key").await;
    for key in ["AAPL", "s/", "/AAPL", "s/a%0Ab"] {
        refused(&server, Request::get(&format!("/v1/events?stream=s&stream=t&key={key}")), "key").await;
    }
}

#[tokio::test]
async fn options_that_are_none() {
    let server = Evergate::start(Options::memory()).await;
    for (part, query) in [
        ("from", "from="),
        ("from", "from=now"),
        ("heartbeat", "heartbeat=often"),
        ("envelope", "envelope=perhaps"),
        ("errors", "errors=loud"),
        ("end", "end=never"),
        ("last_event_id", "last_event_id=%0A"),
    ] {
        refused(&server, Request::get(&format!("{EVENTS}?{query}")), part).await;
    }
    refused(&server, Request::get(EVENTS).header("Last-Event-ID", b"\xff"), "last-event-id").await;
    assert_nothing_stored(&server).await;
}

/// A stream of one kind is all there is to be had.
#[tokio::test]
async fn a_client_that_accepts_no_event_stream() {
    let server = Evergate::start(Options::memory()).await;
    let mut connection = Connection::open(server.http()).await;
    let answer = connection.call(&Request::get(EVENTS).header("Accept", "application/json")).await;
    answer.problem(406);
    for accept in ["text/event-stream", "*/*", "text/*", "application/json, text/event-stream;q=0.5"] {
        let mut connection = Connection::open(server.http()).await;
        connection.send(&Request::get(EVENTS).header("Accept", accept)).await;
        assert_eq!(connection.read_head().await.status, 200, "{accept}");
    }
}
