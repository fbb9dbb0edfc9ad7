//! Streams that outlast the token that they were opened with, and those that do not.

use std::time::{Duration, Instant};

use evergate_tests::http1::{Request, Response, call};
use evergate_tests::http2;
use evergate_tests::issuer::Issuer;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::subscription::{End, Subscription};
use serde_json::{Value, json};

use crate::{EVENTS, bearer, guarded_with};

fn grants() -> Value {
    json!({ "subscribe": ["quote", "open"] })
}

async fn server() -> (Issuer, Evergate) {
    guarded_with(|options| options.set("access.reauth_before", "3s")).await
}

async fn renew(server: &Evergate, connection: &str, token: &str) -> Response {
    let target = format!("/v1/connections/{connection}/token");
    call(server.http(), bearer(Request::new("POST", &target), token)).await
}

/// One stream for each way in which bytes get to a client: by a shard, by a task, compressed, by HTTP/2.
async fn streams(server: &Evergate, token: &str) -> (http2::Client, Vec<Subscription>) {
    let several = "/v1/events?stream=quote&stream=open&envelope=0";
    let mut client = http2::Client::open(server.http()).await;
    let authorization = format!("Bearer {token}");
    let fields = [("authorization", authorization.as_str())];
    let streams = vec![
        Subscription::request(server.http(), &bearer(Request::get(EVENTS), token)).await,
        Subscription::request(server.http(), &bearer(Request::get(several), token)).await,
        Subscription::request(
            server.http(),
            &bearer(Request::get(EVENTS), token).header("Accept-Encoding", "gzip"),
        )
        .await,
        Subscription::over_http2(&mut client, EVENTS, &fields).await,
        Subscription::request(server.http(), &bearer(Request::get(EVENTS), token).http10()).await,
    ];
    (client, streams)
}

#[tokio::test]
async fn a_stream_is_told_and_ends_with_its_token() {
    let (issuer, server) = server().await;
    let began = Instant::now();
    let token = issuer.token("alice", 5, &grants());
    let (_client, mut streams) = streams(&server, &token).await;
    for stream in &mut streams {
        let opened = stream.opened().await;
        let told = stream.control("evergate.reauth").await.json();
        assert_eq!(told["connection"], opened.connection.as_str());
        let left = told["expires_in_ms"].as_u64().expect("a time");
        assert!((1_000..=3_000).contains(&left), "{left}");
    }
    for stream in &mut streams {
        let (frames, end) = stream.end().await;
        let [goaway] = frames.as_slice() else { panic!("{frames:?}") };
        assert_eq!(goaway.json()["reason"], "token-expired");
        assert!(goaway.retry.is_some(), "it may come back with another token: {goaway:?}");
        assert_eq!(end, End::Clean);
    }
    assert!(began.elapsed() >= Duration::from_secs(4), "not before the token's time");
    let again = call(server.http(), bearer(Request::get(EVENTS), &token)).await;
    again.problem(401);
}

#[tokio::test]
async fn a_fresh_token_of_the_same_subject_keeps_a_stream() {
    let (issuer, server) = server().await;
    let publisher = Publisher::connect(server.grpc()).await;
    let token = issuer.token("alice", 5, &grants());
    let (_client, mut streams) = streams(&server, &token).await;
    let fresh = issuer.token("alice", 600, &grants());
    for stream in &mut streams {
        let opened = stream.opened().await;
        stream.control("evergate.reauth").await;
        for (subject, grants, status) in [
            ("bob", grants(), 403),
            ("alice", json!({ "subscribe": ["quote/A*", "open/A*"] }), 403),
            ("alice", json!({}), 403),
        ] {
            let other = issuer.token(subject, 600, &grants);
            renew(&server, &opened.connection, &other).await.problem(status);
        }
        let forged = Issuer::new("forger").token("alice", 600, &grants());
        renew(&server, &opened.connection, &forged).await.problem(401);
        let answer = renew(&server, &opened.connection, &fresh).await;
        assert_eq!(answer.status(), 204, "{answer:?}");
    }
    // Longer than the first token lasts.
    tokio::time::sleep(Duration::from_secs(6)).await;
    publisher.publish("quote", event("still here")).await;
    for stream in &mut streams {
        assert_eq!(stream.data(1).await, ["still here"]);
    }
    renew(&server, "local~0~0~1~0000000000000000", &fresh).await.problem(404);
    let mut anonymous = Subscription::open(server.http(), "/v1/streams/open/events").await;
    let opened = anonymous.opened().await;
    renew(&server, &opened.connection, &fresh).await.problem_with(400, "connection");
}

#[tokio::test]
async fn any_edge_takes_a_fresh_token() {
    let issuer = Issuer::new("issuer");
    let options = |node: &str| issuer.guard(Options::memory()).set("node", node);
    let a = Evergate::start(options("a").set("access.reauth_before", "3s")).await;
    let b = Evergate::start(options("b").set("cluster.peers", &format!("a=http://{}", a.grpc()))).await;
    let token = issuer.token("alice", 4, &grants());
    let mut stream = Subscription::request(a.http(), &bearer(Request::get(EVENTS), &token)).await;
    let opened = stream.opened().await;
    stream.control("evergate.reauth").await;
    let forged = Issuer::new("forger").token("alice", 600, &grants());
    renew(&b, &opened.connection, &forged).await.problem(401);
    renew(&b, &opened.connection, &issuer.token("bob", 600, &grants())).await.problem(403);
    let fresh = issuer.token("alice", 600, &grants());
    assert_eq!(renew(&b, &opened.connection, &fresh).await.status(), 204);
    assert_eq!(stream.next_within(Duration::from_secs(5)).await, None, "it is left in peace");
}
