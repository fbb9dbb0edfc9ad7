//! Being turned away for now, in a way that a browser survives.

use evergate_tests::PATIENCE;
use evergate_tests::event_source::EventSource;
use evergate_tests::http1::{Request, call};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::subscription::{End, Subscription};

use crate::events_of;

async fn full_server() -> (Evergate, Subscription) {
    let options = Options::memory()
        .set("http.connections_max", "1")
        .set("sse.busy_retry_min", "2s")
        .set("sse.busy_retry_max", "4s");
    let server = Evergate::start(options).await;
    let mut only = Subscription::open(server.http(), &events_of("s")).await;
    only.opened().await;
    (server, only)
}

#[tokio::test]
async fn a_browser_that_cannot_be_served_now_is_asked_to_come_back() {
    let (server, _only) = full_server().await;
    let request = Request::get(&events_of("s")).header("Last-Event-ID", "7-42");
    let mut refused = Subscription::request(server.http(), &request).await;
    let (frames, end) = refused.end().await;
    let [busy] = frames.as_slice() else { panic!("one frame: {frames:?}") };
    assert_eq!(busy.event.as_deref(), Some("evergate.busy"));
    assert!((2000..=4000).contains(&busy.retry.expect("a retry")), "{busy:?}");
    assert!(busy.json()["reason"].as_str().is_some_and(|why| !why.is_empty()), "{busy:?}");
    assert_eq!(end, End::Clean);

    // What the client was holding, it holds still.
    let mut client = EventSource::holding("7-42");
    client.feed(refused.raw());
    assert_eq!(client.last_event_id(), "7-42");
}

#[tokio::test]
async fn those_who_are_turned_away_together_do_not_come_back_together() {
    let (server, _only) = full_server().await;
    let mut retries = std::collections::HashSet::new();
    for _ in 0..20 {
        let mut refused = Subscription::open(server.http(), &events_of("s")).await;
        let busy = refused.control("evergate.busy").await;
        retries.insert(busy.retry.expect("a retry"));
    }
    assert!(retries.len() > 10, "{retries:?}");
    assert!(retries.iter().all(|retry| (2_000..=4_000).contains(retry)), "{retries:?}");
}

#[tokio::test]
async fn a_client_that_reads_statuses_gets_one() {
    let (server, _only) = full_server().await;
    let request = Request::get(&(events_of("s") + "?errors=http"));
    let answer = call(server.http(), request).await;
    answer.problem(503);
    let after: u64 = answer.head.must("retry-after").parse().expect("seconds");
    assert!((1..=15).contains(&after), "{after}");
}

#[tokio::test]
async fn whoever_has_a_place_keeps_it_and_a_free_one_is_given_away() {
    let (server, only) = full_server().await;
    drop(only);
    // The server learns of it when it reads the end of the connection; until then it says busy.
    let deadline = tokio::time::Instant::now() + PATIENCE;
    loop {
        let mut stream = Subscription::open(server.http(), &events_of("s")).await;
        let first = stream.frame().await;
        if first.event.as_deref() == Some("evergate.open") {
            break;
        }
        assert_eq!(first.event.as_deref(), Some("evergate.busy"));
        assert!(tokio::time::Instant::now() < deadline, "a place was never freed");
    }
}

#[tokio::test]
async fn a_stream_may_have_to_exist_already() {
    let options = Options::memory().set("streams.create", "false").configured("[streams.known]\n");
    let server = Evergate::start(options).await;
    call(server.http(), Request::get(&events_of("s"))).await.problem(404);
    call(server.http(), Request::post(&events_of("s"), "text/plain", "x")).await.problem(404);
    Subscription::open(server.http(), &events_of("known")).await.opened().await;
}
