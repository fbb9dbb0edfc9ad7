//! The connection is cut after every single byte of what a subscriber is sent first. Each time the
//! client comes back with the id it would hold then, by the HTML standard's rules and the most
//! forgetful engine's: a notice of a loss is never lost itself, nothing is doubled, nothing is
//! missing.

use evergate_tests::event_source::{Dispatched, EventSource};
use evergate_tests::http1::Request;
use evergate_tests::offset::Offset;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::Publisher;
use evergate_tests::subscription::{Next, Subscription};

/// A client's request and what it must have been told in the end, however it was cut.
struct Story<'a> {
    server: &'a Evergate,
    target: &'a str,
    /// What it holds from an earlier connection; empty for nothing.
    holding: &'a str,
    gaps: usize,
    /// The texts it must be given, sorted; each once.
    events: Vec<String>,
}

/// One connection: sends what a browser would, and feeds it to the client until `bytes` have been
/// read, or until everything is there. Returns `true` if there was that much to cut.
async fn connect(
    story: &Story<'_>,
    client: &mut EventSource,
    seen: &mut Vec<Dispatched>,
    bytes: Option<usize>,
) -> bool {
    let mut request = Request::get(story.target);
    if !client.last_event_id().is_empty() {
        request = request.header("Last-Event-ID", client.last_event_id());
    }
    let mut stream = Subscription::request(story.server.http(), &request).await;
    let mut fed = 0;
    loop {
        let have = stream.raw().len().min(bytes.unwrap_or(usize::MAX));
        seen.extend(client.feed(&stream.raw()[fed..have]));
        fed = have;
        if Some(fed) == bytes || is_complete(story, seen) {
            client.disconnected();
            return Some(fed) == bytes;
        }
        match stream.next().await {
            Next::Item(_) => {}
            Next::End(end) => panic!("the stream ended ({end:?}) with {seen:#?}"),
        }
    }
}

fn texts(seen: &[Dispatched]) -> Vec<String> {
    let mut texts: Vec<String> = seen
        .iter()
        .filter(|event| !event.event.starts_with("evergate."))
        .map(|event| event.data.clone())
        .collect();
    texts.sort();
    texts
}

fn is_complete(story: &Story<'_>, seen: &[Dispatched]) -> bool {
    texts(seen).len() >= story.events.len()
}

/// Tells the story once for every byte at which it can be cut.
async fn cut_everywhere(story: &Story<'_>) {
    let mut cut_at = 0;
    loop {
        let mut client = EventSource::holding(story.holding);
        let mut seen = Vec::new();
        let was_cut = connect(story, &mut client, &mut seen, Some(cut_at)).await;
        let held = client.last_event_id().to_owned();
        if !is_complete(story, &seen) {
            connect(story, &mut client, &mut seen, None).await;
        }
        let what = format!("cut after byte {cut_at}, resumed with {held:?}: {seen:#?}");
        assert_eq!(texts(&seen), story.events, "{what}");
        let gaps = seen.iter().filter(|event| event.event == "evergate.gap").count();
        assert_eq!(gaps, story.gaps, "{what}");
        if !was_cut {
            break;
        }
        cut_at += 1;
    }
    // An open frame alone is longer than this.
    assert!(cut_at > 100, "only {cut_at} bytes were cut at: that proves little");
}

fn numbers(from: u64, to: u64) -> Vec<String> {
    let mut numbers: Vec<String> = (from..=to).map(|n| n.to_string()).collect();
    numbers.sort();
    numbers
}

/// `s` holds the numbers 1 to `n`, as far as they are kept.
async fn server_with(options: Options, n: u64) -> (Evergate, Vec<Offset>) {
    let server = Evergate::start(options).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let offsets = publisher.publish_all("s", (1..=n).map(|n| n.to_string())).await;
    (server, offsets)
}

/// What is kept after a trimmed position, told by the server itself to a client that is not cut.
async fn first_kept(server: &Evergate, target: &str, holding: &str) -> u64 {
    let mut stream = Subscription::resume(server.http(), target, holding).await;
    stream.opened().await;
    stream.control("evergate.gap").await;
    stream.event().await.data.parse().expect("a number")
}

const ONE: &str = "/v1/streams/s/events";

#[tokio::test]
async fn a_resume_after_a_loss() {
    let (server, offsets) = server_with(Options::memory().set("retention.events", "4"), 40).await;
    let holding = offsets[4].to_string();
    let events = numbers(first_kept(&server, ONE, &holding).await, 40);
    cut_everywhere(&Story { server: &server, target: ONE, holding: &holding, gaps: 1, events }).await;
}

#[tokio::test]
async fn a_resume_after_a_loss_with_a_filter() {
    let (server, offsets) = server_with(Options::memory().set("retention.events", "4"), 40).await;
    let publisher = Publisher::connect(server.grpc()).await;
    publisher.publish("s", evergate_tests::publisher::keyed("k", "41")).await;
    let target = "/v1/streams/s/events?key=k&key=l";
    let holding = offsets[4].to_string();
    cut_everywhere(&Story { server: &server, target, holding: &holding, gaps: 1, events: numbers(41, 41) })
        .await;
}

#[tokio::test]
async fn a_resume_after_the_log_was_lost() {
    let (mut server, offsets) = server_with(Options::memory(), 4).await;
    server.kill();
    server.restart().await;
    let publisher = Publisher::connect(server.grpc()).await;
    publisher.publish_all("s", ["5", "6", "7"]).await;
    let holding = offsets[2].to_string();
    let story = Story { server: &server, target: ONE, holding: &holding, gaps: 1, events: numbers(5, 7) };
    cut_everywhere(&story).await;
}

#[tokio::test]
async fn a_resume_without_a_loss() {
    let (server, offsets) = server_with(Options::disk(), 8).await;
    let holding = offsets[3].to_string();
    let story = Story { server: &server, target: ONE, holding: &holding, gaps: 0, events: numbers(5, 8) };
    cut_everywhere(&story).await;
}

#[tokio::test]
async fn a_first_connection() {
    let (server, _) = server_with(Options::memory(), 4).await;
    let target = "/v1/streams/s/events?from=earliest&envelope=0";
    cut_everywhere(&Story { server: &server, target, holding: "", gaps: 0, events: numbers(1, 4) }).await;
}

#[tokio::test]
async fn several_streams_of_which_one_has_lost_something() {
    let server = Evergate::start(Options::memory().set("retention.events", "3")).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let target = "/v1/events?stream=a&stream=b&envelope=0";
    let mut stream = Subscription::open(server.http(), target).await;
    let holding = stream.opened().await.cursor;
    drop(stream);
    publisher.publish_all("a", ["a1", "a2"]).await;
    publisher.publish_all("b", (1..=30).map(|n| n.to_string())).await;
    let mut stream = Subscription::resume(server.http(), target, &holding).await;
    stream.opened().await;
    let mut kept = Vec::new();
    while !(kept.contains(&"a2".to_owned()) && kept.contains(&"30".to_owned())) {
        let frame = stream.frame().await;
        if frame.is_event() {
            kept.push(frame.data);
        }
    }
    kept.sort();
    let story = Story { server: &server, target, holding: &holding, gaps: 1, events: kept };
    cut_everywhere(&story).await;
}

/// A client that was cut before its first event has a position all the same: the first frame's.
#[tokio::test]
async fn what_is_published_while_a_new_client_is_away_is_not_missed() {
    let server = Evergate::start(Options::memory()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let mut positions = 0;
    let mut cut_at = 0;
    loop {
        let mut client = EventSource::new();
        let mut stream = Subscription::open(server.http(), ONE).await;
        stream.opened().await;
        let whole = stream.raw().len();
        client.feed(&stream.raw()[..cut_at.min(whole)]);
        client.disconnected();
        drop(stream);
        let text = format!("while away {cut_at}");
        publisher.publish("s", evergate_tests::publisher::event(text.as_str())).await;
        if !client.last_event_id().is_empty() {
            positions += 1;
            let mut resumed = Subscription::resume(server.http(), ONE, client.last_event_id()).await;
            assert_eq!(resumed.opened().await.resume, "exact");
            assert_eq!(resumed.event().await.data, text);
        }
        if cut_at >= whole {
            break;
        }
        cut_at += 1;
    }
    assert_eq!(positions, 1, "only a whole first frame gives a position");
}
