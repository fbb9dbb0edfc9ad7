//! Publishing over HTTP, wrongly.

use evergate_tests::http1::{Connection, Request, Response};
use evergate_tests::process::{Evergate, Options};

use crate::{EVENTS, assert_nothing_stored, assert_usable};

/// Sends each request on a connection of its own, hands the answer to `check`, and sees that nothing
/// was stored and the connection goes on.
async fn refused<const N: usize>(
    server: &Evergate,
    requests: [Request; N],
    check: impl Fn(&Request, &Response),
) {
    for request in requests {
        let mut connection = Connection::open(server.http()).await;
        let answer = connection.call(&request).await;
        check(&request, &answer);
        let closing = answer.head.lists("connection", "close");
        assert_usable(connection, closing).await;
    }
    assert_nothing_stored(server).await;
}

fn json(body: &str) -> Request {
    Request::post(EVENTS, "application/json", body)
}

#[tokio::test]
async fn json_that_is_none_or_not_an_event() {
    let server = Evergate::start(Options::memory()).await;
    let requests = [
        json(""),
        json("{"),
        json("{\"data\":\"x\"} trailing"),
        json("[]"),
        json("\"x\""),
        json("null"),
        json("{}"),
        json("{\"data\":\"x\",\"unknown\":1}"),
        json("{\"data\":\"x\",\"data\":\"y\"}"),
        json("{\"data\":\"\\ud800\"}"),
        json(&"[".repeat(100_000)),
    ];
    refused(&server, requests, |_, answer| {
        answer.problem(400);
    })
    .await;
}

#[tokio::test]
async fn members_of_the_wrong_kind_are_named() {
    let server = Evergate::start(Options::memory()).await;
    let cases = [
        ("type", r#"{"data":"x","type":7}"#),
        ("key", r#"{"data":"x","key":["a"]}"#),
        ("producer", r#"{"data":"x","producer":"p"}"#),
        ("producer.seq", r#"{"data":"x","producer":{"id":"p","seq":0}}"#),
        ("producer.seq", r#"{"data":"x","producer":{"id":"p","seq":-1}}"#),
        ("producer.seq", r#"{"data":"x","producer":{"id":"p","seq":1.5}}"#),
        ("producer.seq", r#"{"data":"x","producer":{"id":"p","seq":9007199254740992}}"#),
        ("producer.id", r#"{"data":"x","producer":{"id":"","seq":1}}"#),
        ("producer.id", r#"{"data":"x","producer":{"id":"a b","seq":1}}"#),
    ];
    for (part, body) in cases {
        refused_once(&server, json(body), part).await;
    }
    assert_nothing_stored(&server).await;
}

/// A request that is refused because of one part.
async fn refused_once(server: &Evergate, request: Request, part: &str) {
    let mut connection = Connection::open(server.http()).await;
    let answer = connection.call(&request).await;
    answer.problem_with(400, part);
    let closing = answer.head.lists("connection", "close");
    assert_usable(connection, closing).await;
}

/// Whatever would end a line within a stream, or pass for one of the server's own words.
#[tokio::test]
async fn no_field_can_inject_a_line() {
    let server = Evergate::start(Options::memory()).await;
    let evil = ["a\\nid: 9-9", "a\\rb", "a\\r\\n\\r\\ndata: x", "a\\u0000b", "\\u001b[2J", "a\\u0085b"];
    for text in evil {
        refused_once(&server, json(&format!("{{\"data\":\"x\",\"type\":\"{text}\"}}")), "type").await;
        refused_once(&server, json(&format!("{{\"data\":\"x\",\"key\":\"{text}\"}}")), "key").await;
        let producer = format!("{{\"data\":\"x\",\"producer\":{{\"id\":\"{text}\",\"seq\":1}}}}");
        refused_once(&server, json(&producer), "producer.id").await;
    }
    for (part, body) in
        [("type", r#"{"data":"x","type":"evergate.open"}"#), ("key", r#"{"data":"x","key":"a*"}"#)]
    {
        refused_once(&server, json(body), part).await;
    }
    let long = "x".repeat(300);
    refused_once(&server, json(&format!("{{\"data\":\"x\",\"type\":\"{long}\"}}")), "type").await;
    refused_once(&server, json(&format!("{{\"data\":\"x\",\"key\":\"{long}\"}}")), "key").await;

    let text = || Request::post(EVENTS, "text/plain", "x");
    for (name, value) in [
        ("Evergate-Type", "evergate.gap"),
        ("Evergate-Type", "a\tb"),
        ("Evergate-Key", "a*"),
        ("Evergate-Key", "a\tb"),
        ("Evergate-Producer", "no sequence"),
        ("Evergate-Producer", "p/0"),
        ("Evergate-Producer", "p/x"),
    ] {
        refused_once(&server, text().header(name, value), name).await;
    }
    // A field may hold bytes that are no text. An HTTP parser may refuse the whole head for it.
    for name in ["Evergate-Type", "Evergate-Key", "Evergate-Producer"] {
        let mut connection = Connection::open(server.http()).await;
        let answer = connection.call(&text().header(name, b"\xff\xfe")).await;
        answer.problem(400);
    }
    assert_nothing_stored(&server).await;
}

#[tokio::test]
async fn one_bad_line_refuses_the_batch_and_is_named() {
    let server = Evergate::start(Options::memory()).await;
    let good = "{\"data\":\"x\"}";
    for (bad, line) in [("{", 1), ("{\"data\":\"x\",\"type\":\"a\\nb\"}", 3), ("nonsense", 2), ("{}", 500)] {
        let mut lines = vec![good; 600];
        lines[line - 1] = bad;
        let mut connection = Connection::open(server.http()).await;
        let answer = connection.call(&Request::post(EVENTS, "application/x-ndjson", lines.join("\n"))).await;
        let problem = answer.problem(400);
        assert_eq!(problem["errors"][0]["line"], line, "{problem}");
        assert_usable(connection, answer.head.lists("connection", "close")).await;
    }
    let empty = Request::post(EVENTS, "application/x-ndjson", "\n\n");
    refused(&server, [empty], |_, answer| {
        answer.problem(400);
    })
    .await;
}

#[tokio::test]
async fn data_that_is_no_utf_8() {
    let server = Evergate::start(Options::memory()).await;
    let broken = b"abc\xff\xfe".to_vec();
    let requests = [
        Request::post(EVENTS, "text/plain", broken.clone()),
        Request::post(EVENTS, "application/json", [&b"{\"data\":\""[..], &broken, b"\"}"].concat()),
        Request::post(EVENTS, "application/x-ndjson", [&b"{\"data\":\""[..], &broken, b"\"}\n"].concat()),
    ];
    refused(&server, requests, |_, answer| {
        answer.problem(400);
    })
    .await;
}

#[tokio::test]
async fn a_body_of_a_type_that_is_not_taken() {
    let server = Evergate::start(Options::memory()).await;
    let requests = [
        Request::post(EVENTS, "application/octet-stream", "x"),
        Request::post(EVENTS, "image/png", "x"),
        Request::post(EVENTS, "application/x-www-form-urlencoded", "data=x"),
        Request::post(EVENTS, "text/plain; charset=iso-8859-1", "x"),
        Request::post(EVENTS, "nonsense", "x"),
        Request::new("POST", EVENTS).body("x"),
    ];
    refused(&server, requests, |request, answer| {
        assert_eq!(answer.status(), 415, "{request:?}");
        answer.problem(415);
    })
    .await;
}

#[tokio::test]
async fn a_body_that_is_too_large() {
    let server = Evergate::start(Options::memory().set("publish.payload_bytes_max", "1KiB")).await;
    let data = "x".repeat(1025);
    let line = format!("{{\"data\":\"{data}\"}}");
    let requests = [
        Request::post(EVENTS, "text/plain", data.clone()),
        json(&line),
        Request::post(EVENTS, "application/x-ndjson", format!("{{\"data\":\"x\"}}\n{line}\n")),
    ];
    refused(&server, requests, |_, answer| {
        let problem = answer.problem(413);
        assert!(
            problem["detail"].as_str().is_some_and(|detail| detail.contains("1024")),
            "the limit is told: {problem}"
        );
    })
    .await;
}

/// A body may announce its size, or go on without end; neither is waited for.
#[tokio::test]
async fn a_body_that_is_far_too_large_is_not_read() {
    let server = Evergate::start(Options::memory()).await;
    for content_type in ["text/plain", "application/json", "application/x-ndjson"] {
        let mut connection = Connection::open(server.http()).await;
        let announced = Request::new("POST", EVENTS)
            .header("Content-Type", content_type)
            .header("Content-Length", "100000000000");
        connection.send(&announced).await;
        connection.read_response(false).await.problem(413);

        let mut connection = Connection::open(server.http()).await;
        let endless = Request::new("POST", EVENTS)
            .header("Content-Type", content_type)
            .header("Transfer-Encoding", "chunked");
        connection.send(&endless).await;
        let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
        for _ in 0..512 {
            // The server closes once it has seen enough.
            if connection.try_send_bytes(&chunk).await.is_err() {
                break;
            }
        }
        match connection.try_read_head().await {
            Ok(head) => assert_eq!(head.status, 413, "{head:?}"),
            // What was still being sent when it closed can turn the answer into a reset.
            Err(error) => assert_ne!(error.kind(), std::io::ErrorKind::TimedOut, "{error}"),
        }
    }
    assert_nothing_stored(&server).await;
}

#[tokio::test]
async fn too_many_lines() {
    let server = Evergate::start(Options::memory()).await;
    let lines = "{\"data\":\"x\"}\n".repeat(1001);
    let requests = [Request::post(EVENTS, "application/x-ndjson", lines)];
    refused(&server, requests, |_, answer| {
        assert!(matches!(answer.status(), 400 | 413), "{answer:?}");
        let problem = answer.problem(answer.status());
        assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("1000")), "{problem}");
    })
    .await;
}
