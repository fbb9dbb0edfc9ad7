//! The writer: one thread that takes requests from the queue, judges them in order, and makes all
//! that wait durable with one sync.
//!
//! ```text
//!   queue ─▶ judge each on its stream's head ─▶ one commit ─▶ show to readers ─▶ answer
//! ```
//! Groups form by themselves: what arrives while a group is being synced is the next one. Nothing
//! is shown or answered before it is durable.

use std::collections::HashMap;
use std::sync::Arc;

use evergate_domain::{Epoch, Event, EventDraft, StreamName, StreamPolicies, UnixMillis};
use tokio::sync::{OwnedSemaphorePermit, mpsc, oneshot};

use super::catalog::EventFault;
use super::chores::Chores;
use super::group::Group;
use super::heads::{Heads, WorkingStream};
use super::rows;
use super::store::{CommitError, Committer};
use super::streams::Streams;
use super::tables::{FILE_BYTES, Tables};
use crate::{AppendError, BackendError, Clock, Placed, ReadError};

/// The most that one group takes in, so that the first of it need not wait for too many. A batch
/// is never split.
const GROUP_EVENTS_MAX: usize = 8192;
const GROUP_BYTES_MAX: u64 = 4 << 20;

/// What the writer is asked for.
pub(super) enum Request {
    /// Append a batch.
    Append {
        stream: StreamName,
        batch: Vec<EventDraft>,
        bytes: u64,
        answer: oneshot::Sender<Result<Vec<Placed>, AppendError>>,
        /// Its share of the queue's memory, given back when it is answered.
        room: OwnedSemaphorePermit,
    },
    /// Apply the retention of these streams.
    Trim { streams: Vec<StreamName>, answer: oneshot::Sender<Result<(), ReadError>> },
    /// Take nothing in any more, and end when all that is in the queue is done.
    Close,
}

/// The state of the thread.
pub(super) struct Writer {
    pub(super) tables: Arc<Tables>,
    pub(super) chores: Arc<Chores>,
    pub(super) committer: Committer,
    pub(super) heads: Heads,
    pub(super) streams: Arc<Streams>,
    pub(super) policies: Arc<StreamPolicies>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) epoch: Epoch,
    /// Whether a later process will know of the epoch.
    pub(super) epoch_stored: bool,
    /// Whether the last append was refused for want of room.
    pub(super) full: bool,
}

/// An answer that is given when the group is durable.
enum Answer {
    Append {
        answer: oneshot::Sender<Result<Vec<Placed>, AppendError>>,
        result: Result<Vec<Placed>, AppendError>,
        _room: OwnedSemaphorePermit,
    },
    Trim {
        answer: oneshot::Sender<Result<(), ReadError>>,
        result: Result<(), ReadError>,
    },
}

/// A group under way.
#[derive(Default)]
struct Pending {
    rows: Group,
    /// What each changed stream gets.
    changed: HashMap<StreamName, Vec<Arc<Event>>>,
    answers: Vec<Answer>,
    /// Asked once a group.
    room: Option<Result<(), String>>,
}

impl Writer {
    /// Makes the epoch durable. Where there is no room for that, the first append will.
    pub(super) fn begin(&mut self) -> Result<(), BackendError> {
        match self.commit(&mut Group::default()) {
            Ok(()) => Ok(()),
            Err(CommitError::Full(why)) => {
                tracing::warn!(why, "the event log is opened, but has no room for appends");
                Ok(())
            }
            Err(CommitError::Refused(error) | CommitError::Unknown(error)) => Err(error),
        }
    }

    /// Works until every handle to the queue is gone and it is empty.
    pub(super) fn run(mut self, mut queue: mpsc::Receiver<Request>) {
        while let Some(request) = queue.blocking_recv() {
            let (mut events, mut bytes) = (0, 0);
            let mut next = Some(request);
            let mut pending = Pending::default();
            while let Some(request) = next {
                if let Request::Append { batch, bytes: of_batch, .. } = &request {
                    events += batch.len();
                    bytes += of_batch;
                }
                if matches!(request, Request::Close) {
                    queue.close();
                }
                self.judge(request, &mut pending);
                let more = events < GROUP_EVENTS_MAX && bytes < GROUP_BYTES_MAX;
                next = if more { queue.try_recv().ok() } else { None };
            }
            self.finish(pending);
            self.heads.shrink();
        }
    }

    fn judge(&mut self, request: Request, pending: &mut Pending) {
        let now = self.clock.now();
        match request {
            Request::Append { stream, batch, answer, room, .. } => {
                let result = self.append(&stream, now, batch, pending);
                pending.answers.push(Answer::Append { answer, result, _room: room });
            }
            Request::Trim { streams, answer } => {
                let result = streams.iter().try_for_each(|name| self.trim(name, now, pending));
                pending.answers.push(Answer::Trim { answer, result });
            }
            Request::Close => {}
        }
    }

    fn append(
        &mut self,
        name: &StreamName,
        now: UnixMillis,
        batch: Vec<EventDraft>,
        pending: &mut Pending,
    ) -> Result<Vec<Placed>, AppendError> {
        let stream = self.heads.stream(&self.tables, name).map_err(AppendError::Unavailable)?;
        let plan = stream.plan(self.epoch, now, batch)?;
        if plan.events.is_empty() {
            return Ok(plan.answer);
        }
        let committer = &self.committer;
        pending.room.get_or_insert_with(|| committer.check_room()).clone().map_err(AppendError::Full)?;
        stream.commit(&plan, &mut pending.rows);
        pending.changed.entry(name.clone()).or_default().extend(plan.events);
        let retention = self.policies.retention(name);
        if let Err(fault) = stream.trim_after_append(&self.tables, retention, now) {
            complain(name, stream, fault);
        }
        Ok(plan.answer)
    }

    fn trim(&mut self, name: &StreamName, now: UnixMillis, pending: &mut Pending) -> Result<(), ReadError> {
        let stream = self.heads.stream(&self.tables, name).map_err(ReadError::Unavailable)?;
        let raised = stream.trim(&self.tables, self.policies.retention(name), now);
        if raised.map_err(|fault| fault.of(name))? {
            pending.changed.entry(name.clone()).or_default();
        }
        Ok(())
    }

    fn finish(&mut self, mut pending: Pending) {
        self.heads.store(pending.changed.keys(), self.epoch, &mut pending.rows);
        let done = if pending.rows.is_empty() { Ok(()) } else { self.commit(&mut pending.rows) };
        match &done {
            Ok(()) => self.show(&pending.changed),
            Err(_) => {
                for name in pending.changed.keys() {
                    self.heads.forget(name);
                }
            }
        }
        let refused = matches!(pending.room, Some(Err(_))) || matches!(done, Err(CommitError::Full(_)));
        if refused != self.full && (refused || !pending.changed.is_empty()) {
            self.full = refused;
            metrics::gauge!("evergate_log_full").set(f64::from(u8::from(refused)));
        }
        for answer in pending.answers {
            answer.give(&done);
        }
    }

    fn commit(&mut self, rows: &mut Group) -> Result<(), CommitError> {
        if !self.epoch_stored {
            rows.put(rows::epoch_key(self.epoch), vec![]);
        }
        self.committer.commit(rows)?;
        self.epoch_stored = true;
        Ok(())
    }

    fn show(&mut self, changed: &HashMap<StreamName, Vec<Arc<Event>>>) {
        for (name, events) in changed {
            let (standpoint, drop_files) = self.heads.stored(name, self.epoch, FILE_BYTES);
            self.streams.publish(name, standpoint, events);
            if drop_files {
                self.chores.drop_files(standpoint.id, standpoint.floor);
            }
        }
    }
}

impl Answer {
    /// Whoever asked may have gone, which changes nothing.
    fn give(self, done: &Result<(), CommitError>) {
        match self {
            Self::Append { answer, result, _room } => {
                // Refused on its own account, or it shares the fate of the group. That goes for
                // duplicates too: their first attempt may be in the same group.
                let _ = answer.send(result.and_then(|placed| match done {
                    Ok(()) => Ok(placed),
                    Err(CommitError::Full(why)) => Err(AppendError::Full(why.clone())),
                    Err(CommitError::Refused(error) | CommitError::Unknown(error)) => {
                        Err(AppendError::Unavailable(error.clone()))
                    }
                }));
            }
            Self::Trim { answer, result } => {
                let _ = answer.send(result.and_then(|()| match done {
                    Ok(()) => Ok(()),
                    Err(CommitError::Full(why)) => {
                        Err(ReadError::Unavailable(BackendError::message(why.clone())))
                    }
                    Err(CommitError::Refused(error) | CommitError::Unknown(error)) => {
                        Err(ReadError::Unavailable(error.clone()))
                    }
                }));
            }
        }
    }
}

/// An append does not fail because something old cannot be judged; it is told once.
fn complain(name: &StreamName, stream: &mut WorkingStream, fault: EventFault) {
    if !std::mem::replace(&mut stream.trim_failed, true) {
        let error = fault.of(name);
        tracing::warn!(
            stream = name.as_str(),
            error = &error as &dyn std::error::Error,
            "cannot apply the retention of a stream"
        );
    }
}
