//! HTTP/2 streams whose windows stay shut, and connections that take nothing.

use std::time::{Duration, Instant};

use evergate_tests::PATIENCE;
use evergate_tests::http2::{Client, Frames};
use evergate_tests::ledger::{Ledger, Traffic};
use evergate_tests::offset::offset;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event, keyed};
use evergate_tests::subscription::{End, Next, Subscription};
use tokio::task::JoinSet;

use crate::{events_of, metric, until_metric};

const OPEN: &str = "evergate_streams_open";
const ENDED: &str = "evergate_connections_ended_total";

/// What a client gives each of its streams; what they may hold together is far more.
const WINDOW: u32 = 65_535;
const WIDE: u32 = 8 << 20;

async fn client(server: &Evergate) -> Client {
    Client::with_windows(server.http(), WINDOW, WIDE).await
}

async fn subscribe(client: &mut Client, target: &str) -> Subscription {
    let mut stream = Subscription::over_http2(client, target, &[]).await;
    stream.opened().await;
    stream
}

fn text(n: usize) -> String {
    format!("{n} {}", "x".repeat(1_000))
}

/// Far more than a window.
async fn publish_much(server: &Evergate) {
    let publisher = Publisher::connect(server.grpc()).await;
    publisher.publish_all("s", (0..400).map(text)).await;
}

/// Reads so many events: their ids and texts.
async fn read(n: usize, mut stream: Subscription, events: usize) -> (usize, Vec<(String, String)>) {
    let mut read = Vec::with_capacity(events);
    while read.len() < events {
        let frame = stream.event().await;
        read.push((frame.must_id().to_owned(), frame.data));
    }
    (n, read)
}

/// Streams that are not read stand beside others that are, on one connection and under load. The others
/// miss nothing and wait for nobody; the starved ones are sent the rest as soon as they are read.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_starved_stream_costs_its_neighbours_nothing_and_misses_nothing() {
    const EVENTS: usize = 3_000;
    const HEALTHY: usize = 12;
    const STARVED: usize = 6;
    // So that what the starved ones miss has to come from the log.
    let server = Evergate::start(Options::memory().set("fanout.ring_events", "64")).await;
    let mut client = client(&server).await;
    let mut ledger = Ledger::new();
    let mut streams = Vec::new();
    // Every third one follows two streams, which are driven in another way and have ids of their own.
    let is_single = |n: usize| n % 3 != 2;
    for n in 0..HEALTHY + STARVED {
        let two = "/v1/events?stream=quiet&stream=s&envelope=0".to_owned();
        let target = if is_single(n) { events_of("s") } else { two };
        let mut stream = Subscription::over_http2(&mut client, &target, &[]).await;
        let opened = stream.opened().await;
        if is_single(n) {
            ledger.subscribed(&n.to_string(), "s", opened.offset());
        }
        streams.push((n, stream));
    }
    let starved = streams.split_off(HEALTHY);
    let publisher = Publisher::connect(server.grpc()).await;
    let mut reading = JoinSet::new();
    for (n, stream) in streams {
        reading.spawn(read(n, stream, EVENTS));
    }
    let texts: Vec<_> = (0..EVENTS).map(text).collect();
    for text in &texts {
        ledger.attempted("s", text);
        let at = publisher.publish("s", event(text.as_str())).await;
        ledger.acknowledged("s", at, text);
    }
    let mut received = 0;
    let mut gather = |(n, events): (usize, Vec<(String, String)>)| {
        assert!(events.iter().map(|(_, text)| text).eq(&texts), "stream {n} was not sent what it was owed");
        for (id, text) in events.iter().filter(|_| is_single(n)) {
            ledger.received(&n.to_string(), "s", offset(id), text);
            received += 1;
        }
    };
    while let Some(read) = reading.join_next().await {
        gather(read.expect("no reader fails"));
    }
    // All of this while these were read nothing of. Now they are.
    for (n, stream) in starved {
        reading.spawn(read(n, stream, EVENTS));
    }
    while let Some(read) = reading.join_next().await {
        gather(read.expect("no reader fails"));
    }
    assert_eq!(received, 12 * EVENTS);
    ledger.judge(Traffic { acknowledged: EVENTS, received }).expect_sound();
}

#[tokio::test]
async fn a_stream_whose_window_stays_shut_is_let_go_and_its_neighbour_is_not() {
    let options = Options::memory().set("http.stall_timeout", "1s").set("http.peer_timeout", "1h");
    let server = Evergate::start(options).await;
    let mut client = client(&server).await;
    let mut shut = subscribe(&mut client, &events_of("s")).await;
    let mut several = subscribe(&mut client, "/v1/events?stream=s&stream=t").await;
    let mut replaying = Subscription::over_http2(&mut client, &events_of("t"), &[]).await;
    replaying.opened().await;
    let mut read = subscribe(&mut client, &events_of("s")).await;
    let reading = tokio::spawn(async move { (read.events(400).await, read) });
    publish_much(&server).await;
    until_metric(&server, ENDED, "stalled", 2.0, PATIENCE).await;
    until_metric(&server, OPEN, "", 2.0, PATIENCE).await;
    for stream in [&mut shut, &mut several] {
        assert_eq!(stream.end().await.1, End::Cut);
    }
    let (events, _read) = reading.await.expect("no reader fails");
    assert_eq!(events[399].data, text(399));
    drop(replaying);
    until_metric(&server, OPEN, "", 1.0, PATIENCE).await;
}

#[tokio::test]
async fn a_stream_that_is_only_slow_is_not_let_go() {
    let options = Options::memory().set("http.stall_timeout", "1s").set("http.peer_timeout", "1h");
    let server = Evergate::start(options).await;
    let mut client = client(&server).await;
    let mut slow = subscribe(&mut client, &events_of("s")).await;
    publish_much(&server).await;
    let begun = Instant::now();
    for n in 0..400 {
        assert_eq!(slow.event().await.data, text(n));
        tokio::time::sleep(Duration::from_millis(8)).await;
    }
    assert!(begun.elapsed() > Duration::from_secs(2), "it was not slow");
    assert!(metric(&server, ENDED, "stalled").await < 0.5);
}

#[tokio::test]
async fn a_connection_that_takes_nothing_is_let_go() {
    let options = Options::memory().set("http.stall_timeout", "1s").set("http.peer_timeout", "1h");
    let server = Evergate::start(options).await;
    let mut frames = Frames::open(server.http()).await;
    // All the room that there can be, and then not a byte is read.
    frames.settings(&[(4, 0x7fff_ffff)]).await;
    frames.window_update(0, 0x7fff_0000).await;
    for n in 0..4 {
        frames.get(1 + 2 * n, &events_of("s")).await;
    }
    until_metric(&server, OPEN, "", 4.0, PATIENCE).await;
    let publisher = Publisher::connect(server.grpc()).await;
    for n in 0..200 {
        publisher.publish("s", event("y".repeat(100_000) + &n.to_string())).await;
    }
    until_metric(&server, OPEN, "", 0.0, PATIENCE).await;
    until_metric(&server, "evergate_connections_open", "", 0.0, PATIENCE).await;
}

/// Its system still acknowledges everything, so that only what HTTP/2 has of its own can tell.
#[tokio::test]
async fn a_peer_that_answers_no_ping_is_gone_within_a_known_time() {
    let options = Options::memory().set("http.stall_timeout", "3s").set("http.peer_timeout", "1h");
    let server = Evergate::start(options).await;
    let mut frames = Frames::open(server.http()).await;
    frames.settings(&[]).await;
    frames.get(1, &events_of("s")).await;
    until_metric(&server, OPEN, "", 1.0, PATIENCE).await;
    until_metric(&server, OPEN, "", 0.0, PATIENCE).await;
    assert!(metric(&server, ENDED, "unanswered").await > 0.5);
}

#[tokio::test]
async fn a_client_that_was_replaced_is_told_or_let_go_however_shut_its_window_is() {
    let server = Evergate::start(Options::memory()).await;
    let mut client = client(&server).await;
    let named = events_of("s") + "?client_id=c";
    let mut shut = subscribe(&mut client, &named).await;
    publish_much(&server).await;
    let mut second = subscribe(&mut client, &named).await;
    until_metric(&server, OPEN, "", 1.0, PATIENCE).await;
    assert_eq!(shut.end().await.1, End::Cut, "it never made room for its last words");
    let third = subscribe(&mut client, &named).await;
    let (frames, end) = second.end().await;
    let last = frames.last().expect("last words");
    assert_eq!((last.event.as_deref(), end), (Some("evergate.goaway"), End::Clean));
    assert_eq!(last.json()["reason"], "replaced");
    drop(third);
    until_metric(&server, OPEN, "", 0.0, PATIENCE).await;
}

#[tokio::test]
async fn a_shut_window_does_not_hold_up_a_drain() {
    let mut server = Evergate::start(Options::memory().set("shutdown.drain", "300ms")).await;
    let mut client = client(&server).await;
    let _shut = subscribe(&mut client, &events_of("s")).await;
    let _several = subscribe(&mut client, "/v1/events?stream=s&stream=t").await;
    let mut other = subscribe(&mut client, &events_of("other")).await;
    publish_much(&server).await;
    let asked = Instant::now();
    server.terminate();
    let (frames, end) = other.end().await;
    assert_eq!(frames.last().and_then(|frame| frame.event.as_deref()), Some("evergate.goaway"));
    assert_eq!(end, End::Clean);
    assert_eq!(server.ended(PATIENCE).await.code(), Some(0), "{}", server.output());
    // The grace before it, the window, and the time for last words.
    assert!(asked.elapsed() < Duration::from_secs(12), "{:?}", asked.elapsed());
}

/// What a stream's policy says of slow readers holds for one whose window is shut.
#[tokio::test]
async fn a_slow_reader_is_moved_on_as_its_stream_has_it() {
    let options = Options::memory().set("fanout.slow_reader_lag_events", "20").configured(
        r#"
[streams.latest]
slow_reader = "conflate"
[streams.now]
slow_reader = "gap"
[streams.or-never]
slow_reader = "disconnect"
"#,
    );
    let server = Evergate::start(options).await;
    let mut client = client(&server).await;
    let mut latest = subscribe(&mut client, &events_of("latest")).await;
    let mut now = subscribe(&mut client, &events_of("now")).await;
    let mut or_never = subscribe(&mut client, &events_of("or-never")).await;
    let publisher = Publisher::connect(server.grpc()).await;
    for n in 0..400 {
        for stream in ["latest", "now", "or-never"] {
            publisher.publish(stream, keyed(&format!("k{}", n % 5), text(n))).await;
        }
    }
    until_metric(&server, "evergate_slow_disconnects_total", "", 1.0, PATIENCE).await;
    assert_eq!(or_never.end().await.1, End::Cut);

    let (events, gaps) = read_to_the_end(&mut latest).await;
    assert!(events.len() < 200 && gaps >= 1, "{} events, {gaps} gaps", events.len());
    assert_eq!(events[events.len() - 5..], [395, 396, 397, 398, 399].map(text), "the latest of each key");

    let mut told = 0;
    loop {
        let frame = now.frame().await;
        match frame.event.as_deref() {
            Some("evergate.gap") => {
                told += frame.json()["lost"].as_u64().expect("known");
                publisher.publish("now", event("the end")).await;
            }
            _ if frame.data == "the end" => break,
            _ => told += 1,
        }
    }
    assert_eq!(told, 400, "each event was sent or told of");
}

/// Reads on until the last event is there: the texts, and how many gaps were told of.
async fn read_to_the_end(stream: &mut Subscription) -> (Vec<String>, usize) {
    let (mut texts, mut gaps) = (Vec::new(), 0);
    while texts.last() != Some(&text(399)) {
        let frame = stream.frame().await;
        if frame.is_event() {
            texts.push(frame.data);
        } else {
            assert_eq!(frame.event.as_deref(), Some("evergate.gap"));
            gaps += 1;
        }
    }
    (texts, gaps)
}

#[tokio::test]
async fn a_connection_without_a_stream_is_told_to_go_and_one_with_a_stream_is_not() {
    let server = Evergate::start(Options::memory().set("http.idle_timeout", "2s")).await;
    let mut idle = client(&server).await;
    assert_eq!(idle.call("GET", "/v1/route", &[], "").await.status(), 200);
    let mut used = client(&server).await;
    let mut stream = subscribe(&mut used, &events_of("s")).await;
    idle.closed(PATIENCE).await;
    let publisher = Publisher::connect(server.grpc()).await;
    publisher.publish("s", event("still here")).await;
    assert_eq!(stream.event().await.data, "still here");
    assert!(!matches!(stream.next_within(Duration::from_secs(3)).await, Some(Next::End(_))));
}
