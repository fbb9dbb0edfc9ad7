//! Publishers that say everything again under the same numbers until it is answered, subscribers that
//! come back with what they hold, and the books both write into.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use evergate_tests::PATIENCE;
use evergate_tests::frame::{Frame, Item};
use evergate_tests::http1::{Body, Connection, Request};
use evergate_tests::ledger::{Ledger, Totals, Traffic, Verdict};
use evergate_tests::offset::{Offset, offset};
use evergate_tests::process::Evergate;
use evergate_tests::publisher::{Publisher, produced};
use evergate_tests::subscription::{Next, Subscription};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tonic::Code;

pub(crate) const STREAMS: [&str; 2] = ["alpha", "beta"];
const BATCH_MAX: u64 = 8;
const AGAIN_AFTER: Duration = Duration::from_millis(20);
/// What is under way when the last word is said may have to wait for a server to come back.
const DRAIN_MAX: Duration = Duration::from_secs(60);

/// What everybody writes into.
#[derive(Default)]
pub(crate) struct Books {
    ledger: Mutex<Ledger>,
    stop: AtomicBool,
    /// Retries that turned out to have been stored before.
    retries_found: AtomicUsize,
}

/// Where a gateway listens.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Gateway {
    http: SocketAddr,
    grpc: SocketAddr,
}

/// By what way a publisher comes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Way {
    Grpc,
    Http,
}

/// What a publisher and a subscriber make of a gateway that breaks off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gateways {
    /// They may die: go to the next one.
    Mortal,
    /// They must not: a publisher may be asked to try again, and a subscriber's stream stays open.
    Immortal,
}

/// What one publisher or subscriber has been through.
#[derive(Debug, Default)]
pub(crate) struct Diary {
    /// Publishes that failed, and subscriptions that were not answered.
    failures: Mutex<Vec<String>>,
    /// Streams opened.
    connections: AtomicUsize,
    /// Heartbeats heard.
    heartbeats: AtomicUsize,
    /// Notices of a loss.
    gaps: Mutex<Vec<Value>>,
    /// Neighbouring events of two epochs, with no notice in between.
    crossings: Mutex<Vec<(Offset, Offset)>>,
}

/// Everybody at work.
pub(crate) struct Work {
    pub(crate) books: Arc<Books>,
    pub(crate) publishers: Vec<Arc<Diary>>,
    pub(crate) subscribers: Vec<Arc<Diary>>,
    publishing: JoinSet<()>,
    subscribing: JoinSet<()>,
    /// Subscribers of each stream.
    per_stream: usize,
}

/// How long there was nothing.
#[derive(Debug, Clone, Copy)]
#[expect(dead_code, reason = "printed, and nothing else")]
pub(crate) struct Outage {
    /// Until the first acknowledgement.
    answered: Duration,
    /// Until the first event was received, counted from the same moment.
    received: Duration,
}

struct Source {
    name: String,
    way: Way,
    gateways: Vec<Gateway>,
    fate: Gateways,
    /// Which of the gateways it uses.
    at: usize,
    seq: u64,
    diary: Arc<Diary>,
}

struct Reader {
    name: String,
    stream: &'static str,
    gateways: Vec<Gateway>,
    fate: Gateways,
    diary: Arc<Diary>,
}

impl Books {
    pub(crate) fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no one panicked with it")
    }

    pub(crate) fn acknowledged(&self) -> usize {
        self.ledger().totals().acknowledged
    }

    pub(crate) fn retries_found(&self) -> usize {
        self.retries_found.load(Ordering::Relaxed)
    }
}

impl Gateway {
    pub(crate) fn of(server: &Evergate) -> Self {
        Self { http: server.http(), grpc: server.grpc() }
    }
}

impl Diary {
    pub(crate) fn failures(&self) -> Vec<String> {
        self.failures.lock().expect("no one panicked with it").clone()
    }

    fn failed(&self, why: String) {
        self.failures.lock().expect("no one panicked with it").push(why);
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    pub(crate) fn heartbeats(&self) -> usize {
        self.heartbeats.load(Ordering::Relaxed)
    }

    pub(crate) fn gaps(&self) -> Vec<Value> {
        self.gaps.lock().expect("no one panicked with it").clone()
    }

    pub(crate) fn crossings(&self) -> Vec<(Offset, Offset)> {
        self.crossings.lock().expect("no one panicked with it").clone()
    }
}

impl Work {
    /// Sends everybody to work. Each publisher and subscriber begins at the first of its gateways.
    pub(crate) fn begin(
        fate: Gateways,
        publishers: &[(Way, Vec<Gateway>)],
        subscribers_per_stream: &[Vec<Gateway>],
    ) -> Self {
        let mut work = Self {
            books: Arc::default(),
            publishers: Vec::new(),
            subscribers: Vec::new(),
            publishing: JoinSet::new(),
            subscribing: JoinSet::new(),
            per_stream: subscribers_per_stream.len(),
        };
        for (stream, (n, gateways)) in STREAMS
            .iter()
            .flat_map(|stream| subscribers_per_stream.iter().enumerate().map(move |each| (stream, each)))
        {
            let diary = Arc::<Diary>::default();
            let (name, gateways) = (format!("subscriber-{n}"), gateways.clone());
            let reader = Reader { name, stream, gateways, fate, diary: diary.clone() };
            work.subscribers.push(diary);
            work.subscribing.spawn(reader.run(work.books.clone()));
        }
        for (n, (way, gateways)) in publishers.iter().enumerate() {
            let diary = Arc::<Diary>::default();
            let (name, gateways) = (format!("publisher-{n}"), gateways.clone());
            let source = Source { name, way: *way, gateways, fate, at: 0, seq: 0, diary: diary.clone() };
            work.publishers.push(diary);
            work.publishing.spawn(source.run(work.books.clone()));
        }
        work
    }

    /// Waits until `done`, which the others will bring about.
    pub(crate) async fn until(&mut self, what: &str, within: Duration, done: impl Fn(&Self) -> bool) {
        let deadline = Instant::now() + within;
        while !done(self) {
            assert!(Instant::now() < deadline, "not within {within:?}: {what}");
            tokio::time::sleep(Duration::from_millis(5)).await;
            for tasks in [&mut self.publishing, &mut self.subscribing] {
                if let Some(ended) = tasks.try_join_next() {
                    ended.expect("nobody found anything wrong");
                    panic!("somebody went home early");
                }
            }
        }
    }

    /// Waits until so many more events are acknowledged.
    pub(crate) async fn more(&mut self, events: usize) {
        let enough = self.books.acknowledged() + events;
        let what = format!("{events} more events are acknowledged");
        self.until(&what, PATIENCE * 2, |work| work.books.acknowledged() >= enough).await;
    }

    /// How long it takes from now until somebody is answered, and until somebody receives an event of a newer
    /// epoch than this.
    pub(crate) async fn outage(&mut self, epoch: u64) -> Outage {
        let from = Instant::now();
        self.more(1).await;
        let answered = from.elapsed();
        let what = "an event of a newer epoch is received";
        self.until(what, PATIENCE * 2, |work| work.books.ledger().epoch_received() > epoch).await;
        Outage { answered, received: from.elapsed() }
    }

    /// Lets the publishers have their last answers and the subscribers all they are owed, and
    /// judges: nothing acknowledged was lost, nothing is there twice, order was kept.
    pub(crate) async fn judge(&mut self, acknowledged: usize) -> Totals {
        self.books.stop.store(true, Ordering::Relaxed);
        let drained = async {
            while let Some(ended) = self.publishing.join_next().await {
                ended.expect("a publisher found nothing wrong");
            }
        };
        tokio::time::timeout(DRAIN_MAX, drained).await.expect("everything is answered in the end");
        let at_least = Traffic { acknowledged, received: acknowledged * self.per_stream };
        // What was lost never comes: then the ledger says which it was.
        let deadline = Instant::now() + PATIENCE;
        loop {
            let verdict = self.books.ledger().judge(at_least);
            if matches!(verdict, Verdict::Sound(_)) || Instant::now() > deadline {
                self.subscribing.shutdown().await;
                return verdict.expect_sound();
            }
            if let Some(ended) = self.subscribing.try_join_next() {
                ended.expect("a subscriber found nothing wrong");
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

impl Source {
    /// Publishes batch after batch, each until it is answered for, until told to stop.
    async fn run(mut self, books: Arc<Books>) {
        while !books.stop.load(Ordering::Relaxed) {
            let stream = STREAMS[fastrand::usize(0..STREAMS.len())];
            let count = match self.way {
                Way::Grpc => fastrand::u64(1..=BATCH_MAX),
                Way::Http => 1,
            };
            let texts: Vec<(u64, String)> =
                (self.seq + 1..=self.seq + count).map(|seq| (seq, format!("{} {seq}", self.name))).collect();
            self.seq += count;
            for (_, text) in &texts {
                books.ledger().attempted(stream, text);
            }
            let placed = self.publish(stream, &texts).await;
            assert_eq!(placed.len(), texts.len(), "an answer for each event");
            for ((_, text), (offset, duplicate)) in texts.iter().zip(placed) {
                books.ledger().acknowledged(stream, offset, text);
                books.retries_found.fetch_add(usize::from(duplicate), Ordering::Relaxed);
            }
        }
    }

    /// Says the same again and again until it is answered for.
    async fn publish(&mut self, stream: &str, texts: &[(u64, String)]) -> Vec<(Offset, bool)> {
        loop {
            let gateway = self.gateways[self.at];
            let answer = match self.way {
                Way::Grpc => self.by_grpc(gateway, stream, texts).await,
                Way::Http => self.by_http(gateway, stream, texts).await,
            };
            match answer {
                Ok(placed) => return placed,
                Err(why) => {
                    if self.fate == Gateways::Immortal {
                        assert!(matches!(why, Failure::TryAgain(_)), "{why:?} of {}", self.name);
                    }
                    self.diary.failed(format!("{:?}: {why:?}", self.way));
                    self.at = (self.at + 1) % self.gateways.len();
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
        }
    }

    async fn by_grpc(
        &self,
        gateway: Gateway,
        stream: &str,
        texts: &[(u64, String)],
    ) -> Result<Vec<(Offset, bool)>, Failure> {
        let publisher = Publisher::try_connect(gateway.grpc).await.map_err(|error| Failure::other(&error))?;
        let events = texts.iter().map(|(seq, text)| produced(&self.name, *seq, text)).collect();
        match publisher.try_batch(stream, events).await {
            Ok(results) => {
                Ok(results.iter().map(|result| (offset(&result.offset), result.duplicate)).collect())
            }
            Err(status) if status.code() == Code::Unavailable => {
                Err(Failure::TryAgain(format!("{status:?}")))
            }
            Err(status) => Err(Failure::other(&status)),
        }
    }

    async fn by_http(
        &self,
        gateway: Gateway,
        stream: &str,
        texts: &[(u64, String)],
    ) -> Result<Vec<(Offset, bool)>, Failure> {
        let [(seq, text)] = texts else { panic!("one at a time") };
        let body = json!({ "data": text, "producer": { "id": self.name, "seq": seq } }).to_string();
        let request = Request::post(&format!("/v1/streams/{stream}/events"), "application/json", body);
        let (status, body) =
            try_call(gateway.http, &request).await.map_err(|error| Failure::other(&error))?;
        match status {
            200 => {
                let told: Value = serde_json::from_slice(&body).expect("the answer is JSON");
                let at = offset(told["offset"].as_str().expect("an offset"));
                Ok(vec![(at, told["duplicate"].as_bool().expect("yes or no"))])
            }
            503 => Err(Failure::TryAgain(String::from_utf8_lossy(&body).into_owned())),
            _ => Err(Failure::Other(format!("{status}: {}", String::from_utf8_lossy(&body)))),
        }
    }
}

/// Why a publish has no answer.
#[derive(Debug, PartialEq, Eq)]
enum Failure {
    /// The gateway says that the log cannot be reached now.
    TryAgain(String),
    Other(String),
}

impl Failure {
    fn other(error: &impl std::fmt::Debug) -> Self {
        Self::Other(format!("{error:?}"))
    }
}

impl Reader {
    /// Reads for ever, coming back with the last id.
    async fn run(self, books: Arc<Books>) {
        books.ledger().subscribed(&self.name, self.stream, Offset::new(0, 0));
        let target = format!("/v1/streams/{}/events?from=earliest", self.stream);
        let mut last_id: Option<String> = None;
        for gateway in self.gateways.iter().cycle() {
            let mut request = Request::get(&target);
            if let Some(id) = &last_id {
                request = request.header("Last-Event-ID", id);
            }
            match Subscription::try_request(gateway.http, &request).await {
                Ok(mut subscription) => self.read(&mut subscription, &mut last_id, &books).await,
                Err(error) => {
                    assert_eq!(self.fate, Gateways::Mortal, "{}: {error}", self.name);
                    self.diary.failed(error.to_string());
                }
            }
            tokio::time::sleep(AGAIN_AFTER).await;
        }
    }

    /// Reads one stream until it ends.
    async fn read(&self, subscription: &mut Subscription, last_id: &mut Option<String>, books: &Books) {
        self.diary.connections.fetch_add(1, Ordering::Relaxed);
        let mut before = None;
        loop {
            match subscription.next().await {
                Next::Item(Item::Comment(_)) => {
                    self.diary.heartbeats.fetch_add(1, Ordering::Relaxed);
                }
                Next::Item(Item::Retry(_)) => {}
                Next::Item(Item::Frame(frame)) => self.take(frame, &mut before, last_id, books),
                Next::End(end) => {
                    assert_eq!(self.fate, Gateways::Mortal, "{}'s stream ended ({end:?})", self.name);
                    return;
                }
            }
        }
    }

    /// Takes a frame. `before` is the event before it, if no notice of a loss stands between.
    fn take(&self, frame: Frame, before: &mut Option<Offset>, last_id: &mut Option<String>, books: &Books) {
        match frame.event.as_deref() {
            Some("evergate.open") => {
                let resume = frame.json()["resume"].clone();
                if last_id.is_some() {
                    assert_eq!(resume, "exact", "{} comes back with {last_id:?}", self.name);
                }
            }
            Some("evergate.gap") => {
                let told = frame.json();
                if told["lost"].is_null() {
                    let at = |field: &str| offset(told[field].as_str().expect("an offset"));
                    let (requested, resumed_at) = (at("requested"), at("resumed_at"));
                    books.ledger().told_of_a_loss(&self.name, self.stream, requested, resumed_at);
                }
                self.diary.gaps.lock().expect("no one panicked with it").push(told);
                *before = None;
            }
            _ if frame.is_event() => {
                if let Some(last) = before.replace(frame.offset())
                    && last.epoch != frame.offset().epoch
                {
                    let mut crossings = self.diary.crossings.lock().expect("no one panicked with it");
                    crossings.push((last, frame.offset()));
                }
                books.ledger().received(&self.name, self.stream, frame.offset(), &frame.data);
            }
            _ => {}
        }
        *last_id = frame.id.or(last_id.take());
    }
}

/// One call on a connection of its own, to a gateway that may be gone or going.
async fn try_call(address: SocketAddr, request: &Request) -> io::Result<(u16, Vec<u8>)> {
    let mut connection = Connection::over(TcpStream::connect(address).await?);
    connection.try_send_bytes(&request.encode()).await?;
    let head = connection.try_read_head().await?;
    let mut body = Body::new(head.framing(false));
    let mut text = Vec::new();
    while body
        .read(&mut connection, &mut text, PATIENCE)
        .await
        .map_err(|error| io::Error::other(format!("{error:?}")))?
    {}
    Ok((head.status, text))
}
