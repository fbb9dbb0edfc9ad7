//! A durable log on one node's disk: no server to install, nothing lost when the process is killed.
//!
//! The parts, from the outside in:
//!
//! ```text
//!   DiskLog ── queue ──▶ Writer (a thread) ──▶ Committer ──▶ Journal, then Tables
//!      └──── Streams (what is durable, who follows) ◀── shown by the Writer
//!      └──── Reader ─────────────────────────────────────────────▶ Tables
//!                        Housekeeper (two threads) ──────────────▶ Tables, old journal files
//! ```
//! The writer alone decides what is appended, by the same pure rules as every log, and lets nothing
//! be seen before it is synced. What is on disk is described in `layout`, `journal`, `rows` and
//! `record`; why it is done this way in `docs/adr/0001-embedded-log-on-lsm-tree.md`.
//!
//! Reads that need the tables run on the runtime's blocking threads: a page of 256 events takes
//! some hundred microseconds of decoding even when it is in memory, and may wait for the disk. What
//! can be answered from a stream's state alone, such as a cursor at the end, is answered in place.

mod coding;
mod error;
mod options;

mod layout;
mod space;

mod journal;
mod record;
mod rows;

mod catalog;
mod chores;
mod group;
mod store;
mod tables;

mod heads;
mod reader;
mod streams;
mod writer;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use async_trait::async_trait;
use evergate_domain::{EventDraft, Level, Offset, Start, StreamName, StreamPolicies};
use parking_lot::Mutex;
use tokio::sync::{RwLock, Semaphore, mpsc, oneshot};

pub use error::OpenError;
pub use options::DiskOptions;

use crate::{
    AppendError, BackendError, Clock, Epochs, EventLog, Page, Placed, ReadError, ReadLimit, StreamStatus,
    Tail,
};
use heads::{Heads, wants_trim};
use reader::{Look, Reader, look_after, look_for};
use store::{Opened, Stopper, Store, System};
use streams::{Durable, Stream, Streams};
use writer::{Request, Writer};

/// Streams whose retention is applied by one request, so that appends come in between.
const TRIM_STREAMS: usize = 64;
/// Bytes that stand for one permit of the queue's memory.
const PERMIT_BYTES: u64 = 1 << 10;
/// What an event takes, in the queue or in the tables, besides what its stream counts.
const OVERHEAD_BYTES: u64 = 64;

/// The durable log.
///
/// Ended by [`close`](EventLog::close). If it is dropped without, the drop blocks until what is in
/// the queue is durable.
pub struct DiskLog {
    shared: Arc<Shared>,
    /// None once the log takes no more appends. When it is full, appends wait.
    queue: Mutex<Option<mpsc::Sender<Request>>>,
    /// Bounds the memory of the batches in the queue. When it is used up, appends wait.
    room: Arc<Semaphore>,
    room_permits: u32,
    writer: Mutex<Option<JoinHandle<()>>>,
    housekeeping: Mutex<Vec<JoinHandle<()>>>,
    stopper: Stopper,
}

/// What a read on another thread needs.
struct Shared {
    epochs: Epochs,
    policies: Arc<StreamPolicies>,
    clock: Arc<dyn Clock>,
    streams: Arc<Streams>,
    /// None once the log is closed. Reads hold on to it while they last, and closing waits for them.
    store: Arc<RwLock<Option<Store>>>,
    closed: AtomicBool,
}

impl DiskLog {
    /// Opens the log in `options.dir`, or makes one there. Blocks for as long as it takes to read
    /// the journal, which is bounded by its size and not by that of the log.
    pub fn open(
        options: &DiskOptions,
        policies: Arc<StreamPolicies>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        Self::open_on(System::default(), options, policies, clock)
    }

    fn open_on(
        system: System,
        options: &DiskOptions,
        policies: Arc<StreamPolicies>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenError> {
        let dir = || options.dir.clone();
        let damaged = |error: BackendError| OpenError::Damaged { dir: dir(), what: error.to_string() };
        let io = |source| OpenError::Io { dir: dir(), source };

        let Opened { store, committer, housekeeper } = store::open(options, system)?;
        let epochs = Epochs::open(store.tables.epochs().map_err(damaged)?, clock.now());
        let streams = Arc::<Streams>::default();
        let mut writer = Writer {
            tables: Arc::clone(&store.tables),
            chores: Arc::clone(&store.chores),
            committer,
            heads: Heads::new(store.tables.next_id().map_err(damaged)?),
            streams: Arc::clone(&streams),
            policies: Arc::clone(&policies),
            clock: Arc::clone(&clock),
            epoch: epochs.current(),
            epoch_stored: false,
            full: false,
        };
        writer.begin().map_err(|error| io(std::io::Error::other(error)))?;

        let stopper = store.stopper();
        let (queue, requests) = mpsc::channel(options.queue_batches.max(1));
        let room_permits = u32::try_from(options.queue_bytes / PERMIT_BYTES).unwrap_or(u32::MAX).max(1);
        let store = Arc::new(RwLock::new(Some(store)));
        // From here on the log ends its own threads, also if the next one cannot be started.
        let log = Self {
            shared: Arc::new(Shared {
                epochs,
                policies,
                clock,
                streams,
                store,
                closed: AtomicBool::new(false),
            }),
            queue: Mutex::new(Some(queue)),
            room: Arc::new(Semaphore::new(room_permits as usize)),
            room_permits,
            writer: Mutex::default(),
            housekeeping: Mutex::default(),
            stopper,
        };
        housekeeper.start(&mut log.housekeeping.lock()).map_err(io)?;
        let thread = std::thread::Builder::new().name("log-write".into());
        *log.writer.lock() = Some(thread.spawn(move || writer.run(requests)).map_err(io)?);
        Ok(log)
    }

    async fn send(&self, request: Request) -> Result<(), AppendError> {
        let queue = self.queue.lock().clone().ok_or(AppendError::Closed)?;
        queue.send(request).await.map_err(|_| {
            if self.shared.closed.load(Ordering::Acquire) { AppendError::Closed } else { writer_died() }
        })
    }

    /// Ends all threads. Blocks until they have.
    fn join(&self) {
        join(self.writer.lock().take());
        self.stopper.stop();
        join(self.housekeeping.lock().drain(..));
    }
}

impl Shared {
    fn open(&self) -> Result<(), ReadError> {
        if self.closed.load(Ordering::Acquire) { Err(ReadError::Closed) } else { Ok(()) }
    }

    /// Runs something that may wait for the disk.
    async fn blocking<T: Send + 'static>(
        self: &Arc<Self>,
        work: impl FnOnce(&Self, &Store) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let store = Arc::clone(&self.store).read_owned().await;
        let shared = Arc::clone(self);
        let done = tokio::task::spawn_blocking(move || match &*store {
            Some(store) => work(&shared, store),
            None => Err(ReadError::Closed),
        });
        done.await.unwrap_or_else(|error| Err(ReadError::Unavailable(BackendError::new(error))))
    }

    /// Asks something of a stream's state, in place if it is at hand.
    async fn ask<T: Send + 'static>(
        self: &Arc<Self>,
        name: &StreamName,
        ask: impl Fn(&Self, &mut Durable) -> T + Send + 'static,
    ) -> Result<T, ReadError> {
        self.open()?;
        let stream = self.streams.get(name);
        if let Some(answer) = stream.ask_now(|durable| ask(self, durable)) {
            return Ok(answer);
        }
        let name = name.clone();
        self.blocking(move |shared, store| {
            let answer = stream.ask(&store.tables, &name, |durable| ask(shared, durable));
            answer.map_err(ReadError::Unavailable)
        })
        .await
    }

    /// Fetches from a stream.
    async fn fetch<T: Send + 'static>(
        self: &Arc<Self>,
        name: &StreamName,
        stream: Arc<Stream>,
        fetch: impl FnOnce(Reader<'_>) -> Result<T, ReadError> + Send + 'static,
    ) -> Result<T, ReadError> {
        let name = name.clone();
        self.blocking(move |shared, store| {
            fetch(Reader { tables: &store.tables, epochs: &shared.epochs, name: &name, stream: &stream })
        })
        .await
    }
}

#[async_trait]
impl EventLog for DiskLog {
    async fn append(&self, stream: &StreamName, batch: Vec<EventDraft>) -> Result<Vec<Placed>, AppendError> {
        self.shared.open().map_err(|_| AppendError::Closed)?;
        if batch.is_empty() {
            return Ok(vec![]);
        }
        let bytes: u64 = batch.iter().map(|draft| draft.bytes() + OVERHEAD_BYTES).sum();
        let permits = u32::try_from(bytes / PERMIT_BYTES + 1).unwrap_or(u32::MAX).min(self.room_permits);
        let room = Arc::clone(&self.room).acquire_many_owned(permits).await;
        let room = room.map_err(|_| AppendError::Closed)?;
        let (answer, answered) = oneshot::channel();
        self.send(Request::Append { stream: stream.clone(), batch, bytes, answer, room }).await?;
        answered.await.unwrap_or_else(|_| Err(writer_died()))
    }

    async fn read(&self, name: &StreamName, after: Offset, limit: ReadLimit) -> Result<Page, ReadError> {
        self.shared.open()?;
        let stream = self.shared.streams.get(name);
        match stream.ask_now(|durable| look_after(durable, after, &self.shared.epochs)) {
            Some(Look::Answer(page)) => Ok(page),
            Some(Look::Fetch(_)) | None => {
                self.shared.fetch(name, stream, move |reader| reader.page(after, limit)).await
            }
        }
    }

    async fn locate(&self, name: &StreamName, start: Start) -> Result<Offset, ReadError> {
        self.shared.open()?;
        let stream = self.shared.streams.get(name);
        match stream.ask_now(|durable| look_for(durable, start, &self.shared.epochs)) {
            Some(Look::Answer(cursor)) => Ok(cursor),
            Some(Look::Fetch(_)) | None => {
                self.shared.fetch(name, stream, move |reader| reader.locate(start)).await
            }
        }
    }

    async fn follow(&self, name: &StreamName) -> Result<Tail, ReadError> {
        self.shared.ask(name, |shared, durable| durable.follow(shared.epochs.current())).await
    }

    async fn status(&self, name: &StreamName) -> Result<StreamStatus, ReadError> {
        self.shared.ask(name, |shared, durable| durable.status(shared.epochs.current())).await
    }

    async fn trim(&self) -> Result<(), ReadError> {
        self.shared.open()?;
        let streams = self.shared.blocking(streams_to_trim).await?;
        for streams in streams.chunks(TRIM_STREAMS) {
            let (answer, answered) = oneshot::channel();
            let sent = self.send(Request::Trim { streams: streams.to_vec(), answer }).await;
            match sent {
                Ok(()) => answered.await.map_err(|_| unavailable(writer_died()))??,
                Err(error) => return Err(unavailable(error)),
            }
        }
        self.shared.streams.tell_floors();
        Ok(())
    }

    fn level(&self, _: &StreamName) -> Level {
        Level::Home
    }

    async fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        self.room.close();
        let queue = self.queue.lock().take();
        if let Some(queue) = queue {
            // If the writer is gone already, it needs no telling.
            let _ = queue.send(Request::Close).await;
        }
        let (writer, housekeeping) =
            (self.writer.lock().take(), std::mem::take(&mut *self.housekeeping.lock()));
        let stopper = self.stopper.clone();
        let ended = tokio::task::spawn_blocking(move || {
            join(writer);
            stopper.stop();
            join(housekeeping);
        });
        ended.await.unwrap_or_else(|error| tracing::error!(%error, "the event log was not closed in order"));
        let store = self.shared.store.write().await.take();
        self.shared.streams.close();
        // Gives the directory up, and may delete files.
        let given_up = tokio::task::spawn_blocking(move || drop(store));
        given_up
            .await
            .unwrap_or_else(|error| tracing::error!(%error, "the event log was not closed in order"));
    }
}

impl Drop for DiskLog {
    fn drop(&mut self) {
        // No append can be under way, so this was the last handle to the queue.
        drop(self.queue.lock().take());
        self.join();
    }
}

/// The streams whose retention wants something of them gone. Tells the housekeeping, too, how much
/// of the tables is worth keeping.
fn streams_to_trim(shared: &Shared, store: &Store) -> Result<Vec<StreamName>, ReadError> {
    let now = shared.clock.now();
    let mut live = 0;
    let mut streams = vec![];
    for head in store.tables.heads() {
        let head = head.map_err(ReadError::Unavailable)?;
        live += head.bytes_in - head.bytes_gone + OVERHEAD_BYTES * (head.tail.seq.get() - head.floor.get());
        if wants_trim(&head, shared.policies.retention(&head.name), now) {
            streams.push(head.name);
        }
    }
    store.chores.live_bytes(live, store.tables.event_bytes());
    Ok(streams)
}

fn writer_died() -> AppendError {
    AppendError::Unavailable(BackendError::message("the log's writer broke down"))
}

fn unavailable(error: AppendError) -> ReadError {
    match error {
        AppendError::Closed => ReadError::Closed,
        AppendError::Unavailable(error) => ReadError::Unavailable(error),
        AppendError::Full(_) | AppendError::SequenceTooOld { .. } | AppendError::OtherLevel { .. } => {
            ReadError::Unavailable(BackendError::new(error))
        }
    }
}

fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    for thread in threads {
        let name = thread.thread().name().unwrap_or_default().to_owned();
        if thread.join().is_err() {
            tracing::error!(thread = name, "a thread of the event log panicked");
        }
    }
}

#[cfg(test)]
mod tests;
