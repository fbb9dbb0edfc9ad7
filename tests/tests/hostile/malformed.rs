//! HTTP/1.1 that one parser reads in one way and the next in another.

use evergate_tests::http1::{Request, call};
use evergate_tests::subscription::Subscription;

use crate::{EVENTS, answers_to, during, server, statuses};

/// A request that a proxy in front might take for a body, and we for a request.
const SMUGGLED: &str = "GET /v1/route HTTP/1.1\r\nHost: x\r\n\r\n";

#[tokio::test]
async fn nothing_is_smuggled_behind_a_request_with_two_lengths() {
    let server = server().await;
    let head = format!("POST {EVENTS} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\n");
    let te = "Transfer-Encoding: chunked\r\n";
    let wrong = [
        // Whoever goes by the length takes what is smuggled for a part of the body.
        format!("{head}Content-Length: 200\r\n{te}\r\n0\r\n\r\n{SMUGGLED}"),
        format!("{head}{te}Content-Length: 200\r\n\r\n0\r\n\r\n{SMUGGLED}"),
        format!("{head}Content-Length: 5\r\n{te}\r\n0\r\n\r\n{SMUGGLED}"),
        format!("{head}Content-Length: 1\r\nContent-Length: 2\r\n\r\nab{SMUGGLED}"),
        format!("{head}Content-Length: 1, 2\r\n\r\nab{SMUGGLED}"),
        format!("{head}Content-Length: 0x1\r\n\r\na{SMUGGLED}"),
        format!("{head}Content-Length: -1\r\n\r\n{SMUGGLED}"),
        format!("{head}Content-Length: 18446744073709551616\r\n\r\n{SMUGGLED}"),
        format!("{head}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n{SMUGGLED}"),
        format!("{head}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{SMUGGLED}"),
        format!("{head}Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"),
        format!("{head}Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n{SMUGGLED}"),
        format!("{head}X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{SMUGGLED}"),
        format!(
            "POST {EVENTS} HTTP/1.0\r\nHost: x\r\nContent-Type: text/plain\r\n{te}\r\n0\r\n\r\n{SMUGGLED}"
        ),
    ];
    during(&server, async {
        for bytes in &wrong {
            let answers = answers_to(server.http(), bytes.as_bytes()).await;
            let statuses = statuses(&answers);
            assert!(statuses.len() <= 1, "two answers to {bytes:?}: {answers}");
            assert!(statuses.iter().all(|status| *status < 500), "{bytes:?}: {answers}");
            assert!(!answers.contains("\"edge\""), "what was smuggled was answered: {bytes:?}: {answers}");
        }
    })
    .await;
}

#[tokio::test]
async fn lines_that_are_none_are_refused_or_hung_up_on() {
    let server = server().await;
    let wrong: [&[u8]; 14] = [
        b"GET /v1/route HTTP/1.1\rHost: x\r\r",
        b"GET /v1/route HTTP/1.1\r\nHost: x\r\nX: a\rb\r\n\r\n",
        b"GET /v1/route HTTP/1.1\r\nHost: x\r\nX: a\0b\r\n\r\n",
        b"GET /v1/route HTTP/1.1\r\nHost: x\r\nX: a\r\n b\r\n\r\n",
        b"GET /v1/route HTTP/1.1\r\nHost: x\r\n: a\r\n\r\n",
        b"GET /v1/route HTTP/1.1\r\nHost: x\r\nX\x01: a\r\n\r\n",
        b"GET /v1/route HTTP/1.1\r\n Host: x\r\n\r\n",
        b"GET  /v1/route HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/rou\x80te HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET /v1/route\r\n\r\n",
        b"GET /v1/route HTTP/1.2\r\nHost: x\r\n\r\n",
        b"GET v1/route HTTP/1.1\r\nHost: x\r\n\r\n",
        b"\r\n\r\n\r\n\r\n\x16\x03\x01",
        b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
    ];
    during(&server, async {
        for bytes in wrong {
            let answers = answers_to(server.http(), bytes).await;
            let text = String::from_utf8_lossy(bytes);
            assert!(
                statuses(&answers).iter().all(|status| (400..500).contains(status)),
                "{text:?}: {answers}"
            );
        }
    })
    .await;
}

/// A target may be written in three forms besides a path; none of them leads anywhere else.
#[tokio::test]
async fn a_target_in_another_form_leads_nowhere_else() {
    let server = server().await;
    during(&server, async {
        for (line, fits) in [
            ("GET http://elsewhere.example/v1/route HTTP/1.1", true),
            ("GET http://x@y:z@elsewhere/v1/route HTTP/1.1", false),
            ("CONNECT elsewhere.example:443 HTTP/1.1", false),
            ("OPTIONS * HTTP/1.1", false),
            ("GET * HTTP/1.1", false),
            ("GET //elsewhere.example/v1/route HTTP/1.1", false),
            ("GET /v1/route/../../etc/passwd HTTP/1.1", false),
            ("GET /v1/%72oute HTTP/1.1", false),
            ("GET /v1/route;x=y HTTP/1.1", false),
        ] {
            let request = format!("{line}\r\nHost: x\r\nConnection: close\r\n\r\n");
            let answers = answers_to(server.http(), request.as_bytes()).await;
            let statuses = statuses(&answers);
            assert!(statuses.iter().all(|status| *status < 500), "{line}: {answers}");
            assert_eq!(answers.contains("\"edge\""), fits, "{line}: {answers}");
        }
    })
    .await;
}

#[tokio::test]
async fn everything_may_be_too_large() {
    let server = server().await;
    let large = "x".repeat(200 << 10);
    let many: String = (0..5_000).map(|n| format!("X-{n}: y\r\n")).collect();
    let queries = "&key=a".repeat(2_000);
    let wrong = [
        format!("{large} / HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("GET /{large} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("GET /v1/route HTTP/1.1\r\nHost: {large}\r\n\r\n"),
        format!("GET /v1/route HTTP/1.1\r\nHost: x\r\n{large}: y\r\n\r\n"),
        format!("GET /v1/route HTTP/1.1\r\nHost: x\r\nCookie: {large}\r\n\r\n"),
        format!("GET /v1/route HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {large}\r\n\r\n"),
        format!("GET {EVENTS} HTTP/1.1\r\nHost: x\r\nLast-Event-ID: {large}\r\n\r\n"),
        format!("GET /v1/route HTTP/1.1\r\nHost: x\r\n{many}\r\n"),
        format!("GET {EVENTS}?{queries} HTTP/1.1\r\nHost: x\r\n\r\n"),
        format!("POST {EVENTS} HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nx"),
        format!("POST {EVENTS} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n{:x}\r\n", u64::MAX),
        format!(
            "POST {EVENTS} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n1;{large}\r\nx\r\n0\r\n\r\n"
        ),
        format!(
            "POST {EVENTS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {0}\r\n\r\n{1}",
            100 << 10,
            "[".repeat(100 << 10)
        ),
    ];
    during(&server, async {
        for bytes in &wrong {
            let answers = answers_to(server.http(), bytes.as_bytes()).await;
            let statuses = statuses(&answers);
            let (begin, end) = (&bytes[..60], bytes.len());
            assert!(
                statuses.iter().all(|status| (400..500).contains(status)),
                "{begin:?} of {end} bytes: {answers:.400}"
            );
        }
    })
    .await;
    // However small they are, so many fields and no more.
    let with = |fields: usize| {
        let fields: String = (0..fields).map(|n| format!("X-{n}: y\r\n")).collect();
        format!("GET /v1/route HTTP/1.1\r\nHost: x\r\n{fields}Connection: close\r\n\r\n")
    };
    for (fields, status) in [(90, 200), (101, 431)] {
        let answers = answers_to(server.http(), with(fields).as_bytes()).await;
        assert_eq!(statuses(&answers), [status], "{fields} fields: {answers:.400}");
    }
    let mut stream = Subscription::open(server.http(), &format!("{EVENTS}?from=earliest")).await;
    stream.opened().await;
    let good = call(server.http(), Request::post(EVENTS, "text/plain", "good")).await;
    assert_eq!(good.status(), 200);
    assert_eq!(stream.data(1).await, ["good"], "nothing else was stored");
}
