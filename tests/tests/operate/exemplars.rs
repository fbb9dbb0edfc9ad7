//! From a figure to a trace: the exemplars of the delivery times, and the format that carries them.

use std::collections::BTreeSet;
use std::time::{SystemTime, UNIX_EPOCH};

use evergate_tests::collector::{Collector, Manner};
use evergate_tests::figures::{figure, page};
use evergate_tests::http1::{Request, call};
use evergate_tests::http2::Client;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Event, Publisher, event};
use evergate_tests::subscription::Subscription;

use crate::boards::{everything, limited};
use crate::prometheus::Prometheus;

const TARGET: &str = "/v1/streams/quote/events";
/// Somebody's trace that is kept, and one that is not.
const KEPT: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const UNKEPT: &str = "11111111111111111111111111111111";
const OPEN: &str = "application/openmetrics-text;version=1.0.0,text/plain;q=0.5";

fn of_trace(trace: &str, flags: &str, data: &str) -> Event {
    Event { traceparent: format!("00-{trace}-00f067aa0ba902b7-{flags}"), ..event(data) }
}

/// The page in the format that has exemplars.
async fn open_page(server: &Evergate) -> String {
    let page = call(server.admin(), Request::get("/metrics").header("Accept", OPEN)).await;
    assert_eq!(page.head.must("content-type"), "application/openmetrics-text; version=1.0.0; charset=utf-8");
    page.text().to_owned()
}

/// The traces of the exemplars on a page, each with what stands before its trace and behind it.
fn exemplars(page: &str) -> Vec<(&str, &str, &str)> {
    let lines = page.lines().filter_map(|line| line.split_once(" # {trace_id=\""));
    let parts = lines.filter_map(|(series, rest)| Some((series, rest.split_once("\"} ")?)));
    parts.map(|(series, (trace, rest))| (series, trace, rest)).collect()
}

/// Deliveries that are counted by what they took: to whoever is up to date.
async fn timely(server: &Evergate) -> Option<f64> {
    figure(&page(server).await, "evergate_delivery_seconds_count")
}

/// Subscribers of every kind are sent an event that is traced, and one that is not, and both were up to date.
async fn deliver(server: &Evergate) {
    let mut parked = Subscription::open(server.http(), TARGET).await;
    parked.opened().await;
    let mut client = Client::open(server.http()).await;
    let mut over_http2 = Subscription::over_http2(&mut client, TARGET, &[]).await;
    over_http2.opened().await;
    let publisher = Publisher::connect(server.grpc()).await;
    // Until they are up to date nobody counts what they are sent.
    for _ in 0..100 {
        let before = timely(server).await.unwrap_or_default();
        publisher.publish("quote", of_trace(UNKEPT, "00", "nobody looks at this one")).await;
        publisher.publish("quote", of_trace(KEPT, "01", "AAPL 1.0")).await;
        assert_eq!(parked.data(2).await[1], "AAPL 1.0");
        assert_eq!(over_http2.data(2).await[1], "AAPL 1.0");
        if timely(server).await == Some(before + 4.0) {
            return;
        }
    }
    panic!("they are never up to date");
}

fn traced(collector: &Collector) -> Options {
    let options = Options::memory().set("node", "a").set("telemetry.endpoint", &collector.url());
    options.set("telemetry.sample_one_in", "0")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delivery_in_prometheus_leads_to_the_trace_that_the_collector_has() {
    let test = "a_delivery_in_prometheus_leads_to_the_trace";
    let collector = Collector::start(Manner::Takes).await;
    let server = Evergate::start(traced(&collector)).await;
    let Some(prometheus) = Prometheus::start(test, &[server.admin()]).await else { return };
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let begun = now();
    deliver(&server).await;
    let spans = collector.until(|spans| spans.iter().any(|span| span.name == "evergate.sweep")).await;
    let collected: BTreeSet<&str> = spans.iter().map(|span| span.trace.as_str()).collect();

    let found = prometheus
        .until("an exemplar", async || {
            let asked = format!(
                "/api/v1/query_exemplars?query=evergate_delivery_seconds_bucket&start={}&end={}",
                begun - 1,
                now() + 1
            );
            let series = prometheus.ask(&asked).await;
            series.as_array().filter(|series| !series.is_empty()).cloned()
        })
        .await;
    for series in &found {
        assert_eq!(series["seriesLabels"]["node"], "a", "{series}");
        for exemplar in series["exemplars"].as_array().expect("some") {
            let trace = exemplar["labels"]["trace_id"].as_str().expect("a trace");
            assert!(collected.contains(trace), "{trace} is none of {collected:?}");
            let took: f64 =
                exemplar["value"].as_str().and_then(|value| value.parse().ok()).expect("a number");
            let bound = series["seriesLabels"]["le"].as_str().expect("a bound");
            assert!(bound == "+Inf" || took <= bound.parse().expect("a number"), "{took} in {bound}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn prometheus_finds_as_much_on_one_page_as_on_the_other() {
    let test = "prometheus_finds_as_much_on_one_page_as_on_the_other";
    let collector = Collector::start(Manner::Takes).await;
    let server = Evergate::start(limited(traced(&collector))).await;
    everything(&server).await;
    deliver(&server).await;
    let Some(prometheus) = Prometheus::start(test, &[server.admin()]).await else { return };
    let samples = |page: &str| {
        let lines = page.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let names = lines.map(|line| line.split(['{', ' ']).next().unwrap_or_default().to_owned());
        // A page has no order of its own.
        let mut names: Vec<_> = names.collect();
        names.sort_unstable();
        names
    };
    let there = prometheus
        .until("as many samples", async || {
            let up = prometheus.query("up").await;
            assert!(up.iter().all(|up| up["value"][1] == "1"), "{up:?}");
            let series = prometheus.query("scrape_samples_scraped").await;
            let scraped = series.first()?["value"][1].as_str()?.parse::<usize>().ok()?;
            let (text, open) = (samples(&page(&server).await), samples(&open_page(&server).await));
            (text == open && text.len() == scraped).then_some(text)
        })
        .await;
    assert!(there.len() > 200, "only {}", there.len());
    let names = prometheus.ask("/api/v1/label/__name__/values").await;
    let names: BTreeSet<_> =
        names.as_array().expect("names").iter().filter_map(|name| name.as_str()).collect();
    let missing: Vec<_> = there.iter().filter(|name| !names.contains(name.as_str())).collect();
    assert_eq!(missing, [""; 0]);
}

#[tokio::test]
async fn whoever_is_sent_a_traced_event_is_an_example_however_it_is_connected() {
    let collector = Collector::start(Manner::Takes).await;
    let server = Evergate::start(traced(&collector)).await;
    deliver(&server).await;
    let open = open_page(&server).await;
    assert!(open.ends_with("# EOF\n"), "{open}");
    let found = exemplars(&open);
    assert!(!found.is_empty(), "{open}");
    for (series, trace, rest) in found {
        assert!(series.starts_with("evergate_delivery_seconds_bucket{"), "{series}");
        assert_eq!(trace, KEPT, "only what is kept is told of");
        let (took, at) = rest.split_once(' ').expect("a value and a time");
        assert!(took.parse::<f64>().is_ok() && at.parse::<f64>().is_ok(), "{rest}");
    }
    let text = page(&server).await;
    assert_eq!(exemplars(&text), []);
    assert!(!text.contains("EOF"));
}

#[tokio::test]
async fn where_nothing_is_traced_nothing_is_an_example() {
    let server = Evergate::start(Options::memory()).await;
    deliver(&server).await;
    assert_eq!(exemplars(&open_page(&server).await), []);
}
