//! Connections that follow several streams, in the shards like all others: each client accounts for every
//! event of each of its streams, whatever becomes of its socket.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use evergate_domain::{
    Cursor, EventDraft, Key, KeyFilter, KeyPattern, Offset, Retention, Start, StreamName, StreamPolicies,
    StreamSet, sse,
};
use evergate_eventlog::ReadLimit;
use evergate_fanout::{Begin, Encoding, Framing, HeartbeatKind, HubConfig, Next, SubscribeRequest};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::{Chunks, KEYS, SMALL, World, set, world, world_with};

/// Of each stream; the last two are wanted by every filter.
const EVENTS: u64 = 1_200;
const CLIENTS: usize = 40;
const STREAMS: [&str; 4] = ["busy", "calm", "short", "thin"];
const FILTERS: [&[&str]; 3] = [&[], &["a"], &["b", "c*"]];

fn name(text: &str) -> StreamName {
    StreamName::new(text).expect("valid")
}

fn filter(patterns: &[&str]) -> KeyFilter {
    patterns.iter().map(|pattern| KeyPattern::parse(pattern).expect("valid")).collect()
}

fn request(streams: &StreamSet, filters: Vec<KeyFilter>, begin: Begin) -> SubscribeRequest {
    SubscribeRequest {
        streams: streams.clone(),
        filters: filters.into(),
        begin,
        framing: Framing::Plain,
        encoding: Encoding::Identity,
        heartbeat: (Duration::from_millis(500), HeartbeatKind::Comment),
    }
}

/// What was published under which key, by stream and sequence.
type History = HashMap<&'static str, Vec<&'static str>>;

/// What one client knows, and what it was told.
struct Account {
    streams: StreamSet,
    patterns: Vec<&'static [&'static str]>,
    last_id: String,
    /// Frame by frame: where it stood in all streams, and in which one that was an event or a gap.
    told: Vec<(Vec<Offset>, Told)>,
}

#[derive(Debug)]
enum Told {
    Event(usize),
    Gap(usize),
    Position,
}

impl Account {
    fn new(streams: StreamSet, patterns: Vec<&'static [&'static str]>) -> Self {
        Self { streams, patterns, last_id: String::new(), told: Vec::new() }
    }

    fn filters(&self) -> Vec<KeyFilter> {
        self.patterns.iter().map(|patterns| filter(patterns)).collect()
    }

    fn begin(&self) -> Begin {
        match Cursor::parse(&self.streams, &self.last_id) {
            Ok(cursor) => Begin::Resume(cursor),
            Err(_) => Begin::Start(Start::Earliest),
        }
    }

    fn opened(&mut self, cursor: String) {
        if self.last_id.is_empty() {
            let at = Cursor::parse(&self.streams, &cursor).expect("ours");
            self.told.push((at.offsets().to_vec(), Told::Position));
            self.last_id = cursor;
        } else {
            assert_eq!(cursor, self.last_id, "open names the position that was asked for");
        }
    }

    fn take(&mut self, message: sse::Message) {
        let at = Cursor::parse(&self.streams, &message.last_event_id).expect("every id is a cursor");
        self.last_id = message.last_event_id;
        let stream = |text: &str| self.streams.position(&name(text)).expect("followed");
        let told = match message.kind.as_str() {
            "message" => {
                let mut parts = message.data.split(' ');
                let stream = stream(parts.next().expect("a stream"));
                let seq = at.offsets()[stream].seq.get().to_string();
                assert_eq!(parts.next(), Some(seq.as_str()), "the id is another event's");
                Told::Event(stream)
            }
            "evergate.gap" => {
                let gap: serde_json::Value = serde_json::from_str(&message.data).expect("JSON");
                let stream = stream(gap["stream"].as_str().expect("a name"));
                let before = self.told.last().expect("opened").0[stream];
                let seq = |field: &str| {
                    gap[field].as_str().expect(field).parse::<Offset>().expect("an offset").seq.get()
                };
                // It may have been moved on over what its filter hides, without being told.
                assert!(seq("requested") >= before.seq.get(), "{gap}");
                assert_eq!(seq("first_missing"), seq("requested") + 1, "{gap}");
                assert_eq!(seq("resumed_at"), at.offsets()[stream].seq.get() + 1, "{gap}");
                assert_eq!(gap["lost"], at.offsets()[stream].seq.get() - seq("requested"), "{gap}");
                Told::Gap(stream)
            }
            "evergate.cursor" => Told::Position,
            other => panic!("unexpected {other}"),
        };
        self.told.push((at.offsets().to_vec(), told));
    }

    fn is_done(&self, events: u64) -> bool {
        self.told.last().is_some_and(|(at, _)| at.iter().all(|offset| offset.seq.get() >= events))
    }

    fn gaps(&self) -> usize {
        self.told.iter().filter(|(_, told)| matches!(told, Told::Gap(_))).count()
    }

    /// Every sequence of every stream, once: shown, hidden by the filter, or in a gap.
    fn judge(&self, history: &History) {
        let filters = self.filters();
        for (stream, of) in self.streams.names().iter().enumerate() {
            let keys = &history[of.as_str()];
            let wanted = |seq: u64| {
                let key = Key::new(keys[usize::try_from(seq - 1).expect("small")]).expect("valid");
                filters[stream].matches(Some(&key))
            };
            let mut before = self.told[0].0[stream].seq.get();
            for (at, told) in &self.told {
                let now = at[stream].seq.get();
                assert!(now >= before, "{of} went back from {before} to {now}");
                let silent = match told {
                    Told::Event(of) if *of == stream => {
                        assert!(now > before && wanted(now), "{of} {now} was told twice, or is not wanted");
                        now - 1
                    }
                    Told::Gap(of) if *of == stream => before,
                    Told::Event(_) | Told::Gap(_) | Told::Position => now,
                };
                let lost = (before + 1..=silent).find(|seq| wanted(*seq));
                assert_eq!(lost, None, "of {of} after {before} and before {now}");
                before = now;
            }
        }
    }
}

/// Reads from a connection, at most this many bytes, until the account is complete. True if it is.
async fn read(
    socket: &mut TcpStream,
    encoding: Encoding,
    account: &mut Account,
    mut left: usize,
    mut pause: impl FnMut() -> Option<Duration>,
) -> bool {
    let (mut chunks, mut decoder) = (Chunks::of(encoding), sse::Decoder::new(1 << 20, &account.last_id));
    let mut buffer = vec![0; 3_000];
    while left > 0 {
        if let Some(pause) = pause() {
            tokio::time::sleep(pause).await;
        }
        let want = fastrand::usize(1..buffer.len()).min(left);
        let n = socket.read(&mut buffer[..want]).await.expect("reads");
        assert!(n > 0, "ended by the server at {}", account.last_id);
        left -= n;
        let mut items = Vec::new();
        decoder.feed(&chunks.feed(&buffer[..n]), &mut items).expect("a valid stream");
        for item in items {
            if let sse::Item::Message(message) = item {
                account.take(message);
            }
        }
        if account.is_done(EVENTS) {
            return true;
        }
    }
    false
}

async fn client(world: Arc<World>, mut random: fastrand::Rng, slow: bool) -> Account {
    let mut chosen = STREAMS.to_vec();
    random.shuffle(&mut chosen);
    chosen.truncate(random.usize(2..=STREAMS.len()));
    let patterns = chosen.iter().map(|_| FILTERS[random.usize(..FILTERS.len())]).collect();
    let mut account = Account::new(set(&chosen), patterns);
    let encoding = if random.bool() { Encoding::Gzip } else { Encoding::Identity };
    loop {
        let request =
            SubscribeRequest { encoding, ..request(&account.streams, account.filters(), account.begin()) };
        let (mut socket, opened) = world.serve(request, false, SMALL).await;
        account.opened(opened);
        let left = if random.u32(0..3) == 0 { usize::MAX } else { random.usize(1..60_000) };
        let parked = Arc::clone(&world);
        let pause = || {
            parked.most_parked.fetch_max(parked.engine.parked(), Ordering::Relaxed);
            (slow && random.u32(0..4) == 0).then(|| Duration::from_millis(random.u64(1..60)))
        };
        if read(&mut socket, encoding, &mut account, left, pause).await {
            return account;
        }
        world.replayed.fetch_add(1, Ordering::Relaxed);
        if slow {
            // For longer than the short stream remembers.
            tokio::time::sleep(Duration::from_millis(random.u64(..40))).await;
        }
    }
}

async fn publish(world: &World, random: &mut fastrand::Rng) -> History {
    let mut history: History = STREAMS.iter().map(|stream| (*stream, Vec::new())).collect();
    loop {
        let open: Vec<_> =
            STREAMS.into_iter().filter(|stream| (history[stream].len() as u64) < EVENTS).collect();
        if open.is_empty() {
            return history;
        }
        let stream = open[random.usize(..open.len())];
        let keys = history.get_mut(stream).expect("one of them");
        // The thin one comes singly, the busy one in large batches.
        let most = [("busy", 40), ("calm", 8), ("short", 20), ("thin", 2)];
        let most = most.iter().find(|(name, _)| *name == stream).expect("one of them").1;
        let left = usize::try_from(EVENTS).expect("small") - keys.len();
        let batch: Vec<_> = (0..random.usize(1..=most).min(left))
            .map(|_| {
                let seq = keys.len() as u64 + 1;
                // Every filter wants one of the last two.
                let key = match EVENTS - seq {
                    0 => "a",
                    1 => "b",
                    _ => KEYS[random.usize(0..KEYS.len())],
                };
                keys.push(key);
                let data = format!("{stream} {seq} {}", "x".repeat(80));
                EventDraft { key: Some(Key::new(key).expect("valid")), ..EventDraft::new(data) }
            })
            .collect();
        world.log.append(&name(stream), batch).await.expect("appends");
        if random.u32(0..15) == 0 {
            world.log.trim().await.expect("trims");
        }
        if random.u32(0..3) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_event_of_every_stream_is_accounted_for() {
    let seed = std::env::var("EVERGATE_SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("repeat with EVERGATE_SEED={seed} cargo test -p evergate-fanout --test engine several");
    let mut random = fastrand::Rng::with_seed(seed);
    let mut policies = StreamPolicies::open(Retention::FOREVER);
    policies.named.insert(name("short"), Retention { events: Some(60), ..Retention::FOREVER });
    let config = HubConfig {
        ring_events: 100,
        page: ReadLimit { events: 32, bytes: 1 << 20 },
        scan_max: 50,
        ..HubConfig::default()
    };
    let world = world_with(policies, config, false);
    let mut clients = JoinSet::new();
    for n in 0..CLIENTS {
        clients.spawn(client(Arc::clone(&world), random.fork(), n % 4 == 0));
    }
    let history = publish(&world, &mut random).await;
    let (mut gaps, mut done) = (0, 0);
    while let Some(account) = clients.join_next().await {
        let account = account.expect("no panic");
        account.judge(&history);
        gaps += account.gaps();
        done += 1;
    }
    let (parked, replayed) =
        (world.most_parked.load(Ordering::Relaxed), world.replayed.load(Ordering::Relaxed));
    println!("parked at once {parked}, cut and resumed {replayed}, gaps {gaps}");
    assert_eq!(done, CLIENTS);
    assert!(
        parked > CLIENTS / 4 && replayed > CLIENTS as u64 && gaps > 0,
        "too little happened: {parked} {replayed} {gaps}"
    );
    world.ended().await;
}

/// All that a shard wrote to one connection, cut after every byte: whoever resumes with the id it holds
/// then has missed nothing and is told nothing twice.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_may_be_cut_after_every_byte() {
    const EACH: u64 = 8;
    let world = world(HubConfig::default());
    let streams = set(&["left", "right"]);
    let filters = vec![filter(&["a"]), KeyFilter::all()];
    let begin = Begin::Start(Start::Latest);
    let (mut socket, start) = world.serve(request(&streams, filters.clone(), begin), false, SMALL).await;
    while world.engine.parked() == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for seq in 1..=EACH {
        for stream in ["left", "right"] {
            let key = Key::new(if seq % 3 == 2 { "b" } else { "a" }).expect("valid");
            let draft = EventDraft { key: Some(key), ..EventDraft::new(format!("{stream} {seq}")) };
            world.log.append(&name(stream), vec![draft]).await.expect("appends");
        }
    }
    let mut all = Vec::new();
    let mut whole = Account::new(streams.clone(), vec![]);
    let (mut chunks, mut buffer) = (Chunks::default(), vec![0; 4_096]);
    while !whole.is_done(EACH) {
        let n = socket.read(&mut buffer).await.expect("reads");
        assert!(n > 0);
        let data = chunks.feed(&buffer[..n]);
        all.extend_from_slice(&data);
        whole = heard(&streams, &start, &all).0;
    }
    assert_eq!(world.engine.parked(), 1, "it was not a shard that wrote this");
    let expected = heard(&streams, &start, &all).1;
    assert_eq!(expected.len() as u64, 2 * EACH - 3, "the left one's filter hides some: {expected:?}");
    for cut in 0..=all.len() {
        let (account, mut seen) = heard(&streams, &start, &all[..cut]);
        let begin = account.begin();
        let (mut subscriber, _) =
            world.hub.subscribe(request(&streams, filters.clone(), begin)).await.expect("subscribes");
        let (mut rest, mut after) = (Vec::new(), heard(&streams, &account.last_id, b""));
        while seen.len() + after.1.len() < expected.len() {
            let Next::Bytes(bytes) = subscriber.next().await else { panic!("ended") };
            rest.extend_from_slice(&bytes);
            after = heard(&streams, &account.last_id, &rest);
        }
        seen.extend(after.1);
        let (mut seen, mut expected) = (seen, expected.clone());
        seen.sort();
        expected.sort();
        assert_eq!(seen, expected, "cut after byte {cut}");
    }
    world.ended().await;
}

/// What a client that held this id knows after these bytes, and the events it was shown.
fn heard(streams: &StreamSet, id: &str, bytes: &[u8]) -> (Account, Vec<String>) {
    let mut account = Account::new(streams.clone(), vec![]);
    account.opened(id.to_owned());
    let (mut items, mut shown) = (Vec::new(), Vec::new());
    sse::Decoder::new(1 << 20, id).feed(bytes, &mut items).expect("a valid stream");
    for item in items {
        if let sse::Item::Message(message) = item {
            if message.kind == "message" {
                shown.push(message.data.clone());
            }
            account.take(message);
        }
    }
    (account, shown)
}

/// What a delivery costs, guarded by counts: however many streams a burst is in, it is one send for each
/// who follows them, and what they are sent is laid together once.
#[tokio::test]
async fn a_burst_over_several_streams_costs_one_send_per_subscriber() {
    const SUBSCRIBERS: u64 = 30;
    let world = world(HubConfig::default());
    let streams = set(&STREAMS);
    let mut sockets = Vec::new();
    for _ in 0..SUBSCRIBERS {
        let request = SubscribeRequest {
            heartbeat: (Duration::from_secs(3_600), HeartbeatKind::Comment),
            ..request(&streams, vec![KeyFilter::all(); 4], Begin::Start(Start::Latest))
        };
        sockets.push(world.serve(request, false, SMALL).await);
    }
    while world.engine.parked() < sockets.len() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let before = world.engine.sends();
    for seq in 1..=10 {
        for stream in STREAMS {
            // This log never waits, so on this one thread no shard runs before the last of them.
            let draft = EventDraft::new(format!("{stream} {seq}"));
            world.log.append(&name(stream), vec![draft]).await.expect("appends");
        }
    }
    for (socket, start) in &mut sockets {
        let mut account = Account::new(streams.clone(), vec![]);
        account.opened(start.clone());
        let (mut chunks, mut decoder) = (Chunks::default(), sse::Decoder::new(1 << 20, start));
        let mut buffer = vec![0; 1 << 14];
        while !account.is_done(10) {
            let n = socket.read(&mut buffer).await.expect("reads");
            assert!(n > 0);
            let mut items = Vec::new();
            decoder.feed(&chunks.feed(&buffer[..n]), &mut items).expect("a valid stream");
            for item in items {
                if let sse::Item::Message(message) = item {
                    account.take(message);
                }
            }
        }
    }
    assert_eq!(world.engine.sends() - before, SUBSCRIBERS);
    drop(sockets);
    world.ended().await;
}
