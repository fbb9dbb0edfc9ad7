//! A bundle with outlets that give room as they like: windows that stay shut, connections that take
//! nothing, clients that leave at any byte. Each client accounts for every event.

#[path = "../gunzip/mod.rs"]
mod gunzip;
mod keys;
mod model;
mod pipe;
mod places;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use evergate_domain::{
    Cursor, EventDraft, Key, KeyFilter, PackedCursor, Retention, RetryRange, SlowReader, SlowReaders, Start,
    StreamName, StreamPolicies, StreamSet, sse,
};
use evergate_eventlog::{EventLog, MemoryLog, SystemClock};
use evergate_fanout::{
    Begin, Bundle, Encoding, End, Entrant, Farewell, Framing, Guard, HeartbeatKind, Hub, HubConfig,
    SubscribeRequest,
};
use parking_lot::Mutex;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

use pipe::{Client, Ended, Pipe, pipe};

const FIRST: &[u8] = b": hello\n";
const PATIENCE: Duration = Duration::from_secs(20);

fn named(name: &str) -> StreamName {
    StreamName::new(name).expect("valid")
}

/// The positions that a guard was told.
type Passed = Arc<Mutex<Vec<PackedCursor>>>;

/// Counts those that are still held.
struct Held {
    cut: CancellationToken,
    open: Arc<AtomicUsize>,
    abort: bool,
    follows: Option<Passed>,
}

impl Guard for Held {
    fn farewell(&self, end: End, _: &Cursor) -> Farewell {
        let mut bytes = Vec::new();
        // Who was stopped was told before.
        if end != End::Stopped {
            sse::Goaway { reason: "test", retry_ms: 1 }.write_to(&mut bytes);
        }
        Farewell { bytes: bytes.into(), abort: self.abort }
    }

    fn follows(&self) -> bool {
        self.follows.is_some()
    }

    fn passed(&self, position: PackedCursor) {
        self.follows.as_ref().expect("it follows").lock().push(position);
    }

    fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    fn dismissed(&self) -> bool {
        true
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.open.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What a subscriber wants.
struct Wish {
    streams: Vec<&'static str>,
    begin: Begin,
    filter: KeyFilter,
    encoding: Encoding,
    heartbeat: Duration,
    abort: bool,
    follows: Option<Passed>,
}

impl Wish {
    fn of(stream: &'static str) -> Self {
        Self {
            streams: vec![stream],
            begin: Begin::Start(Start::Latest),
            filter: KeyFilter::all(),
            encoding: Encoding::Identity,
            heartbeat: Duration::from_secs(3600),
            abort: false,
            follows: None,
        }
    }
}

struct World {
    hub: Hub,
    log: Arc<dyn EventLog>,
    bundle: Bundle<Pipe>,
    open: Arc<AtomicUsize>,
}

impl World {
    fn new(config: HubConfig) -> Self {
        let policies = Arc::new(StreamPolicies::open(Retention::FOREVER));
        let log: Arc<dyn EventLog> = Arc::new(MemoryLog::new(policies, Arc::new(SystemClock)));
        let hub = Hub::new(Arc::clone(&log), config);
        Self { bundle: Bundle::new(&hub), hub, log, open: Arc::default() }
    }

    async fn open(&mut self, wish: Wish, window: usize) -> (Client, CancellationToken, String) {
        let names = wish.streams.iter().map(|name| named(name)).collect::<Vec<_>>();
        let request = SubscribeRequest {
            filters: vec![wish.filter; names.len()].into(),
            streams: StreamSet::new(names).expect("valid"),
            begin: wish.begin,
            framing: Framing::Plain,
            encoding: wish.encoding,
            heartbeat: (wish.heartbeat, HeartbeatKind::Comment),
        };
        let (subscriber, opening) = self.hub.subscribe(request).await.expect("subscribes");
        let (outlet, client) = pipe(window);
        self.open.fetch_add(1, Ordering::SeqCst);
        let cut = CancellationToken::new();
        let (abort, follows) = (wish.abort, wish.follows);
        let guard = Box::new(Held { cut: cut.clone(), open: Arc::clone(&self.open), abort, follows });
        self.bundle.take_in(Entrant { outlet, first: Bytes::from_static(FIRST), subscriber, guard });
        (client, cut, opening.cursor)
    }

    async fn publish(&self, stream: &str, key: Option<&str>, data: String) {
        let key = key.map(|key| Key::new(key).expect("valid"));
        let draft = EventDraft { key, ..EventDraft::new(data) };
        self.log.append(&named(stream), vec![draft]).await.expect("appends");
    }

    /// Takes turns until no more than so many are held.
    async fn until_there_are(&mut self, held: usize) {
        loop {
            self.bundle.turn(true);
            self.bundle.take_aborted().into_iter().for_each(evergate_fanout::Outlet::reset);
            // Before time passes, as it does while nothing is to be done.
            if self.open.load(Ordering::SeqCst) <= held {
                return;
            }
            self.bundle.news(true).await;
        }
    }

    /// Takes turns until nothing is left to do.
    async fn settle(&mut self) {
        loop {
            self.bundle.turn(true);
            // What is under way, such as a read of the log, gets the time for it.
            if timeout(Duration::from_millis(20), self.bundle.news(true)).await.is_err() {
                return;
            }
        }
    }
}

/// The data of all events in a plain body.
fn data(body: &[u8]) -> Vec<String> {
    let mut items = Vec::new();
    sse::Decoder::new(1 << 20, "").feed(body, &mut items).expect("a valid stream");
    let data = |item| match item {
        sse::Item::Message(message) => Some(message.data),
        sse::Item::Retry(_) | sse::Item::Comment(_) | sse::Item::Position(_) => None,
    };
    items.into_iter().filter_map(data).collect()
}

/// What a delivery costs, counted: one send and one ask for each subscriber, however many they are and
/// whatever stands beside them. A burst costs what one event does.
#[tokio::test]
async fn a_delivery_is_one_send_and_nobody_else_is_looked_at() {
    const MANY: usize = 100;
    let mut world = World::new(HubConfig::default());
    let (mut clients, mut starved) = (Vec::new(), Vec::new());
    for n in 0..MANY {
        clients.push(world.open(Wish::of("s"), usize::MAX >> 1).await.0);
        if n % 4 == 0 {
            starved.push(world.open(Wish::of("s"), FIRST.len()).await.0);
        }
    }
    let quiet = world.open(Wish::of("quiet"), usize::MAX >> 1).await.0;
    world.settle().await;
    let counts = |clients: &[Client]| {
        (clients.iter().map(Client::sends).sum::<usize>(), clients.iter().map(Client::asks).sum::<usize>())
    };
    for burst in [1, 64] {
        let (before, asleep) = (counts(&clients), quiet.asks());
        for n in 0..burst {
            world.publish("s", None, format!("{burst} {n}")).await;
        }
        world.settle().await;
        let after = counts(&clients);
        assert_eq!((after.0 - before.0, after.1 - before.1), (MANY, MANY), "a burst of {burst}");
        assert_eq!(quiet.asks(), asleep);
    }
    // Those without room were asked once, when there was something for them.
    assert!(starved.iter().all(|client| client.sends() == 1 && client.asks() <= 3), "{:?}", counts(&starved));
    for client in &clients {
        assert_eq!(data(&client.read()).len(), 65);
    }
}

#[tokio::test]
async fn while_the_connection_takes_nothing_nothing_is_handed_out() {
    let mut world = World::new(HubConfig::default());
    let (client, ..) = world.open(Wish::of("s"), usize::MAX >> 1).await;
    world.settle().await;
    let before = client.sends();
    for n in 0..200 {
        world.publish("s", None, format!("{n} {}", "x".repeat(1_000))).await;
        world.bundle.turn(false);
        let _ = timeout(Duration::from_millis(1), world.bundle.news(false)).await;
    }
    assert_eq!(client.sends(), before);
    client.read();
    // A turn is bounded, however much there is.
    world.bundle.turn(true);
    let turn = client.read().len();
    assert!(turn > 0 && turn < 128 << 10, "{turn}");
    world.settle().await;
    let rest = client.read();
    assert!(turn + rest.len() > 200_000);
}

#[tokio::test(start_paused = true)]
async fn quiet_ones_beat_and_whoever_takes_nothing_is_let_go_in_time() {
    let stall = Duration::from_secs(5);
    let mut world = World::new(HubConfig { stall, ..HubConfig::default() });
    let beat = || Wish { heartbeat: Duration::from_secs(2), ..Wish::of("s") };
    let (quiet, ..) = world.open(beat(), usize::MAX >> 1).await;
    let (shut, ..) = world.open(beat(), FIRST.len() + 1).await;
    let (several, ..) = world.open(Wish { streams: vec!["s", "t"], ..beat() }, FIRST.len()).await;
    let begun = Instant::now();
    while world.open.load(Ordering::SeqCst) > 1 {
        assert!(begun.elapsed() < Duration::from_secs(30));
        world.bundle.turn(true);
        world.bundle.news(true).await;
    }
    // Two seconds to the first sign of life, five of patience, and what ticks add.
    assert!(begun.elapsed() > stall && begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    assert_eq!((shut.ended(), several.ended()), (Some(Ended::Reset), Some(Ended::Reset)));
    assert_eq!(shut.read(), [FIRST, &b":"[..]].concat(), "as far as there was room");
    let beats = quiet.read().windows(2).filter(|bytes| bytes == b":\n").count();
    assert!((3..=5).contains(&beats), "{beats} in {:?}", begun.elapsed());
    assert_eq!(quiet.ended(), None);
}

/// Streams that go on are told anew when to come back, once, whether they are quiet or never are.
#[tokio::test(start_paused = true)]
async fn news_of_when_to_come_back_reach_every_stream_once() {
    let mut world = World::new(HubConfig::default());
    let beat = |stream| Wish { heartbeat: Duration::from_secs(2), ..Wish::of(stream) };
    let mut clients = Vec::new();
    for n in 0..20 {
        clients.push(world.open(beat(["quiet", "busy"][n % 2]), usize::MAX >> 1).await.0);
    }
    let zipped = Wish { encoding: Encoding::Gzip, ..beat("busy") };
    let (zipped, ..) = world.open(zipped, usize::MAX >> 1).await;
    world.settle().await;
    let told = |body: &[u8]| -> Vec<u64> {
        let mut items = Vec::new();
        sse::Decoder::new(1 << 20, "").feed(body, &mut items).expect("a valid stream");
        let retry = |item| match item {
            sse::Item::Retry(ms) => Some(ms),
            sse::Item::Message(_) | sse::Item::Comment(_) | sse::Item::Position(_) => None,
        };
        items.into_iter().filter_map(retry).collect()
    };
    let retries = world.hub.retries();
    let (mut all, mut gunzip) = (std::collections::HashSet::new(), gunzip::Gunzip::new());
    for (min, max) in [(60, 120), (400, 900)] {
        let range = RetryRange::new(Duration::from_secs(min), Duration::from_secs(max)).expect("in order");
        retries.set(range);
        retries.tell();
        for n in 0..60 {
            world.publish("busy", None, n.to_string()).await;
            let until = Instant::now() + Duration::from_millis(100);
            while let Ok(()) = tokio::time::timeout_at(until, world.bundle.news(true)).await {
                world.bundle.turn(true);
            }
        }
        let bodies = clients.iter().map(Client::read).chain([gunzip.feed_whole(&zipped.read())]);
        for body in bodies.collect::<Vec<_>>() {
            let [retry] = told(&body)[..] else { panic!("{}", String::from_utf8_lossy(&body)) };
            assert!((min * 1_000..=max * 1_000).contains(&retry), "{retry}");
            all.insert(retry);
        }
    }
    assert!(all.len() > 30, "everybody has one of its own: {all:?}");
}

#[tokio::test(start_paused = true)]
async fn whoever_is_dismissed_or_stopped_ends_with_room_or_without() {
    for (abort, encoding) in
        [(false, Encoding::Identity), (true, Encoding::Identity), (false, Encoding::Gzip)]
    {
        let mut world = World::new(HubConfig::default());
        let wish = |stream| Wish { abort, encoding, ..Wish::of(stream) };
        let (roomy, cut_roomy, _) = world.open(wish("s"), usize::MAX >> 1).await;
        let (shut, cut_shut, _) = world.open(wish("s"), 50).await;
        let several = Wish { streams: vec!["s", "t"], ..wish("s") };
        let (shut_several, cut_several, _) = world.open(several, 50).await;
        let (stopped, ..) = world.open(wish("s"), usize::MAX >> 1).await;
        let (stopped_shut, ..) = world.open(wish("s"), 50).await;
        world.settle().await;
        world.publish("s", None, "x".repeat(200)).await;
        world.settle().await;
        let begun = Instant::now();
        for cut in [cut_roomy, cut_shut, cut_several] {
            cut.cancel();
        }
        world.until_there_are(2).await;
        assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
        assert_eq!(shut.ended(), Some(Ended::Reset));
        assert_eq!(shut_several.ended(), Some(Ended::Reset));
        world.hub.stop(Duration::from_secs(1));
        world.until_there_are(0).await;
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
        assert!(world.bundle.is_empty());
        assert_eq!(stopped_shut.ended(), Some(Ended::Reset));
        let how = if abort { Ended::Reset } else { Ended::Clean };
        for client in [roomy, stopped] {
            assert_eq!(client.ended(), Some(how));
            let body = client.read();
            match encoding {
                Encoding::Identity => assert!(body.ends_with(b"\n\n"), "the last words come first"),
                Encoding::Gzip => {
                    let mut gunzip = gunzip::Gunzip::new();
                    let text = gunzip.feed_whole(&body);
                    assert!(gunzip.is_whole() && text.ends_with(b"\n\n"));
                }
            }
        }
    }
}

/// Who is told that the hub ends goes on with its events, is told so once, and ends its lead later.
#[tokio::test(start_paused = true)]
async fn a_stream_goes_on_between_the_news_and_its_end_however_it_is_served() {
    let lead = Duration::from_secs(2);
    // So small a ring that whoever takes a few events at a time has to read from the log.
    let config = HubConfig { goaway_lead: lead, ring_events: 4, ..HubConfig::default() };
    let mut world = World::new(config);
    for n in 0..40 {
        world.publish("s", None, n.to_string()).await;
    }
    let (live, ..) = world.open(Wish::of("s"), usize::MAX >> 1).await;
    let early = || Wish { begin: Begin::Start(Start::Earliest), ..Wish::of("s") };
    let (slow, ..) = world.open(early(), 100).await;
    let (dismissed, cut, _) = world.open(Wish::of("s"), usize::MAX >> 1).await;
    let clients = [live, slow, dismissed];
    world.settle().await;
    world.hub.stop(Duration::from_secs(6));
    let mut bodies = [const { Vec::new() }; 3];
    let (mut news, mut ends) = ([None; 3], [None; 3]);
    let mut n = 40;
    while !world.bundle.is_empty() {
        world.publish("s", None, n.to_string()).await;
        n += 1;
        clients[1].grant(200);
        let until = Instant::now() + Duration::from_millis(100);
        while let Ok(()) = tokio::time::timeout_at(until, world.bundle.news(true)).await {
            world.bundle.turn(true);
        }
        for (at, client) in clients.iter().enumerate() {
            bodies[at].extend(client.read());
            let told = data(&bodies[at]).iter().any(|data| data.contains("shutdown"));
            news[at] = news[at].or(told.then(Instant::now));
            ends[at] = ends[at].or(client.ended().map(|_| Instant::now()));
        }
        if news[2].is_some() {
            cut.cancel();
        }
    }
    // What a slow one was sent before and has not taken yet comes before its news: all of the log at most.
    let backlog = Duration::from_secs(1);
    for at in 0..3 {
        let texts = data(&bodies[at]);
        let told: Vec<_> = (0..texts.len()).filter(|&n| texts[n].contains("reason")).collect();
        assert_eq!(told.len(), 1, "{texts:?}");
        assert!(texts[told[0]].contains("shutdown"), "{texts:?}");
        assert_eq!(clients[at].ended(), Some(Ended::Clean));
        let events: Vec<_> = texts.iter().filter_map(|text| text.parse::<u32>().ok()).collect();
        assert!(events.windows(2).all(|pair| pair[0] + 1 == pair[1]), "{events:?}");
        let (news, end) = (news[at].expect("told"), ends[at].expect("ended"));
        if at < 2 {
            assert!(texts.len() - told[0] > 5, "few events came after the news: {texts:?}");
            let late = Duration::from_millis(200) + if at == 1 { backlog } else { Duration::ZERO };
            assert!(end - news >= lead - late, "{:?}", end - news);
        }
        assert!(end - news <= lead + Duration::from_millis(400), "{:?}", end - news);
    }
}

#[tokio::test]
async fn policies_for_slow_readers_hold_for_shut_windows_and_shut_connections() {
    let named =
        [("latest", SlowReader::Conflate), ("now", SlowReader::Gap), ("never", SlowReader::Disconnect)]
            .map(|(name, policy)| (self::named(name), policy));
    let slow = SlowReaders { named: named.into_iter().collect(), lag_max: 10, ..SlowReaders::default() };
    for shut in [true, false] {
        let mut world = World::new(HubConfig { slow: Arc::new(slow.clone()), ..HubConfig::default() });
        let window = if shut { FIRST.len() } else { usize::MAX >> 1 };
        let mut clients = Vec::new();
        for stream in ["latest", "now", "never", "plain"] {
            clients.push(world.open(Wish::of(stream), window).await.0);
        }
        world.settle().await;
        for n in 0..40 {
            for stream in ["latest", "now", "never", "plain"] {
                world.publish(stream, Some(["a", "b"][n % 2]), n.to_string()).await;
            }
            world.bundle.turn(shut);
        }
        let [latest, now, never, plain] = clients.as_slice() else { unreachable!() };
        assert_eq!(never.ended(), Some(Ended::Reset), "at once, not when it reads again");
        clients.iter().for_each(|client| client.grant(1 << 30));
        world.settle().await;
        let texts = |client: &Client| data(&client.read());
        assert_eq!(texts(plain).len(), 40, "it catches up");
        let (latest, now) = (texts(latest), texts(now));
        assert_eq!(latest[latest.len() - 2..], ["38", "39"]);
        assert!(latest.len() <= 6, "{latest:?}");
        let gap = now.last().expect("a notice");
        assert!(gap.contains("\"reason\":\"slow\"") && now.len() <= 3, "{now:?}");
    }
}

#[tokio::test]
async fn a_client_that_leaves_is_forgotten_at_once_whatever_it_waited_for() {
    let mut world = World::new(HubConfig::default());
    let mut clients = Vec::new();
    for streams in [vec!["s"], vec!["s", "t"]] {
        for window in [0, 4, usize::MAX >> 1] {
            let wish = Wish { streams: streams.clone(), ..Wish::of("s") };
            clients.push(world.open(wish, window).await.0);
        }
    }
    world.settle().await;
    clients.iter().for_each(Client::leave);
    world.settle().await;
    assert!(world.bundle.is_empty());
    assert_eq!((world.open.load(Ordering::SeqCst), world.hub.feeds()), (0, 0));
}
