//! The place that the server keeps for a client with a `client_id`.

use std::time::{Duration, Instant};

use evergate_tests::figures::metric;
use evergate_tests::http1::{Connection, Request, Response, call};
use evergate_tests::http2;
use evergate_tests::offset::Offset;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event, keyed};
use evergate_tests::subscription::{End, Opened, Subscription};
use serde_json::json;

use crate::events_of;

const PATIENCE: Duration = Duration::from_secs(15);

fn options() -> Options {
    quick(Options::memory())
}

fn quick(options: Options) -> Options {
    options.set("cursors.flush_interval", "100ms")
}

fn target(query: &str) -> String {
    format!("{}?{query}", events_of("s"))
}

async fn server(options: Options) -> (Evergate, Publisher) {
    let server = Evergate::start(options).await;
    let publisher = Publisher::connect(server.grpc()).await;
    (server, publisher)
}

async fn publish(publisher: &Publisher, data: std::ops::RangeInclusive<u64>) -> Vec<Offset> {
    publisher.publish_all("s", data.map(|n| n.to_string())).await
}

async fn open(server: &Evergate, query: &str) -> (Subscription, Opened) {
    let mut stream = Subscription::open(server.http(), &target(query)).await;
    let opened = stream.opened().await;
    (stream, opened)
}

async fn acknowledge(server: &Evergate, connection: &str, cursor: &str) -> Response {
    let body = json!({ "connection": connection, "cursor": cursor }).to_string();
    call(server.http(), Request::post("/v1/acks", "application/json", body)).await
}

/// Opens again and again until the stored position is this one: it follows within two flushes.
async fn stored_at(server: &Evergate, query: &str, cursor: &str) -> Subscription {
    let until = Instant::now() + PATIENCE;
    loop {
        let (stream, opened) = open(server, query).await;
        assert_eq!(opened.resume, "stored");
        if opened.cursor == cursor {
            return stream;
        }
        assert!(Instant::now() < until, "{} instead of {cursor}", opened.cursor);
        // A connection must live for two flushes to move anything.
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
}

#[tokio::test]
async fn a_client_that_brings_nothing_goes_on_where_it_was() {
    let (server, publisher) = server(options()).await;
    let (mut stream, opened) = open(&server, "client_id=alice").await;
    assert_eq!(opened.resume, "live");
    let offsets = publish(&publisher, 1..=10).await;
    assert_eq!(stream.data(10).await.last().map(String::as_str), Some("10"));
    // Nobody else is moved by that.
    let (_other, opened) = open(&server, "client_id=bob&from=earliest").await;
    assert_eq!(opened.resume, "live");

    // The stream stays open until its place was noted, then ends; meanwhile others publish.
    tokio::time::sleep(Duration::from_millis(500)).await;
    drop(stream);
    publish(&publisher, 11..=13).await;
    let mut again = stored_at(&server, "client_id=alice&from=latest", &offsets[9].to_string()).await;
    assert_eq!(again.data(3).await, ["11", "12", "13"]);
}

/// A recipe in use elsewhere stores `$`, "only what is new", for a client that it sees first, and
/// loses what is published while the client is away.
#[tokio::test]
async fn what_comes_while_a_new_client_is_away_is_not_lost() {
    let (server, publisher) = server(Options::memory().set("cursors.flush_interval", "60s")).await;
    publish(&publisher, 1..=3).await;
    let (stream, opened) = open(&server, "client_id=alice").await;
    drop(stream);
    publish(&publisher, 4..=6).await;
    let (mut stream, again) = open(&server, "client_id=alice").await;
    assert_eq!((again.resume.as_str(), again.cursor), ("stored", opened.cursor));
    assert_eq!(stream.data(3).await, ["4", "5", "6"]);
}

#[tokio::test]
async fn a_client_s_own_word_beats_what_is_stored() {
    let (server, publisher) = server(options()).await;
    let (mut stream, _) = open(&server, "client_id=alice").await;
    let offsets = publish(&publisher, 1..=10).await;
    stream.data(10).await;
    drop(stored_at(&server, "client_id=alice", &offsets[9].to_string()).await);

    let back = offsets[3].to_string();
    for (request, name) in [
        (Request::get(&target("client_id=alice&from=earliest")).header("Last-Event-ID", &back), "header"),
        (Request::get(&target(&format!("client_id=alice&last_event_id={back}"))), "query"),
    ] {
        let mut stream = Subscription::request(server.http(), &request).await;
        let opened = stream.opened().await;
        assert_eq!((opened.resume.as_str(), opened.cursor.as_str()), ("exact", back.as_str()), "{name}");
        assert_eq!(stream.data(1).await, ["5"], "{name}");
    }
    // It was put down at once, and a connection that ends at once moves nothing on.
    let (_, opened) = open(&server, "client_id=alice&from=latest").await;
    assert_eq!(opened.resume, "stored");
    let at: Offset = opened.cursor.parse().expect("an offset");
    assert!(at >= offsets[3], "{at}");
}

#[tokio::test]
async fn a_second_connection_replaces_the_first() {
    let (server, publisher) = server(options()).await;
    let (mut first, _) = open(&server, "client_id=alice").await;
    let (mut other, _) = open(&server, "client_id=alice&key=AAPL").await;
    let (mut second, opened) = open(&server, "client_id=alice").await;
    assert_eq!(opened.resume, "stored");
    let (frames, end) = first.end().await;
    let [goaway] = frames.as_slice() else { panic!("{frames:?}") };
    assert_eq!(
        (goaway.event.as_deref(), &goaway.json()["reason"]),
        (Some("evergate.goaway"), &json!("replaced"))
    );
    assert!(goaway.retry.is_some_and(|retry| retry >= 30_000), "two tabs would fight: {goaway:?}");
    assert_eq!(end, End::Clean);

    publisher.publish("s", keyed("AAPL", "for all")).await;
    assert_eq!(second.data(1).await, ["for all"]);
    assert_eq!(other.data(1).await, ["for all"], "other keys are another subscription");
}

#[tokio::test]
async fn what_is_not_acknowledged_comes_again() {
    let (server, publisher) = server(options()).await;
    let (mut stream, opened) = open(&server, "client_id=alice&acks=1").await;
    let offsets = publish(&publisher, 1..=10).await;
    stream.data(10).await;
    assert_eq!(acknowledge(&server, &opened.connection, &offsets[3].to_string()).await.status(), 204);
    // Flushes pass, and move nothing.
    tokio::time::sleep(Duration::from_millis(500)).await;
    drop(stream);
    let (mut stream, opened) = open(&server, "client_id=alice").await;
    assert_eq!((opened.resume.as_str(), opened.cursor), ("stored", offsets[3].to_string()));
    assert_eq!(stream.data(6).await, ["5", "6", "7", "8", "9", "10"]);
    // It acknowledges now, also on a connection that does not say so.
    tokio::time::sleep(Duration::from_millis(500)).await;
    let (_, again) = open(&server, "client_id=alice").await;
    assert_eq!(again.cursor, offsets[3].to_string());
}

/// A browser comes back by itself with the id that it received last, whatever its page has done with
/// it.
#[tokio::test]
async fn a_reconnect_by_itself_acknowledges_nothing() {
    let (server, publisher) = server(options()).await;
    let (mut stream, opened) = open(&server, "client_id=alice&acks=1").await;
    let offsets = publish(&publisher, 1..=10).await;
    stream.data(10).await;
    assert_eq!(acknowledge(&server, &opened.connection, &offsets[3].to_string()).await.status(), 204);
    let received = offsets[9].to_string();
    let request = Request::get(&target("client_id=alice&acks=1")).header("Last-Event-ID", &received);
    let mut back = Subscription::request(server.http(), &request).await;
    assert_eq!(back.opened().await.cursor, received, "it goes on where it was");
    // The page is loaded anew.
    let (mut again, opened) = open(&server, "client_id=alice&acks=1").await;
    assert_eq!((opened.resume.as_str(), opened.cursor), ("stored", offsets[3].to_string()));
    assert_eq!(again.data(6).await, ["5", "6", "7", "8", "9", "10"]);
}

#[tokio::test]
async fn what_is_stored_beats_where_a_page_would_begin() {
    let (server, publisher) = server(options()).await;
    let offsets = publish(&publisher, 1..=10).await;
    let (from, later) = (offsets[1].to_string(), offsets[6].to_string());
    let query = format!("client_id=alice&acks=1&from={from}");
    let (mut stream, opened) = open(&server, &query).await;
    assert_eq!(opened.cursor, from, "nothing was stored yet");
    stream.data(8).await;
    assert_eq!(acknowledge(&server, &opened.connection, &later).await.status(), 204);
    let (_, opened) = open(&server, &query).await;
    assert_eq!((opened.resume.as_str(), opened.cursor), ("stored", later));
}

#[tokio::test]
async fn an_acknowledgement_that_makes_no_sense_is_refused_with_its_place() {
    let (server, _publisher) = server(options()).await;
    let (_named, named) = open(&server, "client_id=alice").await;
    let (_nameless, nameless) = open(&server, "").await;
    acknowledge(&server, "nobody", "1-1").await.problem(404);
    acknowledge(&server, &nameless.connection, "1-1").await.problem_with(400, "connection");
    for bad in ["", "$", "1", "1-1-1", "m1.AAAA", "99999999999999999999-1"] {
        acknowledge(&server, &named.connection, bad).await.problem_with(400, "cursor");
    }
    for bad in ["{", r#"{"connection": "x"}"#, r#"{"connection": "x", "cursor": "1-1", "more": 1}"#] {
        call(server.http(), Request::post("/v1/acks", "application/json", bad))
            .await
            .problem_with(400, "body");
    }
    call(server.http(), Request::post("/v1/acks", "text/plain", "x")).await.problem(415);
    let long = "x".repeat(5000);
    call(server.http(), Request::post("/v1/acks", "application/json", long)).await.problem_with(400, "body");
    call(server.http(), Request::get("/v1/acks")).await.problem(405);
    for bad in ["client_id=", "client_id=a%0Ab", "acks=1", "client_id=a&acks=maybe"] {
        call(server.http(), Request::get(&target(bad))).await.problem(400);
    }
    let long = target(&format!("client_id={}", "x".repeat(129)));
    call(server.http(), Request::get(&long)).await.problem_with(400, "client_id");
}

#[tokio::test]
async fn over_several_streams_every_position_is_kept() {
    let (server, publisher) = server(options()).await;
    let both = "/v1/events?stream=s&stream=t&client_id=alice&envelope=0";
    let mut stream = Subscription::open(server.http(), both).await;
    stream.opened().await;
    publish(&publisher, 1..=3).await;
    publisher.publish("t", event("a")).await;
    let mut seen = stream.data(4).await;
    seen.sort();
    assert_eq!(seen, ["1", "2", "3", "a"]);
    tokio::time::sleep(Duration::from_millis(500)).await;
    drop(stream);
    publish(&publisher, 4..=4).await;
    publisher.publish("t", event("b")).await;
    let mut stream = Subscription::open(server.http(), both).await;
    assert_eq!(stream.opened().await.resume, "stored");
    let mut seen = stream.data(2).await;
    seen.sort();
    assert_eq!(seen, ["4", "b"]);
}

/// What its system has acknowledged says nothing of a client behind HTTP/2's own windows.
#[tokio::test]
async fn over_http2_only_acknowledgements_move_the_place() {
    let (server, publisher) = server(options()).await;
    let mut client = http2::Client::open(server.http()).await;
    let mut first = Subscription::over_http2(&mut client, &target("client_id=alice"), &[]).await;
    let opened = first.opened().await;
    let offsets = publish(&publisher, 1..=4).await;
    first.data(4).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let mut second = Subscription::over_http2(&mut client, &target("client_id=alice"), &[]).await;
    let again = second.opened().await;
    assert_eq!((again.resume.as_str(), &again.cursor), ("stored", &opened.cursor));
    let (frames, _) = first.end().await;
    assert_eq!(frames.last().expect("last words").json()["reason"], "replaced");
    assert_eq!(second.data(4).await, ["1", "2", "3", "4"], "the connection below goes on");

    assert_eq!(acknowledge(&server, &again.connection, &offsets[1].to_string()).await.status(), 204);
    let mut third = Subscription::over_http2(&mut client, &target("client_id=alice"), &[]).await;
    assert_eq!(third.opened().await.cursor, offsets[1].to_string());
}

/// A client acknowledges the sixth of ten events, the process is asked to end, and after a restart the client goes on
/// with the seventh. Answers what was published, and the connection it goes on over.
async fn goes_on_after_a_shutdown(
    server: &mut Evergate,
    publisher: &Publisher,
) -> (Vec<Offset>, Subscription, String) {
    let (mut stream, opened) = open(server, "client_id=alice&acks=1").await;
    let offsets = publish(publisher, 1..=10).await;
    stream.data(10).await;
    assert_eq!(acknowledge(server, &opened.connection, &offsets[5].to_string()).await.status(), 204);
    server.terminate();
    let status = server.ended(PATIENCE).await;
    assert_eq!(status.code(), Some(0), "{}", server.output());
    server.restart().await;
    let (mut stream, opened) = open(server, "client_id=alice").await;
    assert_eq!((opened.resume.as_str(), opened.cursor), ("stored", offsets[5].to_string()));
    assert_eq!(stream.data(4).await, ["7", "8", "9", "10"]);
    (offsets, stream, opened.connection)
}

/// No flush comes in time: what was acknowledged is written because the process ends.
#[tokio::test]
async fn a_shutdown_writes_the_places_that_no_flush_has_written() {
    let options = Options::disk().set("cursors.flush_interval", "60s").set("shutdown.drain", "100ms");
    let (mut server, publisher) = server(options).await;
    goes_on_after_a_shutdown(&mut server, &publisher).await;
}

#[tokio::test]
async fn places_survive_a_shutdown_and_a_kill() {
    let (mut server, publisher) = server(quick(Options::disk()).set("shutdown.drain", "100ms")).await;
    let (offsets, _stream, connection) = goes_on_after_a_shutdown(&mut server, &publisher).await;
    assert_eq!(acknowledge(&server, &connection, &offsets[8].to_string()).await.status(), 204);
    // Two flushes later it is on disk.
    tokio::time::sleep(Duration::from_millis(500)).await;
    server.kill();
    server.restart().await;
    let (_, opened) = open(&server, "client_id=alice").await;
    assert_eq!((opened.resume.as_str(), opened.cursor), ("stored", offsets[8].to_string()));
}

/// What a stalled client has not taken is not counted as taken.
#[tokio::test]
async fn what_lies_in_the_send_queue_is_sent_again() {
    let (server, publisher) = server(options()).await;
    let mut stalled = Connection::open(server.http()).await;
    stalled.send(&Request::get(&target("client_id=alice"))).await;
    stalled.read_head().await;
    // More than both systems' buffers hold.
    let data = "x".repeat(200 << 10);
    for _ in 0..60 {
        publisher.publish("s", event(&data)).await;
    }
    let newest = publisher.publish("s", event("newest")).await;
    tokio::time::sleep(Duration::from_millis(600)).await;
    let (_, opened) = open(&server, "client_id=alice").await;
    let at: Offset = opened.cursor.parse().expect("an offset");
    assert!(at < newest, "{at}");
}

/// Places are written by the flush, however many events there are.
#[tokio::test]
async fn many_events_are_few_writes() {
    let (server, publisher) = server(options()).await;
    let (mut stream, _) = open(&server, "client_id=alice").await;
    let begun = Instant::now();
    publish(&publisher, 1..=2_000).await;
    stream.data(2_000).await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    let writes = metric(&server, "evergate_cursor_writes_total", "").await as u128;
    // A pause is nine tenths of the interval at least.
    let flushes = begun.elapsed().as_millis() / 90 + 2;
    assert!((1..=flushes).contains(&writes), "{writes} writes in {flushes} flushes of 2,000 events");
}
