//! The production log: Redis or Valkey, shared by many processes.
//!
//! ```text
//!   append ── queue ──▶ Writer, a lane per stream ──▶ Call ──▶ write link ─┐
//!   read, status, locate ──▶ reader ─────────────────────────▶ read link ──┼──▶ Redis: evergate.lua
//!   follow ◀── TailSender ◀── Sequencer ◀── Live ◀── push ──── listen link ┘
//!                                                 Topology: which primary's links
//! ```
//! What is appended, and under which right, is decided inside Redis by the functions in
//! `evergate.lua`, one atomic call each; this side sends, repeats what is unknown under the same
//! numbers, and puts what comes back in order. Why it is done this way is in
//! `docs/adr/0002-redis-log.md`; what an operator must know, in `docs/redis.md`.
//!
//! At [`Level::Home`] an acknowledged event is in the primary's memory, and a crash of it may lose
//! the newest ones: then everybody who was there is told of a loss. From [`Level::Replicated`] on a
//! replica has confirmed it, and nothing is shown before.

#![expect(
    clippy::wildcard_enum_match_arm,
    reason = "what else the redis crate's enums may hold is an answer that makes no sense here"
)]

mod address;
mod error;
mod options;
mod url;

mod hash_slot;
mod keys;
mod reply;
mod wire;

mod budget;
mod checks;
mod library;
mod link;
mod node;
mod times;
mod topology;

mod call;
mod commands;
mod cursors;
mod gates;
mod levels;
mod moves;
mod writer;

mod live;
mod reader;
mod sequencer;

#[cfg(feature = "fuzzing")]
pub mod fuzzing;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use evergate_domain::{EventDraft, Level, NUMBER_MAX, Offset, Start, StreamName, StreamPolicies};
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;

use commands::RedisCommands;
pub use cursors::RedisCursors;
pub use error::RedisOpenError;
pub use options::{RedisOptions, SentinelLogin};
pub use url::RedisUrl;

use crate::{
    AppendError, BackendError, Clock, EventLog, Page, Placed, ReadError, ReadLimit, StreamStatus, Tail,
};
use call::Batch;
use gates::Gates;
use keys::{Keys, Slot};
use levels::Levels;
use live::Live;
use topology::{Finder, Keeper, Topology};
use writer::{Request, Writer};

/// Events of one batch: all of them must fit the window within which a retry is recognised.
const BATCH_EVENTS_MAX: usize = 1000;
/// Bytes that stand for one permit of the queue's memory.
const PERMIT_BYTES: u64 = 1 << 10;
/// Streams whose retention is applied by one round trip.
const TRIM_STREAMS: usize = 64;

/// The log in Redis.
///
/// Any number of processes may use the same Redis at once. Ended by [`close`](EventLog::close).
pub struct RedisLog {
    shared: Arc<Shared>,
    /// None once the log takes no more appends. When it is full, appends wait.
    queue: Mutex<Option<mpsc::Sender<Request>>>,
    rooms: Rooms,
    writer: Mutex<Option<tokio::task::JoinHandle<()>>>,
    /// What only waits: ended without being asked.
    tasks: Mutex<JoinSet<()>>,
}

/// Bounds the memory of the batches that are not answered. When it is used up, appends wait: those
/// that replicas confirm for each other, and not the others for them.
struct Rooms {
    /// At `HOME`, and above it.
    by_level: [Arc<Semaphore>; 2],
    /// What each has at first.
    permits: u32,
}

impl Rooms {
    /// With so many bytes each.
    fn new(bytes: u64) -> Self {
        let permits = u32::try_from(bytes / PERMIT_BYTES).unwrap_or(u32::MAX).max(1);
        Self { by_level: std::array::from_fn(|_| Arc::new(Semaphore::new(permits as usize))), permits }
    }

    /// Room for so many bytes, as soon as there is some; a batch that is larger takes all. None once
    /// it is closed. Cancel-safe.
    async fn take(&self, bytes: u64, level: Level) -> Option<OwnedSemaphorePermit> {
        let permits = u32::try_from(bytes / PERMIT_BYTES + 1).unwrap_or(u32::MAX).min(self.permits);
        let room = &self.by_level[usize::from(level > Level::Home)];
        Arc::clone(room).acquire_many_owned(permits).await.ok()
    }

    fn close(&self) {
        self.by_level.iter().for_each(|room| room.close());
    }
}

/// What every part needs.
struct Shared {
    options: Arc<RedisOptions>,
    policies: Arc<StreamPolicies>,
    clock: Arc<dyn Clock>,
    database: u32,
    /// This process' own name as a producer.
    incarnation: String,
    topology: Topology,
    gates: Gates,
    levels: Levels,
    live: Arc<Live>,
    closed: AtomicBool,
}

impl RedisLog {
    /// Looks whether this Redis will do, loads the function library, and connects.
    pub async fn open(
        options: RedisOptions,
        policies: Arc<StreamPolicies>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, RedisOpenError> {
        let options = Arc::new(options);
        let mut finder = Finder::new(Arc::clone(&options));
        let layout = finder.find().await?;
        let live = Arc::<Live>::default();
        let pushed = Arc::downgrade(&live);
        let on_push: link::OnPush = Arc::new(move |generation, push| {
            if let Some(live) = pushed.upgrade() {
                live.on_push(generation, &push);
            }
        });
        let (topology, keeper) = Keeper::new(Arc::clone(&options), finder, layout, on_push);
        topology.check(&options, &policies).await?;

        let shared = Arc::new(Shared {
            database: options.url.database(),
            incarnation: call::incarnation(),
            gates: Gates::new(Arc::clone(&clock)),
            levels: Levels::new(options.levels.clone()),
            options,
            policies,
            clock,
            topology,
            live,
            closed: AtomicBool::new(false),
        });
        let (queue, requests) = mpsc::channel(shared.options.queue_batches.max(1));
        let mut tasks = JoinSet::new();
        tasks.spawn(keeper.run(Arc::clone(&shared), queue.downgrade()));
        let writer = tokio::spawn(Writer::new(Arc::clone(&shared)).run(requests));
        Ok(Self {
            rooms: Rooms::new(shared.options.queue_bytes),
            shared,
            queue: Mutex::new(Some(queue)),
            writer: Mutex::new(Some(writer)),
            tasks: Mutex::new(tasks),
        })
    }

    /// Opens a new epoch in every slot that was ever opened, in order: nothing is lost by it, and
    /// every other process learns of it from its next append.
    pub async fn take_over(&self) -> Result<(), ReadError> {
        self.check_open()?;
        for slot in Slot::all() {
            reader::take_over(&self.shared, slot).await.map_err(ReadError::Unavailable)?;
        }
        Ok(())
    }

    /// For whoever keeps something of its own on the same servers.
    fn commands(&self) -> RedisCommands {
        RedisCommands::new(Arc::clone(&self.shared))
    }

    fn check_open(&self) -> Result<(), ReadError> {
        if self.shared.closed.load(Ordering::Acquire) { Err(ReadError::Closed) } else { Ok(()) }
    }
}

#[async_trait]
impl EventLog for RedisLog {
    async fn append(&self, stream: &StreamName, batch: Vec<EventDraft>) -> Result<Vec<Placed>, AppendError> {
        self.check_open().map_err(|_| AppendError::Closed)?;
        if batch.is_empty() {
            return Ok(vec![]);
        }
        if batch.len() > BATCH_EVENTS_MAX {
            return Err(AppendError::Full(format!("a batch holds at most {BATCH_EVENTS_MAX} events")));
        }
        let bytes: u64 = batch.iter().map(|draft| draft.bytes() + wire::OVERHEAD_BYTES).sum();
        let room = self.rooms.take(bytes, self.level(stream)).await.ok_or(AppendError::Closed)?;
        let (answer, answered) = oneshot::channel();
        let queue = self.queue.lock().clone().ok_or(AppendError::Closed)?;
        let request = Request::Append(stream.clone(), Batch { events: batch, answer, _room: room });
        queue.send(request).await.map_err(|_| AppendError::Closed)?;
        drop(queue);
        answered.await.unwrap_or_else(|_| {
            Err(AppendError::Unavailable(BackendError::message("the log's writer broke down")))
        })
    }

    async fn read(&self, stream: &StreamName, after: Offset, limit: ReadLimit) -> Result<Page, ReadError> {
        self.check_open()?;
        reader::page(&self.shared, stream, after, limit).await
    }

    async fn locate(&self, stream: &StreamName, start: Start) -> Result<Offset, ReadError> {
        self.check_open()?;
        reader::locate(&self.shared, &Keys::of(stream), start).await
    }

    async fn follow(&self, stream: &StreamName) -> Result<Tail, ReadError> {
        self.check_open()?;
        self.shared.live.follow(&self.shared, stream).await
    }

    async fn status(&self, stream: &StreamName) -> Result<StreamStatus, ReadError> {
        self.check_open()?;
        reader::status(&self.shared, &Keys::of(stream)).await
    }

    async fn trim(&self) -> Result<(), ReadError> {
        self.check_open()?;
        trim(&self.shared).await.map_err(ReadError::Unavailable)
    }

    fn troubles(&self) -> Vec<String> {
        let mut troubles = self.shared.topology.troubles();
        troubles.extend(self.shared.levels.troubles());
        troubles
    }

    fn level(&self, stream: &StreamName) -> Level {
        self.shared.levels.of(stream)
    }

    async fn close(&self) {
        self.shared.closed.store(true, Ordering::Release);
        self.rooms.close();
        drop(self.queue.lock().take());
        let writer = self.writer.lock().take();
        if let Some(writer) = writer
            && let Err(error) = writer.await
        {
            tracing::error!(%error, "the event log was not closed in order");
        }
        self.shared.live.close();
        let mut tasks = std::mem::take(&mut *self.tasks.lock());
        tasks.shutdown().await;
    }
}

/// Applies the retention of every stream there is. What one primary cannot do now, or another
/// process does, holds up nobody else.
async fn trim(shared: &Shared) -> Result<(), BackendError> {
    let (mut failure, mut silent) = (None, Vec::new());
    for slot in Slot::all() {
        let owner = shared.topology.now().node(slot.hash_slot()).map(|node| node.place.address.clone());
        if silent.contains(&owner) {
            continue;
        }
        if let Err(error) = trim_slot(shared, slot).await {
            failure = Some(error);
            silent.push(owner);
        }
    }
    failure.map_or(Ok(()), Err)
}

async fn trim_slot(shared: &Shared, slot: Slot) -> Result<(), BackendError> {
    let at = slot.hash_slot();
    let names = reader::ask(shared, at, redis::cmd("SMEMBERS").arg(slot.streams())).await?;
    let names = reply::words(names).ok_or_else(|| error::odd("the names of streams"))?;
    let streams: Vec<_> = names.iter().filter_map(|name| StreamName::new(name).ok()).collect();
    if streams.is_empty() || !reader::is_trimmer(shared, slot).await? {
        return Ok(());
    }
    let now = shared.clock.now();
    for streams in streams.chunks(TRIM_STREAMS) {
        let mut pipe = redis::pipe();
        for stream in streams {
            let keep = shared.policies.retention(stream);
            let keys = Keys::of(stream);
            let bound = |n: Option<u64>| n.map(|n| n.min(NUMBER_MAX).to_string()).unwrap_or_default();
            let millis = |age: std::time::Duration| u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            pipe.cmd("FCALL").arg("evergate_1_trim").arg(3);
            pipe.arg(keys.meta()).arg(keys.log()).arg(keys.index());
            pipe.arg(bound(keep.events)).arg(bound(keep.bytes));
            pipe.arg(bound(keep.age.map(|age| now.minus_millis(millis(age)).get())));
        }
        let answers = reader::ask_all(shared, at, &pipe, streams.len()).await?;
        for (stream, answer) in streams.iter().zip(answers) {
            let floor = reply::words(answer).and_then(|words| reply::seq(words.get(1)?));
            let floor = floor.ok_or_else(|| error::odd("trim"))?;
            shared.live.trimmed(&Keys::of(stream).channel(shared.database), floor);
        }
    }
    Ok(())
}

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
