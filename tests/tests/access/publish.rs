//! What a publisher may write.

use evergate_proto::publish::v1::publisher_client::PublisherClient;
use evergate_proto::publish::v1::{Event, PublishBatchRequest, PublishRequest};
use evergate_tests::http1::{Request, call};
use evergate_tests::publisher::{channel, event, keyed};
use serde_json::json;
use tonic::Code;

use crate::{bearer, guarded, told};

fn post(stream: &str, body: &str) -> Request {
    Request::post(&format!("/v1/streams/{stream}/events"), "application/json", body)
}

#[tokio::test]
async fn over_http_what_is_granted_and_nothing_else() {
    let (issuer, server) = guarded().await;
    let token =
        issuer.token("p", 600, &json!({ "publish": ["orders", "logs/app*"], "subscribe": ["quote"] }));
    let send = async |stream: &str, body: &str| call(server.http(), bearer(post(stream, body), &token)).await;
    assert_eq!(send("orders", r#"{"data":"1"}"#).await.status(), 200);
    assert_eq!(send("logs", r#"{"data":"1","key":"app.web"}"#).await.status(), 200);
    for (stream, body) in [
        ("logs", r#"{"data":"1"}"#),
        ("logs", r#"{"data":"1","key":"db"}"#),
        ("quote", r#"{"data":"1"}"#),
        // Refused before it is read.
        ("quote", "this is no JSON"),
    ] {
        let answer = send(stream, body).await;
        let unknown = send("no-such-stream", body).await;
        assert_eq!(told(&answer.problem(403)), told(&unknown.problem(403)), "{stream} {body}");
    }
    let lines = "{\"data\":\"1\",\"key\":\"app\"}\n{\"data\":\"2\",\"key\":\"db\"}";
    let batch = Request::post("/v1/streams/logs/events", "application/x-ndjson", lines);
    call(server.http(), bearer(batch, &token)).await.problem(403);
    call(server.http(), post("orders", r#"{"data":"1"}"#)).await.problem(401);
    assert_eq!(call(server.http(), post("in", r#"{"data":"1"}"#)).await.status(), 200);
}

#[tokio::test]
async fn over_grpc_what_is_granted_and_nothing_else() {
    let (issuer, server) = guarded().await;
    let token = issuer.token("p", 600, &json!({ "publish": ["orders", "logs/app*"] }));
    let mut client = PublisherClient::new(channel(server.grpc()).await.expect("it listens"));
    let with = |token: &str, stream: &str, event: Event| {
        let message = PublishRequest { stream: stream.to_owned(), event: Some(event), ..Default::default() };
        let mut request = tonic::Request::new(message);
        if !token.is_empty() {
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("plain"));
        }
        request
    };
    client.publish(with(&token, "orders", event("1"))).await.expect("it is granted");
    client.publish(with(&token, "logs", keyed("app.web", "1"))).await.expect("it is granted");
    client.publish(with("", "in", event("1"))).await.expect("anybody may");
    for (token, stream, event, code) in [
        ("", "orders", event("1"), Code::Unauthenticated),
        ("a.b.c", "orders", event("1"), Code::Unauthenticated),
        (token.as_str(), "logs", event("1"), Code::PermissionDenied),
        (token.as_str(), "logs", keyed("db", "1"), Code::PermissionDenied),
        (token.as_str(), "no-such-stream", event("1"), Code::PermissionDenied),
    ] {
        let refused = client.publish(with(token, stream, event)).await.expect_err("it is not granted");
        assert_eq!(refused.code(), code, "{refused:?}");
    }
    let mut batch = tonic::Request::new(PublishBatchRequest {
        stream: "logs".to_owned(),
        events: vec![keyed("app", "1"), keyed("db", "2")],
        ..Default::default()
    });
    batch.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("plain"));
    let refused = client.publish_batch(batch).await.expect_err("all or nothing");
    assert_eq!(refused.code(), Code::PermissionDenied);
}
