//! What is known before anything is judged.

use std::sync::Arc;

use evergate_domain::{
    Cursor, Event, KeyFilter, Offset, ResumeKind, Start, StreamName, StreamSet, UnixMillis,
};
use evergate_eventlog::{EventLog, Page, ReadError, ReadLimit};

/// What has become of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventState {
    /// It can be read.
    There(Arc<Event>),
    /// Retention has removed everything up to here.
    Trimmed {
        /// The newest that is gone.
        floor: Offset,
    },
    /// It was appended and is not as safe yet as its stream demands, so nobody is shown it.
    Uncommitted {
        /// The newest that anybody is shown.
        committed: Offset,
    },
    /// No event has come so far.
    Unpublished {
        /// The newest that there is.
        tail: Offset,
    },
    /// In its place stands another one: its own was of a history that was lost, or never was.
    Elsewhere {
        /// What stands there.
        instead: Offset,
    },
}

/// Where a stream began for its client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Began {
    pub(crate) at: Cursor,
    pub(crate) how: ResumeKind,
    pub(crate) time: UnixMillis,
}

/// An open stream of the client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Open {
    pub(crate) streams: StreamSet,
    /// One per stream, in the set's order; none while it is being opened.
    pub(crate) filters: Vec<KeyFilter>,
    /// `None` while it is being opened.
    pub(crate) began: Option<Began>,
    /// How far it has surely come, and when that was found.
    pub(crate) come: Option<(Cursor, UnixMillis)>,
    /// Whether that is what the client says itself.
    pub(crate) acknowledges: bool,
}

/// The stream may move under the question: by retention, and by events that come faster than is asked.
const LOOKS: usize = 5;

/// Asks the log. `None` if the stream moved under the question each time.
pub(super) async fn look_up(
    log: &Arc<dyn EventLog>,
    stream: &StreamName,
    event: Offset,
) -> Result<Option<EventState>, ReadError> {
    for _ in 0..LOOKS {
        let status = log.status(stream).await?;
        if event.seq > status.appended.seq {
            return Ok(Some(EventState::Unpublished { tail: status.appended }));
        }
        if event.seq > status.tail.seq {
            return Ok(Some(EventState::Uncommitted { committed: status.tail }));
        }
        if event.seq <= status.floor.seq {
            return Ok(Some(EventState::Trimmed { floor: status.floor }));
        }
        // By its place from the end, for the epoch of the one before it is not known.
        let from_end = status.tail.seq.get() - event.seq.get() + 1;
        let before = log.locate(stream, Start::Last(from_end)).await?;
        let page = log.read(stream, before, ReadLimit { events: 1, bytes: 1 }).await?;
        if let Page::Events { events, .. } = page
            && let Some(found) = events.into_iter().find(|found| found.offset.seq == event.seq)
        {
            let instead = found.offset;
            return Ok(Some(if instead == event {
                EventState::There(found)
            } else {
                EventState::Elsewhere { instead }
            }));
        }
    }
    Ok(None)
}
