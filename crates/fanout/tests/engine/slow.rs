//! One subscriber of many stops reading. What it gets in the end is its stream's policy; its neighbours
//! notice nothing.

use std::sync::Arc;
use std::time::Duration;

use evergate_domain::{Cursor, EventDraft, Key, KeyFilter, Offset, SlowReader, SlowReaders, Start, sse};
use evergate_fanout::{Begin, Encoding, HubConfig};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::{Chunks, World, name, streams, world};

const NEIGHBOURS: usize = 6;
const EVENTS: u64 = 600;
const RING: usize = 200;
const LAG_MAX: u64 = 100;
const KEYS: u64 = 7;
/// Some dozen events: one that stalls is soon full. Not less, or reading on waits for timers: a loopback
/// segment is larger than a small window.
const BUFFER: usize = 64 << 10;

fn slow_world(policy: SlowReader) -> Arc<World> {
    world(HubConfig {
        ring_events: RING,
        slow: Arc::new(SlowReaders { default: policy, lag_max: LAG_MAX, ..SlowReaders::default() }),
        ..HubConfig::default()
    })
}

/// A client that reads when it is told to.
struct Reader {
    socket: TcpStream,
    chunks: Chunks,
    decoder: sse::Decoder,
    last_id: String,
}

/// What a client can account for.
#[derive(Debug, Default)]
struct Account {
    seen: Vec<u64>,
    gaps: Vec<(u64, u64)>,
    reasons: Vec<String>,
}

impl Reader {
    async fn open(world: &World, encoding: Encoding, begin: Begin, held: &str) -> Self {
        let beat = Duration::from_secs(3_600);
        let (socket, at) = world.open_as(encoding, begin, KeyFilter::all(), beat, false, BUFFER).await;
        let last_id = if held.is_empty() { at } else { held.to_owned() };
        let decoder = sse::Decoder::new(1 << 20, &last_id);
        Self { socket, chunks: Chunks::of(encoding), decoder, last_id }
    }

    /// Reads until the event with this sequence was seen or passed. False if the connection ended before.
    async fn read_to(&mut self, seq: u64, account: &mut Account) -> bool {
        let mut buffer = vec![0; 1 << 14];
        while self.last_id.parse::<Offset>().expect("an offset").seq.get() < seq {
            // A reset is an end too.
            let n = self.socket.read(&mut buffer).await.unwrap_or(0);
            if n == 0 {
                return false;
            }
            let mut items = Vec::new();
            self.decoder.feed(&self.chunks.feed(&buffer[..n]), &mut items).expect("a valid stream");
            for item in items {
                let sse::Item::Message(message) = item else { continue };
                let before = self.last_id.parse::<Offset>().expect("an offset").seq.get();
                self.last_id = message.last_event_id;
                let now = self.last_id.parse::<Offset>().expect("an offset").seq.get();
                if message.kind == "evergate.gap" {
                    let gap: serde_json::Value = serde_json::from_str(&message.data).expect("JSON");
                    let seq_of = |field: &str| {
                        gap[field].as_str().expect(field).parse::<Offset>().expect("an offset").seq.get()
                    };
                    assert_eq!(seq_of("requested"), before, "{gap}");
                    assert_eq!(seq_of("first_missing"), before + 1, "{gap}");
                    assert_eq!(seq_of("resumed_at"), now + 1, "the id is the one just before: {gap}");
                    assert_eq!(gap["lost"], now - before, "{gap}");
                    account.gaps.push((before, now));
                    account.reasons.push(gap["reason"].as_str().expect("a reason").to_owned());
                } else {
                    assert_eq!(now, before + 1, "something is missing that nobody told of");
                    account.seen.push(now);
                }
            }
        }
        true
    }
}

/// Publishes one by one; every neighbour has each event before the next one is published.
async fn publish(world: &World, neighbours: &mut [(Reader, Account)], from: u64, to: u64) {
    for seq in from..=to {
        let key = Key::new(&format!("k{}", seq % KEYS)).expect("valid");
        // What no encoding makes much smaller, so that a small socket is soon full.
        let data: String = (0..1_500).map(|_| fastrand::alphanumeric()).collect();
        let draft = EventDraft { key: Some(key), ..EventDraft::new(data) };
        world.log.append(&name(), vec![draft]).await.expect("appends");
        for (reader, account) in &mut *neighbours {
            assert!(reader.read_to(seq, account).await, "a neighbour was cut");
        }
    }
}

/// One subscriber stalls while its neighbours read. Gives what it has in the end, and how often it was
/// cut on the way there.
async fn stall(policy: SlowReader, encoding: Encoding) -> (Account, u32) {
    let world = slow_world(policy);
    let mut neighbours = Vec::new();
    for _ in 0..NEIGHBOURS {
        let begin = Begin::Start(Start::Latest);
        neighbours.push((Reader::open(&world, encoding, begin, "").await, Account::default()));
    }
    let mut stalled = Reader::open(&world, encoding, Begin::Start(Start::Latest), "").await;
    while world.engine.parked() <= NEIGHBOURS {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // First everything that the socket takes; from then on nothing is even tried.
    publish(&world, &mut neighbours, 1, EVENTS / 2).await;
    let before = world.engine.sends();
    publish(&world, &mut neighbours, EVENTS / 2 + 1, EVENTS).await;
    let sends = world.engine.sends() - before;
    let each = EVENTS - EVENTS / 2;
    assert!(sends < each * (NEIGHBOURS as u64 + 1), "the stalled one costs sends: {sends}");
    for (_, account) in &neighbours {
        assert!(account.gaps.is_empty() && account.seen.len() as u64 == EVENTS, "a neighbour noticed");
    }

    let (mut account, mut cuts) = (Account::default(), 0);
    while !stalled.read_to(EVENTS, &mut account).await {
        cuts += 1;
        let cursor = stalled.last_id.parse().expect("an offset");
        let begin = Begin::Resume(Cursor::new(&streams(), vec![cursor]));
        stalled = Reader::open(&world, encoding, begin, &stalled.last_id).await;
    }
    // It is one of many again.
    neighbours.push((stalled, account));
    publish(&world, &mut neighbours, EVENTS + 1, EVENTS + 20).await;
    let (_, account) = neighbours.pop().expect("it was put there");
    drop(neighbours);
    world.ended().await;
    (account, cuts)
}

const ENCODINGS: [Encoding; 2] = [Encoding::Identity, Encoding::Gzip];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_catches_up_gets_everything() {
    for encoding in ENCODINGS {
        let (account, cuts) = stall(SlowReader::CatchUp, encoding).await;
        assert_eq!((account.seen.len() as u64, account.gaps.len(), cuts), (EVENTS + 20, 0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_moved_on_is_told_what_it_missed() {
    for encoding in ENCODINGS {
        let (account, cuts) = stall(SlowReader::Gap, encoding).await;
        assert!(account.reasons.iter().all(|reason| reason == "slow") && cuts == 0, "{account:?}");
        // Its kernel may take a little more in between, so that it jumps more than once, or early.
        let lost: u64 = account.gaps.iter().map(|(from, to)| to - from).sum();
        assert_eq!(account.seen.len() as u64 + lost, EVENTS + 20);
        assert!(lost > LAG_MAX - KEYS, "{lost}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_conflated_gets_the_latest_of_each_key() {
    for encoding in ENCODINGS {
        let (account, cuts) = stall(SlowReader::Conflate, encoding).await;
        assert!(account.reasons.iter().all(|reason| reason == "policy") && cuts == 0, "{account:?}");
        let last: Vec<u64> = (EVENTS - KEYS + 1..=EVENTS + 20).collect();
        assert!(account.seen.ends_with(&last), "the latest of each key: {account:?}");
        let lost: u64 = account.gaps.iter().map(|(from, to)| to - from).sum();
        assert_eq!(account.seen.len() as u64 + lost, EVENTS + 20);
        assert!(lost > LAG_MAX - KEYS, "{lost}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_disconnected_comes_back_and_misses_nothing() {
    for encoding in ENCODINGS {
        let (account, cuts) = stall(SlowReader::Disconnect, encoding).await;
        assert_eq!((account.seen.len() as u64, account.gaps.len()), (EVENTS + 20, 0));
        assert!(cuts > 0, "it was to be disconnected");
    }
}
