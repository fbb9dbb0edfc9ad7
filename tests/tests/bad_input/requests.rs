//! Requests that are wrong before anyone looks at what they ask.

use evergate_tests::http1::{Connection, Request, call};
use evergate_tests::process::{Evergate, Options};

use crate::{EVENTS, assert_nothing_stored, assert_usable};

#[tokio::test]
async fn paths_that_lead_nowhere() {
    let server = Evergate::start(Options::memory()).await;
    for path in [
        "/v1",
        "/v1/",
        "/v1/streams",
        "/v1/streams/s",
        "/v1/streams/s/events/",
        "/v2/events",
        "/v1/streams/s/t/events",
        "/..%2f..%2fetc/passwd",
        "/demo/../demo.js",
    ] {
        let mut connection = Connection::open(server.http()).await;
        let answer = connection.call(&Request::get(path)).await;
        answer.problem(404);
        assert_usable(connection, answer.head.lists("connection", "close")).await;
    }
}

#[tokio::test]
async fn methods_that_are_not_there() {
    let server = Evergate::start(Options::memory()).await;
    for (method, path, allowed) in [
        ("DELETE", EVENTS, vec!["GET", "HEAD", "OPTIONS", "POST"]),
        ("PUT", EVENTS, vec!["GET", "HEAD", "OPTIONS", "POST"]),
        ("POST", "/v1/events?stream=s", vec!["GET", "HEAD", "OPTIONS"]),
        ("POST", "/v1/route", vec!["GET"]),
        ("BREW", "/v1/route", vec!["GET"]),
    ] {
        let mut connection = Connection::open(server.http()).await;
        let answer = connection.call(&Request::new(method, path)).await;
        answer.problem(405);
        for method in allowed {
            assert!(answer.head.lists("allow", method), "{path}: {answer:?}");
        }
        assert_usable(connection, answer.head.lists("connection", "close")).await;
    }
    assert_nothing_stored(&server).await;
}

#[tokio::test]
async fn a_head_that_is_too_large() {
    let server = Evergate::start(Options::memory()).await;
    for request in [
        Request::get(EVENTS).header("X-Large", "x".repeat(17 * 1024)),
        Request::get(&format!("{EVENTS}?key={}", "x".repeat(17 * 1024))),
    ] {
        let mut connection = Connection::open(server.http()).await;
        connection.send(&request).await;
        let head = connection.read_head().await;
        assert!(matches!(head.status, 431 | 414), "{head:?}");
    }
    let mut many = Request::get("/v1/route");
    for n in 0..90 {
        many = many.header(&format!("X-{n}"), "x");
    }
    assert_eq!(call(server.http(), many).await.status(), 200, "ninety fields are not too many");
}

/// What one parser reads as one request and another as two is refused, never guessed at.
#[tokio::test]
async fn requests_that_could_be_read_in_two_ways() {
    let server = Evergate::start(Options::memory()).await;
    let head = format!("POST {EVENTS} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n");
    let wrong = [
        format!("{head}Content-Length: 3\r\nContent-Length: 4\r\n\r\nabcd"),
        format!("{head}Content-Length: +3\r\n\r\nabc"),
        format!("{head}Content-Length: x\r\n\r\n"),
        format!("{head}Transfer-Encoding: chunked, identity\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\n-3\r\nabc\r\n0\r\n\r\n"),
        format!("{head}Transfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\nabc\r\n0\r\n\r\n"),
        format!("{head}X: a\r\n folded\r\nContent-Length: 3\r\n\r\nabc"),
        format!("{head}X : a\r\nContent-Length: 3\r\n\r\nabc"),
        "GET /v1/route HTTP/9.9\r\nHost: x\r\n\r\n".to_owned(),
        "GET\r\n\r\n".to_owned(),
        "\u{16}\u{3}\u{1}\u{2}\u{0} a TLS hello, perhaps\r\n\r\n".to_owned(),
    ];
    for bytes in wrong {
        let mut connection = Connection::open(server.http()).await;
        connection.send_bytes(bytes.as_bytes()).await;
        // A parser may have no words for what it was sent; then it hangs up.
        match connection.try_read_head().await {
            Ok(head) => assert!((400..=505).contains(&head.status), "{bytes:?}: {head:?}"),
            Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::TimedOut, "{bytes:?}: {error}"),
        }
    }
    assert_nothing_stored(&server).await;
}

#[tokio::test]
async fn a_request_that_is_never_finished_stores_nothing() {
    let server = Evergate::start(Options::memory()).await;
    let request =
        Request::new("POST", EVENTS).header("Content-Type", "text/plain").header("Content-Length", "10");
    let mut connection = Connection::open(server.http()).await;
    connection.send(&request).await;
    connection.send_bytes(b"half").await;
    drop(connection);
    assert_nothing_stored(&server).await;
}
