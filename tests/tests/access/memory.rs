//! A process that runs short of memory lets go of some, in a known order, before it is killed for all.

use std::time::{Duration, Instant};

use evergate_tests::PATIENCE;
use evergate_tests::figures::metric;
use evergate_tests::frame::Frame;
use evergate_tests::http1::{Request, call};
use evergate_tests::http2::Client;
use evergate_tests::process::Evergate;
use evergate_tests::subscription::Subscription;
use serde_json::json;
use tokio::sync::mpsc;

use crate::{EVENTS, bearer, guarded, guarded_with};

/// Waits for what a process takes when it has nothing to do.
async fn used(server: &Evergate) -> f64 {
    let until = Instant::now() + PATIENCE;
    loop {
        let used = metric(server, "evergate_memory_used_bytes", "").await;
        if used > 0.0 {
            return used;
        }
        assert!(Instant::now() < until, "it is never told");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Reads a stream to its end; says who it was and why it ended.
fn until_goaway(mut stream: Subscription, name: &'static str, told: mpsc::Sender<(&'static str, Frame)>) {
    tokio::spawn(async move {
        loop {
            let frame = stream.frame().await;
            if frame.event.as_deref() == Some("evergate.goaway") {
                // Nobody listens any more once the test has failed.
                let _ = told.send((name, frame)).await;
                return;
            }
        }
    });
}

/// What there is beyond what an idle process takes, in bytes: so much that one look at the memory and the next see
/// a few hundredths of it.
const ROOM: f64 = (64 << 20) as f64;

#[tokio::test]
async fn streams_are_refused_then_ended_newest_anonymous_first_and_publishes_last() {
    let (_, idle) = guarded().await;
    let limit = used(&idle).await + ROOM;
    drop(idle);
    let bytes = format!("{}", limit as u64);
    let (issuer, server) = guarded_with(|options| options.set("memory.bytes_max", &bytes)).await;
    let token = |name: &str, priority: u8| {
        issuer.token(name, 600, &json!({ "subscribe": ["*"], "priority": priority }))
    };
    let anonymous = "/v1/streams/open/events";
    let (told, mut hears) = mpsc::channel(8);
    let asked = [
        ("important", bearer(Request::get(EVENTS), &token("alice", 9))),
        ("older", Request::get(anonymous)),
        ("known", bearer(Request::get(EVENTS), &token("bob", 1))),
        ("newer", Request::get(anonymous)),
    ];
    for (name, request) in asked {
        let mut stream = Subscription::request(server.http(), &request).await;
        stream.opened().await;
        until_goaway(stream, name, told.clone());
    }
    // Two that come over one connection, as through a proxy, and are not ended together.
    let mut client = Client::open(server.http()).await;
    for name in ["beside", "newest"] {
        let mut stream = Subscription::over_http2(&mut client, anonymous, &[]).await;
        stream.opened().await;
        until_goaway(stream, name, told.clone());
    }

    // In pieces so small that no level is passed over between two looks at the memory.
    let body = "x".repeat(48 << 10);
    let (mut refused_streams, mut refused, mut order) = (false, None, Vec::new());
    let until = Instant::now() + 4 * PATIENCE;
    while order.len() < 6 || refused.is_none() {
        assert!(Instant::now() < until, "{order:?} were ended, and publishes were refused with {refused:?}");
        let answer =
            call(server.http(), Request::post("/v1/streams/in/events", "text/plain", body.as_str())).await;
        match answer.status() {
            200 => {}
            503 => {
                refused.get_or_insert(answer);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            other => panic!("{other}"),
        }
        let lives = call(server.admin(), Request::get("/livez"));
        assert_eq!(tokio::time::timeout(Duration::from_secs(1), lives).await.expect("in time").status(), 200);
        if !refused_streams && metric(&server, "evergate_memory_short", "").await >= 1.0 {
            assert!(refused.is_none(), "streams are refused before events are");
            let answer = call(server.http(), Request::get(&format!("{anonymous}?errors=http"))).await;
            assert_eq!(answer.problem(503)["detail"], "short of memory");
            refused_streams = true;
        }
        while let Ok((name, frame)) = hears.try_recv() {
            assert_eq!(frame.json()["reason"], "overload");
            assert!(frame.retry.is_some_and(|retry| retry >= 20_000), "{frame:?}");
            order.push(name);
        }
    }
    assert!(refused_streams);
    let refused = refused.expect("it was waited for");
    assert_eq!(refused.problem(503)["code"], "short-of-memory");
    assert!(refused.head.must("retry-after").parse::<u64>().expect("seconds") >= 1);
    let used = metric(&server, "evergate_memory_used_bytes", "").await;
    println!("{:.3} of the limit", used / limit);
    assert!(used < limit * 1.1, "{used} of {limit} bytes");
    // The second one of a connection is told a moment later than others.
    order.retain(|&name| name != "beside");
    assert_eq!(order, ["newest", "newer", "older", "known", "important"]);
    let ended = metric(&server, "evergate_streams_ended_total", "reason=\"overload\"").await;
    assert!((ended - 6.0).abs() < 0.5, "{ended}");
}
