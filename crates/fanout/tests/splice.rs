//! Replay spliced to live, judged by an account of every sequence.
//!
//! A seeded run interleaves appends, trims, a tail that loses batches, and clients that are cut at
//! any byte and resume with the id a conforming client would hold. Whatever happens, each client
//! must be able to account for every event of its streams: received once and in order, not wanted
//! by its filter, or named in a gap notice.

mod gunzip;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use evergate_domain::{
    Cursor, EventDraft, Key, KeyFilter, KeyPattern, Level, Offset, Retention, Start, StreamName,
    StreamPolicies, StreamSet, UnixMillis, sse,
};
use evergate_eventlog::{
    AppendError, EventLog, ManualClock, MemoryLog, Page, Placed, ReadError, ReadLimit, StreamStatus, Tail,
    TailItem, TailSender,
};
use evergate_fanout::{Begin, Encoding, Framing, HeartbeatKind, Hub, HubConfig, Next, SubscribeRequest};
use parking_lot::Mutex;
use tokio::task::JoinSet;

const SEEDS: u64 = 300;
const EVENTS: u64 = 250;
const KEYS: [&str; 3] = ["a", "b", "c"];

/// One source of chance for everything in a run. Locks for one draw at a time.
#[derive(Clone)]
struct Random(Arc<Mutex<fastrand::Rng>>);

impl Random {
    fn below(&self, end: usize) -> usize {
        self.0.lock().usize(..end)
    }

    fn one_in(&self, n: usize) -> bool {
        self.below(n) == 0
    }
}

/// A log whose every answer takes its time, and whose tails lose batches, as a Pub/Sub may.
struct Awkward {
    log: MemoryLog,
    random: Random,
    forwarders: Mutex<JoinSet<()>>,
}

impl Awkward {
    async fn dawdle(&self) {
        let steps = self.random.below(6);
        for _ in 0..steps {
            tokio::task::yield_now().await;
        }
    }
}

#[async_trait]
impl EventLog for Awkward {
    async fn append(&self, stream: &StreamName, batch: Vec<EventDraft>) -> Result<Vec<Placed>, AppendError> {
        self.dawdle().await;
        self.log.append(stream, batch).await
    }

    async fn read(&self, stream: &StreamName, after: Offset, limit: ReadLimit) -> Result<Page, ReadError> {
        self.dawdle().await;
        let page = self.log.read(stream, after, limit).await;
        self.dawdle().await;
        page
    }

    async fn locate(&self, stream: &StreamName, start: Start) -> Result<Offset, ReadError> {
        let offset = self.log.locate(stream, start).await;
        self.dawdle().await;
        offset
    }

    async fn follow(&self, stream: &StreamName) -> Result<Tail, ReadError> {
        self.dawdle().await;
        let mut inner = self.log.follow(stream).await?;
        let sender = TailSender::default();
        let tail = sender.follow(inner.start());
        let random = self.random.clone();
        self.forwarders.lock().spawn(async move {
            loop {
                let events = match inner.next().await {
                    TailItem::Events(events) => events,
                    TailItem::Trimmed(floor) => {
                        sender.trimmed(floor);
                        continue;
                    }
                    TailItem::Lagged | TailItem::Closed => return,
                };
                let last = events.iter().any(|event| event.data.ends_with("/last"));
                if last || !random.one_in(8) {
                    sender.send(&events);
                }
                if random.one_in(2) {
                    tokio::task::yield_now().await;
                }
            }
        });
        Ok(tail)
    }

    async fn status(&self, stream: &StreamName) -> Result<StreamStatus, ReadError> {
        self.log.status(stream).await
    }

    async fn trim(&self) -> Result<(), ReadError> {
        self.log.trim().await
    }

    fn level(&self, stream: &StreamName) -> Level {
        self.log.level(stream)
    }

    async fn close(&self) {
        self.log.close().await;
    }
}

/// What a client saw, in order.
#[derive(Debug)]
enum Seen {
    Event {
        stream: String,
        seq: u64,
    },
    Gap {
        stream: String,
        requested: u64,
        cursor: u64,
        lost: Option<u64>,
    },
    /// The id that came with it, or alone: where the client stands in all of its streams.
    Position(Vec<Offset>),
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    cuts: u64,
    gaps: u64,
    events: u64,
    positions: u64,
    ends: u64,
}

struct Client {
    streams: StreamSet,
    patterns: Vec<&'static str>,
    start: Option<Vec<Offset>>,
    seen: Vec<Seen>,
    counts: Counts,
}

fn name(text: &str) -> StreamName {
    StreamName::new(text).expect("valid")
}

fn streams() -> [StreamName; 2] {
    [name("left"), name("right")]
}

impl Client {
    fn new(random: &Random) -> Self {
        let chosen = match random.below(3) {
            0 => vec![name("left")],
            1 => vec![name("right")],
            _ => streams().to_vec(),
        };
        let patterns = match random.below(3) {
            0 => vec![],
            1 => vec!["a"],
            _ => vec!["b", "c*"],
        };
        Self {
            streams: StreamSet::new(chosen).expect("one or two"),
            patterns,
            start: None,
            seen: Vec::new(),
            counts: Counts::default(),
        }
    }

    fn filter(&self) -> KeyFilter {
        self.patterns.iter().map(|p| KeyPattern::parse(p).expect("valid")).collect()
    }

    /// Subscribes, is cut, resumes, until it has seen or passed the last event of each stream.
    async fn run(mut self, hub: Hub, random: Random) -> Self {
        let mut last_id = String::new();
        let mut done = vec![false; self.streams.names().len()];
        while done.contains(&false) {
            let begin = match Cursor::parse(&self.streams, &last_id) {
                Ok(cursor) => Begin::Resume(cursor),
                Err(_) if random.one_in(2) => Begin::Start(Start::Latest),
                Err(_) => Begin::Start(Start::Earliest),
            };
            let encoding = if random.one_in(2) { Encoding::Gzip } else { Encoding::Identity };
            let request = SubscribeRequest {
                streams: self.streams.clone(),
                filters: vec![self.filter(); self.streams.names().len()].into(),
                begin,
                framing: Framing::Plain,
                encoding,
                heartbeat: (Duration::from_secs(15), HeartbeatKind::Comment),
            };
            let (mut subscriber, opening) = hub.subscribe(request).await.expect("subscribes");
            if last_id.is_empty() {
                last_id.clone_from(&opening.cursor);
                let cursor = Cursor::parse(&self.streams, &last_id).expect("ours");
                self.start = Some(cursor.offsets().to_vec());
            }
            assert_eq!(opening.cursor, last_id, "open names the position the client asked for");
            let mut decoder = sse::Decoder::new(1 << 20, &last_id);
            let mut gunzip = (encoding == Encoding::Gzip).then(gunzip::Gunzip::new);
            let cut_after = 1 + random.below(3_000);
            let mut bytes = subscriber.begin(b": hello\n");
            let mut read = 0;
            while read < cut_after && done.contains(&false) {
                let taken = &bytes[..bytes.len().min(cut_after - read)];
                read += taken.len();
                let mut items = Vec::new();
                let data = match &mut gunzip {
                    None => taken.to_vec(),
                    Some(gunzip) if taken.len() == bytes.len() => gunzip.feed_whole(taken),
                    Some(gunzip) => gunzip.feed(taken),
                };
                decoder.feed(&data, &mut items).expect("a valid stream");
                for item in items {
                    self.take(item, &mut last_id, &mut done);
                }
                if random.one_in(4) {
                    tokio::task::yield_now().await;
                }
                if taken.len() == bytes.len() {
                    if read >= cut_after || !done.contains(&false) {
                        // Not cut but ended.
                        let last = subscriber.finish(b": bye\n", false);
                        let whole = gunzip.take().is_none_or(|mut gunzip| {
                            gunzip.feed_whole(&last).ends_with(b": bye\n") && gunzip.is_whole()
                        });
                        assert!(whole, "a body ends without the right trailer");
                        self.counts.ends += 1;
                        break;
                    }
                    let Next::Bytes(next) = subscriber.next().await else { panic!("ended") };
                    bytes = next;
                }
            }
            self.counts.cuts += 1;
            // Away for a while, sometimes for longer than the log remembers.
            drop(subscriber);
            let away = if random.one_in(3) { random.below(400) } else { 0 };
            for _ in 0..away {
                tokio::task::yield_now().await;
            }
        }
        self
    }

    fn take(&mut self, item: sse::Item, last_id: &mut String, done: &mut [bool]) {
        let sse::Item::Message(message) = item else { return };
        last_id.clone_from(&message.last_event_id);
        let cursor = Cursor::parse(&self.streams, last_id).expect("every id is a cursor");
        match message.kind.as_str() {
            "message" => {
                self.counts.events += 1;
                let (stream, rest) = message.data.split_once('/').expect("made below");
                let at = self.streams.position(&name(stream)).expect("subscribed");
                let seq = cursor.offsets()[at].seq.get();
                assert_eq!(
                    rest.split('/').next(),
                    Some(seq.to_string().as_str()),
                    "the id names another event"
                );
                self.seen.push(Seen::Event { stream: stream.to_owned(), seq });
            }
            "evergate.gap" => {
                self.counts.gaps += 1;
                let gap: serde_json::Value = serde_json::from_str(&message.data).expect("JSON");
                let stream = gap["stream"].as_str().expect("a name").to_owned();
                let at = self.streams.position(&name(&stream)).expect("subscribed");
                let requested: Offset = gap["requested"].as_str().expect("an offset").parse().expect("valid");
                self.seen.push(Seen::Gap {
                    stream,
                    requested: requested.seq.get(),
                    cursor: cursor.offsets()[at].seq.get(),
                    lost: gap["lost"].as_u64(),
                });
            }
            "evergate.cursor" => self.counts.positions += 1,
            other => panic!("unexpected {other}"),
        }
        self.seen.push(Seen::Position(cursor.offsets().to_vec()));
        for (done, offset) in done.iter_mut().zip(cursor.offsets()) {
            *done = offset.seq.get() > EVENTS;
        }
    }

    /// The account: every sequence from the start to the end, once.
    fn judge(&self, history: &HashMap<String, Vec<Option<String>>>) {
        let filter = self.filter();
        let unwanted = |stream: &str, from: u64, to: u64| {
            for seq in from + 1..=to {
                let key = history[stream][usize::try_from(seq - 1).expect("small")].as_ref();
                let key = key.map(|key| Key::new(key).expect("valid"));
                assert!(!filter.matches(key.as_ref()), "{stream} {seq} was wanted and never came");
            }
        };
        let start = self.start.as_ref().expect("subscribed");
        let mut position: HashMap<String, u64> = self
            .streams
            .names()
            .iter()
            .zip(start)
            .map(|(name, offset)| (name.to_string(), offset.seq.get()))
            .collect();
        for seen in &self.seen {
            match seen {
                Seen::Event { stream, seq } => {
                    let at = position.get_mut(stream).expect("subscribed");
                    assert!(*seq > *at, "{stream} {seq} came after {at}");
                    unwanted(stream, *at, seq - 1);
                    *at = *seq;
                }
                Seen::Gap { stream, requested, cursor, lost } => {
                    let at = position.get_mut(stream).expect("subscribed");
                    assert!(requested >= at, "a gap over what was received");
                    unwanted(stream, *at, *requested);
                    assert_eq!(*lost, Some(cursor - requested));
                    *at = *cursor;
                }
                Seen::Position(offsets) => {
                    for (name, offset) in self.streams.names().iter().zip(offsets) {
                        let at = position.get_mut(name.as_str()).expect("subscribed");
                        assert!(offset.seq.get() >= *at, "{name} went back to {offset}");
                        unwanted(name.as_str(), *at, offset.seq.get());
                        *at = offset.seq.get();
                    }
                }
            }
        }
        for (stream, at) in &position {
            assert!(*at > EVENTS, "{stream} ended at {at}");
        }
    }
}

async fn write(log: Arc<Awkward>, stream: StreamName, random: Random) -> Vec<Option<String>> {
    let mut keys = Vec::new();
    while (keys.len() as u64) < EVENTS {
        let batch: Vec<_> = (0..=random.below(4))
            .map(|_| {
                let key = (keys.len() % 7 > 0).then(|| KEYS[random.below(KEYS.len())]);
                keys.push(key.map(str::to_owned));
                EventDraft {
                    key: key.map(|key| Key::new(key).expect("valid")),
                    ..EventDraft::new(format!("{stream}/{}", keys.len()))
                }
            })
            .collect();
        log.append(&stream, batch).await.expect("appends");
        if random.one_in(20) {
            log.trim().await.expect("trims");
        }
        let steps = random.below(12);
        for _ in 0..steps {
            tokio::task::yield_now().await;
        }
    }
    // Wanted by every filter, and never lost by the tail: a client knows that it is done.
    for key in ["a", "b"] {
        keys.push(Some(key.to_owned()));
        let draft = EventDraft {
            key: Some(Key::new(key).expect("valid")),
            ..EventDraft::new(format!("{stream}/{}/last", keys.len()))
        };
        log.append(&stream, vec![draft]).await.expect("appends");
    }
    keys
}

async fn history(seed: u64) -> Counts {
    let random = Random(Arc::new(Mutex::new(fastrand::Rng::with_seed(seed))));
    let mut policies = StreamPolicies::open(Retention::FOREVER);
    policies.named.insert(name("right"), Retention { events: Some(25), ..Retention::FOREVER });
    let clock = Arc::new(ManualClock::at(UnixMillis::new(1_700_000_000_000)));
    let log = Arc::new(Awkward {
        log: MemoryLog::new(Arc::new(policies), clock),
        random: random.clone(),
        forwarders: Mutex::default(),
    });
    let config = HubConfig {
        ring_events: 20,
        page: ReadLimit { events: 8, bytes: 1 << 20 },
        replay_bytes: 8_000,
        scan_max: 12,
        piece_bytes: 200,
        ..HubConfig::default()
    };
    let hub = Hub::new(Arc::clone(&log) as Arc<dyn EventLog>, config);
    let mut clients = JoinSet::new();
    for _ in 0..5 {
        let client = Client::new(&random);
        clients.spawn(client.run(hub.clone(), random.clone()));
    }
    let [left, right] = streams();
    let (left_keys, right_keys) = tokio::join!(
        write(Arc::clone(&log), left.clone(), random.clone()),
        write(Arc::clone(&log), right.clone(), random.clone()),
    );
    let history = HashMap::from([(left.to_string(), left_keys), (right.to_string(), right_keys)]);
    let mut counts = Counts::default();
    while let Some(client) = clients.join_next().await {
        let client = client.expect("no panic");
        client.judge(&history);
        counts.cuts += client.counts.cuts;
        counts.gaps += client.counts.gaps;
        counts.events += client.counts.events;
        counts.positions += client.counts.positions;
        counts.ends += client.counts.ends;
    }
    hub.stop(Duration::ZERO);
    log.close().await;
    hub.stopped().await;
    counts
}

#[test]
fn every_client_accounts_for_every_event() {
    let only = std::env::var("EVERGATE_SEED").ok().and_then(|seed| seed.parse().ok());
    let first = only.unwrap_or_else(|| fastrand::u64(..u64::MAX - SEEDS));
    let mut total = Counts::default();
    for seed in first..first + only.map_or(SEEDS, |_| 1) {
        println!("repeat with EVERGATE_SEED={seed} cargo test -p evergate-fanout --test splice");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("a runtime");
        let counts = runtime.block_on(async {
            let limit = Duration::from_secs(3600);
            tokio::time::timeout(limit, history(seed)).await.expect("a client waits for ever")
        });
        total.cuts += counts.cuts;
        total.gaps += counts.gaps;
        total.events += counts.events;
        total.positions += counts.positions;
        total.ends += counts.ends;
    }
    println!("{total:?}");
    let enough = total.cuts > SEEDS
        && total.gaps > SEEDS
        && total.events > 50 * SEEDS
        && total.positions > SEEDS
        && total.ends > SEEDS;
    assert!(only.is_some() || enough, "too little happened to prove anything: {total:?}");
}

/// Whether plain or as an envelope, whether it is one stream's or one of several: however many are
/// sent an event compressed, it is deflated once for each of these four forms.
#[tokio::test]
async fn a_thousand_compressed_subscribers_cost_one_deflate_per_event() {
    const EACH: usize = 250;
    let policies = Arc::new(StreamPolicies::open(Retention::FOREVER));
    let log: Arc<dyn EventLog> =
        Arc::new(MemoryLog::new(policies, Arc::new(ManualClock::at(UnixMillis::new(1)))));
    let hub = Hub::new(Arc::clone(&log), HubConfig::default());
    let mut subscribers = Vec::new();
    for n in 0..4 * EACH {
        let names = if n % 2 == 0 { vec![name("left")] } else { streams().to_vec() };
        let request = SubscribeRequest {
            filters: vec![KeyFilter::all(); names.len()].into(),
            streams: StreamSet::new(names).expect("one or two"),
            begin: Begin::Start(Start::Latest),
            framing: if n % 4 < 2 { Framing::Plain } else { Framing::Envelope },
            encoding: Encoding::Gzip,
            heartbeat: (Duration::from_secs(15), HeartbeatKind::Comment),
        };
        let mut subscriber = hub.subscribe(request).await.expect("subscribes").0;
        let mut gunzip = gunzip::Gunzip::new();
        gunzip.feed_whole(&subscriber.begin(b""));
        subscribers.push((subscriber, gunzip));
    }
    for n in 1..=3 {
        log.append(&name("left"), vec![EventDraft::new(format!("event {n}"))]).await.expect("appends");
        for (subscriber, gunzip) in &mut subscribers {
            let Next::Bytes(bytes) = subscriber.next().await else { panic!("ended") };
            let text = String::from_utf8(gunzip.feed_whole(&bytes)).expect("UTF-8");
            assert!(text.contains(&format!("event {n}")), "{text}");
        }
        assert_eq!(hub.deflated(), 4 * n);
    }
    for (mut subscriber, mut gunzip) in subscribers {
        gunzip.feed_whole(&subscriber.finish(b"", false));
        assert!(gunzip.is_whole());
    }
    hub.stop(Duration::ZERO);
    log.close().await;
    hub.stopped().await;
}
