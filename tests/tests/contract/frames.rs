//! What is inside a stream: the first frame, events, heartbeats, envelopes.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use evergate_tests::frame::Item;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Event, Publisher, event};
use evergate_tests::subscription::{Next, Subscription};

use crate::events_of;

#[tokio::test]
async fn a_stream_opens_with_retry_and_its_start_cursor_in_one_frame() {
    let options = Options::memory().set("sse.retry_min", "1500ms").set("sse.retry_max", "2500ms");
    let server = Evergate::start(options).await;
    let (mut retries, mut connections) = (BTreeSet::new(), BTreeSet::new());
    for _ in 0..12 {
        let mut stream = Subscription::open(server.http(), &events_of("s")).await;
        let opened = stream.opened().await;
        assert_eq!(opened.resume, "live");
        assert_eq!(opened.offset().seq, 0, "nothing was published yet");
        assert!(opened.offset().epoch > 0, "an epoch never used before");
        let retry = opened.frame.retry.expect("a retry");
        assert!((1500..=2500).contains(&retry), "{retry}");
        let expected = format!(
            "retry: {retry}\nevent: evergate.open\ndata: {}\nid: {}\n\n",
            opened.frame.data, opened.cursor
        );
        assert_eq!(String::from_utf8_lossy(stream.raw()), expected);
        retries.insert(retry);
        connections.insert(opened.connection);
    }
    assert!(retries.len() > 1, "clients cut together must not come back together: {retries:?}");
    assert_eq!(connections.len(), 12, "each connection has a name of its own");
}

#[tokio::test]
async fn an_event_is_typed_data_and_then_its_id() {
    let server = Evergate::start(Options::memory()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let mut stream = Subscription::open(server.http(), &events_of("s")).await;
    let start = stream.opened().await.offset();

    let cases = [
        ("", "plain", "data: plain\n"),
        ("trade", "typed", "event: trade\ndata: typed\n"),
        ("", "a\nb", "data: a\ndata: b\n"),
        ("", "a\r\nb\rc\n", "data: a\ndata: b\ndata: c\ndata: \n"),
        ("", "  two spaces", "data:   two spaces\n"),
        ("", "data: x\nid: 9-9", "data: data: x\ndata: id: 9-9\n"),
        ("ünïcode", "🦀 \u{2028} \u{0} :", "event: ünïcode\ndata: 🦀 \u{2028} \u{0} :\n"),
    ];
    for (n, (kind, data, lines)) in (1..).zip(cases) {
        let offset = publisher.publish("s", Event { r#type: kind.to_owned(), ..event(data) }).await;
        assert_eq!(offset, start.plus(n), "sequences are dense");
        let frame = stream.event().await;
        assert_eq!(String::from_utf8_lossy(&frame.raw), format!("{lines}id: {offset}\n\n"));
    }
    publisher.publish("s", event("")).await;
    let frame = stream.event().await;
    assert_eq!((frame.data.as_str(), frame.offset()), ("", start.plus(8)), "an empty event is one");
}

#[tokio::test]
async fn a_large_event_arrives_whole() {
    let server = Evergate::start(Options::memory()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let mut stream = Subscription::open(server.http(), &events_of("s")).await;
    stream.opened().await;
    let text = "0123456789abcde\n".repeat(256 * 1024 / 16);
    publisher.publish("s", event(text.as_str())).await;
    assert_eq!(stream.event().await.data, text);
}

#[tokio::test]
async fn a_silent_stream_sends_comments_of_one_line() {
    let server = Evergate::start(Options::memory().set("sse.heartbeat", "1s")).await;
    let mut stream = Subscription::open(server.http(), &events_of("s")).await;
    stream.opened().await;
    let before = stream.raw().len();
    let begun = Instant::now();
    for _ in 0..2 {
        assert_eq!(stream.next().await, Next::Item(Item::Comment(String::new())));
    }
    assert_eq!(&stream.raw()[before..], b":\n:\n");
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(900), "two within {took:?} are too many");
}

#[tokio::test]
async fn a_watchdog_can_ask_for_heartbeats_it_sees() {
    let server = Evergate::start(Options::memory().set("sse.heartbeat", "1s")).await;
    let target = events_of("s") + "?heartbeat=event";
    let mut stream = Subscription::open(server.http(), &target).await;
    let start = stream.opened().await.cursor;
    for _ in 0..2 {
        let frame = stream.control("evergate.heartbeat").await;
        assert!(frame.json().is_object(), "{frame:?}");
        assert!(frame.id.is_none_or(|id| id == start), "only the true position may be told");
    }
}

#[tokio::test]
async fn an_envelope_tells_everything_about_an_event() {
    let server = Evergate::start(Options::memory()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let mut wrapped = Subscription::open(server.http(), &(events_of("s") + "?envelope=1")).await;
    let mut plain = Subscription::open(server.http(), &events_of("s")).await;
    wrapped.opened().await;
    plain.opened().await;

    let full = Event { key: "AAPL".into(), r#type: "trade".into(), ..event("two\nlines \"quoted\"") };
    let offset = publisher.publish("s", full).await;
    publisher.publish("s", event("bare")).await;

    let frame = wrapped.event().await;
    assert_eq!(frame.event.as_deref(), Some("trade"));
    assert_eq!(frame.offset(), offset);
    assert!(!frame.data.contains('\n'), "one line: {frame:?}");
    let told = frame.json();
    assert_eq!(told["stream"], "s");
    assert_eq!(told["key"], "AAPL");
    assert_eq!(told["type"], "trade");
    assert_eq!(told["data"], "two\nlines \"quoted\"");
    let time = told["time"].as_str().expect("a time");
    assert!(time.starts_with("20") && time.contains('T') && time.ends_with('Z'), "{time}");

    let bare = wrapped.event().await.json();
    assert_eq!(bare["data"], "bare");
    assert!(bare["key"].is_null() && bare["type"].is_null(), "{bare}");

    assert_eq!(plain.data(2).await, ["two\nlines \"quoted\"", "bare"]);
}
