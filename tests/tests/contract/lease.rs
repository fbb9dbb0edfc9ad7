//! Streams that end unless their clients ping.

use std::time::{Duration, Instant};

use evergate_tests::http1::{Request, Response, call};
use evergate_tests::http2;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::Publisher;
use evergate_tests::subscription::{End, Opened, Subscription};
use serde_json::json;

use crate::events_of;

const INTERVAL: Duration = Duration::from_millis(600);
/// With the third ping missed it is over, and noticed within a part of an interval. The rest is for a
/// machine that is busy.
const LIFE_MAX: Duration = Duration::from_secs(10);

async fn server() -> Evergate {
    Evergate::start(Options::memory().set("sse.ping_interval", "600ms")).await
}

fn target(query: &str) -> String {
    format!("{}?{query}", events_of("s"))
}

async fn ping(server: &Evergate, connection: &str) -> Response {
    let target = format!("/v1/connections/{connection}/ping");
    call(server.http(), Request::new("POST", &target)).await
}

/// Waits for the end of a stream whose client is silent.
async fn expires(stream: &mut Subscription, opened_at: Instant) {
    let (frames, end) = stream.end().await;
    let lived = opened_at.elapsed();
    let [goaway] = frames.as_slice() else { panic!("{frames:?}") };
    assert_eq!(goaway.event.as_deref(), Some("evergate.goaway"));
    assert_eq!(goaway.json()["reason"], "lease-expired");
    assert!(goaway.retry.is_some_and(|retry| retry <= 3_000), "it may come back as usual: {goaway:?}");
    assert_eq!(end, End::Clean);
    assert!(lived >= INTERVAL * 3 && lived < LIFE_MAX, "{lived:?}");
}

async fn over(
    server: &Evergate,
    version: &str,
    query: &str,
) -> (Option<http2::Client>, Subscription, Opened) {
    let target = target(query);
    let (client, mut stream) = match version {
        "HTTP/2" => {
            let mut client = http2::Client::open(server.http()).await;
            let stream = Subscription::over_http2(&mut client, &target, &[]).await;
            (Some(client), stream)
        }
        _ => (None, Subscription::open(server.http(), &target).await),
    };
    let opened = stream.opened().await;
    (client, stream, opened)
}

#[tokio::test]
async fn a_leased_stream_lives_as_long_as_its_client_pings() {
    let server = server().await;
    for version in ["HTTP/1.1", "HTTP/2"] {
        let before = Instant::now();
        let (_silent_client, mut silent, _) = over(&server, version, "lease=1").await;
        let (_client, mut stream, opened) = over(&server, version, "lease=1").await;
        assert_eq!(opened.frame.json()["ping_ms"], 600, "it is told how often");
        // Longer than it would live without; each answered at once.
        let mut heard = Instant::now();
        let until = heard + INTERVAL * 5;
        while Instant::now() < until {
            tokio::time::sleep(INTERVAL / 4).await;
            assert_eq!(ping(&server, &opened.connection).await.status(), 204, "{version}");
            heard = Instant::now();
        }
        expires(&mut silent, before).await;
        let publisher = Publisher::connect(server.grpc()).await;
        publisher.publish_all("s", ["still here".to_owned()]).await;
        assert_eq!(stream.data(1).await, ["still here"]);
        expires(&mut stream, heard).await;
        drop(stream);
        let until = Instant::now() + LIFE_MAX;
        loop {
            let answer = ping(&server, &opened.connection).await;
            if answer.status() == 404 {
                answer.problem(404);
                break;
            }
            assert!(answer.status() == 204 && Instant::now() < until, "{answer:?}");
        }
    }
}

#[tokio::test]
async fn who_did_not_ask_for_a_lease_needs_no_pings() {
    let server = server().await;
    let (_, mut plain, opened) = over(&server, "HTTP/1.1", "").await;
    assert!(opened.frame.json().get("ping_ms").is_none());
    let (_, mut named, _) = over(&server, "HTTP/1.1", "client_id=alice").await;
    let begun = Instant::now();
    let (_, mut leased, _) = over(&server, "HTTP/1.1", "lease=1").await;
    expires(&mut leased, begun).await;
    // It may ask all the same whether its stream is there.
    assert_eq!(ping(&server, &opened.connection).await.status(), 204);
    let publisher = Publisher::connect(server.grpc()).await;
    publisher.publish_all("s", ["1".to_owned()]).await;
    assert_eq!(plain.data(1).await, ["1"]);
    assert_eq!(named.data(1).await, ["1"]);
}

#[tokio::test]
async fn a_lease_that_ran_out_leaves_the_place_where_it_was() {
    let server = server().await;
    let publisher = Publisher::connect(server.grpc()).await;
    let begun = Instant::now();
    let (_, mut stream, opened) = over(&server, "HTTP/1.1", "lease=1&client_id=alice&acks=1").await;
    let offsets = publisher.publish_all("s", (1..=5).map(|n: u64| n.to_string())).await;
    stream.data(5).await;
    let acknowledged = offsets[2].to_string();
    let body = json!({ "connection": opened.connection, "cursor": acknowledged }).to_string();
    assert_eq!(call(server.http(), Request::post("/v1/acks", "application/json", body)).await.status(), 204);
    expires(&mut stream, begun).await;
    let (_, mut again, opened) = over(&server, "HTTP/1.1", "client_id=alice").await;
    assert_eq!((opened.resume.as_str(), opened.cursor), ("stored", acknowledged));
    assert_eq!(again.data(2).await, ["4", "5"]);
}

#[tokio::test]
async fn a_ping_that_makes_no_sense_is_refused() {
    let server = server().await;
    let (_, _stream, opened) = over(&server, "HTTP/1.1", "lease=1").await;
    ping(&server, "nobody").await.problem(404);
    ping(&server, "").await.problem(404);
    ping(&server, "local~0~0~1~0000000000000000").await.problem(404);
    ping(&server, "%ff").await.problem_with(400, "path.connection");
    assert_eq!(ping(&server, &opened.connection.replace('~', "%7E")).await.status(), 204, "decoded");
    let path = format!("/v1/connections/{}/ping", opened.connection);
    let refused = call(server.http(), Request::get(&path)).await;
    refused.problem(405);
    assert!(refused.head.lists("allow", "POST"), "{refused:?}");
    call(server.http(), Request::get(&target("lease=30"))).await.problem_with(400, "query.lease");
}
