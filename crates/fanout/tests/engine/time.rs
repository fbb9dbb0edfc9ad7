//! What comes by time alone: signs of life that do not all come at once, and news of when to come back.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evergate_domain::{EventDraft, KeyFilter, Retention, RetryRange, Start, StreamName, StreamPolicies, sse};
use evergate_eventlog::{MemoryLog, SystemClock};
use evergate_fanout::{Begin, Encoding, Framing, HeartbeatKind, HubConfig, SubscribeRequest};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::{Chunks, World, name, set, world, world_of, world_with};

const BUFFER: usize = 64 << 10;

/// A client that sorts what it is sent by what it is.
struct Client {
    socket: TcpStream,
    chunks: Chunks,
    decoder: sse::Decoder,
    beats: usize,
    events: usize,
    retries: Vec<u64>,
}

impl Client {
    async fn open(world: &World, stream: &str, encoding: Encoding, heartbeat: Duration) -> Self {
        let request = SubscribeRequest {
            streams: set(&[stream]),
            filters: [KeyFilter::all()].into(),
            begin: Begin::Start(Start::Latest),
            framing: Framing::Plain,
            encoding,
            heartbeat: (heartbeat, HeartbeatKind::Comment),
        };
        let (socket, at) = world.serve(request, false, BUFFER).await;
        let (chunks, decoder) = (Chunks::of(encoding), sse::Decoder::new(1 << 20, &at));
        let mut client = Self { socket, chunks, decoder, beats: 0, events: 0, retries: Vec::new() };
        // The first frame of this suite is a comment.
        client.until(|client| client.beats > 0).await;
        client.beats = 0;
        client
    }

    async fn until(&mut self, done: impl Fn(&Self) -> bool) {
        let mut buffer = vec![0; 4_096];
        while !done(self) {
            let n = self.socket.read(&mut buffer).await.expect("reads");
            assert!(n > 0, "ended");
            let mut items = Vec::new();
            self.decoder.feed(&self.chunks.feed(&buffer[..n]), &mut items).expect("a valid stream");
            for item in items {
                match item {
                    sse::Item::Message(_) => self.events += 1,
                    sse::Item::Retry(ms) => self.retries.push(ms),
                    sse::Item::Comment(_) => self.beats += 1,
                    sse::Item::Position(_) => {}
                }
            }
        }
    }
}

async fn publish(world: &World, stream: &str) {
    let stream = StreamName::new(stream).expect("valid");
    world.log.append(&stream, vec![EventDraft::new("x")]).await.expect("appends");
}

async fn all_parked(world: &World, connections: usize) {
    while world.engine.parked() < connections {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// Whoever was sent something together is not sent the next sign of life together, and nobody is sent one
/// who was sent something else a short while ago.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signs_of_life_are_spread_over_a_part_of_the_interval() {
    const HEARTBEAT: Duration = Duration::from_secs(8);
    /// A quarter sooner than it must, and the tick in which it was written.
    const SOONEST: Duration = Duration::from_millis(5_700);
    /// Of nearly two seconds: a busy machine may read late what came early.
    const SPREAD: Duration = Duration::from_millis(600);
    let world = world(HubConfig::default());
    let mut clients = Vec::new();
    for n in 0..80 {
        let stream = if n % 4 == 3 { "busy" } else { "quiet" };
        clients.push((stream, Client::open(&world, stream, Encoding::Identity, HEARTBEAT).await));
    }
    all_parked(&world, clients.len()).await;
    let begun = Instant::now();
    publish(&world, "quiet").await;
    publish(&world, "busy").await;
    for (_, client) in &mut clients {
        client.until(|client| client.events == 1).await;
    }
    tokio::time::sleep(Duration::from_secs(3)).await;
    let again = Instant::now();
    publish(&world, "busy").await;
    let mut waiting = JoinSet::new();
    for (stream, mut client) in clients {
        waiting.spawn(async move {
            client.until(|client| client.beats == 1).await;
            (stream, Instant::now(), client)
        });
    }
    let mut quiet = Vec::new();
    let mut open = Vec::new();
    while let Some(beat) = waiting.join_next().await {
        let (stream, at, client) = beat.expect("no panic");
        let (written, events) = if stream == "quiet" { (begun, 1) } else { (again, 2) };
        // Both are times of ours that can only make it longer.
        let silence = at.duration_since(written);
        assert!(silence >= SOONEST, "{stream}: {silence:?}");
        assert_eq!(client.events, events);
        if stream == "quiet" {
            quiet.push(at);
        }
        open.push(client);
    }
    let (first, last) = (quiet.iter().min().expect("some"), quiet.iter().max().expect("some"));
    let spread = last.duration_since(*first);
    assert!(spread >= SPREAD, "{} beat within {spread:?}", quiet.len());
    drop(open);
    world.ended().await;
}

/// Whoever listens for long is told anew when to come back: as soon as there is news of it, whether its
/// stream is quiet or never is, and each of them something of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn news_of_when_to_come_back_reach_everybody_once() {
    let range =
        |min, max| RetryRange::new(Duration::from_secs(min), Duration::from_secs(max)).expect("in order");
    for tls in [false, true] {
        let world = world_with(StreamPolicies::open(Retention::FOREVER), HubConfig::default(), tls);
        let mut clients = Vec::new();
        for n in 0..48 {
            let stream = ["quiet", "busy"][n % 2];
            let encoding = if n % 8 > 5 { Encoding::Gzip } else { Encoding::Identity };
            clients.push(Client::open(&world, stream, encoding, Duration::from_secs(2)).await);
        }
        all_parked(&world, clients.len()).await;
        let publishing = async {
            for _ in 0..u32::MAX {
                publish(&world, "busy").await;
                tokio::time::sleep(Duration::from_millis(40)).await;
            }
        };
        let hearing = async {
            let retries = world.hub.retries();
            // Nearly what they know already.
            retries.tell();
            for (min, max) in [(60, 120), (400, 900)] {
                retries.set(range(min, max));
                retries.tell();
                let mut told = HashSet::new();
                for client in &mut clients {
                    client.until(|client| !client.retries.is_empty()).await;
                    let [retry] = client.retries[..] else { panic!("{:?}", client.retries) };
                    assert!((min * 1_000..=max * 1_000).contains(&retry), "{retry}");
                    told.insert(retry);
                    client.retries.clear();
                }
                assert!(told.len() > 40, "everybody has one of its own: {told:?}");
                // No more of it until there is something new: two signs of life, or as long.
                for client in clients.iter_mut().step_by(2) {
                    client.until(|client| client.beats >= 2).await;
                    client.beats = 0;
                }
                for client in &mut clients {
                    let events = client.events;
                    if events > 0 {
                        client.until(|client| client.events > events + 20).await;
                    }
                    assert!(client.retries.is_empty(), "once: {:?}", client.retries);
                }
            }
        };
        tokio::select! {
            () = publishing => panic!("it goes on for longer than that"),
            () = hearing => {}
        }
        drop(clients);
        world.ended().await;
    }
}

/// A sweep over many lets others run in between. On one thread whoever watches sees how far it has come.
#[tokio::test]
async fn a_long_sweep_lets_others_run() {
    const MANY: usize = 600;
    let policies = Arc::new(StreamPolicies::open(Retention::FOREVER));
    let log = Arc::new(MemoryLog::new(policies, Arc::new(SystemClock)));
    let world = world_of(log, HubConfig::default(), false, 1);
    let mut clients = Vec::new();
    for _ in 0..MANY {
        clients.push(Client::open(&world, "s", Encoding::Identity, Duration::from_secs(3_600)).await);
    }
    all_parked(&world, MANY).await;
    let before = world.engine.sends();
    world.log.append(&name(), vec![EventDraft::new("x")]).await.expect("appends");
    let (all, mut seen) = (MANY as u64, Vec::new());
    while seen.last() != Some(&all) {
        tokio::task::yield_now().await;
        let sent = world.engine.sends() - before;
        assert!(sent <= all, "{sent}");
        if seen.last() != Some(&sent) {
            seen.push(sent);
        }
    }
    let stages = seen.iter().filter(|sent| (1..all).contains(sent)).count();
    assert!(stages >= 2, "it went from one end to the other: {seen:?}");
    drop(clients);
    world.ended().await;
}
