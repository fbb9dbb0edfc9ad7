//! Subscribing to some keys of a stream.

use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event, keyed};
use evergate_tests::subscription::Subscription;

use crate::events_of;

/// Publishes one event for each key, its data being the key, then one without a key.
async fn publish_keys(publisher: &Publisher, stream: &str, keys: &[&str]) {
    for key in keys {
        publisher.publish(stream, keyed(key, *key)).await;
    }
    publisher.publish(stream, event("no key")).await;
}

#[tokio::test]
async fn keys_are_matched_exactly_or_by_prefix() {
    let server = Evergate::start(Options::memory()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    publish_keys(&publisher, "s", &["AAPL", "AAPLX", "order-1", "order", "order-", "日経", "a b&c=d"]).await;
    let cases: [(&str, &[&str]); 8] = [
        ("", &["AAPL", "AAPLX", "order-1", "order", "order-", "日経", "a b&c=d", "no key"]),
        ("&key=AAPL", &["AAPL"]),
        ("&key=AAPL&key=order", &["AAPL", "order"]),
        ("&key=order-*", &["order-1", "order-"]),
        ("&key=AAPL*&key=order-*", &["AAPL", "AAPLX", "order-1", "order-"]),
        ("&key=%E6%97%A5%E7%B5%8C", &["日経"]),
        ("&key=a%20b%26c%3Dd", &["a b&c=d"]),
        ("&key=*", &["AAPL", "AAPLX", "order-1", "order", "order-", "日経", "a b&c=d"]),
    ];
    for (filter, expected) in cases {
        let target = format!("{}?from=earliest{filter}", events_of("s"));
        let mut stream = Subscription::open(server.http(), &target).await;
        stream.opened().await;
        assert_eq!(stream.data(expected.len()).await, expected, "{filter}");
    }
}

#[tokio::test]
async fn live_events_are_filtered_as_replayed_ones_are() {
    let server = Evergate::start(Options::memory()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let target = events_of("s") + "?key=A&key=B-*";
    let mut stream = Subscription::open(server.http(), &target).await;
    let start = stream.opened().await.offset();
    publish_keys(&publisher, "s", &["A", "AB", "B-1", "B", "C"]).await;
    publisher.publish("s", keyed("A", "last")).await;
    let frames = stream.events(3).await;
    let seen: Vec<(&str, u64)> =
        frames.iter().map(|frame| (frame.data.as_str(), frame.offset().seq)).collect();
    assert_eq!(seen, [("A", 1), ("B-1", 3), ("last", 7)], "after {start}");
}

#[tokio::test]
async fn a_quiet_filter_moves_on_and_meets_no_false_gap() {
    let options = Options::memory().set("sse.heartbeat", "1s").set("retention.events", "10");
    let server = Evergate::start(options).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let target = events_of("s") + "?key=quiet";
    let mut stream = Subscription::open(server.http(), &target).await;
    let start = stream.opened().await.offset();
    for n in 0..50 {
        publisher.publish("s", keyed("loud", n.to_string())).await;
    }
    let mut moved = stream.control("evergate.cursor").await;
    assert_eq!(moved.data, "{}");
    while moved.offset() < start.plus(50) {
        moved = stream.control("evergate.cursor").await;
    }
    assert_eq!(moved.offset(), start.plus(50));
    drop(stream);

    let mut resumed = Subscription::resume(server.http(), &target, moved.must_id()).await;
    assert_eq!(resumed.opened().await.resume, "exact");
    publisher.publish("s", keyed("quiet", "at last")).await;
    assert_eq!(resumed.event().await.data, "at last");
}

#[tokio::test]
async fn a_long_replay_without_a_match_tells_how_far_it_is() {
    let server = Evergate::start(Options::memory()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    for batch in 0..25 {
        let events = (0..1000).map(|n| keyed("loud", format!("{batch}-{n}"))).collect();
        publisher.try_batch("s", events).await.expect("the batch is taken");
    }
    publisher.publish("s", keyed("quiet", "found")).await;
    let target = events_of("s") + "?from=earliest&key=quiet";
    let mut stream = Subscription::open(server.http(), &target).await;
    let start = stream.opened().await.offset();
    assert_eq!(start.seq, 0);
    let mut before = start;
    let mut notices = 0;
    loop {
        let frame = stream.frame().await;
        assert!(frame.offset() > before, "the position only moves on: {frame:?}");
        assert!(frame.offset().seq - before.seq <= 10_001, "told every 10,000 events: {frame:?}");
        before = frame.offset();
        if frame.is_event() {
            assert_eq!((frame.data.as_str(), before.seq), ("found", 25_001));
            break;
        }
        assert_eq!(frame.event.as_deref(), Some("evergate.cursor"));
        notices += 1;
    }
    assert!(notices >= 2, "{notices}");
}
