//! How long clients are to wait that are cut with their edge: it is told anew to those who listen when what the
//! other edges can take has changed.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use evergate_tests::PATIENCE;
use evergate_tests::controls::{Controls, wait};
use evergate_tests::frame::Item;
use evergate_tests::http2;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::subscription::{Next, Subscription};

use crate::places::{edge, knows};

/// Longer than it takes to notice that an edge has gone.
const TOLD_MAX: Duration = Duration::from_secs(60);
/// As configured, which is enough beside an edge that has everything free. Where there is none nobody can take them,
/// and they are to wait for an hour at the most, so that hardly any draws one of these.
const SHORT: std::ops::RangeInclusive<u64> = 1_000..=1_100;

/// Reads until it is told when to come back, alone or with a frame.
async fn told(stream: &mut Subscription, wanted: impl Fn(u64) -> bool) -> u64 {
    let deadline = Instant::now() + TOLD_MAX;
    loop {
        assert!(Instant::now() < deadline, "it is never told anew");
        let retry = match stream.next_within(PATIENCE).await {
            Some(Next::Item(Item::Retry(ms))) => Some(ms),
            Some(Next::Item(Item::Frame(frame))) => frame.retry,
            Some(Next::Item(Item::Comment(_))) => None,
            other => panic!("the stream goes on: {other:?}"),
        };
        // It may be told in between, while not everybody is known yet.
        if let Some(retry) = retry.filter(|retry| wanted(*retry)) {
            return retry;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_who_listen_are_told_anew_when_to_come_back() {
    let controls = Controls::start(1).await;
    controls.json(0, &["policy", "cluster", "--retry-ms-max", "3600000"]).expect("it is taken");
    let options = || {
        let options = Options::memory().set("sse.retry_refresh", "1s").set("sse.heartbeat", "2s");
        options.set("sse.retry_min", "1s").set("sse.retry_max", "1s")
    };
    let full = Evergate::start(edge(&controls, options(), "edge-full")).await;
    knows(&full, 1).await;
    let quiet = "/v1/streams/quiet/events";
    // Alone, it has nobody who could take its clients.
    let mut first = wait("a long pause", async || {
        let mut stream = Subscription::open(full.http(), quiet).await;
        let retry = stream.opened().await.frame.retry.expect("a retry");
        (!SHORT.contains(&retry)).then_some(stream)
    })
    .await;
    let mut streams = Vec::new();
    for n in 0..12 {
        let target = ["/v1/streams/quiet/events", "/v1/streams/busy/events"][n % 2];
        streams.push(Subscription::open(full.http(), target).await);
    }
    let mut client = http2::Client::open(full.http()).await;
    for target in ["/v1/streams/quiet/events", "/v1/streams/busy/events"] {
        streams.push(Subscription::over_http2(&mut client, target, &[]).await);
    }
    for stream in &mut streams {
        stream.opened().await;
    }
    let publisher = Publisher::connect(full.grpc()).await;
    let publishing = tokio::spawn(async move {
        for n in 0..u32::MAX {
            publisher.publish("busy", event(n.to_string())).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    });

    let mut other = Evergate::start(edge(&controls, options(), "edge-other")).await;
    told(&mut first, |ms| SHORT.contains(&ms)).await;
    for stream in &mut streams {
        told(stream, |ms| SHORT.contains(&ms)).await;
    }
    // This is what it is for: from now on a crash would bring all of them to nobody.
    other.kill();
    let mut retries = BTreeSet::new();
    for stream in streams.iter_mut().chain([&mut first]) {
        retries.insert(told(stream, |ms| !SHORT.contains(&ms)).await);
    }
    assert!(retries.len() > 10, "each has a pause of its own: {retries:?}");
    publishing.abort();
}
