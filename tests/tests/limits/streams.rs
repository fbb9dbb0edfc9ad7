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
