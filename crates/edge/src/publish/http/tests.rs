#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ::http::{HeaderName, Request};
use evergate_domain::{AgreedLimits, EventType, Key, StreamPolicies};
use evergate_eventlog::{AppendError, BackendError};
use futures_util::{StreamExt as _, stream};
use http_body::Frame;
use http_body_util::{BodyExt as _, StreamBody};
use serde_json::{Value, json};

use super::*;
use crate::publish::ProducerBindings;
use crate::publish::testing::{self, LIMITS, TestLog, here};

const JSON: &str = "application/json";
const LINES: &str = "application/x-ndjson";
const TEXT: &str = "text/plain";

type Headers<'a> = &'a [(&'a str, &'a [u8])];

fn parts(content_type: &str, headers: Headers<'_>) -> Parts {
    let mut request = Request::post("/v1/streams/quote/events");
    if !content_type.is_empty() {
        request = request.header(field::CONTENT_TYPE, content_type);
    }
    for (name, value) in headers {
        request =
            request.header(name.parse::<HeaderName>().unwrap(), HeaderValue::from_bytes(value).unwrap());
    }
    request.body(()).unwrap().into_parts().0
}

/// What a client sees: the status, the header fields and the JSON body.
struct Seen {
    status: u16,
    headers: ::http::HeaderMap,
    body: Value,
}

impl Seen {
    /// The fields at fault, with their lines.
    fn faults(&self) -> Vec<(&str, Option<u64>)> {
        let errors = self.body["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
        errors.iter().map(|error| (error["field"].as_str().unwrap(), error["line"].as_u64())).collect()
    }

    fn code(&self) -> &str {
        self.body["code"].as_str().unwrap_or_default()
    }
}

async fn see(result: Result<Response<Full<Bytes>>, Problem>) -> Seen {
    let (parts, body) = result.unwrap_or_else(Problem::into_response).into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    Seen {
        status: parts.status.as_u16(),
        headers: parts.headers,
        body: serde_json::from_slice(&body).unwrap(),
    }
}

/// A log and a publisher onto it.
struct Bench {
    log: Arc<TestLog>,
    publisher: Publisher,
}

impl Bench {
    fn new() -> Self {
        let log = TestLog::new();
        Self { publisher: log.publisher(LIMITS), log }
    }

    async fn post(&self, content_type: &str, headers: Headers<'_>, body: impl Into<Bytes>) -> Seen {
        let stream = StreamName::new("quote").unwrap();
        let parts = parts(content_type, headers);
        see(publish(&self.publisher, &here(), &stream, &parts, None, Full::new(body.into())).await).await
    }

    async fn data(&self) -> Vec<String> {
        self.log.data("quote").await
    }
}

#[tokio::test]
async fn a_json_object_becomes_an_event() {
    let bench = Bench::new();
    let body =
        r#"{"data":"a\nb","type":"trade","key":"päckchen","producer":{"id":"p:1","seq":7},"level":"home"}"#;
    let first = bench.post("application/json; charset=utf-8", &[], body).await;
    assert_eq!(first.status, 200);
    assert_eq!(first.headers[field::CONTENT_TYPE], "application/json");
    assert_eq!(first.headers[field::CACHE_CONTROL], "no-store");
    let event = &bench.log.events("quote").await[0];
    assert_eq!(first.body, json!({ "offset": event.offset.to_string(), "duplicate": false }));
    assert_eq!(event.data, "a\nb");
    assert_eq!(event.kind, Some(EventType::new("trade").unwrap()));
    assert_eq!(event.key, Some(Key::new("päckchen").unwrap()));
    let producer = event.producer.as_ref().unwrap();
    assert_eq!((producer.id.as_str(), producer.seq.get()), ("p:1", 7));

    let again = bench.post(JSON, &[], body).await;
    assert_eq!(again.body, json!({ "offset": event.offset.to_string(), "duplicate": true }));
    assert_eq!(bench.data().await.len(), 1);
}

#[tokio::test]
async fn data_is_a_string_as_it_is_or_compact_text() {
    let bench = Bench::new();
    for (data, expected) in [
        (r#""plain""#, "plain"),
        (r#""""#, ""),
        (r#""\u00e4\ud83d\ude00""#, "ä😀"),
        ("null", "null"),
        ("true", "true"),
        ("1.50", "1.50"),
        ("123456789012345678901234567890", "123456789012345678901234567890"),
        ("{ \"b\" : [ 1.0 , -0 , 1e3 ] ,\n \"a\" : \"x y\" }", r#"{"b":[1.0,-0,1e3],"a":"x y"}"#),
    ] {
        let seen = bench.post(JSON, &[], format!("{{\"data\": {data} }}")).await;
        assert_eq!(seen.status, 200, "{data}: {}", seen.body);
        assert_eq!(bench.data().await.pop().unwrap(), expected);
    }
}

#[tokio::test]
async fn members_that_may_be_left_out_may_be_null() {
    let bench = Bench::new();
    let seen =
        bench.post(JSON, &[], r#"{"data":"a","type":null,"key":null,"producer":null,"level":null}"#).await;
    assert_eq!(seen.status, 200, "{}", seen.body);
    let event = &bench.log.events("quote").await[0];
    assert_eq!((&event.kind, &event.key, &event.producer), (&None, &None, &None));
}

#[tokio::test]
async fn a_malformed_json_object_is_refused_and_every_fault_named() {
    let cases: &[(&str, &[&str])] = &[
        ("", &["body"]),
        ("nonsense", &["body"]),
        (r#"{"data":"a""#, &["body"]),
        (r#"{"data":"a"} {"data":"b"}"#, &["body"]),
        (r#"[{"data":"a"}]"#, &["body"]),
        (r#""a""#, &["body"]),
        (r#"{"data":"a",}"#, &["body"]),
        ("{}", &["data"]),
        (r#"{"data":"\ud800"}"#, &["data"]),
        (r#"{"data":"a","data":"b"}"#, &["data"]),
        (r#"{"data":"a","key":"k","key":"k"}"#, &["key"]),
        (r#"{"data":"a","retry":5}"#, &["retry"]),
        (r#"{"data":"a","Key":"k"}"#, &["Key"]),
        (r#"{"data":"a","type":7,"key":[],"level":{}}"#, &["type", "key", "level"]),
        (r#"{"data":"a","type":"","key":""}"#, &["type", "key"]),
        (r#"{"data":"a","type":"evergate.gap","key":"a*"}"#, &["type", "key"]),
        (r#"{"data":"a","type":"a\nid: 1-1","key":"\u0000"}"#, &["type", "key"]),
        (r#"{"data":"a","level":"best"}"#, &["level"]),
        (r#"{"data":"a","producer":"p/1"}"#, &["producer"]),
        (r#"{"data":"a","producer":{}}"#, &["producer.id", "producer.seq"]),
        (r#"{"data":"a","producer":{"id":"p","seq":0}}"#, &["producer.seq"]),
        (r#"{"data":"a","producer":{"id":"p","seq":1.0}}"#, &["producer.seq"]),
        (r#"{"data":"a","producer":{"id":"p","seq":"1"}}"#, &["producer.seq"]),
        (r#"{"data":"a","producer":{"id":"p","seq":9007199254740992}}"#, &["producer.seq"]),
        (r#"{"data":"a","producer":{"id":"p","seq":99999999999999999999}}"#, &["producer.seq"]),
        (r#"{"data":"a","producer":{"id":"a b","seq":-1}}"#, &["producer.seq", "producer.id"]),
        (r#"{"data":"a","producer":{"id":"p","seq":1,"epoch":2}}"#, &["producer.epoch"]),
        (r#"{"key":"*","type":7,"x":1,"producer":{"seq":1}}"#, &["x", "data", "type", "producer.id", "key"]),
    ];
    for (body, fields) in cases {
        let bench = Bench::new();
        let seen = bench.post(JSON, &[], *body).await;
        assert_eq!((seen.status, seen.code()), (400, "bad-request"), "{body}: {}", seen.body);
        let expected: Vec<_> = fields.iter().map(|field| (*field, None)).collect();
        assert_eq!(seen.faults(), expected, "{body}");
        assert_eq!(seen.headers[field::CONTENT_TYPE], "application/problem+json");
        assert!(bench.log.seen().batches.is_empty(), "{body} was sent to the log");
    }
}

#[tokio::test]
async fn an_object_of_nothing_but_strays_is_answered_briefly() {
    let bench = Bench::new();
    let body: String = (0..300).map(|n| format!("\"{n}{}\":0,", "x".repeat(10))).collect();
    let seen = bench.post(JSON, &[], format!("{{{body}\"data\":0}}")).await;
    assert_eq!(seen.faults().len(), 8);
    let long = bench.post(JSON, &[], format!("{{\"{}\":0,\"data\":0}}", "ä".repeat(500))).await;
    assert_eq!(long.faults()[0].0.chars().count(), 64);
}

#[tokio::test]
async fn lines_are_one_batch() {
    let bench = Bench::new();
    let body = "\n{\"data\":1,\"key\":\"a\"}\r\n  \n{\"data\":\"two\",\"producer\":{\"id\":\"p\",\"seq\":1}}\n{\"data\":[]}";
    let seen = bench.post(LINES, &[], body).await;
    assert_eq!(seen.status, 200, "{}", seen.body);
    let events = bench.log.events("quote").await;
    assert_eq!(bench.data().await, ["1", "two", "[]"]);
    let expected: Vec<_> = events
        .iter()
        .map(|event| json!({ "offset": event.offset.to_string(), "duplicate": false }))
        .collect();
    assert_eq!(seen.body, Value::from(expected));
    assert_eq!(bench.log.seen().batches.len(), 1);

    let again = bench
        .post(LINES, &[], "{\"data\":\"two\",\"producer\":{\"id\":\"p\",\"seq\":1}}\n{\"data\":4}\n")
        .await;
    assert_eq!(again.body[0], json!({ "offset": events[1].offset.to_string(), "duplicate": true }));
    assert_eq!(again.body[1]["duplicate"], false);
}

#[tokio::test]
async fn one_bad_line_refuses_the_batch_and_every_bad_line_is_named() {
    let bench = Bench::new();
    let body = "{\"data\":1}\n\nnonsense\n{\"data\":2,\"key\":\"*\",\"x\":0}\n{\"data\":3}\n{}\n";
    let seen = bench.post(LINES, &[], body).await;
    assert_eq!((seen.status, seen.code()), (400, "bad-request"));
    assert_eq!(seen.faults(), [("body", Some(3)), ("x", Some(4)), ("key", Some(4)), ("data", Some(6))]);
    assert_eq!(seen.body["errors"][0]["detail"], "expected ident at column 2");
    assert!(bench.log.seen().batches.is_empty());
}

#[tokio::test]
async fn a_batch_has_its_limits() {
    let bench = Bench::new();
    let many = "{\"data\":0}\n".repeat(LIMITS.batch_events_max);
    assert_eq!(bench.post(LINES, &[], many.clone()).await.status, 200);
    let too_many = bench.post(LINES, &[], many + "nonsense\n").await;
    assert_eq!((too_many.status, too_many.code()), (413, "too-large"));
    assert_eq!(too_many.faults(), [("body", None)]);

    let large = format!("{{\"data\":\"{}\"}}\n", "x".repeat(1000));
    assert_eq!(bench.post(LINES, &[], large.repeat(4)).await.status, 200);
    let too_large = bench.post(LINES, &[], large.repeat(5)).await;
    assert_eq!((too_large.status, too_large.code()), (413, "too-large"));
    assert_eq!(too_large.faults(), [("body", None)]);

    let long_line = format!("{{\"data\":0}}\n{{\"data\":\"{}\"}}\n", "x".repeat(1001));
    let seen = bench.post(LINES, &[], long_line).await;
    assert_eq!((seen.status, seen.code()), (413, "too-large"));
    assert_eq!(seen.faults(), [("data", Some(2))]);

    for empty in ["", "\n \r\n"] {
        let seen = bench.post(LINES, &[], empty).await;
        assert_eq!((seen.status, seen.faults()), (400, vec![("body", None)]));
    }
}

#[tokio::test]
async fn a_text_body_is_the_payload_exactly() {
    let bench = Bench::new();
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers: Headers<'_> = &[
        ("evergate-type", b"trade"),
        ("evergate-key", "päckchen/7%20€".as_bytes()),
        ("evergate-producer", b"p:1/42"),
        ("traceparent", trace.as_bytes()),
    ];
    let body = "\u{feff} a\r\nb\0\n";
    let seen = bench.post("text/html; charset=UTF-8", headers, body).await;
    assert_eq!(seen.status, 200, "{}", seen.body);
    let event = &bench.log.events("quote").await[0];
    assert_eq!(event.data, body);
    assert_eq!(event.key.as_ref().unwrap().as_str(), "päckchen/7%20€");
    assert_eq!(event.kind.as_ref().unwrap().as_str(), "trade");
    let producer = event.producer.as_ref().unwrap();
    assert_eq!((producer.id.as_str(), producer.seq.get()), ("p:1", 42));
    assert_eq!(event.trace.as_ref().unwrap().to_string(), trace);

    assert_eq!(bench.post(TEXT, &[], "").await.status, 200);
    assert_eq!(bench.data().await[1], "");
}

#[tokio::test]
async fn malformed_header_fields_are_all_named() {
    let bench = Bench::new();
    let cases: &[(&str, Headers<'_>, &[u8], &[&str])] = &[
        (TEXT, &[], b"a\xff", &["body"]),
        (TEXT, &[("evergate-type", b"")], b"", &["header.Evergate-Type"]),
        (TEXT, &[("evergate-key", b"\xff")], b"", &["header.Evergate-Key"]),
        (TEXT, &[("evergate-key", b"a"), ("evergate-key", b"a")], b"", &["header.Evergate-Key"]),
        (TEXT, &[("evergate-producer", b"p")], b"", &["header.Evergate-Producer"]),
        (TEXT, &[("evergate-producer", b"p/")], b"", &["header.Evergate-Producer"]),
        (TEXT, &[("evergate-producer", b"/1")], b"", &["header.Evergate-Producer"]),
        (TEXT, &[("evergate-producer", b"p/+1")], b"", &["header.Evergate-Producer"]),
        (TEXT, &[("evergate-producer", b"p/0")], b"", &["header.Evergate-Producer"]),
        (TEXT, &[("evergate-producer", b"a/b/1")], b"", &["header.Evergate-Producer"]),
        (TEXT, &[("evergate-level", b"best")], b"", &["header.Evergate-Level"]),
        (
            TEXT,
            &[
                ("evergate-level", b"best"),
                ("evergate-type", b"evergate.x"),
                ("evergate-key", b"*"),
                ("evergate-producer", b"a b/0"),
            ],
            b"\xff",
            &[
                "header.Evergate-Level",
                "body",
                "header.Evergate-Type",
                "header.Evergate-Key",
                "header.Evergate-Producer",
                "header.Evergate-Producer",
            ],
        ),
        (JSON, &[], b"{\"data\":\"\xff\"}", &["body"]),
        (JSON, &[("evergate-level", b"best")], b"{}", &["header.Evergate-Level", "data"]),
        (
            JSON,
            &[("evergate-key", b"a"), ("evergate-producer", b"p/1")],
            b"{\"data\":0}",
            &["header.Evergate-Key", "header.Evergate-Producer"],
        ),
        (LINES, &[("evergate-type", b"a")], b"{\"data\":0}", &["header.Evergate-Type"]),
    ];
    for (media, headers, body, fields) in cases {
        let seen = bench.post(media, headers, Bytes::copy_from_slice(body)).await;
        let named: Vec<_> = seen.faults().into_iter().map(|(field, _)| field).collect();
        assert_eq!((seen.status, named), (400, fields.to_vec()), "{headers:?} {}", seen.body);
    }
    assert!(bench.log.seen().batches.is_empty());
}

#[tokio::test]
async fn a_malformed_trace_is_ignored() {
    let bench = Bench::new();
    let good: &[u8] = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let cases: [Headers<'_>; 2] =
        [&[("traceparent", b"nonsense")], &[("traceparent", good), ("traceparent", good)]];
    for headers in cases {
        assert_eq!(bench.post(TEXT, headers, "a").await.status, 200);
        assert_eq!(bench.log.events("quote").await.pop().unwrap().trace, None);
    }
}

#[tokio::test]
async fn other_media_types_are_refused_with_what_is_accepted() {
    let bench = Bench::new();
    for (media, headers) in [
        ("", &[] as Headers<'_>),
        ("application/x-www-form-urlencoded", &[]),
        ("text/plain; charset=utf-16", &[]),
        (JSON, &[("content-type", TEXT.as_bytes())]),
        (JSON, &[("content-encoding", b"gzip")]),
    ] {
        let seen = bench.post(media, headers, "{\"data\":0}").await;
        assert_eq!((seen.status, seen.code()), (415, "unsupported-media-type"), "{media}");
        assert_eq!(seen.headers[field::ACCEPT], "application/json, application/x-ndjson, text/*");
    }
    assert_eq!(bench.post(JSON, &[("content-encoding", b"Identity")], "{\"data\":0}").await.status, 200);
}

#[tokio::test]
async fn a_body_is_read_only_as_far_as_it_may_go() {
    let bench = Bench::new();
    assert_eq!(bench.post(TEXT, &[], "x".repeat(1000)).await.status, 200);
    let seen = bench.post(TEXT, &[], "x".repeat(1001)).await;
    assert_eq!((seen.status, seen.code(), seen.faults()), (413, "too-large", vec![("body", None)]));
    // However an event within the limits is spelled, it is taken.
    let spelled = "\\u0000".repeat(1000);
    assert_eq!(bench.post(JSON, &[], format!("{{\"data\":\"{spelled}\"}}")).await.status, 200);
    let seen = bench.post(JSON, &[], format!("{{\"data\":\"{}\"}}", "x".repeat(1001))).await;
    assert_eq!((seen.status, seen.code(), seen.faults()), (413, "too-large", vec![("data", None)]));

    let stream = StreamName::new("quote").unwrap();
    let read = Arc::new(AtomicUsize::new(0));
    let frames = Arc::clone(&read);
    let long = stream::repeat_with(move || {
        frames.fetch_add(1, Ordering::SeqCst);
        Ok::<_, Infallible>(Frame::data(Bytes::from_static(&[b'x'; 100])))
    });
    let long = StreamBody::new(long.take(1000));
    let seen = see(publish(&bench.publisher, &here(), &stream, &parts(TEXT, &[]), None, long).await).await;
    assert_eq!((seen.status, read.load(Ordering::SeqCst)), (413, 11));

    let untouched =
        StreamBody::new(stream::poll_fn(|_| -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            panic!("was read")
        }));
    let announced = parts(TEXT, &[("content-length", b"1001")]);
    assert_eq!(
        see(publish(&bench.publisher, &here(), &stream, &announced, None, untouched).await).await.status,
        413
    );
}

#[tokio::test]
async fn a_body_that_breaks_off_is_not_published() {
    let bench = Bench::new();
    let stream = StreamName::new("quote").unwrap();
    let frames = [Ok(Frame::data(Bytes::from_static(b"half"))), Err("connection reset")];
    let body = StreamBody::new(stream::iter(frames));
    let seen = see(publish(&bench.publisher, &here(), &stream, &parts(TEXT, &[]), None, body).await).await;
    assert_eq!((seen.status, seen.faults()), (400, vec![("body", None)]));
    assert!(bench.log.seen().batches.is_empty());
}

#[tokio::test]
async fn a_level_may_be_demanded_up_to_what_the_log_gives() {
    let bench = Bench::new();
    assert_eq!(bench.post(TEXT, &[("evergate-level", b"HOME")], "a").await.status, 200);
    let header = bench.post(TEXT, &[("evergate-level", b"quorum")], "a").await;
    assert_eq!((header.status, header.code()), (409, "level-unavailable"));
    assert_eq!(header.faults(), [("header.Evergate-Level", None)]);
    let member = bench.post(JSON, &[], r#"{"data":0,"level":"REPLICATED"}"#).await;
    assert_eq!((member.status, member.faults()), (409, vec![("level", None)]));
    // One append has one level, so the strictest demand counts.
    let line = bench
        .post(LINES, &[], "{\"data\":0,\"level\":\"REPLICATED\"}\n{\"data\":0,\"level\":\"HOME\"}")
        .await;
    assert_eq!(line.status, 409);
    assert_eq!(bench.data().await.len(), 1);
}

#[tokio::test]
async fn a_stream_that_does_not_exist_is_not_created() {
    let bench = Bench::new();
    let closed = StreamPolicies { closed: true, ..testing::open() };
    let publisher = Publisher::new(
        bench.log.clone(),
        Arc::new(closed),
        LIMITS,
        &AgreedLimits::default(),
        ProducerBindings::default(),
        evergate_telemetry::Tracer::off(),
        Arc::default(),
    );
    let stream = StreamName::new("quote").unwrap();
    let body = Full::new(Bytes::from_static(b"a"));
    let seen = see(publish(&publisher, &here(), &stream, &parts(TEXT, &[]), None, body).await).await;
    assert_eq!((seen.status, seen.code()), (404, "unknown-stream"));
    assert!(bench.log.seen().batches.is_empty());
}

#[tokio::test]
async fn what_the_log_says_has_its_status_and_says_whether_to_retry() {
    let bench = Bench::new();
    let secret = || BackendError::message("/secret/path: input/output error");
    for (error, status, code, retry) in [
        (AppendError::Full("/secret/path".to_owned()), 507, "log-full", Some("5")),
        (AppendError::Unavailable(secret()), 503, "log-unavailable", Some("1")),
        (AppendError::Closed, 503, "shutting-down", Some("1")),
    ] {
        bench.log.fail_next(error);
        let seen = bench.post(TEXT, &[], "a").await;
        assert_eq!((seen.status, seen.code()), (status, code));
        assert_eq!(seen.headers.get(field::RETRY_AFTER).map(|value| value.to_str().unwrap()), retry);
        assert!(!seen.body.to_string().contains("secret"), "{}", seen.body);
    }

    let line = |seq: u64| format!("{{\"data\":{seq},\"producer\":{{\"id\":\"p\",\"seq\":{seq}}}}}\n");
    assert_eq!(bench.post(LINES, &[], line(9)).await.status, 200);
    let seen = bench.post(LINES, &[], format!("{}\n{}{}", line(10), line(5), line(11))).await;
    assert_eq!((seen.status, seen.code()), (409, "sequence-too-old"));
    assert_eq!(seen.faults(), [("producer.seq", Some(3))]);
    assert_eq!(seen.headers.get(field::RETRY_AFTER), None);
    assert_eq!(bench.data().await, ["9"]);
}
