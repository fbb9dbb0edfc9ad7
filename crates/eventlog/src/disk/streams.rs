//! The readers' view of the streams: what is durable, and who follows it.

use std::collections::HashMap;
use std::sync::Arc;

use evergate_domain::{Epoch, Event, Offset, Seq, StreamName};
use parking_lot::{Mutex, RwLock};

use super::heads::Standpoint;
use super::rows::StreamId;
use super::tables::Tables;
use crate::{BackendError, Epochs, Lineage, Standing, StreamStatus, Tail, TailSender};

/// Streams that may be in memory before those that nobody follows are let go.
const STREAMS_MAX: usize = if cfg!(test) { 4 } else { 16_384 };

/// The streams somebody asked for lately.
pub(super) struct Streams {
    known: RwLock<Known>,
}

struct Known {
    streams: HashMap<StreamName, Arc<Stream>>,
    sweep_at: usize,
}

/// One stream. Its state is read from the tables when it is first wanted.
#[derive(Default)]
pub(super) struct Stream(Mutex<Option<Durable>>);

/// What of a stream is durable.
pub(super) struct Durable {
    /// None until it is published to.
    id: Option<StreamId>,
    lineage: Lineage,
    floor: Seq,
    bytes: u64,
    /// None while nobody follows.
    followers: Option<TailSender>,
}

impl Default for Streams {
    fn default() -> Self {
        Self { known: RwLock::new(Known { streams: HashMap::new(), sweep_at: STREAMS_MAX }) }
    }
}

impl Streams {
    pub(super) fn get(&self, name: &StreamName) -> Arc<Stream> {
        if let Some(stream) = self.known.read().streams.get(name) {
            return Arc::clone(stream);
        }
        let mut known = self.known.write();
        if known.streams.len() >= known.sweep_at {
            // Whoever holds a stream keeps it: there are never two states of one stream.
            known.streams.retain(|_, stream| Arc::strong_count(stream) > 1 || stream.is_followed());
            known.sweep_at = STREAMS_MAX.max(2 * known.streams.len());
        }
        Arc::clone(known.streams.entry(name.clone()).or_default())
    }

    /// A group is durable and in the tables: shows it to readers and followers. Called in the
    /// order of the groups.
    pub(super) fn publish(&self, name: &StreamName, at: Standpoint, events: &[Arc<Event>]) {
        let Some(stream) = self.known.read().streams.get(name).cloned() else { return };
        // A stream that is not read yet will be read with this group in it.
        if let Some(durable) = &mut *stream.0.lock() {
            durable.publish(at, events);
        }
    }

    /// Tells everybody who follows a stream what is gone of it.
    pub(super) fn tell_floors(&self) {
        let streams: Vec<_> = self.known.read().streams.values().cloned().collect();
        for stream in streams {
            if let Some(Durable { followers: Some(followers), floor, .. }) = &*stream.0.lock() {
                followers.trimmed(*floor);
            }
        }
    }

    /// Lets go of everything. Tails end.
    pub(super) fn close(&self) {
        for (_, stream) in self.known.write().streams.drain() {
            *stream.0.lock() = None;
        }
    }
}

impl Stream {
    /// Asks something of the stream, if that takes no reading and no waiting.
    pub(super) fn ask_now<T>(&self, ask: impl FnOnce(&mut Durable) -> T) -> Option<T> {
        self.0.try_lock()?.as_mut().map(ask)
    }

    /// Asks something of the stream. Reads its state if need be, so it may block.
    pub(super) fn ask<T>(
        &self,
        tables: &Tables,
        name: &StreamName,
        ask: impl FnOnce(&mut Durable) -> T,
    ) -> Result<T, BackendError> {
        let mut state = self.0.lock();
        let durable = match &mut *state {
            Some(durable) => durable,
            unread => unread.insert(Durable::read(tables, name)?),
        };
        Ok(ask(durable))
    }

    fn is_followed(&self) -> bool {
        let state = self.0.lock();
        state.as_ref().and_then(|durable| durable.followers.as_ref()).is_some_and(TailSender::is_followed)
    }
}

impl Durable {
    fn read(tables: &Tables, name: &StreamName) -> Result<Self, BackendError> {
        let nothing =
            Self { id: None, lineage: Lineage::default(), floor: Seq::ZERO, bytes: 0, followers: None };
        let Some((id, head)) = tables.head(name)? else { return Ok(nothing) };
        Ok(Self {
            id: Some(id),
            lineage: tables.lineage(id, &head)?,
            floor: head.floor,
            bytes: head.bytes_in - head.bytes_gone,
            followers: None,
        })
    }

    /// The state may have been read with this group in it already, so everything here is as it
    /// shall be, not a step on from what was.
    fn publish(&mut self, at: Standpoint, events: &[Arc<Event>]) {
        self.id = Some(at.id);
        if at.tail.seq > self.lineage.tail_seq() {
            self.lineage.extend_to(at.tail);
        }
        self.floor = self.floor.max(at.floor);
        self.bytes = at.bytes;
        match &self.followers {
            Some(followers) if followers.is_followed() => followers.send(events),
            Some(_) | None => self.followers = None,
        }
    }

    pub(super) fn judge(&self, cursor: Offset, epochs: &Epochs) -> Standing {
        self.lineage.judge(cursor, self.floor, epochs)
    }

    /// None if the stream holds nothing and never did.
    pub(super) fn id(&self) -> Option<StreamId> {
        self.id
    }

    pub(super) fn floor(&self) -> Seq {
        self.floor
    }

    pub(super) fn tail(&self) -> Seq {
        self.lineage.tail_seq()
    }

    pub(super) fn lineage(&self) -> &Lineage {
        &self.lineage
    }

    pub(super) fn cursor_at(&self, seq: Seq, current: Epoch) -> Offset {
        self.lineage.cursor_at(seq, current)
    }

    pub(super) fn follow(&mut self, current: Epoch) -> Tail {
        let start = self.cursor_at(self.tail(), current);
        self.followers.get_or_insert_default().follow(start)
    }

    pub(super) fn status(&self, current: Epoch) -> StreamStatus {
        StreamStatus {
            tail: self.cursor_at(self.tail(), current),
            appended: self.cursor_at(self.tail(), current),
            floor: self.cursor_at(self.floor, current),
            bytes: self.bytes,
        }
    }
}
