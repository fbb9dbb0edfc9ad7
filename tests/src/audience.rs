//! Subscribers and publishers that go on whatever happens to their servers, and the books they keep, by
//! which a ledger judges.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::PATIENCE;
use crate::frame::{Frame, Item};
use crate::http1::Request;
use crate::ledger::Ledger;
use crate::offset::{Offset, offset};
use crate::subscription::{Next, Subscription};

/// Until somebody tries again whom nobody told when.
pub const AGAIN_AFTER: Duration = Duration::from_millis(50);

/// What everybody writes into.
#[derive(Default)]
pub struct Books {
    ledger: Mutex<Ledger>,
    /// Publishers go home.
    pub stop: AtomicBool,
    /// Streams that are open.
    pub live: AtomicUsize,
    /// Streams that have ended, for whatever reason.
    pub cuts: AtomicUsize,
    /// Streams that were told that they would end.
    pub goaways: AtomicUsize,
    /// Readers that were told to come again later.
    pub busy: AtomicUsize,
    /// Times that an event had to be published again.
    pub failed_publishes: AtomicUsize,
}

impl Books {
    /// # Panics
    /// If somebody panicked who wrote into it.
    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no one panicked with it")
    }
}

/// A subscriber that comes back by itself, with the last id.
pub struct Reader {
    name: String,
    stream: &'static str,
    last_id: Option<String>,
    retry: Duration,
    retry_max: Duration,
    books: Arc<Books>,
}

impl Reader {
    /// One of a stream. However long it is told to wait, it comes back after `retry_max`.
    #[must_use]
    pub fn new(name: String, stream: &'static str, retry_max: Duration, books: Arc<Books>) -> Self {
        Self { name, stream, last_id: None, retry: AGAIN_AFTER, retry_max, books }
    }

    /// Who it is.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it asks for next.
    #[must_use]
    pub fn request(&self) -> Request {
        let request = Request::get(&events_of(self.stream));
        match &self.last_id {
            Some(id) => request.header("Last-Event-ID", id),
            None => request,
        }
    }

    /// Waits as long as it was told to.
    pub async fn rest(&self) {
        tokio::time::sleep(self.retry).await;
    }

    /// Reads until the stream ends.
    ///
    /// # Panics
    /// If it is told of a loss, comes back anywhere else than exactly where it was, or hears nothing.
    pub async fn read(&mut self, stream: &mut Subscription) {
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
                Some(Next::Item(Item::Retry(ms))) => {
                    self.retry = Duration::from_millis(ms).min(self.retry_max);
                }
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
            self.retry = Duration::from_millis(ms).min(self.retry_max);
        }
        match frame.event.as_deref() {
            Some("evergate.open") => {
                let told = frame.json();
                let cursor = offset(told["cursor"].as_str().expect("a cursor"));
                if self.last_id.is_some() {
                    assert_eq!(told["resume"], "exact", "{} comes back: {told}", self.name);
                    self.books.ledger().resumed(&self.name, self.stream, cursor);
                } else {
                    self.books.ledger().subscribed(&self.name, self.stream, cursor);
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
                self.books.ledger().received(&self.name, self.stream, frame.offset(), &frame.data);
            }
            _ => {}
        }
        self.last_id = frame.id.or(self.last_id.take());
    }
}

/// A way to a server that takes events.
pub trait Post: Send + 'static {
    /// Where the event is; `None` if it is to be tried again.
    fn post(&mut self, request: Request) -> impl Future<Output = Option<Offset>> + Send;
}

/// Publishes by HTTP until the books say stop, each event until it is answered for.
pub async fn publish(
    mut way: impl Post,
    stream: &'static str,
    name: String,
    every: Duration,
    books: Arc<Books>,
) {
    let mut seq = 0;
    while !books.stop.load(Ordering::Relaxed) {
        seq += 1;
        let text = format!("{name} {seq}");
        books.ledger().attempted_as(stream, &name, seq, &text);
        let body = json!({ "data": text, "producer": { "id": name, "seq": seq } }).to_string();
        let place = loop {
            match way.post(Request::post(&events_of(stream), "application/json", body.as_str())).await {
                Some(place) => break place,
                None => {
                    books.failed_publishes.fetch_add(1, Ordering::Relaxed);
                    tokio::time::sleep(AGAIN_AFTER).await;
                }
            }
        };
        books.ledger().acknowledged(stream, place, &text);
        tokio::time::sleep(every).await;
    }
}

/// Where an event is, by what was answered.
#[must_use]
pub fn place(told: &Value) -> Option<Offset> {
    told["offset"].as_str().map(offset)
}

/// Waits until `done`, while nobody may go home early.
///
/// # Panics
/// If it takes too long, or somebody found something wrong.
pub async fn until(readers: &mut JoinSet<()>, what: &str, within: Duration, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !done() {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
        if let Some(ended) = readers.try_join_next() {
            ended.expect("nobody found anything wrong");
            panic!("somebody went home early");
        }
    }
}

fn events_of(stream: &str) -> String {
    format!("/v1/streams/{stream}/events")
}
