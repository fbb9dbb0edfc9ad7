//! A stream that is there and must not be seen, and one that is not: whoever may see neither is told the same of both,
//! by every call there is.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use evergate_proto::publish::v1::PublishRequest;
use evergate_proto::publish::v1::publisher_client::PublisherClient;
use evergate_tests::http1::{Connection, Request, Response, call};
use evergate_tests::http2;
use evergate_tests::issuer::Issuer;
use evergate_tests::process::Evergate;
use evergate_tests::publisher::{channel, event};
use serde_json::json;

use crate::{bearer, guarded};

/// Method, target, header fields, body.
type Ask<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)], &'a str);

/// It has events.
const THERE: &str = "hidden";
/// As long as the other, as it stands in addresses.
const NOT: &str = "absent";

/// What is told of a stream, without what differs from one answer to the next.
fn told(answer: &Response, stream: &str) -> String {
    let changing = ["date", "x-trace-id", "traceparent"];
    let fields = answer.head.headers.iter().filter(|(name, _)| !changing.contains(&name.as_str()));
    // What is left of a budget is less each time.
    let value = |name: &str, value: &str| if name.starts_with("x-ratelimit") { "" } else { value }.to_owned();
    let fields: Vec<_> = fields.map(|(name, had)| format!("{name}: {}", value(name, had))).collect();
    let names: BTreeSet<_> = answer.head.headers.iter().map(|(name, _)| name).collect();
    let mut body = String::from_utf8_lossy(&answer.body).replace(stream, "STREAM");
    if let Some(trace) = answer.head.header("x-trace-id") {
        body = body.replace(trace, "TRACE");
    }
    format!("{} {names:?} {fields:?} {body}", answer.head.status)
}

async fn scene() -> (Issuer, Evergate) {
    let (issuer, server) = guarded().await;
    let writer = issuer.token("writer", 600, &json!({ "publish": [THERE] }));
    let line = r#"{"data":"x","key":"k"}"#;
    let lines = [line; 20].join("\n");
    let post = Request::post(&format!("/v1/streams/{THERE}/events"), "application/x-ndjson", lines);
    assert_eq!(call(server.http(), bearer(post, &writer)).await.status(), 200);
    (issuer, server)
}

#[tokio::test]
async fn what_is_forbidden_looks_like_what_is_not_there() {
    let (issuer, server) = scene().await;
    let token = issuer.token("alice", 600, &json!({ "subscribe": ["quote"], "publish": ["orders"] }));
    let mut client = http2::Client::open(server.http()).await;
    let authorization = format!("Bearer {token}");
    let asks: [Ask<'_>; 12] = [
        ("GET", "/v1/streams/STREAM/events", &[], ""),
        ("HEAD", "/v1/streams/STREAM/events", &[], ""),
        ("GET", "/v1/streams/STREAM/events?errors=http&key=k", &[], ""),
        ("GET", "/v1/streams/STREAM/events?from=earliest", &[], ""),
        ("GET", "/v1/streams/STREAM/events", &[("last-event-id", "1-1")], ""),
        ("GET", "/v1/streams/STREAM/events?client_id=alice", &[], ""),
        ("GET", "/v1/streams/STREAM/events", &[("accept-encoding", "gzip")], ""),
        ("GET", "/v1/events?stream=quote&stream=STREAM", &[], ""),
        ("GET", "/v1/streams/STREAM", &[], ""),
        ("POST", "/v1/streams/STREAM/events", &[("content-type", "text/plain")], "x"),
        (
            "POST",
            "/v1/streams/STREAM/events",
            &[("content-type", "application/json")],
            r#"{"data":"x","key":"k"}"#,
        ),
        ("POST", "/v1/streams/STREAM/events", &[("content-type", "application/x-ndjson")], "no JSON at all"),
    ];
    for (method, target, fields, body) in asks {
        // With a token that does not grant it, and with none.
        for with_token in [true, false] {
            let mut answers = Vec::new();
            for stream in [THERE, NOT] {
                let mut request = Request::new(method, &target.replace("STREAM", stream));
                for (name, value) in fields {
                    request = request.header(name, value);
                }
                if !body.is_empty() {
                    request = request.body(body);
                }
                if with_token {
                    request = bearer(request, &token);
                }
                let over_http1 = call(server.http(), request).await;
                let mut all = fields.to_vec();
                if with_token {
                    all.push(("authorization", authorization.as_str()));
                }
                let over_http2 =
                    client.call(method, &target.replace("STREAM", stream), &all, body.to_owned()).await;
                assert!((400..500).contains(&over_http1.status()), "{method} {target} of {stream}");
                answers.push((told(&over_http1, stream), told(&over_http2, stream)));
            }
            assert_eq!(answers[0], answers[1], "{method} {target}");
        }
    }

    let mut grpc = PublisherClient::new(channel(server.grpc()).await.expect("it listens"));
    let mut statuses = Vec::new();
    for stream in [THERE, NOT] {
        let message = PublishRequest { stream: stream.to_owned(), event: Some(event("x")), level: 0 };
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("authorization", authorization.parse().expect("plain"));
        let status = grpc.publish(request).await.expect_err("it is not granted");
        let names: BTreeSet<_> = status.metadata().keys().map(|name| format!("{name:?}")).collect();
        statuses.push((status.code(), status.message().replace(stream, "STREAM"), names));
    }
    assert_eq!(statuses[0], statuses[1]);
}

/// Nor does it take another time, as far as that can be told apart on a machine that others use too.
#[tokio::test]
async fn what_is_forbidden_takes_as_long_as_what_is_not_there() {
    const EACH: usize = 500;
    let (issuer, server) = scene().await;
    let token = issuer.token("alice", 600, &json!({ "subscribe": ["quote"] }));
    let mut took: [Vec<Duration>; 2] = Default::default();
    for _ in 0..EACH {
        for (stream, took) in [THERE, NOT].iter().zip(&mut took) {
            let request = bearer(Request::get(&format!("/v1/streams/{stream}/events?from=earliest")), &token);
            let mut connection = Connection::open(server.http()).await;
            let began = Instant::now();
            let answer = connection.call(&request).await;
            took.push(began.elapsed());
            assert_eq!(answer.status(), 403);
        }
    }
    let [there, not] = took.map(|mut took| {
        took.sort();
        took[EACH / 2]
    });
    let (less, more) = (there.min(not), there.max(not));
    assert!(more < less * 3, "{there:?} for one that is there, {not:?} for one that is not");
}
