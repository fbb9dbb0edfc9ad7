//! Subscribers that go where they belong, and publishers that go on whatever dies; a ledger judges.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use evergate_tests::audience::{Books, Post, Reader, place, publish, until};
use evergate_tests::http1::{Connection, Request};
use evergate_tests::ledger::{Demands, Totals, Traffic};
use evergate_tests::offset::Offset;
use evergate_tests::subscription::Subscription;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const STREAM: &str = "s";
/// What a client is told to wait is the test's to wait for, and not the machine's.
const RETRY_MAX: Duration = Duration::from_millis(500);
/// Between two events of a publisher.
const PUBLISH_EVERY: Duration = Duration::from_millis(20);
/// What was published must be everywhere so long after the last fault.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);

/// Edges where nobody goes, for they are dead.
type Gone = Arc<Mutex<Vec<SocketAddr>>>;

/// Subscribers and publishers, until they are judged.
pub(crate) struct Audience {
    books: Arc<Books>,
    gone: Gone,
    reading: JoinSet<()>,
    publishing: JoinSet<()>,
    subscribers: usize,
}

/// One that goes where it belongs.
struct Client {
    reader: Reader,
    address: String,
    edges: Vec<SocketAddr>,
    gone: Gone,
}

/// Where the subscriber of this number comes from.
pub(crate) fn address_of(number: usize) -> String {
    format!("198.51.{}.{}", number / 250, number % 250)
}

impl Audience {
    /// So many subscribers, who ask any of the edges where they belong, and two publishers.
    pub(crate) async fn gather(subscribers: usize, edges: &[SocketAddr]) -> Self {
        let (books, gone) = (Arc::<Books>::default(), Gone::default());
        let mut reading = JoinSet::new();
        for n in 0..subscribers {
            let client = Client {
                reader: Reader::new(format!("reader-{n}"), STREAM, RETRY_MAX, Arc::clone(&books)),
                address: address_of(n),
                edges: edges.to_vec(),
                gone: Arc::clone(&gone),
            };
            reading.spawn(client.run());
        }
        let mut audience = Self { books, gone, reading, publishing: JoinSet::new(), subscribers };
        audience.all_listen().await;
        // Only now: so everybody is owed all of it.
        for n in 0..2 {
            let books = Arc::clone(&audience.books);
            let edges = Edges { all: edges.to_vec(), at: fastrand::usize(..edges.len()) };
            let name = format!("publisher-{n}");
            audience.publishing.spawn(publish(edges, STREAM, name, PUBLISH_EVERY, books));
        }
        audience
    }

    /// An edge is killed now: nobody goes there any more until it is back.
    pub(crate) fn gone(&self, edge: SocketAddr) {
        self.gone.lock().expect("no one panicked with it").push(edge);
        self.books.ledger().injected();
    }

    /// It takes clients again.
    pub(crate) fn back(&self, edge: SocketAddr) {
        self.gone.lock().expect("no one panicked with it").retain(|gone| *gone != edge);
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

    /// Returns once so many streams have ended.
    pub(crate) async fn cut(&mut self, streams: usize) {
        self.until("streams end", |books| books.cuts.load(Ordering::Relaxed) >= streams).await;
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
        until(&mut self.reading, what, CATCH_UP_MAX, || done(&self.books)).await;
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

impl Client {
    /// Reads for ever, each time at the edge where it is told to belong.
    async fn run(mut self) {
        loop {
            if let Some(edge) = self.own().await {
                let request = self.reader.request().header("X-Forwarded-For", &self.address);
                if let Ok(mut stream) = Subscription::try_request(edge, &request).await {
                    self.reader.read(&mut stream).await;
                }
            }
            self.reader.rest().await;
        }
    }

    /// Where it belongs, by the word of any edge that is there.
    async fn own(&self) -> Option<SocketAddr> {
        let start = fastrand::usize(..self.edges.len());
        let gone = self.gone.lock().expect("no one panicked with it").clone();
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
}

/// Any of the edges, another one where it fails.
struct Edges {
    all: Vec<SocketAddr>,
    at: usize,
}

impl Post for Edges {
    /// `None` if the edge is gone, or says to try again.
    async fn post(&mut self, request: Request) -> Option<Offset> {
        let told = try_call(self.all[self.at], &request).await;
        let place = told.ok().and_then(|told| place(&told));
        self.at = match place {
            Some(_) => fastrand::usize(..self.all.len()),
            None => (self.at + 1) % self.all.len(),
        };
        place
    }
}

/// The JSON of an answer, at an edge that may be gone.
async fn try_call(edge: SocketAddr, request: &Request) -> std::io::Result<Value> {
    let socket = TcpStream::connect(edge).await?;
    let answer = Connection::over(socket).try_call(request).await?;
    serde_json::from_slice(&answer.body).map_err(std::io::Error::other)
}
