//! A compressed stream: the same frames, each to be read as soon as it is sent.

use evergate_tests::http1::{Head, Request, call};
use evergate_tests::http2::Client;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::subscription::{End, Subscription};

use crate::events_of;

const GZIP: (&str, &str) = ("accept-encoding", "gzip, deflate, br");
const ORIGIN: (&str, &str) = ("origin", "https://app.example.com");

fn assert_gzip(head: &Head) {
    assert_eq!(head.must("content-encoding"), "gzip", "{head:?}");
    assert_varies(head);
}

/// A cache must know, and what CORS adds must not get lost beside it.
fn assert_varies(head: &Head) {
    assert!(head.lists("vary", "accept-encoding") && head.lists("vary", "origin"), "{head:?}");
}

#[tokio::test]
async fn frames_come_one_by_one_and_the_end_is_whole_over_every_version_of_http() {
    let mut server = Evergate::start(Options::memory().set("shutdown.drain", "300ms")).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let request = Request::get(&events_of("s")).header(GZIP.0, GZIP.1).header(ORIGIN.0, ORIGIN.1);
    let mut client = Client::open(server.http()).await;
    let mut streams = vec![
        Subscription::request(server.http(), &request).await,
        Subscription::request(server.http(), &request.clone().http10()).await,
        Subscription::over_http2(&mut client, &events_of("s"), &[GZIP, ORIGIN]).await,
    ];
    for stream in &mut streams {
        assert_gzip(stream.head());
        stream.opened().await;
    }
    for data in ["one", "two\nlines", "", &"large ".repeat(30_000)] {
        publisher.publish("s", event(data)).await;
        for stream in &mut streams {
            assert_eq!(stream.event().await.data, data);
        }
    }
    server.terminate();
    for mut stream in streams {
        let (frames, end) = stream.end().await;
        assert_eq!(frames.last().and_then(|frame| frame.event.as_deref()), Some("evergate.goaway"));
        assert_eq!(end, End::Clean);
    }
    assert_eq!(server.ended(std::time::Duration::from_secs(20)).await.code(), Some(0));
}

#[tokio::test]
async fn an_end_that_is_to_look_cut_short_lacks_the_trailer() {
    let server = Evergate::start(Options::memory().set("shutdown.drain", "300ms")).await;
    let request = Request::get(&(events_of("s") + "?end=abort")).header(GZIP.0, GZIP.1);
    let mut stream = Subscription::request(server.http(), &request).await;
    stream.opened().await;
    server.terminate();
    assert_eq!(stream.end().await.1, End::Cut);
    assert!(!stream.is_whole());
}

#[tokio::test]
async fn several_streams_a_resume_and_a_gap_are_compressed_as_well() {
    let server = Evergate::start(Options::memory().set("retention.events", "3")).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let target = "/v1/events?stream=a&stream=b&heartbeat=event";
    let request = |target: &str| Request::get(target).header(GZIP.0, GZIP.1);
    let mut stream = Subscription::request(server.http(), &request(target)).await;
    assert_gzip(stream.head());
    stream.opened().await;
    publisher.publish("a", event("one")).await;
    let first = stream.event().await;
    publisher.publish("b", event("two")).await;
    let second = stream.event().await;
    assert_eq!((&first.json()["data"], &second.json()["stream"]), (&"one".into(), &"b".into()));
    drop(stream);

    let resume = |id: &str| request(target).header("Last-Event-ID", id);
    let mut stream = Subscription::request(server.http(), &resume(first.must_id())).await;
    assert_eq!(stream.opened().await.resume, "exact");
    assert_eq!(stream.event().await.must_id(), second.must_id());
    drop(stream);

    publisher.publish_all("a", (0..10).map(|n| n.to_string())).await;
    let mut stream = Subscription::request(server.http(), &resume(second.must_id())).await;
    assert_eq!(stream.opened().await.resume, "gap");
    assert_eq!(stream.control("evergate.gap").await.json()["reason"], "trimmed");
    let kept = stream.events(3).await;
    assert_eq!(kept[2].json()["data"], "9");
}

#[tokio::test]
async fn nobody_is_sent_what_it_cannot_or_does_not_want_to_read() {
    let server = Evergate::start(Options::memory()).await;
    for wish in ["identity", "gzip;q=0", "br", "gzip;q=0.5, identity;q=0.9", "*"] {
        let request = Request::get(&events_of("s")).header(GZIP.0, wish).header(ORIGIN.0, ORIGIN.1);
        let mut stream = Subscription::request(server.http(), &request).await;
        assert_eq!(stream.head().header("content-encoding"), None, "{wish}");
        assert_varies(stream.head());
        stream.opened().await;
    }
    let head = Request::new("HEAD", &events_of("s")).header(GZIP.0, GZIP.1).header(ORIGIN.0, ORIGIN.1);
    assert_gzip(&call(server.http(), head).await.head);
}

#[tokio::test]
async fn compression_can_be_turned_off() {
    let server = Evergate::start(Options::memory().set("sse.compression", "off")).await;
    let request = Request::get(&events_of("s")).header(GZIP.0, GZIP.1).header(ORIGIN.0, ORIGIN.1);
    let mut stream = Subscription::request(server.http(), &request).await;
    assert_eq!(stream.head().header("content-encoding"), None);
    assert_varies(stream.head());
    stream.opened().await;
}
