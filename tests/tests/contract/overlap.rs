//! Places that follow behind, where what a socket took is not yet the client's (`cursors.overlap`).

use std::ops::{Deref, DerefMut};
use std::time::Duration;

use evergate_tests::PATIENCE;
use evergate_tests::http1::Request;
use evergate_tests::http2;
use evergate_tests::offset::{Offset, offset};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::subscription::{Opened, Subscription};

use crate::events_of;

const OVERLAP: u64 = 8;

/// The ways on which the bytes of a socket say nothing of the client.
#[derive(Debug, Clone, Copy)]
enum Way {
    Http2,
    Http10,
    Gzip,
    Proxied,
}

const WAYS: [Way; 4] = [Way::Http2, Way::Http10, Way::Gzip, Way::Proxied];

impl Way {
    async fn open(self, server: &Evergate) -> (Reader, Opened) {
        let target = target(self);
        let request = Request::get(&target);
        let mut client = None;
        let mut stream = match self {
            Self::Http2 => {
                let client = client.insert(http2::Client::open(server.http()).await);
                Subscription::over_http2(client, &target, &[]).await
            }
            Self::Http10 => Subscription::request(server.http(), &request.http10()).await,
            Self::Gzip => {
                Subscription::request(server.http(), &request.header("Accept-Encoding", "gzip")).await
            }
            Self::Proxied => {
                let request = request.header("X-Forwarded-For", "192.0.2.1");
                Subscription::request(server.http(), &request).await
            }
        };
        let opened = stream.opened().await;
        (Reader { stream, _client: client }, opened)
    }
}

/// A stream, and the connection below it.
struct Reader {
    stream: Subscription,
    _client: Option<http2::Client>,
}

impl Deref for Reader {
    type Target = Subscription;

    fn deref(&self) -> &Subscription {
        &self.stream
    }
}

impl DerefMut for Reader {
    fn deref_mut(&mut self) -> &mut Subscription {
        &mut self.stream
    }
}

fn target(way: Way) -> String {
    format!("{}?client_id=over-{way:?}", events_of("s"))
}

fn overlapping(options: Options, events: u64) -> Options {
    options
        .set("http.trusted_proxies", "127.0.0.1")
        .set("cursors.flush_interval", "100ms")
        .set("cursors.overlap", &events.to_string())
}

async fn server(options: Options) -> (Evergate, Publisher) {
    let server = Evergate::start(options).await;
    let publisher = Publisher::connect(server.grpc()).await;
    (server, publisher)
}

/// Publishes and reads one by one, more slowly than places are looked at, until the stream was at
/// `count` events.
async fn trickle(publisher: &Publisher, stream: &mut Subscription, count: u64) -> Vec<Offset> {
    let mut offsets = Vec::new();
    for n in 1..=count {
        offsets.push(publisher.publish("s", event(n.to_string())).await);
        assert_eq!(stream.event().await.data, n.to_string());
        tokio::time::sleep(Duration::from_millis(40)).await;
    }
    offsets
}

#[tokio::test]
async fn the_place_follows_so_many_events_behind() {
    for way in WAYS {
        let (server, publisher) = server(overlapping(Options::memory(), OVERLAP)).await;
        let (mut stream, first) = way.open(&server).await;
        if matches!(way, Way::Gzip) {
            assert_eq!(stream.head().header("content-encoding"), Some("gzip"));
        }
        let offsets = trickle(&publisher, &mut stream, 40).await;
        // What was noted is written.
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(stream);
        let (mut back, opened) = way.open(&server).await;
        assert_eq!(opened.resume, "stored", "{way:?}");
        let at = opened.offset();
        assert!(at > first.offset(), "{way:?}: it has moved");
        assert!(offsets.contains(&at), "{way:?}: {at} is an event");
        let behind = offsets.iter().filter(|offset| **offset > at).count() as u64;
        assert!(behind >= OVERLAP, "{way:?}: {behind} events");
        let again = back.data(usize::try_from(behind).expect("few")).await;
        assert_eq!(again.last().map(String::as_str), Some("40"), "{way:?}");
    }
}

#[tokio::test]
async fn without_an_overlap_only_acknowledgements_move_it() {
    for way in WAYS {
        let (server, publisher) = server(overlapping(Options::memory(), 0)).await;
        let (mut stream, first) = way.open(&server).await;
        if matches!(way, Way::Gzip) {
            // Not compressed, its place is followed like any other.
            assert_eq!(stream.head().header("content-encoding"), None);
            continue;
        }
        trickle(&publisher, &mut stream, 20).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        drop(stream);
        let (_, opened) = way.open(&server).await;
        assert_eq!((opened.resume.as_str(), opened.cursor), ("stored", first.cursor), "{way:?}");
    }
}

/// Each opening of the log on disk begins an epoch. An offset of this epoch less some would be one
/// that never was, and its client would be told of a loss that never was.
#[tokio::test]
async fn on_the_other_side_of_a_restart_no_position_is_made_up() {
    let (mut server, publisher) = server(overlapping(Options::disk(), OVERLAP)).await;
    let (mut stream, _) = Way::Proxied.open(&server).await;
    trickle(&publisher, &mut stream, 20).await;
    drop(stream);
    server.terminate();
    server.ended(PATIENCE).await;
    server.restart().await;
    let publisher = Publisher::connect(server.grpc()).await;
    let mut before = None;
    for turn in 0..3 {
        let (mut stream, opened) = Way::Proxied.open(&server).await;
        assert_eq!(opened.resume, "stored", "turn {turn}: {opened:?}");
        assert!(before.is_none_or(|before| before <= opened.offset()), "{before:?}, then {opened:?}");
        before = Some(opened.offset());
        publisher.publish("s", event(format!("turn {turn}"))).await;
        while stream.event().await.data != format!("turn {turn}") {}
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let (mut stream, _) = Way::Proxied.open(&server).await;
    while stream.event().await.data != "turn 2" {}
    let offsets = trickle(&publisher, &mut stream, 3 * OVERLAP).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(stream);
    let (_, opened) = Way::Proxied.open(&server).await;
    assert_eq!(opened.resume, "stored");
    assert!(offsets.contains(&opened.offset()), "{opened:?} is no event of the new epoch");
    assert!(offsets[0].epoch > before.expect("three turns").epoch);
}

#[tokio::test]
async fn it_never_lies_before_where_the_client_began() {
    let (server, publisher) = server(overlapping(Options::memory(), 1_000)).await;
    let (mut stream, first) = Way::Proxied.open(&server).await;
    let offsets = trickle(&publisher, &mut stream, 20).await;
    drop(stream);
    let (_, opened) = Way::Proxied.open(&server).await;
    assert_eq!((opened.resume.as_str(), &opened.cursor), ("stored", &first.cursor));
    // Where it says itself that it is further, it begins there.
    let request = Request::get(&target(Way::Proxied))
        .header("X-Forwarded-For", "192.0.2.1")
        .header("Last-Event-ID", offsets[9].to_string());
    drop(Subscription::request(server.http(), &request).await.opened().await);
    let (_, opened) = Way::Proxied.open(&server).await;
    assert_eq!((opened.resume.as_str(), opened.offset()), ("stored", offsets[9]));
    assert_eq!(offset(&opened.cursor), offsets[9]);
}
