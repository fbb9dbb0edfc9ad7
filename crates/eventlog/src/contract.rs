//! What every event log promises.

use std::sync::Arc;

use async_trait::async_trait;
use evergate_domain::{Event, EventDraft, Gap, Level, Offset, Start, StreamName};

use crate::{AppendError, ReadError, Tail};

/// An ordered, dense, idempotent log of events, one per stream.
///
/// **Streams** exist from the first mention; nothing has to be created. Whether a stream *may* be
/// used is its caller's question.
///
/// **Order and density.** The events of a stream have the sequences 1, 2, 3 … without holes, in the
/// order in which their appends took effect, over all epochs. Streams are independent.
///
/// **Durability.** When [`append`](Self::append) returns an offset, the event is as safe as
/// [`level`](Self::level) says, and no crash of this process takes it back. An event is shown to
/// readers and tails only when it is that safe: nobody ever sees an event that later never was.
///
/// **Idempotence.** Per stream and producer the last [`WINDOW`](crate::WINDOW) sequences are
/// remembered, over restarts too where the log is durable. A sequence in it returns its first
/// offset; a higher one is new (holes are allowed); a lower unknown one is refused.
///
/// **No silent loss.** Reading goes through [`read`](Self::read), which judges the cursor and
/// reads in one step: what was trimmed, forked or never existed is answered by a [`Gap`], never
/// by a later event without a word.
///
/// **Clocks** only stamp events and age them out. No answer about order or loss depends on one.
#[async_trait]
pub trait EventLog: Send + Sync + 'static {
    /// Appends a batch to one stream: all of it, contiguously and in this order, or nothing.
    ///
    /// Answers per event, in order; an event that the log had already is answered with its first
    /// offset. An empty batch is answered with nothing.
    ///
    /// Waits while the log's queue is full. Not cancel-safe in the sense that dropping the future
    /// withdraws nothing: the batch may still take effect, whole. Retry with the same producer
    /// sequences to find out.
    async fn append(&self, stream: &StreamName, batch: Vec<EventDraft>) -> Result<Vec<Placed>, AppendError>;

    /// Reads on from a cursor, or says why that cannot be done.
    ///
    /// One atomic answer: the events directly after `after`, or a [`Gap`] to go on from. At most
    /// `limit`, but at least one event if there is any. Cancel-safe.
    async fn read(&self, stream: &StreamName, after: Offset, limit: ReadLimit) -> Result<Page, ReadError>;

    /// The cursor at which a subscriber begins that does not resume. For [`Start::After`] that is
    /// the offset itself, not judged: [`read`](Self::read) does that. Cancel-safe.
    async fn locate(&self, stream: &StreamName, start: Start) -> Result<Offset, ReadError>;

    /// Follows a stream: a [`Tail`] that yields what is appended from now on. Everything after its
    /// [`start`](Tail::start) comes, in order, unless it says [`TailItem::Lagged`](crate::TailItem);
    /// a reader then repairs by [`read`](Self::read). Cancel-safe.
    async fn follow(&self, stream: &StreamName) -> Result<Tail, ReadError>;

    /// Where a stream stands. Cancel-safe.
    async fn status(&self, stream: &StreamName) -> Result<StreamStatus, ReadError>;

    /// Applies every stream's retention now, idle streams too. Appends do it for their own stream
    /// by count and bytes; age needs this call from time to time. Harmless if repeated or dropped.
    async fn trim(&self) -> Result<(), ReadError>;

    /// What of the storage cannot be used right now, each in a sentence. Waits for nothing.
    fn troubles(&self) -> Vec<String> {
        vec![]
    }

    /// How safe an acknowledged event of this stream is.
    fn level(&self, stream: &StreamName) -> Level;

    /// Takes no more appends, finishes those it has, and lets go of its resources. Tails end.
    async fn close(&self);
}

/// Where an event of a batch stands now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Placed {
    /// Its offset.
    pub offset: Offset,
    /// Whether an earlier append had already put it there.
    pub duplicate: bool,
}

/// How much one read returns at the most.
#[derive(Debug, Clone, Copy)]
pub struct ReadLimit {
    /// Events.
    pub events: usize,
    /// Bytes of payload, keys and types; the event that crosses the bound is still returned.
    pub bytes: u64,
}

/// The answer to a read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Page {
    /// What comes directly after the cursor, dense; empty at the end of the log.
    Events {
        /// The events.
        events: Vec<Arc<Event>>,
        /// Whether the log had nothing more when it was read.
        at_end: bool,
    },
    /// Continuity is broken at the cursor: tell the subscriber, then go on from [`Gap::cursor`].
    Gap(Gap),
    /// The cursor may be ahead of what this region has; it is neither right nor wrong yet. Logs
    /// that hold all there is never answer so.
    Hold {
        /// The newest position that can be read here.
        committed: Offset,
    },
}

/// Where a stream stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamStatus {
    /// The newest committed event; `<epoch>-0` if there never was one.
    pub tail: Offset,
    /// The newest event there is, committed or not.
    pub appended: Offset,
    /// The newest event that is gone; sequence 0 if none is.
    pub floor: Offset,
    /// Bytes of payload, keys and types that are kept.
    pub bytes: u64,
}
