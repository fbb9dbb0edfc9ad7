//! Where a subscription begins.

use evergate_tests::http1::{Request, call};
use evergate_tests::offset::Offset;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::subscription::{Opened, Subscription};

use crate::events_of;

/// A server with events "1" to "10" in stream `s`, and their offsets.
async fn ten_events() -> (Evergate, Publisher, Vec<Offset>) {
    let server = Evergate::start(Options::memory()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let offsets = publisher.publish_all("s", (1..=10).map(|n| n.to_string())).await;
    (server, publisher, offsets)
}

fn target(query: &str) -> String {
    format!("{}?{query}", events_of("s"))
}

/// Subscribes, publishes "live", and returns what came up to it.
async fn seen(server: &Evergate, publisher: &Publisher, request: Request) -> (Opened, Vec<String>) {
    let mut stream = Subscription::request(server.http(), &request).await;
    let opened = stream.opened().await;
    publisher.publish("s", event("live")).await;
    let mut data = Vec::new();
    loop {
        let frame = stream.event().await;
        if frame.data == "live" {
            return (opened, data);
        }
        data.push(frame.data);
    }
}

/// "n" to "10".
fn from(n: u64) -> Vec<String> {
    (n..=10).map(|n| n.to_string()).collect()
}

#[tokio::test]
async fn every_way_to_hand_in_a_cursor_resumes_exactly() {
    for (name, in_header) in [
        ("Last-Event-ID", true),
        ("last-event-id", true),
        ("last_event_id", false),
        ("lastEventId", false),
        ("lastEventID", false),
    ] {
        let (server, publisher, offsets) = ten_events().await;
        let cursor = offsets[3].to_string();
        let request = if in_header {
            Request::get(&events_of("s")).header(name, &cursor)
        } else {
            Request::get(&target(&format!("{name}={cursor}")))
        };
        let (opened, data) = seen(&server, &publisher, request).await;
        assert_eq!((opened.resume.as_str(), opened.cursor), ("exact", cursor), "{name}");
        assert_eq!(data, from(5), "{name}");
    }
}

#[tokio::test]
async fn the_client_s_newest_word_wins() {
    let (server, _publisher, offsets) = ten_events().await;
    let at = |n: usize| offsets[n - 1].to_string();
    // The header is what a browser knows now; the query is what a page knew when it was loaded.
    let named = format!("last_event_id={}&lastEventId={}&lastEventID={}&from=earliest", at(4), at(5), at(6));
    let cases = [
        (Request::get(&target(&named)).header("Last-Event-ID", at(9)), 10),
        (Request::get(&target(&named)), 5),
        (Request::get(&target(&format!("lastEventID={}&lastEventId={}&from=earliest", at(6), at(5)))), 6),
        (Request::get(&target(&format!("from=earliest&lastEventID={}", at(6)))), 7),
        (Request::get(&target("from=earliest")), 1),
    ];
    for (request, first) in cases {
        let mut stream = Subscription::request(server.http(), &request).await;
        stream.opened().await;
        assert_eq!(stream.event().await.data, first.to_string(), "{request:?}");
    }
}

#[tokio::test]
async fn a_new_subscriber_chooses_where_to_begin() {
    for (query, first) in [
        ("", 11),
        ("from=latest", 11),
        ("from=earliest", 1),
        ("from=-1", 10),
        ("from=-4", 7),
        ("from=-10", 1),
        ("from=-1000", 1),
        ("from=2001-01-01T00:00:00Z", 1),
        ("from=2001-01-01T00:00:00.123%2B02:00", 1),
        ("from=2999-01-01T00:00:00Z", 11),
        ("from=0-0", 1),
    ] {
        let (server, publisher, _) = ten_events().await;
        let (opened, data) = seen(&server, &publisher, Request::get(&target(query))).await;
        assert_eq!(data, from(first), "{query}");
        assert_ne!(opened.resume, "gap", "{query}");
        assert_eq!(
            opened.offset().seq,
            first - 1,
            "{query}: the start cursor is just before the first event"
        );
    }
}

#[tokio::test]
async fn an_offset_can_be_given_as_the_beginning() {
    let (server, publisher, offsets) = ten_events().await;
    let query = format!("from={}", offsets[6]);
    let (opened, data) = seen(&server, &publisher, Request::get(&target(&query))).await;
    assert_eq!(opened.offset(), offsets[6]);
    assert_eq!(data, from(8));
}

#[tokio::test]
async fn a_time_misses_nothing_that_came_after_it() {
    let server = Evergate::start(Options::memory()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    publisher.publish_all("s", (1..=300).map(|n| n.to_string())).await;
    // The server's own clock, as it stamps events.
    let mut stamped = Subscription::open(server.http(), &target("envelope=1&from=-1")).await;
    stamped.opened().await;
    let time = stamped.event().await.json()["time"].as_str().expect("a time").to_owned();
    publisher.publish_all("s", (301..=310).map(|n| n.to_string())).await;

    let query = format!("from={}", time.replace('+', "%2B"));
    let mut stream = Subscription::open(server.http(), &target(&query)).await;
    stream.opened().await;
    let first: u64 = stream.event().await.data.parse().expect("a number");
    assert!(first <= 300, "the event of that time is among them, not first {first}");
    let rest = stream.data(usize::try_from(310 - first).expect("small")).await;
    let expected: Vec<String> = (first + 1..=310).map(|n| n.to_string()).collect();
    assert_eq!(rest, expected);
}

#[tokio::test]
async fn resuming_at_the_tail_is_exact_and_waits_for_what_comes() {
    let (server, publisher, offsets) = ten_events().await;
    let request = Request::get(&events_of("s")).header("Last-Event-ID", offsets[9].to_string());
    let (opened, data) = seen(&server, &publisher, request).await;
    assert_eq!(opened.resume, "exact");
    assert!(data.is_empty(), "{data:?}");
}

#[tokio::test]
async fn replay_goes_over_into_live_without_a_seam() {
    let server = Evergate::start(Options::disk().set("fanout.ring_events", "64")).await;
    let publisher = Publisher::connect(server.grpc()).await;
    for batch in 0..5 {
        let events = (1..=1000).map(|n| event((batch * 1000 + n).to_string())).collect();
        publisher.try_batch("s", events).await.expect("the batch is taken");
    }
    // Ten readers from different places, while a publisher goes on.
    let mut readers = Vec::new();
    for n in 0..10u64 {
        let query = format!("from=-{}", 5000 - n * 500);
        let mut stream = Subscription::open(server.http(), &target(&query)).await;
        stream.opened().await;
        readers.push((n * 500, stream));
    }
    let last = 5500;
    let publishing = tokio::spawn({
        let publisher = publisher.clone();
        async move { publisher.publish_all("s", (5001..=last).map(|n| n.to_string())).await }
    });
    for (before, mut stream) in readers {
        for n in before + 1..=last {
            assert_eq!(stream.event().await.data, n.to_string());
        }
    }
    publishing.await.expect("the publisher ends well");
}

#[tokio::test]
async fn a_cursor_that_is_none_is_refused_and_not_guessed_at() {
    let (server, ..) = ten_events().await;
    for wrong in [
        "$",
        "*",
        "1",
        "1-",
        "-1",
        "1-2-3",
        "01-2",
        "1-+2",
        "9007199254740992-1",
        "1-9007199254740992",
        "nonsense",
        "m1.AAAA",
    ] {
        let escaped = wrong.replace('+', "%2B");
        for request in [
            Request::get(&events_of("s")).header("Last-Event-ID", wrong),
            Request::get(&target(&format!("last_event_id={escaped}"))),
            Request::get(&target(&format!("lastEventId={escaped}"))),
        ] {
            let answer = call(server.http(), request).await;
            let about = answer.problem_with(400, "last");
            assert!(
                about["field"].as_str().is_some_and(|field| field.to_lowercase().ends_with("id")),
                "{about}"
            );
        }
    }
    for wrong in ["now", "yesterday", "-", "-0", "--5", "-1.5", "1-", "2026-13-01T00:00:00Z", "2026-01-01"] {
        let answer = call(server.http(), Request::get(&target(&format!("from={wrong}")))).await;
        answer.problem_with(400, "from");
    }
}
