//! Collectors that are slow, away, or come late. Events go on as if there were none.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use evergate_tests::PATIENCE;
use evergate_tests::collector::{Collector, Manner};
use evergate_tests::figures::{metric, until_counted};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Event, Publisher, event};
use evergate_tests::subscription::Subscription;

use crate::traced;

const SPANS: &str = "evergate_spans_total";
const BATCHES: u32 = 5;
const EVENTS: u32 = 1_000;

/// Publishes events, each in a trace of its own, and reads them all.
async fn work(server: &Evergate, stream: &str) {
    let target = format!("/v1/streams/{stream}/events");
    let mut subscription = Subscription::open(server.http(), &target).await;
    subscription.opened().await;
    let publisher = Publisher::connect(server.grpc()).await;
    for batch in 0..BATCHES {
        let traced = |n: u32| Event {
            traceparent: format!("00-{:032x}-00000000000000aa-01", batch * EVENTS + n + 1),
            ..event(format!("{batch}/{n}"))
        };
        let results = publisher.try_batch(stream, (0..EVENTS).map(traced).collect()).await;
        assert_eq!(results.expect("the batch is taken").len(), EVENTS as usize);
    }
    let expected: Vec<_> =
        (0..BATCHES).flat_map(|batch| (0..EVENTS).map(move |n| format!("{batch}/{n}"))).collect();
    assert_eq!(subscription.data(expected.len()).await, expected);
}

#[tokio::test]
async fn a_collector_that_stalls_costs_spans_and_nothing_else() {
    let collector = Collector::start(Manner::Stalls).await;
    let options = traced(Options::memory(), "a", &collector.url(), "1")
        .set("telemetry.queue_spans", "16")
        .set("telemetry.export_timeout", "300ms");
    let mut server = Evergate::start(options).await;
    work(&server, "quote").await;
    collector.called(1).await;
    until_counted(&server, SPANS, "dropped").await;
    until_counted(&server, SPANS, "failed").await;
    work(&server, "news").await;
    assert!(metric(&server, SPANS, "exported").await < 0.5);
    server.writes("the collector takes no spans").await;
    // Nor does it hold up the end of the process, which is whole.
    server.terminate();
    assert!(server.ended(PATIENCE).await.success(), "{}", server.output());
    assert!(!server.output().contains("shutdown phase late"), "{}", server.output());
}

/// An address where nobody listens.
fn nowhere() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("it is bound")
}

#[tokio::test]
async fn a_collector_that_is_away_is_found_when_it_comes() {
    let address = nowhere();
    let options = traced(Options::memory(), "a", &format!("http://{address}"), "1")
        .set("telemetry.export_timeout", "500ms");
    let server = Evergate::start(options).await;
    work(&server, "quote").await;
    until_counted(&server, SPANS, "failed").await;
    let collector = Collector::start_at(address, Manner::Takes).await;
    // Whoever connects now is traced, and so on until the collector has been found.
    let deadline = std::time::Instant::now() + PATIENCE;
    while metric(&server, SPANS, "exported").await < 1.0 {
        assert!(std::time::Instant::now() < deadline, "{}", server.output());
        Subscription::open(server.http(), "/v1/streams/quote/events").await.opened().await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let spans = collector.until(|spans| !spans.is_empty()).await;
    assert!(spans.iter().all(|span| span.node() == "a"));
    server.writes("the collector takes spans again").await;
}

#[tokio::test]
async fn without_a_collector_nothing_is_traced() {
    let server = Evergate::start(Options::memory()).await;
    work(&server, "quote").await;
    for result in ["exported", "dropped", "failed"] {
        assert!(metric(&server, SPANS, result).await < 0.5, "{result}");
    }
}
