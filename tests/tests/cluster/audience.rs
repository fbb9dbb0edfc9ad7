//! Subscribers that go where they belong, and publishers that go on whatever dies; a ledger judges.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use evergate_tests::PATIENCE;
use evergate_tests::frame::{Frame, Item};
use evergate_tests::http1::{Connection, Request};
use evergate_tests::ledger::{Demands, Ledger, Totals, Traffic};
use evergate_tests::offset::{Offset, offset};
use evergate_tests::subscription::{Next, Subscription};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const STREAM: &str = "s";
const EVENTS: &str = "/v1/streams/s/events";
const AGAIN_AFTER: Duration = Duration::from_millis(50);
/// Between two events of a publisher.
const PUBLISH_EVERY: Duration = Duration::from_millis(20);
/// What was published must be everywhere so long after the last fault.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);

/// What everybody writes into.
#[derive(Default)]
struct Books {
    ledger: Mutex<Ledger>,
    stop: AtomicBool,
    live: AtomicUsize,
    cuts: AtomicUsize,
    goaways: AtomicUsize,
    gone: Mutex<Vec<SocketAddr>>,
}

/// Subscribers and publishers, until they are judged.
pub(crate) struct Audience {
    books: Arc<Books>,
    reading: JoinSet<()>,
    publishing: JoinSet<()>,
    subscribers: usize,
}

/// One that comes back by itself.
struct Reader {
    name: String,
    address: String,
    edges: Vec<SocketAddr>,
    last_id: Option<String>,
    retry: Duration,
    books: Arc<Books>,
}

impl Books {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no one panicked with it")
    }
}

impl Audience {
    /// So many subscribers, who ask any of the edges where they belong, and two publishers.
    pub(crate) async fn gather(subscribers: usize, edges: &[SocketAddr]) -> Self {
        let books = Arc::<Books>::default();
        let mut reading = JoinSet::new();
        for n in 0..subscribers {
            let reader = Reader {
                name: format!("reader-{n}"),
                address: format!("198.51.{}.{}", n / 250, n % 250),
                edges: edges.to_vec(),
                last_id: None,
                retry: AGAIN_AFTER,
                books: Arc::clone(&books),
            };
            reading.spawn(reader.run());
        }
        let mut audience = Self { books, reading, publishing: JoinSet::new(), subscribers };
        audience.all_listen().await;
        // Only now: so everybody is owed all of it.
        for n in 0..2 {
            let books = Arc::clone(&audience.books);
            audience.publishing.spawn(publish(edges.to_vec(), books, format!("publisher-{n}")));
        }
        audience
    }

    /// An edge is killed now: nobody goes there any more until it is back.
    pub(crate) fn gone(&self, edge: SocketAddr) {
        self.books.gone.lock().expect("no one panicked with it").push(edge);
        self.books.ledger().injected();
    }

    /// It takes clients again.
    pub(crate) fn back(&self, edge: SocketAddr) {
        self.books.gone.lock().expect("no one panicked with it").retain(|gone| *gone != edge);
    }

    /// Something else was broken on purpose.
    pub(crate) fn injected(&self) {
        self.books.ledger().injected();
    }

    /// Streams that have ended, for whatever reason.
    pub(crate) fn cuts(&self) -> usize {
        self.books.cuts.load(Ordering::Relaxed)
    }

    /// Streams that were told that they would end.
    pub(crate) fn goaways(&self) -> usize {
        self.books.goaways.load(Ordering::Relaxed)
    }

    /// Returns once everybody listens and so many more events were taken.
    pub(crate) async fn goes_on(&mut self) {
        self.all_listen().await;
        let before = self.books.ledger().totals().acknowledged;
        self.until("events are taken", |books| books.ledger().totals().acknowledged >= before + 20).await;
    }

    async fn all_listen(&mut self) {
        let subscribers = self.subscribers;
        self.until("everybody listens", |books| books.live.load(Ordering::Relaxed) == subscribers).await;
    }

    async fn until(&mut self, what: &str, done: impl Fn(&Books) -> bool) {
        let deadline = Instant::now() + CATCH_UP_MAX;
        while !done(&self.books) {
            assert!(Instant::now() < deadline, "not within {CATCH_UP_MAX:?}: {what}");
            tokio::time::sleep(Duration::from_millis(20)).await;
            if let Some(ended) = self.reading.try_join_next() {
                ended.expect("nobody found anything wrong");
                panic!("somebody went home early");
            }
        }
    }

    /// Ends it, and judges: everybody got everything, once. So many streams came back at least.
    pub(crate) async fn judge(mut self, resumes: usize, injected: usize) -> Totals {
        self.all_listen().await;
        self.books.stop.store(true, Ordering::Relaxed);
        while let Some(ended) = self.publishing.join_next().await {
            ended.expect("a publisher found nothing wrong");
        }
        let published = self.books.ledger().totals().acknowledged;
        let owed = published * self.subscribers;
        let deadline = Instant::now() + CATCH_UP_MAX;
        // What was lost never comes: then the ledger says which it was.
        while self.books.ledger().totals().received < owed && Instant::now() < deadline {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        self.reading.shutdown().await;
        let traffic = Traffic { acknowledged: 20, received: owed };
        self.books.ledger().judge_run(Demands { traffic, resumes, injected }).expect_sound()
    }
}

impl Reader {
    /// Reads for ever, each time at the edge where it is told to belong.
    async fn run(mut self) {
        loop {
            if let Some(edge) = self.own().await {
                let mut request = Request::get(EVENTS).header("X-Forwarded-For", &self.address);
                if let Some(id) = &self.last_id {
                    request = request.header("Last-Event-ID", id);
                }
                if let Ok(mut stream) = Subscription::try_request(edge, &request).await {
                    self.read(&mut stream).await;
                }
            }
            tokio::time::sleep(self.retry).await;
        }
    }

    /// Where it belongs, by the word of any edge that is there.
    async fn own(&self) -> Option<SocketAddr> {
        let start = fastrand::usize(..self.edges.len());
        let gone = self.books.gone.lock().expect("no one panicked with it").clone();
        let edges = (0..self.edges.len()).map(|n| self.edges[(start + n) % self.edges.len()]);
        for edge in edges.filter(|edge| !gone.contains(edge)) {
            let request = Request::get("/v1/route").header("X-Forwarded-For", &self.address);
            if let Ok(told) = try_call(edge, &request).await
                && let Some(own) = told["http"].as_str()
            {
                return own.parse().ok();
            }
        }
        None
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
            // What it was told is the test's to wait for, and not the machine's.
            self.retry = Duration::from_millis(ms).min(Duration::from_millis(500));
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
            Some("evergate.goaway") => drop(self.books.goaways.fetch_add(1, Ordering::Relaxed)),
            Some("evergate.busy") => {}
            Some("evergate.gap") => panic!("{} is told of a loss: {frame:?}", self.name),
            _ if frame.is_event() => {
                self.books.ledger().received(&self.name, STREAM, frame.offset(), &frame.data);
            }
            _ => {}
        }
        self.last_id = frame.id.or(self.last_id.take());
    }
}

/// Publishes, each event until it is answered for, at whichever edge answers.
async fn publish(edges: Vec<SocketAddr>, books: Arc<Books>, name: String) {
    let mut seq = 0;
    while !books.stop.load(Ordering::Relaxed) {
        seq += 1;
        let text = format!("{name} {seq}");
        books.ledger().attempted_as(STREAM, &name, seq, &text);
        let mut at = fastrand::usize(..edges.len());
        let place = loop {
            match post(edges[at], &name, seq, &text).await {
                Some(place) => break place,
                None => {
                    at = (at + 1) % edges.len();
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
        };
        books.ledger().acknowledged(STREAM, place, &text);
        tokio::time::sleep(PUBLISH_EVERY).await;
    }
}

/// `None` if the edge is gone, or says to try again.
async fn post(edge: SocketAddr, name: &str, seq: u64, text: &str) -> Option<Offset> {
    let body = json!({ "data": text, "producer": { "id": name, "seq": seq } }).to_string();
    let told = try_call(edge, &Request::post(EVENTS, "application/json", body)).await.ok()?;
    told["offset"].as_str().map(offset)
}

/// The JSON of an answer, at an edge that may be gone.
async fn try_call(edge: SocketAddr, request: &Request) -> std::io::Result<Value> {
    let socket = TcpStream::connect(edge).await?;
    let answer = Connection::over(socket).try_call(request).await?;
    serde_json::from_slice(&answer.body).map_err(std::io::Error::other)
}
