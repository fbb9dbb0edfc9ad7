//! A storm of connects, each of which must be answered.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use evergate_tests::PATIENCE;
use evergate_tests::frame::Item;
use evergate_tests::http1::{Connection, Request};
use evergate_tests::subscription::{Next, Subscription};
use tokio::net::TcpStream;
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// A connect each, so that more than a thousand a second subscribe.
const EVERY: Duration = Duration::from_micros(850);
/// Connects that may be under way; beyond it the storm waits.
const OPEN_MAX: usize = 500;
/// Every so many-th asks the admin pages whether the address is ready.
const ADMIN_EVERY: usize = 10;

/// A storm under way. Dropping it ends it.
pub(crate) struct Storm {
    record: Arc<Record>,
    begun: Instant,
    blowing: JoinHandle<()>,
}

/// What became of the connects.
#[derive(Debug, Default)]
struct Record {
    answered: AtomicUsize,
    /// Those of them that subscribed.
    subscribed: AtomicUsize,
    /// How many were told what.
    answers: Mutex<BTreeMap<String, usize>>,
    failures: Mutex<Vec<String>>,
}

/// The sum of it.
#[derive(Debug)]
pub(crate) struct Toll {
    pub(crate) answered: usize,
    pub(crate) answers: BTreeMap<String, usize>,
    pub(crate) failures: Vec<String>,
    /// Subscriptions answered each second.
    pub(crate) subscribed_per_second: f64,
    /// Questions to the admin pages answered each second.
    pub(crate) asked_per_second: f64,
}

impl Storm {
    /// Subscribes to `target` over and over, each time on a new connection.
    pub(crate) fn begin(http: SocketAddr, admin: SocketAddr, target: &str) -> Self {
        let record = Arc::<Record>::default();
        let asked = Request::get(target);
        let blowing = tokio::spawn({
            let record = Arc::clone(&record);
            async move {
                let open = Arc::new(Semaphore::new(OPEN_MAX));
                let mut ticks = tokio::time::interval(EVERY);
                ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
                let mut tasks = tokio::task::JoinSet::new();
                for n in 1_usize.. {
                    ticks.tick().await;
                    let permit = Arc::clone(&open).acquire_owned().await.expect("never closed");
                    let record = Arc::clone(&record);
                    let frames = !n.is_multiple_of(ADMIN_EVERY);
                    let (address, request) =
                        if frames { (http, asked.clone()) } else { (admin, Request::get("/readyz")) };
                    tasks.spawn(async move {
                        record.note(once(address, &request, frames).await, frames);
                        drop(permit);
                    });
                    while tasks.try_join_next().is_some() {}
                }
            }
        });
        Self { record, begun: Instant::now(), blowing }
    }

    /// Waits until so many more connects were answered.
    pub(crate) async fn more(&self, connects: usize) {
        let enough = self.record.answered.load(Ordering::Relaxed) + connects;
        let deadline = Instant::now() + PATIENCE * 3;
        while self.record.answered.load(Ordering::Relaxed) < enough {
            assert!(Instant::now() < deadline, "{connects} more connects are answered: {:?}", self.record);
            assert!(!self.blowing.is_finished(), "the storm ended by itself");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the storm. Those under way are left uncounted.
    pub(crate) async fn end(self) -> Toll {
        let took = self.begun.elapsed();
        self.blowing.abort();
        let _ = self.blowing.await;
        let answered = self.record.answered.load(Ordering::Relaxed);
        let subscribed = self.record.subscribed.load(Ordering::Relaxed);
        let per_second = |connects: usize| connects as f64 / took.as_secs_f64();
        Toll {
            answered,
            answers: self.record.answers.lock().expect("no one panicked with it").clone(),
            failures: self.record.failures.lock().expect("no one panicked with it").clone(),
            subscribed_per_second: per_second(subscribed),
            asked_per_second: per_second(answered - subscribed),
        }
    }
}

impl Record {
    fn note(&self, became: Result<String, String>, subscribes: bool) {
        match became {
            Ok(answer) => {
                self.subscribed.fetch_add(usize::from(subscribes), Ordering::Relaxed);
                self.answered.fetch_add(1, Ordering::Relaxed);
                *self.answers.lock().expect("no one panicked with it").entry(answer).or_default() += 1;
            }
            Err(why) => self.failures.lock().expect("no one panicked with it").push(why),
        }
    }
}

/// Connects, asks, and reads the beginning of the answer: the name of the first frame, or the status where
/// there are none.
async fn once(address: SocketAddr, request: &Request, frames: bool) -> Result<String, String> {
    let asking = async {
        let stream = TcpStream::connect(address).await.map_err(|error| format!("no connection: {error}"))?;
        // Thousands of closed connections would use up the ports for a minute.
        stream.set_zero_linger().map_err(|error| format!("gone at once: {error}"))?;
        let mut connection = Connection::over(stream);
        connection.try_send_bytes(&request.encode()).await.map_err(|error| format!("not asked: {error}"))?;
        if !frames {
            let head = connection.try_read_head().await.map_err(|error| format!("no answer: {error}"))?;
            return Ok(head.status.to_string());
        }
        let stream = Subscription::over(connection).await;
        let mut stream = stream.map_err(|error| format!("no answer: {error}"))?;
        match stream.next().await {
            Next::Item(Item::Frame(frame)) => Ok(frame.event.unwrap_or_default()),
            other @ (Next::Item(Item::Comment(_) | Item::Retry(_)) | Next::End(_)) => {
                Err(format!("no frame: {other:?}"))
            }
        }
    };
    tokio::time::timeout(PATIENCE, asking).await.unwrap_or_else(|_| Err("no answer in time".to_owned()))
}
