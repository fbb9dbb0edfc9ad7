//! The loss contract: whoever misses something is told exactly what.

use std::time::{Duration, Instant};

use evergate_tests::http1::Request;
use evergate_tests::offset::{Offset, offset};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event, keyed};
use evergate_tests::subscription::Subscription;
use serde_json::Value;

use crate::events_of;

/// Streams are looked at every 30 s, busy or idle.
const AGED_MAX: Duration = Duration::from_secs(60);

fn at(told: &Value, member: &str) -> Offset {
    offset(told[member].as_str().unwrap_or_else(|| panic!("{member}: {told}")))
}

/// A stream of a hundred events of which few are kept, and their offsets.
async fn trimmed(options: Options) -> (Evergate, Publisher, Vec<Offset>) {
    let server = Evergate::start(options.set("retention.events", "10")).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let offsets = publisher.publish_all("s", (1..=100).map(|n| n.to_string())).await;
    (server, publisher, offsets)
}

async fn a_trimmed_position_is_told(options: Options) {
    let (server, publisher, offsets) = trimmed(options).await;
    let asked = offsets[4];
    let mut stream = Subscription::resume(server.http(), &events_of("s"), &asked.to_string()).await;
    let opened = stream.opened().await;
    assert_eq!(opened.resume, "gap");
    assert_eq!(opened.frame.offset(), asked, "a client cut here asks for the same again");
    assert_eq!(opened.offset(), asked);

    let gap = stream.control("evergate.gap").await;
    let told = gap.json();
    assert_eq!(told["stream"], "s");
    assert_eq!(told["reason"], "trimmed");
    assert_eq!(at(&told, "requested"), asked);
    assert_eq!(at(&told, "first_missing"), offsets[5]);
    let resumed_at = at(&told, "resumed_at");
    assert!(resumed_at > offsets[5] && resumed_at <= offsets[90], "ten at least are kept: {told}");
    assert_eq!(told["lost"], resumed_at.seq - offsets[5].seq);
    assert_eq!(
        gap.offset(),
        Offset::new(resumed_at.epoch, resumed_at.seq - 1),
        "notice and jump are one frame"
    );

    for seq in resumed_at.seq..=100 {
        let frame = stream.event().await;
        assert_eq!((frame.offset().seq, frame.data), (seq, seq.to_string()));
    }
    let mut again = Subscription::resume(server.http(), &events_of("s"), gap.must_id()).await;
    assert_eq!(again.opened().await.resume, "exact", "the notice's id is past the gap");
    assert_eq!(again.event().await.offset(), resumed_at);

    publisher.publish("s", event("live")).await;
    assert_eq!(stream.event().await.data, "live");
}

#[tokio::test]
async fn a_trimmed_position_is_told_by_the_memory_log() {
    a_trimmed_position_is_told(Options::memory()).await;
}

#[tokio::test]
async fn a_trimmed_position_is_told_by_the_disk_log() {
    a_trimmed_position_is_told(Options::disk()).await;
}

#[tokio::test]
async fn the_beginning_is_a_position_like_any_other() {
    let (server, _publisher, offsets) = trimmed(Options::memory()).await;
    let mut stream = Subscription::resume(server.http(), &events_of("s"), "0-0").await;
    assert_eq!(stream.opened().await.resume, "gap");
    let told = stream.control("evergate.gap").await.json();
    assert_eq!(at(&told, "first_missing"), offsets[0]);
    assert_eq!(told["lost"], at(&told, "resumed_at").seq - 1);
}

#[tokio::test]
async fn who_asks_for_what_there_is_misses_nothing() {
    let (server, ..) = trimmed(Options::memory()).await;
    for query in ["from=earliest", "from=-1000", "from=2001-01-01T00:00:00Z"] {
        let target = format!("{}?{query}", events_of("s"));
        let mut stream = Subscription::open(server.http(), &target).await;
        assert_ne!(stream.opened().await.resume, "gap", "{query}");
        let first: u64 = stream.event().await.data.parse().expect("a number");
        assert!((2..=91).contains(&first), "{query}: {first}");
    }
}

#[tokio::test]
async fn a_gap_is_told_to_a_filter_that_matches_nothing_in_it() {
    let (server, publisher, offsets) = trimmed(Options::memory()).await;
    let target = events_of("s") + "?key=quiet";
    let mut stream = Subscription::resume(server.http(), &target, &offsets[4].to_string()).await;
    assert_eq!(stream.opened().await.resume, "gap");
    let told = stream.control("evergate.gap").await.json();
    assert_eq!(told["lost"], at(&told, "resumed_at").seq - offsets[5].seq, "counted before filters");
    publisher.publish("s", keyed("quiet", "heard")).await;
    loop {
        let frame = stream.frame().await;
        if frame.is_event() {
            assert_eq!(frame.data, "heard");
            break;
        }
        assert_eq!(frame.event.as_deref(), Some("evergate.cursor"), "{frame:?}");
    }
}

/// Asks again and again until the stream says that what came after `cursor` is gone. Between two
/// tries `meanwhile` happens.
async fn aged(server: &Evergate, cursor: Offset, within: Duration, meanwhile: impl AsyncFn()) {
    let deadline = Instant::now() + within;
    loop {
        let mut stream = Subscription::resume(server.http(), &events_of("s"), &cursor.to_string()).await;
        if stream.opened().await.resume == "gap" {
            let told = stream.control("evergate.gap").await.json();
            assert_eq!(told["reason"], "trimmed");
            assert_eq!(at(&told, "first_missing"), cursor.plus(1));
            assert_eq!(told["lost"], at(&told, "resumed_at").seq - cursor.seq - 1);
            return;
        }
        assert!(Instant::now() < deadline, "events outlive their age of a second by {within:?}");
        meanwhile().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn age_takes_events_away_when_others_come() {
    let server = Evergate::start(Options::memory().set("retention.age", "1s")).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let offsets = publisher.publish_all("s", ["1", "2", "3"]).await;
    let publish = async || {
        publisher.publish("s", event("more")).await;
    };
    aged(&server, offsets[0], AGED_MAX, publish).await;
}

#[tokio::test]
async fn age_takes_events_away_from_idle_streams_too() {
    let server = Evergate::start(Options::memory().set("retention.age", "1s")).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let offsets = publisher.publish_all("s", ["1", "2", "3"]).await;
    aged(&server, offsets[0], AGED_MAX, async || {}).await;
}

#[tokio::test]
async fn an_epoch_from_before_a_restart_is_unknown() {
    let mut server = Evergate::start(Options::memory()).await;
    let before = Publisher::connect(server.grpc()).await.publish_all("s", ["1", "2", "3"]).await;
    server.kill();
    server.restart().await;
    let publisher = Publisher::connect(server.grpc()).await;
    let new = publisher.publish("s", event("new")).await;
    assert!(new.epoch > before[0].epoch, "ids never repeat: {new} after {}", before[0]);

    let asked = before[1].to_string();
    let mut stream = Subscription::resume(server.http(), &events_of("s"), &asked).await;
    let opened = stream.opened().await;
    assert_eq!((opened.resume.as_str(), opened.frame.must_id()), ("gap", asked.as_str()));
    let gap = stream.control("evergate.gap").await;
    let told = gap.json();
    assert_eq!(told["reason"], "unknown");
    assert_eq!(told["requested"], asked);
    assert!(told["lost"].is_null(), "nobody can know: {told}");
    assert_eq!(at(&told, "resumed_at"), new);
    assert_eq!(gap.offset(), Offset::new(new.epoch, new.seq - 1));
    assert_eq!(stream.event().await.data, "new");
}

#[tokio::test]
async fn a_disk_log_remembers_its_epochs() {
    let mut server = Evergate::start(Options::disk()).await;
    let before = Publisher::connect(server.grpc()).await.publish_all("s", ["1", "2", "3"]).await;
    server.kill();
    server.restart().await;
    let publisher = Publisher::connect(server.grpc()).await;
    publisher.publish("s", event("new")).await;
    let mut stream = Subscription::resume(server.http(), &events_of("s"), &before[1].to_string()).await;
    assert_eq!(stream.opened().await.resume, "exact");
    assert_eq!(stream.data(2).await, ["3", "new"]);
}

#[tokio::test]
async fn a_position_that_never_was_is_no_position() {
    let server = Evergate::start(Options::memory()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let tail = publisher.publish("s", event("1")).await;
    let asked = tail.plus(5).to_string();
    let request = Request::get(&events_of("s")).header("Last-Event-ID", &asked);
    let mut stream = Subscription::request(server.http(), &request).await;
    let opened = stream.opened().await;
    assert_eq!((opened.resume.as_str(), opened.frame.must_id()), ("gap", asked.as_str()));
    let gap = stream.control("evergate.gap").await;
    let reason = gap.json()["reason"].clone();
    assert!(reason == "lost-tail" || reason == "unknown", "{reason}");
    assert_eq!(gap.offset(), tail, "back to what there is");
    publisher.publish("s", event("2")).await;
    assert_eq!(stream.event().await.offset(), tail.plus(1));
}
