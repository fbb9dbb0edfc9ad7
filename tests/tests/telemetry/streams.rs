//! A stream's trace: its connect and its close, and what its client is told of it.

use evergate_tests::PATIENCE;
use evergate_tests::collector::{Collector, Manner, Span};
use evergate_tests::controls::{Controls, wait};
use evergate_tests::figures::metric;
use evergate_tests::http1::{Request, call};
use evergate_tests::http2::Client;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::subscription::Subscription;

use crate::{PARENT, TRACE, UNKEPT, kept, named, one, traced};

/// A trace of somebody else's, kept.
const OTHER: &str = "00-22222222222222222222222222222222-3333333333333333-01";
const TARGET: &str = "/v1/streams/quote/events";

/// What the client was told is what the collector got. Returns connect and close.
async fn agree(collector: &Collector, subscription: &mut Subscription) -> (String, Span) {
    let opened = subscription.opened().await;
    let head = subscription.head();
    assert_eq!(head.must("x-trace-id"), opened.trace_id);
    let connect = one(collector, "evergate.connect", &opened.trace_id).await;
    let told = format!("00-{}-{}-01", connect.trace, connect.id);
    assert_eq!(head.must("traceparent"), told);
    (opened.trace_id, connect)
}

#[tokio::test]
async fn what_a_client_is_told_is_what_the_collector_gets() {
    let collector = Collector::start(Manner::Takes).await;
    let server = Evergate::start(traced(Options::memory(), "a", &collector.url(), "0")).await;
    let unkept = Request::get(TARGET).header("traceparent", UNKEPT);
    let mut quiet = Subscription::request(server.http(), &unkept).await;
    assert_eq!(quiet.opened().await.trace_id, UNKEPT[3..35]);
    assert!(quiet.head().must("traceparent").ends_with("-00"));
    drop(quiet);
    Publisher::connect(server.grpc()).await.publish("quote", event("1")).await;

    let request = Request::get(&format!("{TARGET}?from=earliest&key=A*")).header("traceparent", kept());
    let mut subscription = Subscription::request(server.http(), &request).await;
    let (trace, connect) = agree(&collector, &mut subscription).await;
    assert_eq!((trace.as_str(), connect.parent.as_str()), (TRACE, PARENT));
    for (name, value) in [
        ("evergate.streams", "quote"),
        ("evergate.resume", "live"),
        ("evergate.filtered", "true"),
        ("evergate.encoding", "identity"),
        ("evergate.client.proxied", "false"),
        ("evergate.client.token", "false"),
        ("evergate.client.named", "false"),
        ("evergate.client.acknowledges", "false"),
        ("evergate.client.leased", "false"),
        ("url.scheme", "http"),
        ("network.protocol.version", "1.1"),
        ("http.response.status_code", "200"),
    ] {
        assert_eq!(connect.says(name), value, "{name}");
    }
    drop(subscription);
    let close = one(&collector, "evergate.close", TRACE).await;
    assert_eq!((&close.parent, close.says("evergate.reason")), (&connect.id, "client-gone"));
    assert_eq!(close.says("evergate.streams"), "quote");
    let lasted: u64 = close.says("evergate.connection.duration_ms").parse().expect("a number");
    assert_eq!(lasted, (close.ended - close.begun) / 1_000_000);
    assert!(connect.begun <= close.begun);
    // It ended before the other began, so its spans would be here.
    let all = collector.until(|_| true).await;
    assert!(all.iter().all(|span| span.trace == TRACE), "{all:#?}");
}

#[tokio::test]
async fn http2_and_http10_are_traced_alike_and_an_end_by_the_server_has_its_reason() {
    let collector = Collector::start(Manner::Takes).await;
    let mut server = Evergate::start(traced(Options::memory(), "a", &collector.url(), "1")).await;
    let mut client = Client::open(server.http()).await;
    let mut over_http2 = Subscription::over_http2(&mut client, TARGET, &[]).await;
    let mut over_http10 = Subscription::request(server.http(), &Request::get(TARGET).http10()).await;
    let mut over_http11 = Subscription::open(server.http(), TARGET).await;
    let mut traces = Vec::new();
    for (subscription, version) in
        [(&mut over_http2, "2"), (&mut over_http10, "1.0"), (&mut over_http11, "1.1")]
    {
        let (trace, connect) = agree(&collector, subscription).await;
        assert_eq!((connect.parent.as_str(), connect.says("network.protocol.version")), ("", version));
        traces.push((trace, connect));
    }
    server.terminate();
    for subscription in [&mut over_http2, &mut over_http10, &mut over_http11] {
        subscription.end().await;
    }
    drop((over_http2, over_http10, over_http11, client));
    assert!(server.ended(PATIENCE).await.success());
    // The last spans were sent before the process ended.
    let spans = collector.until(|_| true).await;
    for (trace, connect) in traces {
        let closes = named(&spans, "evergate.close", &trace);
        assert_eq!(closes.len(), 1, "{closes:#?}");
        assert_eq!((&closes[0].parent, closes[0].says("evergate.reason")), (&connect.id, "shutdown"));
    }
}

#[tokio::test]
async fn a_connect_that_is_refused_says_why() {
    let collector = Collector::start(Manner::Takes).await;
    let server = Evergate::start(traced(Options::memory(), "a", &collector.url(), "0")).await;
    let request = Request::get("/v1/streams/no%20name/events").header("traceparent", kept());
    assert_eq!(call(server.http(), request).await.status(), 400);
    let connect = one(&collector, "evergate.connect", TRACE).await;
    assert_eq!(connect.says("http.response.status_code"), "400");
    assert!(!connect.attributes.contains_key("evergate.resume"));
}

#[tokio::test]
async fn a_span_says_what_its_client_asked_for_and_what_it_was_told_instead() {
    let collector = Collector::start(Manner::Takes).await;
    let options = traced(Options::memory(), "a", &collector.url(), "0").set("limits.streams_per_client", "1");
    let server = Evergate::start(options).await;
    let target = |stream: &str| format!("/v1/streams/{stream}/events?client_id=desk&acks=1&lease=1");
    let request = Request::get(&target("quote")).header("traceparent", kept());
    let mut held = Subscription::request(server.http(), &request).await;
    let (_, connect) = agree(&collector, &mut held).await;
    for name in ["evergate.client.named", "evergate.client.acknowledges", "evergate.client.leased"] {
        assert_eq!(connect.says(name), "true", "{name}");
    }
    assert!(!connect.attributes.contains_key("evergate.refused"), "{connect:#?}");
    assert!(
        !connect.attributes.values().any(|value| value.contains("desk")),
        "it names nobody: {connect:#?}"
    );

    let refused = Request::get(&target("news")).header("traceparent", OTHER);
    let mut refused = Subscription::request(server.http(), &refused).await;
    refused.control("evergate.busy").await;
    let connect = one(&collector, "evergate.connect", &OTHER[3..35]).await;
    assert_eq!(connect.says("evergate.refused"), "too many streams of this client");
    assert!(!connect.attributes.contains_key("evergate.resume"), "{connect:#?}");
}

#[tokio::test]
async fn a_span_says_where_the_cluster_has_its_client() {
    let collector = Collector::start(Manner::Takes).await;
    let controls = Controls::start(1).await;
    let options = controls.followed_by(Options::memory()).set("region", "eu");
    let server = Evergate::start(traced(options, "a", &collector.url(), "0")).await;
    wait("the lease", async || (metric(&server, "evergate_lease_held", "").await > 0.5).then_some(())).await;
    wait("the node in the view", async || {
        let route = call(server.http(), Request::get("/v1/route")).await;
        (route.status() == 200 && route.text().contains("\"a\"")).then_some(())
    })
    .await;
    let request = Request::get(TARGET).header("traceparent", kept());
    let mut subscription = Subscription::request(server.http(), &request).await;
    let (_, connect) = agree(&collector, &mut subscription).await;
    assert_eq!(connect.says("evergate.client.region"), "eu");
    assert_eq!(connect.says("evergate.client.edge"), "a");
}

#[tokio::test]
async fn nobody_outside_decides_what_is_traced_where_that_is_configured() {
    let collector = Collector::start(Manner::Takes).await;
    let options = traced(Options::memory(), "a", &collector.url(), "1").set("telemetry.brought", "resample");
    let server = Evergate::start(options).await;
    let unkept = Request::get(TARGET).header("traceparent", UNKEPT);
    let mut subscription = Subscription::request(server.http(), &unkept).await;
    // Not kept by whom it came from, and kept here.
    let (trace, _) = agree(&collector, &mut subscription).await;
    assert_eq!(trace, UNKEPT[3..35]);

    let options = traced(Options::memory(), "b", &collector.url(), "0").set("telemetry.brought", "resample");
    let server = Evergate::start(options).await;
    let request = Request::get(TARGET).header("traceparent", kept());
    let mut subscription = Subscription::request(server.http(), &request).await;
    assert_eq!(subscription.opened().await.trace_id, TRACE);
    assert!(subscription.head().must("traceparent").ends_with("-00"));
}

/// By the names that OpenTelemetry has for them, so that a collector can tell places apart.
#[tokio::test]
async fn a_span_says_where_it_was_made_if_that_is_known() {
    let collector = Collector::start(Manner::Takes).await;
    for (options, region, zone) in [
        (Options::memory().set("region", "eu").set("cluster.zone", "eu-a"), Some("eu"), Some("eu-a")),
        (Options::memory().set("region", "us"), Some("us"), None),
        (Options::memory(), None, None),
    ] {
        let server = Evergate::start(traced(options, "a", &collector.url(), "1")).await;
        let mut subscription = Subscription::open(server.http(), TARGET).await;
        let connect = one(&collector, "evergate.connect", &subscription.opened().await.trace_id).await;
        let says = |name: &str| connect.about.get(name).map(String::as_str);
        assert_eq!((says("cloud.region"), says("cloud.availability_zone")), (region, zone));
        assert_eq!((says("service.name"), says("service.instance.id")), (Some("evergate"), Some("a")));
    }
}
