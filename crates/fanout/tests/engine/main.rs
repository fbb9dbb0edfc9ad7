//! The engine with real sockets: slow readers, filters, cuts at any byte, a ring so small that
//! connections wander between shard and task all the time. Each client accounts for every event.

#[path = "../gunzip/mod.rs"]
mod gunzip;
mod keys;
mod secured;
mod several;
mod slow;
mod time;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use evergate_domain::{
    Cursor, EventDraft, Key, KeyFilter, KeyPattern, Offset, Retention, RetryRange, Start, StreamName,
    StreamPolicies, StreamSet, sse,
};
use evergate_eventlog::{EventLog, MemoryLog, ReadLimit, SystemClock};
use evergate_fanout::{
    Begin, Encoding, End, Engine, Farewell, Framing, Guard, Handover, HeartbeatKind, Hub, HubConfig,
    SubscribeRequest,
};
use evergate_tls::Session;
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use gunzip::Gunzip;

const EVENTS: u64 = 4_000;
const CLIENTS: usize = 40;
const KEYS: [&str; 3] = ["a", "b", "c"];
/// A send buffer that makes readers slow at once.
const SMALL: usize = 4 << 10;

/// Counts the connections that are still held.
struct Held {
    cut: CancellationToken,
    open: Arc<AtomicUsize>,
    abort: bool,
}

impl Guard for Held {
    fn farewell(&self, _: End, _: &Cursor) -> Farewell {
        let mut bytes = Vec::new();
        sse::Goaway { reason: "test", retry_ms: 1 }.write_to(&mut bytes);
        Farewell { bytes: bytes.into(), abort: self.abort }
    }

    fn cut(&self) -> &CancellationToken {
        &self.cut
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

struct World {
    hub: Hub,
    engine: Engine,
    log: Arc<dyn EventLog>,
    open: Arc<AtomicUsize>,
    serving: tokio::sync::Mutex<JoinSet<()>>,
    most_parked: AtomicUsize,
    replayed: AtomicU64,
    /// How often somebody was told anew when to come back.
    retries: AtomicU64,
    tls: Option<secured::Secured>,
}

fn name() -> StreamName {
    StreamName::new("s").expect("valid")
}

fn streams() -> StreamSet {
    set(&["s"])
}

fn set(names: &[&str]) -> StreamSet {
    let names = names.iter().map(|name| StreamName::new(name).expect("valid"));
    StreamSet::new(names.collect()).expect("some")
}

fn world(config: HubConfig) -> Arc<World> {
    world_with(StreamPolicies::open(Retention::FOREVER), config, false)
}

fn world_with(policies: StreamPolicies, config: HubConfig, tls: bool) -> Arc<World> {
    let log = Arc::new(MemoryLog::new(Arc::new(policies), Arc::new(SystemClock)));
    world_over(log, config, tls)
}

fn world_over(log: Arc<dyn EventLog>, config: HubConfig, tls: bool) -> Arc<World> {
    world_of(log, config, tls, 2)
}

fn world_of(log: Arc<dyn EventLog>, config: HubConfig, tls: bool, shards: usize) -> Arc<World> {
    let hub = Hub::new(Arc::clone(&log), config);
    Arc::new(World {
        engine: Engine::start(&hub, shards),
        hub,
        log,
        open: Arc::default(),
        serving: tokio::sync::Mutex::default(),
        most_parked: AtomicUsize::new(0),
        replayed: AtomicU64::new(0),
        retries: AtomicU64::new(0),
        tls: tls.then(secured::Secured::new),
    })
}

impl World {
    async fn open(&self, begin: Begin, filter: KeyFilter, heartbeat: Duration) -> (TcpStream, String) {
        self.open_as(Encoding::Identity, begin, filter, heartbeat, false, SMALL).await
    }

    /// A connected pair whose server end is the engine's. Small buffers make readers slow at once.
    async fn open_as(
        &self,
        encoding: Encoding,
        begin: Begin,
        filter: KeyFilter,
        heartbeat: Duration,
        abort: bool,
        buffer: usize,
    ) -> (TcpStream, String) {
        let request = SubscribeRequest {
            streams: streams(),
            filters: [filter].into(),
            begin,
            framing: Framing::Plain,
            encoding,
            heartbeat: (heartbeat, HeartbeatKind::Comment),
        };
        self.serve(request, abort, buffer).await
    }

    async fn serve(&self, request: SubscribeRequest, abort: bool, buffer: usize) -> (TcpStream, String) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let (client, server) = tokio::join!(TcpStream::connect(address), listener.accept());
        let (client, (socket, _)) = (client.expect("connects"), server.expect("accepts"));
        socket2::SockRef::from(&socket).set_send_buffer_size(buffer).expect("a small buffer");
        socket2::SockRef::from(&client).set_recv_buffer_size(buffer).expect("a small buffer");
        let (client, socket, session) = match &self.tls {
            None => (client, socket, None),
            Some(tls) => {
                let (client, socket, session) = tls.over(client, socket).await;
                (client, socket, Some(session))
            }
        };
        (client, self.hand_over(request, abort, socket, session).await)
    }

    /// Gives the engine a connection, and tells where it begins.
    async fn hand_over(
        &self,
        request: SubscribeRequest,
        abort: bool,
        socket: TcpStream,
        session: Option<Session>,
    ) -> String {
        let (subscriber, opening) = self.hub.subscribe(request).await.expect("subscribes");
        self.open.fetch_add(1, Ordering::SeqCst);
        let guard = Box::new(Held { cut: CancellationToken::new(), open: Arc::clone(&self.open), abort });
        let engine = self.engine.clone();
        let first = Bytes::from_static(b": hello\n");
        let handover = Handover { socket, session, first, subscriber, guard };
        self.serving.lock().await.spawn(async move { engine.serve(handover).await });
        opening.cursor
    }

    async fn ended(&self) {
        self.hub.stop(Duration::ZERO);
        self.log.close().await;
        self.engine.emptied().await;
        self.hub.stopped().await;
        while self.serving.lock().await.join_next().await.is_some() {}
        assert_eq!(self.open.load(Ordering::SeqCst), 0, "a connection is still held");
        assert_eq!(self.engine.parked(), 0);
    }
}

/// Undoes chunked framing and the encoding, strictly.
#[derive(Default)]
struct Chunks {
    raw: Vec<u8>,
    ended: bool,
    gunzip: Option<Gunzip>,
}

impl Chunks {
    fn of(encoding: Encoding) -> Self {
        Self { gunzip: (encoding == Encoding::Gzip).then(Gunzip::new), ..Self::default() }
    }

    /// The last chunk has come, and the body in the chunks is whole too.
    fn is_whole(&self) -> bool {
        self.ended && self.gunzip.as_ref().is_none_or(Gunzip::is_whole)
    }

    fn feed(&mut self, bytes: &[u8]) -> Vec<u8> {
        self.raw.extend_from_slice(bytes);
        let mut data = Vec::new();
        while let Some(line) = self.raw.windows(2).position(|pair| pair == b"\r\n") {
            let size = std::str::from_utf8(&self.raw[..line]).expect("a size line");
            let size = usize::from_str_radix(size, 16).expect("a size");
            if self.raw.len() < line + 2 + size + 2 {
                break;
            }
            assert_eq!(&self.raw[line + 2 + size..line + 4 + size], b"\r\n", "a chunk's end");
            let chunk = &self.raw[line + 2..line + 2 + size];
            match &mut self.gunzip {
                Some(gunzip) if size > 0 => data.extend(gunzip.feed_whole(chunk)),
                Some(_) | None => data.extend_from_slice(chunk),
            }
            self.raw.drain(..line + 4 + size);
            self.ended = size == 0;
        }
        data
    }
}

struct Client {
    random: fastrand::Rng,
    patterns: Vec<&'static str>,
    slow: bool,
    encoding: Encoding,
}

impl Client {
    fn filter(&self) -> KeyFilter {
        self.patterns.iter().map(|pattern| KeyPattern::parse(pattern).expect("valid")).collect()
    }

    /// Reads until the last event, cut and resumed on the way. Gives the sequences seen, and the
    /// connection with what was read of it.
    async fn run(mut self, world: Arc<World>) -> (Vec<u64>, TcpStream, Chunks) {
        let mut seen = Vec::new();
        let mut last_id = String::new();
        loop {
            let begin = match last_id.parse::<Offset>() {
                Ok(offset) => Begin::Resume(Cursor::new(&streams(), vec![offset])),
                Err(_) => Begin::Start(Start::Earliest),
            };
            let beat = Duration::from_millis(700);
            let (mut socket, opened_at) =
                world.open_as(self.encoding, begin, self.filter(), beat, false, SMALL).await;
            if last_id.is_empty() {
                last_id = opened_at;
            }
            let (mut chunks, mut decoder) = (Chunks::of(self.encoding), sse::Decoder::new(1 << 20, &last_id));
            let mut left = if self.random.u32(0..3) == 0 { usize::MAX } else { self.random.usize(1..60_000) };
            let mut buffer = vec![0; 3_000];
            while left > 0 {
                if self.slow && self.random.u32(0..4) == 0 {
                    tokio::time::sleep(Duration::from_millis(self.random.u64(1..60))).await;
                }
                let want = self.random.usize(1..buffer.len()).min(left);
                let n = socket.read(&mut buffer[..want]).await.expect("reads");
                assert!(n > 0, "ended by the server at {last_id}");
                left -= n;
                let mut items = Vec::new();
                decoder.feed(&chunks.feed(&buffer[..n]), &mut items).expect("a valid stream");
                for item in items {
                    let message = match item {
                        sse::Item::Message(message) => message,
                        sse::Item::Retry(_) => {
                            world.retries.fetch_add(1, Ordering::Relaxed);
                            continue;
                        }
                        sse::Item::Comment(_) | sse::Item::Position(_) => continue,
                    };
                    last_id.clone_from(&message.last_event_id);
                    let seq = last_id.parse::<Offset>().expect("an offset").seq.get();
                    match message.kind.as_str() {
                        "message" => {
                            assert_eq!(message.data, format!("event {seq} {}", "x".repeat(80)));
                            seen.push(seq);
                        }
                        "evergate.cursor" => {}
                        other => panic!("unexpected {other}: {}", message.data),
                    }
                    if seq == EVENTS {
                        return (seen, socket, chunks);
                    }
                }
                world.most_parked.fetch_max(world.engine.parked(), Ordering::Relaxed);
            }
            world.replayed.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_client_gets_every_event_once_and_in_order() {
    everybody_accounts_for_every_event(world).await;
}

#[expect(clippy::print_stdout, reason = "shown when a test fails, or when asked")]
async fn everybody_accounts_for_every_event(world: fn(HubConfig) -> Arc<World>) {
    let seed = std::env::var("EVERGATE_SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("repeat with EVERGATE_SEED={seed} cargo test -p evergate-fanout --test engine");
    let mut random = fastrand::Rng::with_seed(seed);
    let world = world(HubConfig {
        ring_events: 200,
        page: ReadLimit { events: 32, bytes: 1 << 20 },
        scan_max: 50,
        ..HubConfig::default()
    });
    let mut clients = JoinSet::new();
    let mut filters = HashMap::new();
    for n in 0..CLIENTS {
        let patterns = [vec![], vec!["a"], vec!["b", "c*"]][random.usize(0..3)].clone();
        filters.insert(n, patterns.clone());
        let encoding = if random.bool() { Encoding::Gzip } else { Encoding::Identity };
        let client = Client { random: random.fork(), patterns, slow: n % 4 == 0, encoding };
        let world = Arc::clone(&world);
        clients.spawn(async move { (n, client.run(world).await) });
    }
    let mut keys = Vec::new();
    while (keys.len() as u64) < EVENTS {
        let left = usize::try_from(EVENTS).expect("small") - keys.len();
        let batch: Vec<_> = (0..random.usize(1..20).min(left))
            .map(|_| {
                // The last one is everybody's.
                let all = keys.len() as u64 + 1 == EVENTS;
                let key = if all { "a" } else { KEYS[random.usize(0..KEYS.len())] };
                keys.push(key);
                let data = format!("event {} {}", keys.len(), "x".repeat(80));
                EventDraft { key: Some(Key::new(key).expect("valid")), ..EventDraft::new(data) }
            })
            .collect();
        world.log.append(&name(), batch).await.expect("appends");
        if random.u32(0..40) == 0 {
            // Wherever they are, they are told so between two frames.
            let longest = Duration::from_secs(random.u64(1..1_000));
            world.hub.retries().set(RetryRange::new(Duration::ZERO, longest).expect("in order"));
            world.hub.retries().tell();
        }
        if random.u32(0..3) == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    let mut still_open = Vec::new();
    while let Some(done) = clients.join_next().await {
        let (n, (seen, socket, chunks)) = done.expect("no panic");
        still_open.push((socket, chunks));
        let filter: KeyFilter = filters[&n].iter().map(|p| KeyPattern::parse(p).expect("valid")).collect();
        let wanted = |key: &str| filter.matches(Some(&Key::new(key).expect("valid")));
        let mut expected: Vec<u64> =
            (1..=EVENTS).zip(&keys).filter(|(_, key)| wanted(key)).map(|(n, _)| n).collect();
        if !wanted("a") {
            // It learns of the end by a position, not by an event.
            expected.retain(|seq| *seq < EVENTS);
        }
        assert_eq!(seen, expected, "client {n}");
    }
    let (parked, replayed) =
        (world.most_parked.load(Ordering::Relaxed), world.replayed.load(Ordering::Relaxed));
    let retries = world.retries.load(Ordering::Relaxed);
    println!("parked at once {parked}, cut and resumed {replayed}, told {retries} times when to come back");
    assert!(retries > 0, "nobody was told when to come back");
    assert!(parked > CLIENTS / 4 && replayed > CLIENTS as u64, "too little happened: {parked} {replayed}");
    // However they wandered, the sum of each body is right in the end.
    world.hub.stop(Duration::ZERO);
    for (mut socket, mut chunks) in still_open {
        let mut rest = Vec::new();
        socket.read_to_end(&mut rest).await.expect("a clean end");
        let last = chunks.feed(&rest);
        assert!(chunks.is_whole() && last.ends_with(b"\n\n"), "{:?}", String::from_utf8_lossy(&last));
    }
    world.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn quiet_streams_beat_and_a_client_that_leaves_is_let_go() {
    quiet_streams(world).await;
}

async fn quiet_streams(world: fn(HubConfig) -> Arc<World>) {
    let world = world(HubConfig::default());
    let mut sockets = Vec::new();
    for _ in 0..20 {
        let begin = Begin::Start(Start::Latest);
        sockets.push(world.open(begin, KeyFilter::all(), Duration::from_millis(600)).await.0);
    }
    for socket in &mut sockets {
        let (mut chunks, mut data) = (Chunks::default(), Vec::new());
        let mut buffer = [0; 256];
        while data.windows(2).filter(|bytes| bytes == b":\n").count() < 2 {
            let n = socket.read(&mut buffer).await.expect("reads");
            assert!(n > 0);
            data.extend(chunks.feed(&buffer[..n]));
        }
        assert_eq!(data, b": hello\n:\n:\n");
    }
    assert_eq!(world.engine.parked(), 20);
    drop(sockets);
    // The shards see the ends by themselves, without anything being sent.
    tokio::time::timeout(Duration::from_secs(20), async {
        while world.open.load(Ordering::SeqCst) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("every record is given back");
    world.ended().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_end_with_their_last_words_even_when_they_are_parked() {
    last_words(world).await;
}

async fn last_words(world: fn(HubConfig) -> Arc<World>) {
    for encoding in [Encoding::Identity, Encoding::Gzip] {
        for abort in [false, true] {
            let world = world(HubConfig::default());
            let begin = Begin::Start(Start::Latest);
            let beat = Duration::from_secs(15);
            let mut socket = world.open_as(encoding, begin, KeyFilter::all(), beat, abort, SMALL).await.0;
            while world.engine.parked() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            world.log.append(&name(), vec![EventDraft::new("one")]).await.expect("appends");
            world.hub.stop(Duration::from_millis(100));
            let mut all = Vec::new();
            socket.read_to_end(&mut all).await.expect("a clean end");
            drop(socket);
            let mut chunks = Chunks::of(encoding);
            let data = String::from_utf8(chunks.feed(&all)).expect("UTF-8");
            assert!(data.contains("data: one\n") && data.contains("event: evergate.goaway"), "{data}");
            assert_eq!((chunks.ended, chunks.is_whole()), (!abort, !abort));
            let trailer = chunks.gunzip.is_none_or(|gunzip| gunzip.is_whole() != abort);
            assert!(trailer, "an end that is to look cut short looks whole, or the other way round");
            world.ended().await;
        }
    }
}

/// What a delivery costs, guarded by counts: a burst is one send per subscriber, a single event too,
/// and each event is deflated once, whoever wants it so.
#[tokio::test]
async fn a_burst_costs_one_send_per_subscriber_and_one_deflate_per_event() {
    const SUBSCRIBERS: u64 = 50;
    for encoding in [Encoding::Identity, Encoding::Gzip] {
        burst(encoding, SUBSCRIBERS).await;
    }
}

async fn burst(encoding: Encoding, subscribers: u64) {
    let world = world(HubConfig::default());
    let mut sockets = Vec::new();
    for _ in 0..subscribers {
        let (begin, beat) = (Begin::Start(Start::Latest), Duration::from_secs(3_600));
        let socket = world.open_as(encoding, begin, KeyFilter::all(), beat, false, SMALL).await.0;
        sockets.push((socket, Chunks::of(encoding)));
    }
    while world.engine.parked() < sockets.len() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    for (events, last) in [(1, "1"), (64, "65"), (1, "66")] {
        let before = (world.engine.sends(), world.hub.deflated());
        for _ in 0..events {
            // This log never waits, so on this one thread no shard runs before the last of them.
            world.log.append(&name(), vec![EventDraft::new("x".repeat(100))]).await.expect("appends");
        }
        for (socket, chunks) in &mut sockets {
            let (mut data, mut buffer) = (Vec::new(), vec![0; 1 << 14]);
            let end = format!("-{last}\n\n");
            while !data.ends_with(end.as_bytes()) {
                let n = socket.read(&mut buffer).await.expect("reads");
                assert!(n > 0);
                data.extend(chunks.feed(&buffer[..n]));
            }
        }
        assert_eq!(world.engine.sends() - before.0, subscribers, "{events} events");
        let deflated = if encoding == Encoding::Gzip { events } else { 0 };
        assert_eq!(world.hub.deflated() - before.1, deflated, "{events} events");
    }
    drop(sockets);
    world.ended().await;
}
