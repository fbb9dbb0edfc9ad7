//! Everything at once, at random: filters, encodings, one stream or two, small rings, windows of any size,
//! connections that stall, clients that leave at any byte and come back.

use std::time::Duration;

use evergate_domain::{Cursor, Key, KeyFilter, KeyPattern, StreamSet, sse};
use evergate_eventlog::ReadLimit;
use evergate_fanout::{Begin, Encoding, HubConfig};
use fastrand::Rng;
use tokio::time::{Instant, timeout};

use super::gunzip::Gunzip;
use super::pipe::Client;
use super::{PATIENCE, Wish, World, named};

const EVENTS: usize = 3_000;
const READERS: usize = 30;
const KEYS: [&str; 3] = ["a", "b", "c"];

/// One client over all its connections.
struct Reader {
    streams: Vec<&'static str>,
    patterns: Vec<&'static str>,
    encoding: Encoding,
    /// Whether it hardly ever gives room.
    starved: bool,
    last_id: String,
    seen: Vec<usize>,
    connection: Option<Connection>,
}

struct Connection {
    client: Client,
    gunzip: Option<Gunzip>,
    decoder: sse::Decoder,
    /// Bytes after which the client leaves.
    left: usize,
}

impl Reader {
    fn new(random: &mut Rng, n: usize) -> Self {
        Self {
            streams: if n % 5 == 4 { vec!["s", "other"] } else { vec!["s"] },
            patterns: [vec![], vec!["a"], vec!["b", "c*"]][random.usize(0..3)].clone(),
            encoding: if random.bool() { Encoding::Gzip } else { Encoding::Identity },
            starved: n.is_multiple_of(3),
            last_id: String::new(),
            seen: Vec::new(),
            connection: None,
        }
    }

    fn filter(&self) -> KeyFilter {
        self.patterns.iter().map(|pattern| KeyPattern::parse(pattern).expect("valid")).collect()
    }

    fn wants(&self, key: &str) -> bool {
        self.filter().matches(Some(&Key::new(key).expect("valid")))
    }

    async fn connect(&mut self, world: &mut World, random: &mut Rng) {
        let set = StreamSet::new(self.streams.iter().map(|name| named(name)).collect()).expect("valid");
        let mut wish = Wish { streams: self.streams.clone(), ..Wish::of("s") };
        wish.begin = Begin::Start(evergate_domain::Start::Earliest);
        if !self.last_id.is_empty() {
            wish.begin = Begin::Resume(Cursor::parse(&set, &self.last_id).expect("ours"));
        }
        (wish.filter, wish.encoding, wish.heartbeat) =
            (self.filter(), self.encoding, Duration::from_millis(300));
        let (client, _, cursor) = world.open(wish, random.usize(0..2_000)).await;
        if self.last_id.is_empty() {
            self.last_id = cursor;
        }
        let gunzip = (self.encoding == Encoding::Gzip).then(Gunzip::new);
        let decoder = sse::Decoder::new(1 << 20, &self.last_id);
        let left = if random.u32(0..3) == 0 { usize::MAX } else { random.usize(1..60_000) };
        self.connection = Some(Connection { client, gunzip, decoder, left });
    }

    /// Reads what came, and leaves if it is time.
    fn read(&mut self) {
        let Some(connection) = &mut self.connection else { return };
        assert_eq!(connection.client.ended(), None, "ended by the server at {}", self.last_id);
        let mut bytes = connection.client.read();
        bytes.truncate(connection.left);
        connection.left -= bytes.len();
        let plain = match &mut connection.gunzip {
            Some(gunzip) => gunzip.feed(&bytes),
            None => bytes,
        };
        let mut items = Vec::new();
        connection.decoder.feed(&plain, &mut items).expect("a valid stream");
        for item in items {
            let sse::Item::Message(message) = item else { continue };
            self.last_id.clone_from(&message.last_event_id);
            match message.kind.as_str() {
                "message" => {
                    self.seen.push(message.data.split(' ').next().expect("a number").parse().expect("one"));
                }
                "evergate.cursor" => {}
                other => panic!("unexpected {other}: {}", message.data),
            }
        }
        if connection.left == 0 {
            connection.client.leave();
            self.connection = None;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_client_gets_every_event_once_and_in_order() {
    let seed = std::env::var("EVERGATE_SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("repeat with EVERGATE_SEED={seed} cargo test -p evergate-fanout --test bundle");
    let mut random = Rng::with_seed(seed);
    let mut world = World::new(HubConfig {
        ring_events: 100,
        page: ReadLimit { events: 32, bytes: 1 << 20 },
        scan_max: 50,
        ..HubConfig::default()
    });
    let mut readers: Vec<_> = (0..READERS).map(|n| Reader::new(&mut random, n)).collect();
    let (mut keys, mut resumed) = (Vec::new(), 0);
    let mut settled_at = None;
    let mut begun = Instant::now();
    loop {
        for _ in 0..random.usize(0..12).min(EVENTS - keys.len()) {
            let key = KEYS[random.usize(0..KEYS.len())];
            world.publish("s", Some(key), format!("{} {}", keys.len(), "x".repeat(80))).await;
            keys.push(key);
        }
        // When all is published, everybody reads what is left.
        let over = keys.len() == EVENTS;
        if over && settled_at.is_none() {
            settled_at = Some(Instant::now());
            begun = Instant::now();
        }
        for reader in &mut readers {
            if reader.connection.is_none() {
                resumed += usize::from(!reader.last_id.is_empty());
                reader.connect(&mut world, &mut random).await;
            }
            let gives = over || !reader.starved || random.u32(0..40) == 0;
            if let Some(connection) = reader.connection.as_ref().filter(|_| gives) {
                connection.client.grant(random.usize(1..if over { 60_000 } else { 3_000 }));
            }
            reader.read();
        }
        let open = over || random.u32(0..8) > 0;
        world.bundle.turn(open);
        let _ = timeout(Duration::from_millis(random.u64(0..3)), world.bundle.news(open)).await;
        let owed = |reader: &Reader| {
            (0..keys.len()).filter(|&n| reader.wants(keys[n])).eq(reader.seen.iter().copied())
        };
        if over && readers.iter().all(owed) {
            break;
        }
        if over && begun.elapsed() > PATIENCE {
            for (n, reader) in readers.iter().enumerate().filter(|(_, reader)| !owed(reader)) {
                let tail = &reader.seen[reader.seen.len().saturating_sub(5)..];
                println!(
                    "reader {n} at {} of {:?} saw {} up to {tail:?}",
                    reader.last_id,
                    reader.streams,
                    reader.seen.len()
                );
            }
            panic!("not everybody was sent what it was owed");
        }
    }
    println!("{resumed} left and came back");
    assert!(resumed > READERS / 3, "too little happened: {resumed}");
}
