//! One subscriber of many stops reading. What it gets in the end is its stream's policy; its neighbours
//! notice nothing.

use std::sync::Arc;
use std::time::Duration;

use evergate_domain::cluster::{AfterDegradation, StreamPolicy};
use evergate_domain::{
    AgreedPolicies, Cursor, EventDraft, Key, KeyFilter, Level, Offset, Retention, SlowReader, SlowReaders,
    Start, StreamName, StreamSet, sse,
};
use evergate_fanout::{Begin, Encoding, Framing, HeartbeatKind, HubConfig, SubscribeRequest};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::{Chunks, World, name, set, world};

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

/// The stream beside it, in which nobody ever lies far behind, and how much rarer its events are.
const CALM: &str = "calm";
const CALM_EVERY: u64 = 60;

/// How everybody subscribes.
#[derive(Clone, Copy)]
struct Shape {
    streams: &'static [&'static str],
    encoding: Encoding,
}

const SHAPES: [Shape; 4] = [
    Shape { streams: &["s"], encoding: Encoding::Identity },
    Shape { streams: &["s"], encoding: Encoding::Gzip },
    Shape { streams: &[CALM, "s"], encoding: Encoding::Identity },
    Shape { streams: &[CALM, "s"], encoding: Encoding::Gzip },
];

/// A client that reads when it is told to.
struct Reader {
    socket: TcpStream,
    chunks: Chunks,
    decoder: sse::Decoder,
    streams: StreamSet,
    last_id: String,
}

/// What a client can account for.
#[derive(Debug, Default)]
struct Account {
    seen: Vec<u64>,
    gaps: Vec<(u64, u64)>,
    reasons: Vec<String>,
    calm: Vec<u64>,
}

impl Reader {
    async fn open(world: &World, shape: Shape, held: &str) -> Self {
        let streams = set(shape.streams);
        let begin = match Cursor::parse(&streams, held) {
            Ok(cursor) => Begin::Resume(cursor),
            Err(_) => Begin::Start(Start::Latest),
        };
        let request = SubscribeRequest {
            filters: vec![KeyFilter::all(); shape.streams.len()].into(),
            streams: streams.clone(),
            begin,
            framing: Framing::Plain,
            encoding: shape.encoding,
            heartbeat: (Duration::from_secs(3_600), HeartbeatKind::Comment),
        };
        let (socket, last_id) = world.serve(request, false, BUFFER).await;
        let decoder = sse::Decoder::new(1 << 20, &last_id);
        Self { socket, chunks: Chunks::of(shape.encoding), decoder, streams, last_id }
    }

    /// Where it stands in the calm stream, if it follows that, and in the other one.
    fn at(&self) -> (u64, u64) {
        let cursor = Cursor::parse(&self.streams, &self.last_id).expect("ours");
        let seqs: Vec<u64> = cursor.offsets().iter().map(|offset| offset.seq.get()).collect();
        match seqs[..] {
            [seq] => (0, seq),
            [calm, seq] => (calm, seq),
            _ => panic!("{seqs:?}"),
        }
    }

    /// Reads until the event with this sequence was seen or passed. False if the connection ended before.
    async fn read_to(&mut self, seq: u64, account: &mut Account) -> bool {
        let mut buffer = vec![0; 1 << 14];
        while self.at().1 < seq {
            // A reset is an end too.
            let n = self.socket.read(&mut buffer).await.unwrap_or(0);
            if n == 0 {
                return false;
            }
            let mut items = Vec::new();
            self.decoder.feed(&self.chunks.feed(&buffer[..n]), &mut items).expect("a valid stream");
            for item in items {
                let sse::Item::Message(message) = item else { continue };
                let (calm_before, before) = self.at();
                self.last_id = message.last_event_id;
                let (calm, now) = self.at();
                if calm != calm_before {
                    assert_eq!((calm, now, &*message.kind), (calm_before + 1, before, "message"));
                    account.calm.push(calm);
                    continue;
                }
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
        if seq % CALM_EVERY == 0 {
            let calm = StreamName::new(CALM).expect("valid");
            world.log.append(&calm, vec![EventDraft::new("calm")]).await.expect("appends");
        }
        for (reader, account) in &mut *neighbours {
            assert!(reader.read_to(seq, account).await, "a neighbour was cut");
        }
    }
}

/// One subscriber stalls while its neighbours read. Gives what it has in the end, and how often it was
/// cut on the way there.
async fn stall(policy: SlowReader, shape: Shape) -> (Account, u32) {
    let world = slow_world(policy);
    let mut neighbours = Vec::new();
    for _ in 0..NEIGHBOURS {
        neighbours.push((Reader::open(&world, shape, "").await, Account::default()));
    }
    let mut stalled = Reader::open(&world, shape, "").await;
    while world.engine.parked() <= NEIGHBOURS {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // First everything that the socket takes; from then on nothing is even tried.
    publish(&world, &mut neighbours, 1, EVENTS / 2).await;
    let before = world.engine.sends();
    publish(&world, &mut neighbours, EVENTS / 2 + 1, EVENTS).await;
    let sends = world.engine.sends() - before;
    // One event after the other, and each calm one by itself.
    let each = EVENTS / 2 + if shape.streams.len() > 1 { EVENTS / 2 / CALM_EVERY } else { 0 };
    assert!(sends < each * (NEIGHBOURS as u64 + 1), "the stalled one costs sends: {sends}");
    for (_, account) in &neighbours {
        assert!(account.gaps.is_empty() && account.seen.len() as u64 == EVENTS, "a neighbour noticed");
    }

    let (mut account, mut cuts) = (Account::default(), 0);
    while !stalled.read_to(EVENTS, &mut account).await {
        cuts += 1;
        stalled = Reader::open(&world, shape, &stalled.last_id).await;
    }
    // It is one of many again.
    neighbours.push((stalled, account));
    publish(&world, &mut neighbours, EVENTS + 1, EVENTS + 20).await;
    let (_, account) = neighbours.pop().expect("it was put there");
    // Nothing is left out of the calm stream, whatever becomes of the other one. Its last event may lie
    // behind what was waited for.
    let calm: Vec<u64> = (1..=EVENTS / CALM_EVERY).collect();
    let follows = shape.streams.contains(&CALM);
    assert!(
        !follows || calm.starts_with(&account.calm) && account.calm.len() + 1 >= calm.len(),
        "{account:?}"
    );
    drop(neighbours);
    world.ended().await;
    (account, cuts)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_catches_up_gets_everything() {
    for shape in SHAPES {
        let (account, cuts) = stall(SlowReader::CatchUp, shape).await;
        assert_eq!((account.seen.len() as u64, account.gaps.len(), cuts), (EVENTS + 20, 0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_moved_on_is_told_what_it_missed() {
    for shape in SHAPES {
        let (account, cuts) = stall(SlowReader::Gap, shape).await;
        assert!(account.reasons.iter().all(|reason| reason == "slow") && cuts == 0, "{account:?}");
        // Its kernel may take a little more in between, so that it jumps more than once, or early.
        let lost: u64 = account.gaps.iter().map(|(from, to)| to - from).sum();
        assert_eq!(account.seen.len() as u64 + lost, EVENTS + 20);
        assert!(lost > LAG_MAX - KEYS, "{lost}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_is_conflated_gets_the_latest_of_each_key() {
    for shape in SHAPES {
        let (account, cuts) = stall(SlowReader::Conflate, shape).await;
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
    for shape in SHAPES {
        let (account, cuts) = stall(SlowReader::Disconnect, shape).await;
        assert_eq!((account.seen.len() as u64, account.gaps.len()), (EVENTS + 20, 0));
        assert!(cuts > 0, "it was to be disconnected");
    }
}

/// A stream that somebody always follows has its policy changed: the new one holds for whoever comes then, and
/// for those who follow beside it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_policy_that_changes_is_heeded_while_the_stream_is_followed() {
    let agreed = AgreedPolicies::default();
    let slow = SlowReaders { agreed: agreed.clone(), lag_max: LAG_MAX, ..SlowReaders::default() };
    let world = world(HubConfig { ring_events: RING, slow: Arc::new(slow), ..HubConfig::default() });
    // One after the other, so that they go to the two shards in turn: who comes last goes to a shard where
    // the stream is followed already, by the one that stays.
    let mut readers = Vec::new();
    for n in 0..4 {
        readers.push((Reader::open(&world, SHAPES[0], "").await, Account::default()));
        while world.engine.parked() <= n {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let mut stays = readers.remove(2);
    publish(&world, &mut readers, 1, 10).await;
    assert!(stays.0.read_to(10, &mut stays.1).await);
    let policy = StreamPolicy {
        retention: Retention::FOREVER,
        level: Level::Home,
        slow_reader: SlowReader::Gap,
        after_degradation: AfterDegradation::Replay,
    };
    agreed.replace([(name(), policy)].into());
    let comes = Reader::open(&world, SHAPES[0], "").await;
    while world.engine.parked() < 5 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    publish(&world, &mut readers, 11, EVENTS).await;
    for (mut reader, mut account) in [stays, (comes, Account::default())] {
        let had = account.seen.len() as u64;
        assert!(reader.read_to(EVENTS, &mut account).await, "nobody is cut");
        assert!(!account.gaps.is_empty(), "it was to be moved on: {account:?}");
        assert!(account.reasons.iter().all(|reason| reason == "slow"), "{account:?}");
        let lost: u64 = account.gaps.iter().map(|(from, to)| to - from).sum();
        assert_eq!(account.seen.len() as u64 + lost - had, EVENTS - 10);
    }
    drop(readers);
    world.ended().await;
}
