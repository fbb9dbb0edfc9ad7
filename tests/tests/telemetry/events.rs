//! An event's trace: from its publisher through the log to whoever sends it to subscribers.

use evergate_tests::PATIENCE;
use evergate_tests::collector::{Collector, Manner, Span};
use evergate_tests::figures::until_metric;
use evergate_tests::http1::{Request, call};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Event, PublishBatchRequest, Publisher, event};
use evergate_tests::redis::{Keeps, RedisServer};
use evergate_tests::subscription::Subscription;

use crate::{PARENT, TRACE, UNKEPT, kept, named, one, traced};

const SERVER: i32 = 2;
const PRODUCER: i32 = 4;
const CONSUMER: i32 = 5;

/// A subscriber whose socket a shard has.
async fn parked(server: &Evergate, target: &str) -> Subscription {
    let mut subscription = Subscription::open(server.http(), target).await;
    subscription.opened().await;
    until_metric(server, "evergate_connections_parked", "", 1.0, PATIENCE).await;
    subscription
}

fn of_trace(traceparent: &str, data: &str) -> Event {
    Event { traceparent: traceparent.to_owned(), ..event(data) }
}

fn follows(part: &Span, whole: &Span) {
    assert_eq!((&part.trace, &part.parent), (&whole.trace, &whole.id), "{part:#?} is no part of {whole:#?}");
}

#[tokio::test]
async fn an_event_is_followed_from_its_publisher_to_every_edge_that_sends_it() {
    let Some(redis) = RedisServer::start("an_event_is_followed", Keeps::Nothing).await else { return };
    let collector = Collector::start(Manner::Takes).await;
    let a = Evergate::start(traced(redis.options(), "a", &collector.url(), "0")).await;
    let b = Evergate::start(traced(redis.options(), "b", &collector.url(), "0")).await;
    let mut near = parked(&a, "/v1/streams/quote/events").await;
    let mut far = parked(&b, "/v1/streams/quote/events").await;

    let publisher = Publisher::connect(a.grpc()).await;
    publisher.publish("quote", of_trace(UNKEPT, "nobody looks at this one")).await;
    publisher.publish("quote", event("nor at this one")).await;
    let typed = Event { r#type: "trade".to_owned(), ..of_trace(&kept(), "AAPL 1.0") };
    let offset = publisher.publish("quote", typed).await;
    assert_eq!(near.data(3).await[2], "AAPL 1.0");
    assert_eq!(far.data(3).await[2], "AAPL 1.0");

    let spans = collector
        .until(|spans| {
            let nodes = |name| named(spans, name, TRACE).len();
            nodes("evergate.publish") == 1 && nodes("evergate.fanout") == 2 && nodes("evergate.sweep") == 2
        })
        .await;
    let publish = named(&spans, "evergate.publish", TRACE)[0];
    assert_eq!((publish.parent.as_str(), publish.node(), publish.kind), (PARENT, "a", PRODUCER));
    assert!(publish.remote_parent);
    assert_eq!(publish.says("evergate.stream"), "quote");
    assert_eq!(publish.says("evergate.offset"), offset.to_string());
    assert_eq!(publish.says("evergate.duplicates"), "0");
    assert_eq!(publish.says("evergate.event.type"), "trade");
    assert_eq!(publish.says("evergate.level"), "HOME");
    assert_eq!(publish.about.get("service.name").map(String::as_str), Some("evergate"));
    for node in ["a", "b"] {
        let of_node = |name| {
            let of_trace = named(&spans, name, TRACE);
            of_trace.into_iter().find(|span| span.node() == node).expect("both edges send it").clone()
        };
        let (fanout, sweep) = (of_node("evergate.fanout"), of_node("evergate.sweep"));
        follows(&fanout, publish);
        assert!(fanout.remote_parent && fanout.kind == CONSUMER);
        assert_eq!(fanout.says("evergate.offset"), offset.to_string());
        let in_log: u64 = fanout.says("evergate.log_ms").parse().expect("a number");
        // The log's times are whole milliseconds.
        assert!(in_log <= (fanout.begun - publish.begun) / 1_000_000 + 1, "{in_log} ms: {fanout:#?}");
        follows(&sweep, &fanout);
        assert_eq!(sweep.says("evergate.connections"), "1");
        assert!(publish.begun <= sweep.ended && fanout.begun <= sweep.begun && sweep.begun <= sweep.ended);
    }
    // They were published before, so their spans would have come before.
    assert!(spans.iter().all(|span| span.trace == TRACE), "{spans:#?}");
}

#[tokio::test]
async fn a_batch_in_one_trace_is_one_span_and_its_events_own_traces_are_their_own() {
    let collector = Collector::start(Manner::Takes).await;
    let server = Evergate::start(traced(Options::memory(), "a", &collector.url(), "0")).await;
    let mut subscription = parked(&server, "/v1/streams/quote/events").await;
    let other = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
    let mut events: Vec<_> = (0..10).map(|n| event(n.to_string())).collect();
    events.push(of_trace(&format!("00-{other}-bbbbbbbbbbbbbbbb-01"), "10"));
    let mut request = tonic::Request::new(PublishBatchRequest {
        stream: "quote".to_owned(),
        events,
        ..PublishBatchRequest::default()
    });
    request.metadata_mut().insert("traceparent", kept().parse().expect("ASCII"));
    let channel = evergate_tests::publisher::channel(server.grpc()).await.expect("it listens");
    let mut client = evergate_proto::publish::v1::publisher_client::PublisherClient::new(channel);
    client.publish_batch(request).await.expect("the batch is taken");
    assert_eq!(subscription.data(11).await.len(), 11);

    let batch = one(&collector, "evergate.publish", TRACE).await;
    assert_eq!((batch.parent.as_str(), batch.says("messaging.batch.message_count")), (PARENT, "10"));
    let alone = one(&collector, "evergate.publish", other).await;
    assert_eq!(
        (alone.parent.as_str(), alone.says("messaging.batch.message_count")),
        ("bbbbbbbbbbbbbbbb", "1")
    );
    let fanout = one(&collector, "evergate.fanout", TRACE).await;
    follows(&fanout, &batch);
    assert_eq!(fanout.says("messaging.batch.message_count"), "10");
    follows(
        &one(&collector, "evergate.sweep", other).await,
        &one(&collector, "evergate.fanout", other).await,
    );
}

#[tokio::test]
async fn a_publish_over_http_is_told_the_trace_that_its_event_is_in() {
    let collector = Collector::start(Manner::Takes).await;
    let server = Evergate::start(traced(Options::memory(), "a", &collector.url(), "1")).await;
    let mut subscription = parked(&server, "/v1/streams/quote/events").await;
    let post = || Request::post("/v1/streams/quote/events", "text/plain", "hello");
    // With a trace of the publisher's, and without any.
    for brought in [true, false] {
        let request = if brought { post().header("traceparent", kept()) } else { post() };
        let answer = call(server.http(), request).await;
        assert_eq!(answer.status(), 200);
        let trace = answer.head.must("x-trace-id").to_owned();
        assert_eq!(trace == TRACE, brought);
        let request = one(&collector, "evergate.request", &trace).await;
        assert_eq!((request.parent.as_str(), request.kind), (if brought { PARENT } else { "" }, SERVER));
        assert!(answer.head.must("traceparent").contains(&request.id), "{:?}", answer.head);
        let publish = one(&collector, "evergate.publish", &trace).await;
        follows(&publish, &request);
        follows(&one(&collector, "evergate.fanout", &trace).await, &publish);
    }
    assert_eq!(subscription.data(2).await, ["hello", "hello"]);
}

#[tokio::test]
async fn a_publish_that_fails_has_a_span_that_says_why() {
    let Some(mut redis) = RedisServer::start("a_publish_that_fails_has_a_span", Keeps::Nothing).await else {
        return;
    };
    let collector = Collector::start(Manner::Takes).await;
    let server = Evergate::start(traced(redis.options(), "a", &collector.url(), "0")).await;
    redis.kill();
    let publisher = Publisher::connect(server.grpc()).await;
    let refused = publisher.try_publish("quote", of_trace(&kept(), "lost")).await;
    assert!(refused.is_err(), "{refused:?}");
    let publish = one(&collector, "evergate.publish", TRACE).await;
    assert!(publish.failure.as_ref().is_some_and(|why| !why.is_empty()), "{publish:#?}");
    assert!(!publish.attributes.contains_key("evergate.offset"));
}
