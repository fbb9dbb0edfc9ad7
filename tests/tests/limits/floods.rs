//! Attacks that HTTP/2 makes possible, frame by frame. While each goes on, `/livez` answers and a witness
//! is sent everything; afterwards the memory is there again.

use std::cell::Cell;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use evergate_tests::PATIENCE;
use evergate_tests::http1::{Request, call};
use evergate_tests::http2::{Client, END_HEADERS, END_STREAM, Frame, Frames, Kind};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event, request};
use evergate_tests::subscription::Subscription;
use prost::Message as _;

use crate::{events_of, metric, until_metric};

/// What an attack may leave behind: the allocator keeps some of what it had for a while.
const LEFT_MAX: u64 = 24 << 20;

/// GOAWAY's reason for somebody who does too much of what is allowed.
const ENHANCE_YOUR_CALM: u32 = 0xb;

const OPEN: &str = "evergate_streams_open";

/// Runs an attack beside a witness, over and over until that was served meanwhile. `grows_max` is what the
/// process may take for it.
async fn under_attack(options: Options, grows_max: u64, attack: impl AsyncFn(SocketAddr)) {
    attacked_at(options, grows_max, Evergate::http, attack).await;
}

/// The same at another of its listeners.
async fn attacked_at(
    options: Options,
    grows_max: u64,
    at: impl Fn(&Evergate) -> SocketAddr,
    attack: impl AsyncFn(SocketAddr),
) {
    let server = Evergate::start(options).await;
    let mut witness = Subscription::open(server.http(), &events_of("witnessed")).await;
    witness.opened().await;
    let publisher = Publisher::connect(server.grpc()).await;
    let before = server.resident_bytes();
    let (published, mut most) = (Cell::new(0), before);
    let beside = async {
        loop {
            publisher.publish("witnessed", event(published.get().to_string())).await;
            published.set(published.get() + 1);
            let asked = Instant::now();
            assert_eq!(call(server.admin(), Request::get("/livez")).await.status(), 200);
            assert!(asked.elapsed() < Duration::from_secs(1), "alive only after {:?}", asked.elapsed());
            // Somebody else's fault is nobody's here.
            assert_eq!(call(server.http(), Request::get("/v1/route")).await.status(), 200);
            most = most.max(server.resident_bytes());
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let attacked = async {
        // One attack may be over before anything else has happened.
        loop {
            let over = tokio::time::timeout(3 * PATIENCE, attack(at(&server))).await;
            over.expect("the attack is over in time");
            if published.get() > 1 {
                return;
            }
        }
    };
    tokio::select! {
        () = beside => unreachable!("it goes on for ever"),
        () = attacked => {}
    }
    for n in 0..published.get() {
        assert_eq!(witness.event().await.data, n.to_string(), "the witness missed something");
    }
    assert!(most - before < grows_max, "{} MiB more than before", (most - before) >> 20);
    until_metric(&server, OPEN, "", 1.0, PATIENCE).await;
    let deadline = Instant::now() + 2 * PATIENCE;
    // The allocator gives back as it is used: a thread that does nothing keeps what it had.
    while server.resident_bytes() > before + LEFT_MAX {
        for n in 0..100 {
            publisher.publish("afterwards", event(n.to_string())).await;
        }
        assert_eq!(call(server.admin(), Request::get("/livez")).await.status(), 200);
        assert!(
            Instant::now() < deadline,
            "{} MiB are not given back",
            (server.resident_bytes() - before) >> 20
        );
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Sends the same over and over until the server ends the connection. How it said so.
async fn flood(frames: &mut Frames, mut next: impl FnMut(u32) -> Vec<u8>, rounds_max: u32) -> Option<u32> {
    for n in 0..rounds_max {
        if frames.try_send(&next(n)).await.is_err() {
            break;
        }
    }
    loop {
        let told = frames.next(PATIENCE).await?;
        assert!(!blames_the_server(&told), "{told:?}");
        if told.kind == Kind::GoAway as u8 {
            return Some(u32::from_be_bytes(told.payload[4..8].try_into().expect("a reason")));
        }
    }
}

/// Whether an answer has a status of 500 or more, which comes first in its fields: whole from the static table
/// (RFC 7541, appendix A: 14 is 500), or as a text under a name of the table (8 to 14), perhaps by Huffman's code, in
/// which a 5 is `011011`.
fn blames_the_server(frame: &Frame) -> bool {
    if frame.kind != Kind::Headers as u8 {
        return false;
    }
    match frame.payload[..] {
        [0x8e, ..] => true,
        [0x48..=0x4e | 0x08..=0x0e | 0x18..=0x1e, length, first, ..] => {
            if length & 0x80 == 0 {
                first == b'5'
            } else {
                first >> 2 == 0b01_1011
            }
        }
        _ => false,
    }
}

async fn attacker(server: SocketAddr) -> Frames {
    let mut frames = Frames::open(server).await;
    frames.settings(&[]).await;
    frames
}

/// So many of one frame at a time that the server sees thousands of them.
fn many(frame: &[u8]) -> Vec<u8> {
    frame.repeat(500)
}

/// One of each kind that does nothing, and what it is called.
fn idle_frames() -> [(&'static str, Vec<u8>); 5] {
    [
        ("pings", Frames::encode(Kind::Ping, 0, 0, &[7; 8])),
        ("settings", Frames::encode(Kind::Settings, 0, 0, &[])),
        ("priorities", Frames::encode(Kind::Priority, 0, 1, &[0, 0, 0, 0, 9])),
        ("unknown", Frames::encode(Kind::Unknown, 0, 0, b"?")),
        ("empty data", Frames::encode(Kind::Data, 0, 1, &[])),
    ]
}

/// The head of a publisher's call.
fn call_head() -> Vec<u8> {
    let block = Frames::block("POST", "/evergate.publish.v1.Publisher/PublishStream");
    [block, Frames::field("content-type", b"application/grpc")].concat()
}

#[tokio::test]
async fn frames_that_do_nothing() {
    under_attack(Options::memory(), 64 << 20, async |server| {
        for (what, frame) in &idle_frames() {
            let mut frames = attacker(server).await;
            frames.send(Kind::Headers, END_HEADERS, 1, &Frames::block("POST", &events_of("s"))).await;
            // Not until the end of the world: it has to be ended long before.
            let told = flood(&mut frames, |_| many(frame), 2_000).await;
            // The end may overtake what was to be said.
            assert!(told.is_none_or(|told| told == ENHANCE_YOUR_CALM), "{what}: {told:?}");
            let more = frames.try_send(&many(frame)).await.and(frames.try_send(&many(frame)).await);
            assert!(more.is_err() || frames.next(PATIENCE).await.is_none(), "{what} go on");
        }
    })
    .await;
}

#[test]
fn an_answer_that_blames_the_server_is_found() {
    let of =
        |payload: &[u8]| Frame { kind: Kind::Headers as u8, flags: 4, stream: 1, payload: payload.to_vec() };
    for blames in [&[0x8e, 0x54][..], &[0x48, 3, b'5', b'0', b'3'], &[0x48, 0x82, 0x6c, 0x0e, 0x40]] {
        assert!(blames_the_server(&of(blames)), "{blames:?}");
    }
    for blames_not in [&[0x88][..], &[0x8d], &[0x48, 3, b'4', b'2', b'9'], &[0x48, 0x82, 0x68, 0x0e, 0x40]] {
        assert!(!blames_the_server(&of(blames_not)), "{blames_not:?}");
    }
}

/// The same where publishers and other nodes come, who measure the way by a ping whenever they are answered.
#[tokio::test]
async fn frames_that_do_nothing_where_grpc_is_spoken() {
    attacked_at(Options::memory(), 64 << 20, Evergate::grpc, async |server| {
        for (what, frame) in &idle_frames() {
            let mut frames = attacker(server).await;
            frames.send(Kind::Headers, END_HEADERS, 1, &call_head()).await;
            flood(&mut frames, |_| many(frame), 2_000).await;
            let more = frames.try_send(&many(frame)).await.and(frames.try_send(&many(frame)).await);
            assert!(more.is_err() || frames.next(PATIENCE).await.is_none(), "{what} go on");
        }
    })
    .await;
}

#[tokio::test]
async fn rapid_resets_where_grpc_is_spoken() {
    attacked_at(Options::memory(), 96 << 20, Evergate::grpc, async |server| {
        let mut frames = attacker(server).await;
        let block = call_head();
        let pairs = |n: u32| {
            let pair = |at: u32| {
                let stream = 1 + 2 * (n * 100 + at);
                let open = Frames::encode(Kind::Headers, END_HEADERS, stream, &block);
                [open, Frames::encode(Kind::RstStream, 0, stream, &8_u32.to_be_bytes())].concat()
            };
            (0..100).flat_map(pair).collect()
        };
        flood(&mut frames, pairs, 1_000).await;
        assert!(frames.next(PATIENCE).await.is_none(), "it is over");
    })
    .await;
}

/// However fast a client pings, as long as it publishes as fast: some measure the way each time they are answered.
#[tokio::test]
async fn a_publisher_that_pings_with_each_event_is_served() {
    let server = Evergate::start(Options::memory()).await;
    let mut frames = attacker(server.grpc()).await;
    let block = Frames::block("POST", "/evergate.publish.v1.Publisher/PublishStream");
    let kind = Frames::field("content-type", b"application/grpc");
    frames.send(Kind::Headers, END_HEADERS, 1, &[block, kind].concat()).await;
    let mut pongs = 0;
    // Twice what a connection may send that does nothing.
    for n in 0..4_000_u64 {
        let message = request("s", n, event("x")).encode_to_vec();
        let length = u32::try_from(message.len()).expect("short").to_be_bytes();
        let message = [&[0][..], &length, &message].concat();
        frames.send(Kind::Data, 0, 1, &message).await;
        frames.send(Kind::Ping, 0, 0, &n.to_be_bytes()).await;
        loop {
            let told = frames.next(PATIENCE).await.expect("the connection goes on");
            assert_ne!(told.kind, Kind::GoAway as u8, "{told:?}");
            if told.kind == Kind::Ping as u8 && told.flags == 1 {
                pongs += 1;
                break;
            }
            if told.kind == Kind::Data as u8 {
                // What was read makes room for more.
                frames.window_update(0, u32::try_from(told.payload.len()).expect("short")).await;
                frames.window_update(1, u32::try_from(told.payload.len()).expect("short")).await;
            }
        }
    }
    assert_eq!(pongs, 4_000);
    assert!(metric(&server, "evergate_grpc_connections_ended_total", "flood").await < 0.5);
    assert!(metric(&server, "evergate_publish_events_total", "published").await + 300.0 > 4_000.0);
}

#[tokio::test]
async fn a_ping_now_and_then_is_answered() {
    let server = Evergate::start(Options::memory()).await;
    let mut frames = attacker(server.http()).await;
    for n in 0..50 {
        frames.send(Kind::Ping, 0, 0, &[n; 8]).await;
        loop {
            let answer = frames.next_of(Kind::Ping, PATIENCE).await.expect("an answer");
            if answer.payload == [n; 8] {
                assert_eq!(answer.flags, 1, "it is an answer");
                break;
            }
        }
    }
}

/// Streams that are opened and reset at once, so that there are never too many (CVE-2023-44487).
#[tokio::test]
async fn rapid_resets() {
    under_attack(Options::memory(), 96 << 20, async |server| {
        for _ in 0..3 {
            let mut frames = attacker(server).await;
            let told = flood(
                &mut frames,
                |n| {
                    let pair = |at: u32| {
                        let stream = 1 + 2 * (n * 100 + at);
                        let block = Frames::block("GET", &(events_of("s") + "?from=earliest"));
                        let open = Frames::encode(Kind::Headers, END_STREAM | END_HEADERS, stream, &block);
                        [open, Frames::encode(Kind::RstStream, 0, stream, &8_u32.to_be_bytes())].concat()
                    };
                    (0..100).flat_map(pair).collect()
                },
                1_000,
            )
            .await;
            assert!(told.is_none_or(|told| told == ENHANCE_YOUR_CALM), "{told:?}");
            assert!(frames.next(PATIENCE).await.is_none(), "it is over");
        }
    })
    .await;
}

/// A field block that never ends (CVE-2024-27316), and one that is small on the wire and large in memory.
#[tokio::test]
async fn endless_and_exploding_field_blocks() {
    under_attack(Options::memory(), 64 << 20, async |server| {
        let mut frames = attacker(server).await;
        frames.send(Kind::Headers, END_STREAM, 1, &Frames::block("GET", "/v1/route")).await;
        let part: Vec<u8> = (0..100).flat_map(|_| Frames::field("x", &[b'y'; 100])).collect();
        let part = Frames::encode(Kind::Continuation, 0, 1, &part);
        // 200 MB, if they were taken.
        flood(&mut frames, |_| part.clone(), 20_000).await;
        assert!(frames.next(PATIENCE).await.is_none(), "it is over");

        let mut frames = attacker(server).await;
        let mut block = Frames::block("GET", "/v1/route");
        // One entry of the table, as large as it may be, and ten thousand times one byte that means it.
        let mut entry = Frames::field("x", &[b'y'; 4_000]);
        entry[0] = 0x40;
        block.extend(entry);
        block.extend([0xbe; 10_000]);
        frames.send(Kind::Headers, END_STREAM | END_HEADERS, 1, &block).await;
        let answer = loop {
            match frames.next(PATIENCE).await {
                Some(frame) if frame.stream == 1 => break Some(frame),
                Some(frame) if frame.kind == Kind::GoAway as u8 => break None,
                Some(_) => {}
                None => break None,
            }
        };
        // 200 is one byte of the static table, and whatever is answered first begins with its status.
        let refused =
            answer.is_none_or(|answer| answer.kind != Kind::Headers as u8 || answer.payload[0] != 0x88);
        assert!(refused, "40 MB of fields were taken");
    })
    .await;
}

/// Requests whose bodies never end: as many as a connection may have, each as much as it is given room for.
#[tokio::test]
async fn bodies_that_never_end() {
    const CONNECTIONS: usize = 4;
    under_attack(Options::memory(), 80 << 20, async |server| {
        let mut all = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut client = Client::open(server).await;
            let mut bodies = Vec::new();
            for _ in 0..100 {
                bodies.push(client.begin_upload(&events_of("s"), &[("content-type", "text/plain")]).await);
            }
            all.push((client, bodies));
        }
        let piece = bytes::Bytes::from(vec![b'x'; 16 << 10]);
        // Each of them 256 KiB before it is too much: 100 MiB in all, if they were taken.
        for _ in 0..24 {
            for body in all.iter_mut().flat_map(|(_, bodies)| bodies) {
                body.offer(&piece).await;
            }
        }
    })
    .await;
}

/// Event streams that are owed a lot and given no room, on many connections.
#[tokio::test]
async fn windows_that_stay_shut() {
    const CONNECTIONS: u32 = 20;
    const STREAMS: u32 = 100;
    let options = Options::memory().set("http.stall_timeout", "3s");
    under_attack(options, 96 << 20, async |server| {
        let mut client = Client::open(server).await;
        for n in 0..400 {
            let body = format!("{n} {}", "x".repeat(10_000));
            let kind = ("content-type", "text/plain");
            assert_eq!(client.call("POST", &events_of("large"), &[kind], body).await.status(), 200);
        }
        let mut all = Vec::new();
        for _ in 0..CONNECTIONS {
            let mut frames = Frames::open(server).await;
            frames.settings(&[(4, 0)]).await;
            for stream in 0..STREAMS {
                // Each at a place of its own, so that nothing is shared.
                let target = format!("{}?from=-{}", events_of("large"), 1 + stream * 3);
                frames.get(1 + 2 * stream, &target).await;
            }
            all.push(frames);
        }
        // Until it is over for each of them.
        for mut frames in all {
            let mut ended = 0;
            while ended < STREAMS {
                let Some(frame) = frames.next(PATIENCE).await else { break };
                if frame.kind == Kind::Ping as u8 && frame.flags == 0 {
                    frames.send(Kind::Ping, 1, 0, &frame.payload).await;
                }
                ended += u32::from(frame.kind == Kind::RstStream as u8);
            }
            assert_eq!(ended, STREAMS);
        }
    })
    .await;
}

#[tokio::test]
async fn more_streams_than_a_connection_may_have_are_refused_and_the_others_go_on() {
    let server = Evergate::start(Options::memory()).await;
    let mut frames = attacker(server.http()).await;
    for n in 0..200 {
        frames.get(1 + 2 * n, &events_of("s")).await;
    }
    let mut refused = 0;
    while refused < 200 - 128 {
        let told = frames.next_of(Kind::RstStream, PATIENCE).await.expect("a refusal");
        assert_eq!(told.payload, 7_u32.to_be_bytes(), "REFUSED_STREAM, so that it is safe to try again");
        refused += 1;
    }
    until_metric(&server, OPEN, "", 128.0, PATIENCE).await;
    assert!(metric(&server, "evergate_connections_ended_total", "flood").await < 0.5);
    let publisher = Publisher::connect(server.grpc()).await;
    publisher.publish("s", event("for those who are in")).await;
    let mut told = std::collections::HashSet::new();
    while told.len() < 128 {
        let frame = frames.next_of(Kind::Data, PATIENCE).await.expect("an event");
        if frame.payload.windows(3).any(|part| part == b"who") {
            told.insert(frame.stream);
        }
    }
}
