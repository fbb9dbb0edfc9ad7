//! The head of an answer.

use evergate_tests::http1::{Connection, Framing, Head, Request, call};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::subscription::Subscription;

use crate::events_of;

const ORIGIN: &str = "https://app.example.com";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

/// What every answer carries, whatever its status.
fn assert_traced_and_readable_across_origins(head: &Head) {
    let trace_id = head.must("x-trace-id");
    assert!(is_hex(trace_id, 32), "{head:?}");
    let traceparent: Vec<&str> = head.must("traceparent").split('-').collect();
    assert_eq!(traceparent.len(), 4, "{head:?}");
    assert_eq!((traceparent[0], traceparent[1]), ("00", trace_id), "{head:?}");
    assert!(is_hex(traceparent[2], 16) && is_hex(traceparent[3], 2), "{head:?}");
    let allowed = head.must("access-control-allow-origin");
    assert!(allowed == "*" || allowed == ORIGIN, "{head:?}");
    assert!(head.headers.iter().any(|(name, _)| name == "vary"), "{head:?}");
    if allowed == ORIGIN {
        assert!(head.lists("vary", "origin"), "the answer depends on the origin: {head:?}");
    }
    assert!(head.lists("access-control-expose-headers", "x-trace-id"), "{head:?}");
}

fn assert_stream_head(head: &Head) {
    assert_eq!(head.status, 200);
    assert_eq!(head.must("content-type"), "text/event-stream");
    assert_eq!(head.must("cache-control"), "no-cache, no-store, no-transform");
    assert_eq!(head.must("x-accel-buffering"), "no");
    assert_traced_and_readable_across_origins(head);
}

#[tokio::test]
async fn a_stream_over_http_1_1_is_chunked_and_closes() {
    let server = Evergate::start(Options::memory()).await;
    let request = Request::get(&events_of("s")).header("Origin", ORIGIN);
    let mut stream = Subscription::request(server.http(), &request).await;
    let head = stream.head().clone();
    assert_stream_head(&head);
    assert_eq!(head.version, "HTTP/1.1");
    assert_eq!(head.framing(false), Framing::Chunked);
    assert_eq!(head.must("connection"), "close");
    let opened = stream.opened().await;
    assert_eq!(opened.trace_id, head.must("x-trace-id"), "for those who cannot read headers");
}

#[tokio::test]
async fn a_stream_over_http_1_0_ends_with_the_connection() {
    let server = Evergate::start(Options::memory()).await;
    let request = Request::get(&events_of("s")).header("Origin", ORIGIN).http10();
    let mut stream = Subscription::request(server.http(), &request).await;
    assert_stream_head(stream.head());
    assert_eq!(stream.head().framing(false), Framing::UntilClose);
    stream.opened().await;
}

#[tokio::test]
async fn a_request_s_trace_is_continued() {
    let server = Evergate::start(Options::memory()).await;
    let traceparent = format!("00-{TRACE}-00f067aa0ba902b7-01");
    let request = Request::get(&events_of("s")).header("Origin", ORIGIN).header("traceparent", &traceparent);
    let mut stream = Subscription::request(server.http(), &request).await;
    assert_stream_head(stream.head());
    assert_eq!(stream.head().must("x-trace-id"), TRACE);
    assert_ne!(stream.head().must("traceparent"), traceparent, "the server's own span has its own id");
    assert_eq!(stream.opened().await.trace_id, TRACE);
}

#[tokio::test]
async fn every_answer_is_traced_and_readable_across_origins() {
    let server = Evergate::start(Options::memory()).await;
    let requests = [
        (200, Request::get("/v1/route")),
        (200, Request::post(&events_of("s"), "text/plain", "x")),
        (400, Request::get(&events_of("s")).header("Last-Event-ID", "nonsense")),
        (400, Request::get("/v1/streams/-wrong/events")),
        (404, Request::get("/v1/nothing")),
        (405, Request::new("DELETE", &events_of("s"))),
        (415, Request::post(&events_of("s"), "image/png", "x")),
    ];
    for (status, request) in requests {
        let what = format!("{request:?}");
        let answer = call(server.http(), request.header("Origin", ORIGIN)).await;
        assert_eq!(answer.status(), status, "{what}: {answer:?}");
        assert_traced_and_readable_across_origins(&answer.head);
    }
}

#[tokio::test]
async fn head_tells_what_get_would_and_nothing_more() {
    let server = Evergate::start(Options::memory()).await;
    for path in [events_of("s"), "/v1/events?stream=a&stream=b".to_owned()] {
        let mut connection = Connection::open(server.http()).await;
        let answer = connection.call(&Request::new("HEAD", &path).header("Origin", ORIGIN)).await;
        assert_stream_head(&answer.head);
        connection.finish_sending().await;
        assert!(connection.closed().await);
        assert!(connection.take_unread().is_empty(), "an answer to HEAD has no body");
    }
}

#[tokio::test]
async fn a_preflight_allows_what_clients_send() {
    let server = Evergate::start(Options::memory()).await;
    let cases = [
        ("GET", vec!["last-event-id", "cache-control"]),
        ("POST", vec!["content-type", "evergate-type", "evergate-key", "evergate-producer", "traceparent"]),
    ];
    for (method, wanted) in cases {
        let request = Request::new("OPTIONS", &events_of("s"))
            .header("Origin", ORIGIN)
            .header("Access-Control-Request-Method", method)
            .header("Access-Control-Request-Headers", wanted.join(","));
        let answer = call(server.http(), request).await;
        assert!(matches!(answer.status(), 200 | 204), "{answer:?}");
        assert!(answer.body.is_empty(), "{answer:?}");
        assert_traced_and_readable_across_origins(&answer.head);
        assert!(answer.head.lists("access-control-allow-methods", method), "{answer:?}");
        for field in wanted {
            assert!(answer.head.lists("access-control-allow-headers", field), "{field}: {answer:?}");
        }
    }
}
