//! A look at the streams that are followed here, for whoever operates the edge. It changes nothing.

use std::sync::{Arc, Weak};

use evergate_domain::{Event, Level, Offset, Retention, Start, StreamName};
use evergate_eventlog::{EventLog, Page, ReadError, ReadLimit, StreamStatus};

use crate::http::Context;

/// Bytes of events that one look shows.
const BYTES_MAX: u64 = 256 << 10;

/// Looks at streams. Cheap to clone; keeps nothing alive.
#[derive(Clone)]
pub struct Viewer {
    context: Weak<Context>,
    log: Weak<dyn EventLog>,
}

/// A stream at one moment.
#[derive(Debug, Clone)]
pub struct Look {
    /// Where it stands.
    pub status: StreamStatus,
    /// How safe its events are.
    pub level: Level,
    /// How much of it is kept.
    pub retention: Retention,
    /// The newest of them, the oldest first.
    pub events: Vec<Arc<Event>>,
}

/// Why a stream cannot be looked at.
#[derive(Debug, thiserror::Error)]
pub enum LookError {
    /// The log does not answer. A retry may help.
    #[error("the log cannot be read")]
    Log(#[from] ReadError),
    /// The edge has ended.
    #[error("the edge has ended")]
    Ended,
}

impl Viewer {
    pub(crate) fn new(context: Weak<Context>, log: Weak<dyn EventLog>) -> Self {
        Self { context, log }
    }

    /// The streams that somebody follows here, by name, each with the newest event that came.
    #[must_use]
    pub fn followed(&self) -> Vec<(StreamName, Offset)> {
        self.context.upgrade().map(|context| context.hub.followed()).unwrap_or_default()
    }

    /// A stream and its newest events, so many at the most.
    pub async fn look(&self, stream: &StreamName, events: usize) -> Result<Look, LookError> {
        let log = self.log.upgrade().ok_or(LookError::Ended)?;
        let context = self.context.upgrade().ok_or(LookError::Ended)?;
        let retention = context.config.policies.retention(stream);
        drop(context);
        let status = log.status(stream).await?;
        let before = log.locate(stream, Start::Last(events as u64)).await?;
        let events = match log.read(stream, before, ReadLimit { events, bytes: BYTES_MAX }).await? {
            Page::Events { events, .. } => events,
            // It was trimmed meanwhile, or is being repaired: the next look finds more.
            Page::Gap(_) | Page::Hold { .. } => Vec::new(),
        };
        Ok(Look { status, level: log.level(stream), retention, events })
    }
}
