//! The same contract over HTTP/2, as a proxy in front would speak it.

use std::time::Duration;

use evergate_tests::PATIENCE;
use evergate_tests::event_source::{Dispatched, EventSource};
use evergate_tests::frame::Item;
use evergate_tests::http2::Client;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::subscription::{End, Next, Subscription};
use serde_json::json;

use crate::events_of;

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn subscribing_and_publishing_share_one_connection() {
    let server = Evergate::start(Options::memory()).await;
    let mut client = Client::open(server.http()).await;
    let mut typed = Subscription::over_http2(&mut client, &events_of("s"), &[]).await;
    let mut keyed = Subscription::over_http2(&mut client, &(events_of("s") + "?key=k"), &[]).await;
    let head = typed.head().clone();
    assert_eq!(head.version, "HTTP/2.0");
    assert_eq!(head.must("cache-control"), "no-cache, no-store, no-transform");
    assert_eq!(head.must("x-accel-buffering"), "no");
    for forbidden in ["connection", "transfer-encoding", "keep-alive"] {
        assert_eq!(head.header(forbidden), None, "HTTP/2 forbids it: {head:?}");
    }
    let opened = typed.opened().await;
    assert_eq!(opened.trace_id, head.must("x-trace-id"));
    keyed.opened().await;

    let body = json!({ "data": "1", "type": "t" }).to_string();
    let answer = client.call("POST", &events_of("s"), &[JSON], body).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(answer.json(), json!({ "offset": opened.offset().plus(1).to_string(), "duplicate": false }));
    let frame = typed.event().await;
    assert_eq!((frame.event.as_deref(), frame.data.as_str()), (Some("t"), "1"));
    client.call("POST", &events_of("s"), &[JSON], json!({ "data": "2", "key": "k" }).to_string()).await;
    assert_eq!(keyed.event().await.data, "2");

    let field = [("last-event-id", opened.cursor.as_str())];
    let mut resumed = Subscription::over_http2(&mut client, &events_of("s"), &field).await;
    assert_eq!(resumed.opened().await.resume, "exact");
    assert_eq!(resumed.data(2).await, ["1", "2"]);
}

#[tokio::test]
async fn errors_are_told_over_http_2_as_well() {
    let server = Evergate::start(Options::memory()).await;
    let mut client = Client::open(server.http()).await;
    client.call("GET", "/v1/nothing", &[], "").await.problem(404);
    client.call("GET", &events_of("s"), &[("last-event-id", "nonsense")], "").await.problem(400);
    client.call("DELETE", &events_of("s"), &[], "").await.problem(405);
}

#[tokio::test]
async fn many_events_flow_within_the_granted_window() {
    let server = Evergate::start(Options::memory()).await;
    let mut client = Client::open(server.http()).await;
    let mut stream = Subscription::over_http2(&mut client, &events_of("s"), &[]).await;
    stream.opened().await;
    let text = "x".repeat(100_000);
    for n in 0..30 {
        let body = json!({ "data": format!("{n} {text}") }).to_string();
        assert_eq!(client.call("POST", &events_of("s"), &[JSON], body).await.status(), 200);
    }
    for n in 0..30 {
        assert_eq!(stream.event().await.data, format!("{n} {text}"));
    }
}

#[tokio::test]
async fn a_shutdown_ends_http_2_streams_cleanly() {
    let mut server = Evergate::start(Options::memory().set("shutdown.drain", "300ms")).await;
    let mut client = Client::open(server.http()).await;
    let mut stream = Subscription::over_http2(&mut client, &events_of("s"), &[]).await;
    stream.opened().await;
    server.terminate();
    let (frames, end) = stream.end().await;
    assert_eq!(frames.len(), 1, "{frames:?}");
    assert_eq!(frames[0].event.as_deref(), Some("evergate.goaway"));
    assert_eq!(end, End::Clean);
    assert_eq!(server.ended(Duration::from_secs(20)).await.code(), Some(0), "{}", server.output());
}

#[tokio::test]
async fn every_kind_of_answer_says_of_itself_what_it_says_over_http_1() {
    let server = Evergate::start(Options::memory().set("http.cors_origins", "https://app.example.com")).await;
    let mut client = Client::open(server.http()).await;
    let origin = ("origin", "https://app.example.com");

    let head = client.call("HEAD", &events_of("s"), &[origin], "").await;
    assert_eq!((head.status(), head.body.len()), (200, 0));
    assert_eq!(head.head.must("content-type"), "text/event-stream");
    assert_eq!(head.head.header("content-length"), None, "a stream has no length");

    let got = client.call("GET", "/v1/route", &[origin], "").await;
    let told = client.call("HEAD", "/v1/route", &[origin], "").await;
    assert_eq!(got.head.must("content-length"), got.body.len().to_string());
    assert_eq!(told.head.must("content-length"), got.body.len().to_string());
    assert!(told.body.is_empty());
    for answer in [&head, &got, &told] {
        assert_eq!(answer.head.must("access-control-allow-origin"), origin.1);
        assert!(answer.head.lists("vary", "origin"), "{answer:?}");
        assert!(answer.head.must("date").ends_with(" GMT"), "{answer:?}");
        assert_eq!(answer.head.must("x-trace-id").len(), 32);
    }

    let asks = [
        origin,
        ("access-control-request-method", "GET"),
        ("access-control-request-headers", "last-event-id"),
    ];
    let preflight = client.call("OPTIONS", &events_of("s"), &asks, "").await;
    assert!(matches!(preflight.status(), 200 | 204) && preflight.body.is_empty(), "{preflight:?}");
    assert!(preflight.head.lists("access-control-allow-headers", "last-event-id"), "{preflight:?}");

    let stranger = client.call("GET", "/v1/nothing", &[("origin", "https://elsewhere.example")], "").await;
    assert!(stranger.status() >= 400);
    assert_eq!(stranger.head.header("access-control-allow-origin"), None);
}

/// One that is cut in the middle of a frame comes back with the id it has, over the same connection.
#[tokio::test]
async fn a_stream_that_is_reset_in_the_middle_of_a_frame_is_resumed_exactly() {
    let server = Evergate::start(Options::memory()).await;
    // So little room that every frame comes in many pieces.
    let mut client = Client::with_windows(server.http(), 100, 65_535).await;
    for n in 0..6 {
        let body = json!({ "data": format!("{n} {}", "x".repeat(300)) }).to_string();
        assert_eq!(client.call("POST", &events_of("s"), &[JSON], body).await.status(), 200);
    }
    let target = events_of("s") + "?from=earliest";
    let (mut cuts, mut in_the_middle) = (0, 0);
    loop {
        let mut page = EventSource::new();
        let mut seen = Vec::new();
        let (_, mut incoming) = client.get(&target, &[]).await;
        let mut body = Vec::new();
        for _ in 0..cuts {
            let before = body.len();
            assert!(incoming.read(&mut body, PATIENCE).await.expect("a piece"));
            seen.extend(page.feed(&body[before..]));
        }
        drop(incoming);
        in_the_middle += usize::from(!body.is_empty() && !body.ends_with(b"\n\n"));
        page.disconnected();
        let held = page.last_event_id().to_owned();
        let field = [("last-event-id", held.as_str())];
        let mut resumed = Subscription::over_http2(&mut client, &target, &field).await;
        resumed.opened().await;
        let is_event = |seen: &&Dispatched| !seen.event.starts_with("evergate.");
        let mut texts: Vec<_> = seen.iter().filter(is_event).map(|event| event.data.clone()).collect();
        let before = texts.len();
        texts.extend(resumed.data(6 - before).await);
        let numbers: Vec<_> = texts.iter().filter_map(|text| text.split(' ').next()).collect();
        assert_eq!(numbers, ["0", "1", "2", "3", "4", "5"], "cut after {cuts} pieces, resumed with {held:?}");
        if before == 6 {
            break;
        }
        cuts += 1;
    }
    assert!(cuts > 20 && in_the_middle > 10, "{cuts} cuts, {in_the_middle} in the middle of a frame");
}

#[tokio::test]
async fn several_streams_share_one_and_quiet_ones_give_signs_of_life() {
    let server = Evergate::start(Options::memory().set("sse.heartbeat", "1s")).await;
    let mut client = Client::open(server.http()).await;
    let two = "/v1/events?stream=a&stream=b&key=b/k";
    let mut several = Subscription::over_http2(&mut client, two, &[]).await;
    let mut quiet = Subscription::over_http2(&mut client, &(events_of("a") + "?key=nobody"), &[]).await;
    let as_event = events_of("c") + "?heartbeat=event";
    let mut watched = Subscription::over_http2(&mut client, &as_event, &[]).await;
    for stream in [&mut several, &mut quiet, &mut watched] {
        stream.opened().await;
    }
    let mut offsets = Vec::new();
    for (stream, key) in [("a", "x"), ("b", "other"), ("b", "k")] {
        let body = json!({ "data": "1", "key": key }).to_string();
        let answer = client.call("POST", &events_of(stream), &[JSON], body).await;
        offsets.push(answer.json()["offset"].as_str().expect("an offset").to_owned());
    }
    let mut events = Vec::new();
    while events.len() < 2 {
        let frame = several.frame().await;
        if frame.is_event() {
            events.push(frame);
        }
    }
    assert_eq!((&events[0].json()["stream"], &events[1].json()["stream"]), (&"a".into(), &"b".into()));
    // What was passed over is told of with the sign of life.
    assert_eq!(quiet.control("evergate.cursor").await.must_id(), offsets[0]);
    assert!(matches!(quiet.next().await, Next::Item(Item::Comment(_))));
    for _ in 0..2 {
        watched.control("evergate.heartbeat").await;
    }
    let field = [("last-event-id", events[0].must_id())];
    let mut resumed = Subscription::over_http2(&mut client, two, &field).await;
    assert_eq!(resumed.opened().await.resume, "exact");
    assert_eq!(resumed.event().await.must_id(), events[1].must_id());
}

#[tokio::test]
async fn an_end_that_is_to_look_cut_comes_behind_all_that_was_sent() {
    let mut server = Evergate::start(Options::memory().set("shutdown.drain", "300ms")).await;
    let mut client = Client::open(server.http()).await;
    let target = events_of("s") + "?end=abort";
    let mut plain = Subscription::over_http2(&mut client, &target, &[]).await;
    let mut packed = Subscription::over_http2(&mut client, &target, &[("accept-encoding", "gzip")]).await;
    for stream in [&mut plain, &mut packed] {
        stream.opened().await;
    }
    server.terminate();
    for stream in [&mut plain, &mut packed] {
        let (frames, end) = stream.end().await;
        assert_eq!(frames.last().and_then(|frame| frame.event.as_deref()), Some("evergate.goaway"));
        assert_eq!(end, End::Cut);
    }
    assert!(!packed.is_whole());
    assert_eq!(server.ended(Duration::from_secs(20)).await.code(), Some(0), "{}", server.output());
}

#[tokio::test]
async fn a_loss_is_told_over_http_2_as_well() {
    let server = Evergate::start(Options::memory().set("retention.events", "3")).await;
    let mut client = Client::open(server.http()).await;
    let mut first = Subscription::over_http2(&mut client, &events_of("s"), &[]).await;
    let begun = first.opened().await.cursor;
    drop(first);
    for n in 0..10 {
        let body = json!({ "data": n.to_string() }).to_string();
        client.call("POST", &events_of("s"), &[JSON], body).await;
    }
    let field = [("last-event-id", begun.as_str())];
    let mut resumed = Subscription::over_http2(&mut client, &events_of("s"), &field).await;
    assert_eq!(resumed.opened().await.resume, "gap");
    let gap = resumed.control("evergate.gap").await.json();
    assert_eq!((&gap["reason"], &gap["lost"]), (&json!("trimmed"), &json!(7)));
    assert_eq!(resumed.data(3).await, ["7", "8", "9"]);
}

/// More than the windows let in at once, read as it comes.
#[tokio::test]
async fn a_large_batch_is_taken_within_the_windows() {
    let server = Evergate::start(Options::memory()).await;
    let mut client = Client::open(server.http()).await;
    let lines: Vec<_> =
        (0..9).map(|n| json!({ "data": format!("{n} {}", "x".repeat(100_000)) }).to_string()).collect();
    let kind = ("content-type", "application/x-ndjson");
    let answer = client.call("POST", &events_of("s"), &[kind], lines.join("\n")).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
    assert_eq!(answer.json().as_array().map(Vec::len), Some(9));
}
