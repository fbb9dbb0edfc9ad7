//! What one client may have of streams, without taking anything from another.

use evergate_tests::http1::{Request, call};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::subscription::{End, Subscription};

use crate::{events_of, metric, until_metric};
use evergate_tests::PATIENCE;

fn behind_a_proxy() -> Options {
    Options::memory().set("http.trusted_proxies", "127.0.0.0/8")
}

fn from(address: &str) -> Request {
    asking(&events_of("s"), address)
}

fn asking(target: &str, address: &str) -> Request {
    Request::get(target).header("X-Forwarded-For", address)
}

/// Subscribes and is turned away as a browser survives it.
async fn assert_busy(server: &Evergate, request: &Request, reason: &str) {
    let mut refused = Subscription::request(server.http(), request).await;
    let (frames, end) = refused.end().await;
    let [busy] = frames.as_slice() else { panic!("one frame: {frames:?}") };
    assert_eq!(busy.event.as_deref(), Some("evergate.busy"));
    assert!(busy.retry.is_some_and(|retry| retry >= 2000), "{busy:?}");
    assert_eq!(busy.json()["reason"], reason);
    assert_eq!(end, End::Clean);
}

#[tokio::test]
async fn an_address_has_its_streams_and_no_more() {
    let server = Evergate::start(behind_a_proxy().set("limits.streams_per_address", "2")).await;
    let mut held = Vec::new();
    // One network of 64 bits is one client.
    for address in ["2001:db8::1", "2001:db8::ffff:2"] {
        let mut stream = Subscription::request(server.http(), &from(address)).await;
        stream.opened().await;
        held.push(stream);
    }
    let reason = "too many streams from this address";
    assert_busy(&server, &from("2001:db8::3"), reason).await;
    let told = call(server.http(), asking(&(events_of("s") + "?errors=http"), "2001:db8::3")).await;
    told.problem(429);
    assert!(told.head.must("retry-after").parse::<u64>().expect("seconds") >= 1);
    assert!(metric(&server, "evergate_busy_total", reason).await >= 2.0);

    Subscription::request(server.http(), &from("2001:db8:0:1::1")).await.opened().await;
    drop(held.pop());
    until_metric(&server, "evergate_streams_open", "", 1.0, PATIENCE).await;
    Subscription::request(server.http(), &from("2001:db8::3")).await.opened().await;
}

#[tokio::test]
async fn a_client_has_its_streams_from_wherever_it_comes() {
    let server = Evergate::start(behind_a_proxy().set("limits.streams_per_client", "1")).await;
    let target = events_of("s") + "?client_id=c1";
    let mut first = Subscription::request(server.http(), &asking(&target, "192.0.2.1")).await;
    first.opened().await;
    assert_busy(&server, &asking(&target, "192.0.2.2"), "too many streams of this client").await;
    let other = asking(&(events_of("s") + "?client_id=c2"), "192.0.2.1");
    Subscription::request(server.http(), &other).await.opened().await;
    Subscription::request(server.http(), &from("192.0.2.1")).await.opened().await;
}

#[tokio::test]
async fn a_stream_has_its_subscribers_and_leaves_room_for_those_of_others() {
    let options = behind_a_proxy().set("limits.subscribers_per_stream", "2");
    let server = Evergate::start(options).await;
    let mut held = Vec::new();
    for address in ["192.0.2.1", "192.0.2.2"] {
        let mut stream = Subscription::request(server.http(), &from(address)).await;
        stream.opened().await;
        held.push(stream);
    }
    let reason = "too many subscribers of this stream";
    assert_busy(&server, &from("192.0.2.3"), reason).await;
    let with_another = asking("/v1/events?stream=s&stream=other", "192.0.2.3");
    assert_busy(&server, &with_another, reason).await;
    let told = call(server.http(), asking(&(events_of("s") + "?errors=http"), "192.0.2.3")).await;
    told.problem(503);
    for _ in 0..2 {
        let other = asking(&events_of("other"), "192.0.2.3");
        Subscription::request(server.http(), &other).await.opened().await;
    }
    drop(held.pop());
    let until = std::time::Instant::now() + PATIENCE;
    loop {
        let mut again = Subscription::request(server.http(), &from("192.0.2.3")).await;
        if again.frame().await.event.as_deref() == Some("evergate.open") {
            break;
        }
        assert!(std::time::Instant::now() < until, "no place was given back");
    }
}

#[tokio::test]
async fn a_stream_is_opened_only_so_fast_from_however_many_addresses() {
    let options = behind_a_proxy()
        .set("limits.stream_connects_per_second", "1")
        .set("limits.stream_connects_burst", "3");
    let server = Evergate::start(options).await;
    let mut opened = 0;
    for n in 0..20 {
        let mut stream = Subscription::request(server.http(), &from(&format!("192.0.2.{n}"))).await;
        opened += usize::from(stream.frame().await.event.as_deref() == Some("evergate.open"));
    }
    // The burst, and what a busy machine's seconds add.
    assert!((3..20).contains(&opened), "{opened}");
    assert!(metric(&server, "evergate_busy_total", "too many connect to this stream").await >= 1.0);
    let other = asking(&events_of("other"), "192.0.2.1");
    Subscription::request(server.http(), &other).await.opened().await;
}

#[tokio::test]
async fn calls_about_streams_have_a_rate() {
    let options = behind_a_proxy().set("limits.calls_per_second", "1").set("limits.calls_burst", "2");
    let server = Evergate::start(options).await;
    let ping = |address: &str| {
        Request::post("/v1/connections/n~0~0~1~0/ping", "text/plain", "").header("X-Forwarded-For", address)
    };
    let mut limited = None;
    for _ in 0..20 {
        let answer = call(server.http(), ping("192.0.2.1")).await;
        match answer.status() {
            404 => {}
            429 => limited = Some(answer),
            other => panic!("{other}"),
        }
    }
    let limited = limited.expect("more than two at once");
    assert_eq!(limited.problem(429)["code"], "rate-limited");
    assert!(limited.head.must("retry-after").parse::<u64>().expect("seconds") >= 1);
    assert_eq!(limited.head.must("x-ratelimit-limit"), "2");
    assert_eq!(call(server.http(), ping("192.0.2.2")).await.status(), 404, "nobody else's budget");
}

#[tokio::test]
async fn an_address_that_connects_in_a_loop_is_slowed_and_nobody_else() {
    let options = behind_a_proxy().set("limits.connects_per_second", "1").set("limits.connects_burst", "3");
    let server = Evergate::start(options).await;
    let mut opened = 0;
    for _ in 0..20 {
        let mut stream = Subscription::request(server.http(), &from("192.0.2.1")).await;
        opened += usize::from(stream.frame().await.event.as_deref() == Some("evergate.open"));
    }
    // The burst, and what a busy machine's seconds add.
    assert!((3..20).contains(&opened), "{opened}");
    assert!(metric(&server, "evergate_busy_total", "connecting too fast").await >= 1.0);
    Subscription::request(server.http(), &from("192.0.2.2")).await.opened().await;
}
