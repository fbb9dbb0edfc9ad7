//! What pages of other origins are told, as it goes over the wire.

use evergate_tests::http1::{Request, Response, call};
use evergate_tests::http2::Client;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::subscription::Subscription;

use crate::events_of;

const ORIGIN: &str = "https://app.example.com";

async fn server(origins: &str) -> Evergate {
    Evergate::start(Options::memory().set("http.cors_origins", origins)).await
}

/// Asks, as a browser does before a request that a form could not make.
fn preflight(origin: &str, method: &str) -> Request {
    Request::new("OPTIONS", &events_of("s"))
        .header("Origin", origin)
        .header("Access-Control-Request-Method", method)
        .header("Access-Control-Request-Headers", "last-event-id, authorization")
}

fn assert_preflight(answer: &Response, origin: &str) {
    assert_eq!(answer.status(), 204, "{answer:?}");
    assert!(answer.body.is_empty(), "{answer:?}");
    assert_eq!(answer.head.must("access-control-allow-origin"), origin);
    for method in ["GET", "HEAD", "POST"] {
        assert!(answer.head.lists("access-control-allow-methods", method), "{answer:?}");
    }
    for field in ["Last-Event-ID", "Authorization", "Content-Type", "Evergate-Producer", "traceparent"] {
        assert!(answer.head.lists("access-control-allow-headers", field), "{field}: {answer:?}");
    }
    assert_eq!(
        answer.head.must("access-control-max-age"),
        "7200",
        "as long as the shortest of browsers keeps it"
    );
    for field in ["Origin", "Access-Control-Request-Method", "Access-Control-Request-Headers"] {
        assert!(answer.head.lists("vary", field), "{field}: {answer:?}");
    }
}

#[tokio::test]
async fn a_page_on_the_list_is_told_what_it_may() {
    let server = server(ORIGIN).await;
    let mut client = Client::open(server.http()).await;
    for method in ["GET", "POST"] {
        let answer = call(server.http(), preflight(ORIGIN, method)).await;
        assert_preflight(&answer, ORIGIN);
        assert_eq!(answer.head.must("access-control-allow-credentials"), "true");
        assert_eq!(answer.head.header("access-control-allow-private-network"), None, "it was not asked for");
        let fields = [
            ("origin", ORIGIN),
            ("access-control-request-method", method),
            ("access-control-request-headers", "last-event-id, authorization"),
        ];
        let over_http2 = client.call("OPTIONS", &events_of("s"), &fields, "").await;
        assert_preflight(&over_http2, ORIGIN);
        assert_eq!(over_http2.head.must("access-control-allow-credentials"), "true");
    }
    let from_outside = preflight(ORIGIN, "GET").header("Access-Control-Request-Private-Network", "true");
    let answer = call(server.http(), from_outside).await;
    assert_preflight(&answer, ORIGIN);
    assert_eq!(answer.head.must("access-control-allow-private-network"), "true");
    assert!(answer.head.lists("vary", "Access-Control-Request-Private-Network"), "{answer:?}");
}

#[tokio::test]
async fn where_any_page_may_come_none_brings_its_cookies_or_reaches_inside() {
    let server = server("*").await;
    let asked = preflight(ORIGIN, "GET").header("Access-Control-Request-Private-Network", "true");
    let answer = call(server.http(), asked).await;
    assert_preflight(&answer, "*");
    for refused in ["access-control-allow-credentials", "access-control-allow-private-network"] {
        assert_eq!(answer.head.header(refused), None, "{answer:?}");
    }
}

#[tokio::test]
async fn a_page_that_is_not_on_the_list_is_told_nothing() {
    let server = server(ORIGIN).await;
    for origin in
        ["https://evil.example", "http://app.example.com", "https://app.example.com.evil.example", "null"]
    {
        let asked = preflight(origin, "GET").header("Access-Control-Request-Private-Network", "true");
        for request in [asked, Request::get(&events_of("s")).header("Origin", origin)] {
            let answer = call(server.http(), request).await;
            answer.problem(403);
            let told = |(name, _): &&(String, String)| name.starts_with("access-control-");
            assert_eq!(answer.head.headers.iter().find(told), None, "{origin}");
            assert!(answer.head.lists("vary", "Origin"), "what is kept is kept for that origin: {answer:?}");
        }
    }
}

/// Streams, by both versions, and what is kept by a cache in between.
#[tokio::test]
async fn a_stream_names_the_page_that_may_read_it() {
    let server = server(&format!("{ORIGIN},https://other.example.com")).await;
    let mut client = Client::open(server.http()).await;
    for origin in [ORIGIN, "https://other.example.com"] {
        let request = Request::get(&events_of("s")).header("Origin", origin);
        let over_http1 = Subscription::request(server.http(), &request).await;
        let over_http2 = Subscription::over_http2(&mut client, &events_of("s"), &[("origin", origin)]).await;
        for stream in [&over_http1, &over_http2] {
            let head = stream.head();
            assert_eq!(head.status, 200);
            assert_eq!(head.must("content-type"), "text/event-stream");
            assert_eq!(head.must("access-control-allow-origin"), origin);
            assert_eq!(head.must("access-control-allow-credentials"), "true");
            assert!(head.lists("vary", "Origin"), "{head:?}");
            assert!(head.lists("access-control-expose-headers", "X-Trace-ID"), "{head:?}");
        }
    }
    // Whoever is no page depends on the origin too: the answer would be another one.
    let no_page = Subscription::open(server.http(), &events_of("s")).await;
    assert_eq!(no_page.head().header("access-control-allow-origin"), None);
    assert!(no_page.head().lists("vary", "Origin"), "{:?}", no_page.head());
}
