//! `kill -9`, over and over, under load. The ledger judges: no acknowledged event is lost, none is
//! doubled, order is kept.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use evergate_tests::http1::Request;
use evergate_tests::ledger::{Ledger, Traffic};
use evergate_tests::offset::Offset;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{
    PublishCall, PublishStreamRequest, Publisher, event, produced, published, request,
};
use evergate_tests::subscription::{Next, Subscription};

const ROUNDS: usize = 60;
const STREAMS: [&str; 3] = ["alpha", "beta", "gamma"];
const PUBLISHERS: usize = 3;
const SUBSCRIBERS_PER_STREAM: usize = 2;
/// Events of one publisher that await their answer: what a kill can catch under way.
const WINDOW: usize = 128;
/// Acknowledged in each round before the kill.
const ROUND_MIN: usize = 150;
const RESTART_MAX: Duration = Duration::from_secs(5);
const AGAIN_AFTER: Duration = Duration::from_millis(10);

/// The tests that need the machine's disk and cores to themselves take turns.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// What everybody writes into.
#[derive(Default)]
struct Books {
    ledger: Mutex<Ledger>,
    stop: AtomicBool,
    /// Calls that broke with answers outstanding.
    broken: AtomicUsize,
    /// Retries that turned out to have been stored before.
    retries_found: AtomicUsize,
    gaps: AtomicUsize,
}

impl Books {
    fn ledger(&self) -> std::sync::MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no one panicked with it")
    }

    fn acknowledged(&self) -> usize {
        self.ledger().totals().acknowledged
    }
}

/// One publisher: keeps what it has no answer for, and says it again on the next call.
struct Source {
    name: String,
    seq: u64,
    unanswered: VecDeque<PublishStreamRequest>,
    /// How many of them were sent on this call.
    sent: usize,
}

impl Source {
    fn new(name: String) -> Self {
        Self { name, seq: 0, unanswered: VecDeque::new(), sent: 0 }
    }

    /// Publishes until told to stop and everything is answered.
    async fn run(mut self, address: SocketAddr, books: Arc<Books>) {
        loop {
            self.sent = 0;
            if let Ok(mut call) = open(address).await {
                if self.converse(&mut call, &books).await {
                    return;
                }
                if !self.unanswered.is_empty() {
                    books.broken.fetch_add(1, Ordering::Relaxed);
                }
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// Sends and hears answers until the call breaks (`false`), or all is done (`true`).
    async fn converse(&mut self, call: &mut PublishCall, books: &Books) -> bool {
        let requests = call.sender();
        loop {
            let stop = books.stop.load(Ordering::Relaxed);
            if stop && self.unanswered.is_empty() {
                return true;
            }
            if !stop && self.sent == self.unanswered.len() && self.sent < WINDOW {
                self.invent(books);
            }
            tokio::select! {
                place = requests.reserve(), if self.sent < self.unanswered.len() => {
                    let Ok(place) = place else { return false };
                    place.send(self.unanswered[self.sent].clone());
                    self.sent += 1;
                }
                answer = call.answer(), if self.sent > 0 => {
                    let Ok(Some(answer)) = answer else { return false };
                    let asked = self.unanswered.pop_front().expect("no answer without a request");
                    self.sent -= 1;
                    assert_eq!(answer.correlation, asked.correlation, "answers come in order");
                    let (offset, duplicate) = published(&answer);
                    books.retries_found.fetch_add(usize::from(duplicate), Ordering::Relaxed);
                    let text = &asked.event.expect("we sent one").data;
                    books.ledger().acknowledged(&asked.stream, offset, text);
                }
            }
        }
    }

    /// Thinks of one more event.
    fn invent(&mut self, books: &Books) {
        self.seq += 1;
        let stream = STREAMS[usize::try_from(self.seq).expect("small") % STREAMS.len()];
        let filler = "x".repeat(fastrand::usize(0..400));
        let text = format!("{} {} {filler}", self.name, self.seq);
        books.ledger().attempted(stream, &text);
        self.unanswered.push_back(request(stream, self.seq, produced(&self.name, self.seq, text)));
    }
}

async fn open(address: SocketAddr) -> Result<PublishCall, ()> {
    let publisher = Publisher::try_connect(address).await.map_err(drop)?;
    publisher.open().await.map_err(drop)
}

/// One subscriber: reads for ever, resuming where it was.
async fn read(address: SocketAddr, name: String, stream: &'static str, books: Arc<Books>) {
    let beginning = Offset::new(0, 0);
    books.ledger().subscribed(&name, stream, beginning);
    let mut last_id = None;
    loop {
        let mut request = Request::get(&format!("/v1/streams/{stream}/events?from=earliest"));
        if let Some(id) = &last_id {
            request = request.header("Last-Event-ID", id);
        }
        let Ok(mut subscription) = Subscription::try_request(address, &request).await else {
            tokio::time::sleep(AGAIN_AFTER).await;
            continue;
        };
        while let Next::Item(item) = subscription.next().await {
            let evergate_tests::frame::Item::Frame(frame) = item else { continue };
            if frame.is_event() {
                books.ledger().received(&name, stream, frame.offset(), &frame.data);
            }
            books
                .gaps
                .fetch_add(usize::from(frame.event.as_deref() == Some("evergate.gap")), Ordering::Relaxed);
            last_id = frame.id.or(last_id);
        }
    }
}

/// Waits until `done`, which some other task will bring about.
async fn wait_until(what: &str, within: Duration, done: impl Fn() -> bool) {
    let deadline = Instant::now() + within;
    while !done() {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_the_process_is_killed() {
    let _alone = ALONE.lock().await;
    let mut server = Evergate::start(Options::disk().set("sse.heartbeat", "1s")).await;
    let books = Arc::new(Books::default());
    let mut publishers = tokio::task::JoinSet::new();
    let mut subscribers = tokio::task::JoinSet::new();
    for n in 0..PUBLISHERS {
        publishers.spawn(Source::new(format!("publisher-{n}")).run(server.grpc(), books.clone()));
    }
    for stream in STREAMS {
        for n in 0..SUBSCRIBERS_PER_STREAM {
            subscribers.spawn(read(server.http(), format!("subscriber-{n}"), stream, books.clone()));
        }
    }

    let mut slowest = Duration::ZERO;
    for round in 0..ROUNDS {
        let enough = books.acknowledged() + ROUND_MIN;
        wait_until("events are acknowledged", Duration::from_secs(30), || books.acknowledged() >= enough)
            .await;
        // Not always at the same place of whatever the server does in turns.
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..60))).await;
        server.kill();
        let took = server.restart().await;
        assert!(took < RESTART_MAX, "start {} took {took:?}", round + 2);
        slowest = slowest.max(took);
    }

    books.stop.store(true, Ordering::Relaxed);
    let drained =
        async { while publishers.join_next().await.transpose().expect("a publisher ends well").is_some() {} };
    tokio::time::timeout(Duration::from_secs(60), drained).await.expect("everything is answered in the end");
    let expected = books.acknowledged() * SUBSCRIBERS_PER_STREAM;
    // What was lost never comes: then the ledger says which it was.
    let deadline = Instant::now() + Duration::from_secs(30);
    while books.ledger().totals().received < expected && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(20)).await;
        if let Some(ended) = subscribers.try_join_next() {
            ended.expect("a subscriber found nothing wrong");
        }
    }
    subscribers.shutdown().await;

    let at_least =
        Traffic { acknowledged: ROUNDS * ROUND_MIN, received: ROUNDS * ROUND_MIN * SUBSCRIBERS_PER_STREAM };
    let totals = books.ledger().judge(at_least).expect_sound();
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    assert_eq!(count(&books.gaps), 0, "a durable log has nothing to excuse");
    assert!(count(&books.broken) >= ROUNDS, "kills caught only {} calls at work", count(&books.broken));
    println!(
        "{ROUNDS} kills: {totals:?}, {} calls broken with answers outstanding, {} retries had been stored, slowest restart {slowest:?}",
        count(&books.broken),
        count(&books.retries_found),
    );
}

#[tokio::test]
async fn a_large_log_starts_again_quickly() {
    let _alone = ALONE.lock().await;
    let mut server = Evergate::start(Options::disk()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let filler = "x".repeat(500);
    for batch in 0..100 {
        let stream = STREAMS[batch % STREAMS.len()];
        let events = (0..1000).map(|n| event(format!("{batch} {n} {filler}"))).collect();
        publisher.try_batch(stream, events).await.expect("the batch is taken");
    }
    server.kill();
    let took = server.restart().await;
    assert!(took < RESTART_MAX, "{took:?}");
    // The last batch of this stream was batch 99, its last event number 999.
    let begun = Instant::now();
    let mut stream = Subscription::open(server.http(), "/v1/streams/alpha/events?from=-1").await;
    stream.opened().await;
    let last = stream.event().await;
    assert_eq!(last.data, format!("99 999 {filler}"));
    assert_eq!(last.offset().seq, 34_000);
    println!("100,000 events of 500 bytes: started in {took:?}, first event {:?} later", begun.elapsed());
}

#[tokio::test]
async fn two_processes_never_share_a_log() {
    let first = Evergate::start(Options::disk()).await;
    let folder = first.log_folder();
    let why = Evergate::refusal(Options::disk_at(&folder)).await;
    assert!(why.contains(&*folder.to_string_lossy()), "it says which log is in use: {why}");
    let publisher = Publisher::connect(first.grpc()).await;
    publisher.publish("s", event("undisturbed")).await;
}
