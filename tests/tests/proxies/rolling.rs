//! A rolling restart: two edges with one log, behind nginx as documented. Each edge is told to end in
//! turn while thousands listen and publishers go on; nobody misses an event and nobody gets one twice, and
//! no edge takes connections in faster than it is allowed to.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use evergate_tests::frame::{Frame, Item};
use evergate_tests::http1::Request;
use evergate_tests::ledger::{Demands, Ledger, Traffic, Verdict};
use evergate_tests::offset::{Offset, offset};
use evergate_tests::process::Evergate;
use evergate_tests::proxy::{Product, Proxy, Upstream};
use evergate_tests::redis::{Keeps, RedisServer};
use evergate_tests::subscription::{Next, Subscription};
use evergate_tests::{PATIENCE, size};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::EVENTS;
use crate::admission::Admission;

const STREAM: &str = "s";
/// More by `EVERGATE_ROLLING_SUBSCRIBERS`; each costs three descriptors here and four in nginx.
const SUBSCRIBERS: usize = 2_000;
const ROUNDS: usize = 2;
/// Connections that an edge takes in a second, and at once after a rest: far fewer than come when the
/// other one ends.
const ACCEPTS: u32 = 300;
/// So many connect at the same time at first: a crowd is another test.
const ARRIVE_TOGETHER: usize = 100;
const PUBLISHERS: usize = 2;
/// Between two events of a publisher.
const PUBLISH_EVERY: Duration = Duration::from_millis(200);
const AGAIN_AFTER: Duration = Duration::from_millis(50);
const END_MAX: Duration = Duration::from_secs(20);
/// All that was published must be everywhere so long after the last restart.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);

/// What everybody writes into.
#[derive(Default)]
struct Books {
    ledger: Mutex<Ledger>,
    stop: AtomicBool,
    connections: AtomicUsize,
    live: AtomicUsize,
    busy: AtomicUsize,
    goaways: AtomicUsize,
    cuts: AtomicUsize,
    failed_publishes: AtomicUsize,
}

impl Books {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no one panicked with it")
    }
}

/// A page that lives through it all.
struct Reader {
    name: String,
    last_id: Option<String>,
    retry: Duration,
    books: Arc<Books>,
}

impl Reader {
    /// Reads for ever, coming back through the proxy when it was told to, with the last id.
    async fn run(mut self, proxy: Arc<Proxy>) {
        loop {
            let mut request = Request::get(EVENTS);
            if let Some(id) = &self.last_id {
                request = request.header("Last-Event-ID", id);
            }
            // `Subscription` itself panics at any status but 200.
            let stream = proxy.try_subscribe(&request).await;
            let mut stream = stream.unwrap_or_else(|error| panic!("{}: {error}", self.name));
            self.books.connections.fetch_add(1, Ordering::Relaxed);
            self.read(&mut stream).await;
            tokio::time::sleep(self.retry).await;
        }
    }

    async fn read(&mut self, stream: &mut Subscription) {
        let mut open = false;
        loop {
            match stream.next_within(PATIENCE).await {
                Some(Next::Item(Item::Frame(frame))) => {
                    if frame.event.as_deref() == Some("evergate.open") {
                        open = true;
                        self.books.live.fetch_add(1, Ordering::Relaxed);
                    }
                    self.take(frame);
                }
                Some(Next::Item(Item::Comment(_))) => {}
                Some(Next::End(_)) => break,
                None => panic!("{}: not even a heartbeat", self.name),
            }
        }
        if open {
            self.books.live.fetch_sub(1, Ordering::Relaxed);
            self.books.cuts.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn take(&mut self, frame: Frame) {
        if let Some(ms) = frame.retry {
            self.retry = Duration::from_millis(ms);
        }
        match frame.event.as_deref() {
            Some("evergate.open") => {
                let told = frame.json();
                let cursor = offset(told["cursor"].as_str().expect("a cursor"));
                if self.last_id.is_some() {
                    assert_eq!(told["resume"], "exact", "{} comes back: {told}", self.name);
                    self.books.ledger().resumed(&self.name, STREAM, cursor);
                } else {
                    self.books.ledger().subscribed(&self.name, STREAM, cursor);
                }
            }
            Some("evergate.busy") => {
                self.books.busy.fetch_add(1, Ordering::Relaxed);
            }
            Some("evergate.goaway") => {
                self.books.goaways.fetch_add(1, Ordering::Relaxed);
            }
            Some("evergate.gap") => panic!("{} is told of a loss: {frame:?}", self.name),
            _ if frame.is_event() => {
                self.books.ledger().received(&self.name, STREAM, frame.offset(), &frame.data);
            }
            _ => {}
        }
        self.last_id = frame.id.or(self.last_id.take());
    }
}

/// Publishes through the proxy, each event until it is answered for.
async fn publish(proxy: Arc<Proxy>, books: Arc<Books>, name: String) {
    let mut seq = 0;
    while !books.stop.load(Ordering::Relaxed) {
        seq += 1;
        let text = format!("{name} {seq}");
        books.ledger().attempted_as(STREAM, &name, seq, &text);
        let at = loop {
            match post(&proxy, &name, seq, &text).await {
                Some(at) => break at,
                None => {
                    books.failed_publishes.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
        };
        books.ledger().acknowledged(STREAM, at, &text);
        tokio::time::sleep(PUBLISH_EVERY).await;
    }
}

/// `None` if the proxy or the edge says to try again, or the connection breaks.
async fn post(proxy: &Proxy, name: &str, seq: u64, text: &str) -> Option<Offset> {
    let body = json!({ "data": text, "producer": { "id": name, "seq": seq } }).to_string();
    let answer = proxy.try_call(&Request::post(EVENTS, "application/json", body)).await.ok()?;
    match answer.status() {
        200 => {
            let told: Value = answer.json();
            Some(offset(told["offset"].as_str().expect("an offset")))
        }
        502..=504 => None,
        other => panic!("{other}: {answer:?}"),
    }
}

/// Waits until `done`, while nobody may go home early.
async fn until(tasks: &mut JoinSet<()>, what: &str, within: Duration, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !done() {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        if let Some(ended) = tasks.try_join_next() {
            ended.expect("nobody found anything wrong");
            panic!("somebody went home early");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_and_doubles_nothing() {
    const TEST: &str = "a_rolling_restart_loses_and_doubles_nothing";
    let subscribers = size::of("EVERGATE_ROLLING_SUBSCRIBERS", SUBSCRIBERS);
    let Some(redis) = RedisServer::start(TEST, Keeps::Everything).await else { return };
    let limit = ACCEPTS.to_string();
    let edge = |node| {
        let options = redis.options().set("node", node).set("limits.accepts_per_second", &limit);
        Evergate::start(options)
    };
    let mut servers = [edge("a").await, edge("b").await];
    let behind = servers.each_ref().map(Upstream::of);
    let Some(proxy) = Proxy::start(TEST, Product::Nginx, behind).await else { return };
    let (proxy, books) = (Arc::new(proxy), Arc::<Books>::default());
    let watched = Arc::<AtomicBool>::default();
    let admissions =
        servers.each_ref().map(|server| tokio::spawn(Admission::watch(server.admin(), watched.clone())));

    let mut reading = JoinSet::new();
    for n in 0..subscribers {
        let reader =
            Reader { name: format!("reader-{n}"), last_id: None, retry: AGAIN_AFTER, books: books.clone() };
        reading.spawn(reader.run(proxy.clone()));
        if (n + 1) % ARRIVE_TOGETHER == 0 || n + 1 == subscribers {
            until(&mut reading, "they all listen", PATIENCE, || books.live.load(Ordering::Relaxed) > n).await;
        }
    }
    let mut publishing = JoinSet::new();
    for n in 0..PUBLISHERS {
        publishing.spawn(publish(proxy.clone(), books.clone(), format!("publisher-{n}")));
    }

    let begun = Instant::now();
    for _ in 0..ROUNDS {
        for server in &mut servers {
            let before = books.ledger().totals().acknowledged;
            server.terminate();
            books.ledger().injected();
            let status = server.ended(END_MAX).await;
            assert!(status.success(), "an edge that is told to end ends well: {status}");
            server.restart().await;
            // The other one carries everybody, and events go on, before it is its turn.
            until(&mut reading, "everybody listens again", CATCH_UP_MAX, || {
                books.live.load(Ordering::Relaxed) == subscribers
                    && books.ledger().totals().acknowledged > before + PUBLISHERS
            })
            .await;
        }
    }
    let took = begun.elapsed();

    books.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = publishing.join_next().await {
        ended.expect("a publisher found nothing wrong");
    }
    let published = books.ledger().totals().acknowledged;
    let demands = Demands {
        traffic: Traffic { acknowledged: 20, received: published * subscribers },
        // Both edges ended at least once under everybody they had.
        resumes: subscribers,
        injected: ROUNDS * servers.len(),
    };
    let everything = || books.ledger().totals().received == published * subscribers;
    // What was lost never comes: then the ledger says which it was.
    let deadline = Instant::now() + CATCH_UP_MAX;
    while !everything() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    reading.shutdown().await;
    watched.store(true, Ordering::Relaxed);
    let (mut accepted, mut paused) = (0.0, 0.0);
    for admission in admissions {
        let (here, pauses) = admission.await.expect("it only looks").check(f64::from(ACCEPTS));
        accepted += here;
        paused += pauses;
    }
    assert!(paused >= 1.0, "nobody ever had to wait, so the limit was not shown to hold");
    let verdict: Verdict = books.ledger().judge_run(demands);
    let totals = verdict.expect_sound();
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    let (cuts, goaways) = (count(&books.cuts), count(&books.goaways));
    assert_eq!(goaways, cuts, "every stream that was ended was told so");
    println!(
        "{} restarts in {took:.1?}, {subscribers} subscribers: {totals:?}, {} connections, {cuts} streams ended, \
         {} times busy, {} publishes tried again; {accepted} connections accepted, {paused} waits for the rate",
        ROUNDS * servers.len(),
        count(&books.connections),
        count(&books.busy),
        count(&books.failed_publishes),
    );
}
