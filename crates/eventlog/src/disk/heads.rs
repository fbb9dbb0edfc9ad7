//! The writer's view of the streams: what is planned, ahead of what is durable.

use std::collections::HashMap;

use evergate_domain::{Epoch, EventDraft, Offset, Retention, Seq, StreamName, UnixMillis};

use super::catalog::{EventFault, first_that};
use super::group::Group;
use super::record::Place;
use super::rows::{self, Head, StreamId};
use super::tables::Tables;
use crate::{AppendError, BackendError, HeadChange, Plan, StreamHead};

/// Streams whose heads are kept in memory, and producers of all of them together. Beyond either,
/// the half that was used least lately goes; a head is read again when it is needed again.
const STREAMS_MAX: usize = if cfg!(test) { 4 } else { 16_384 };
const PRODUCERS_MAX: usize = 1 << 18;
/// Uses between two looks at how many producers there are.
const SHRINK_EVERY: u64 = 1024;

/// A stream may be larger by one part in so many than its retention wants, until it is trimmed
/// explicitly.
const SLACK: u64 = 128;

/// The heads the writer works on.
#[derive(Default)]
pub(super) struct Heads {
    streams: HashMap<StreamName, WorkingStream>,
    next_id: u32,
    /// Counts uses.
    clock: u64,
    /// When memory was last looked at.
    shrunk: u64,
}

/// One stream, as it will be when the group under way is durable.
pub(super) struct WorkingStream {
    pub(super) id: StreamId,
    head: StreamHead,
    bytes_in: u64,
    bytes_gone: u64,
    oldest_time: UnixMillis,
    /// Whether its name and number are durable.
    stored: bool,
    /// Places of the events of the group under way; the last one's is the tail's.
    staged: Vec<Place>,
    /// Whether that its retention cannot be applied was told already.
    pub(super) trim_failed: bool,
    /// Bytes below the floor since files were last dropped.
    undropped_bytes: u64,
    used: u64,
}

/// Where a stream stands once a group is durable.
#[derive(Debug, Clone, Copy)]
pub(super) struct Standpoint {
    pub(super) id: StreamId,
    pub(super) tail: Offset,
    pub(super) floor: Seq,
    pub(super) bytes: u64,
}

impl Heads {
    pub(super) fn new(next_id: StreamId) -> Self {
        Self { next_id: next_id.get(), ..Self::default() }
    }

    /// The stream, born if need be. Nothing is stored by this.
    pub(super) fn stream(
        &mut self,
        tables: &Tables,
        name: &StreamName,
    ) -> Result<&mut WorkingStream, BackendError> {
        self.clock += 1;
        if !self.streams.contains_key(name) {
            let stream = match tables.head(name)? {
                Some((id, head)) => WorkingStream::load(tables, id, &head)?,
                None => self.bear()?,
            };
            self.streams.insert(name.clone(), stream);
        }
        let stream = self.streams.get_mut(name).expect("there or just inserted");
        stream.used = self.clock;
        Ok(stream)
    }

    /// Adds the rows that say where these streams will stand. They must be known.
    pub(super) fn store<'a>(
        &self,
        names: impl Iterator<Item = &'a StreamName>,
        epoch: Epoch,
        group: &mut Group,
    ) {
        for name in names {
            let stream = self.streams.get(name).expect("worked on in this group");
            stream.store(name, epoch, group);
            if !stream.stored {
                // Numbers given out and never stored are left out, but none is given out twice.
                group.put(rows::NEXT_ID, rows::id_value(StreamId::new(self.next_id)));
            }
        }
    }

    /// The group is durable. Says where the stream stands now, and whether it is time for files
    /// with so many bytes of what is gone to go.
    pub(super) fn stored(&mut self, name: &StreamName, epoch: Epoch, file_bytes: u64) -> (Standpoint, bool) {
        self.streams.get_mut(name).expect("worked on in this group").stored(epoch, file_bytes)
    }

    /// Forgets what is not durable of a stream.
    pub(super) fn forget(&mut self, name: &StreamName) {
        self.streams.remove(name);
    }

    /// Keeps memory within its bounds. Only between groups: everything must be durable.
    pub(super) fn shrink(&mut self) {
        let many = self.streams.len() > STREAMS_MAX;
        if !many && self.clock - self.shrunk < SHRINK_EVERY {
            return;
        }
        self.shrunk = self.clock;
        let producers = |stream: &WorkingStream| stream.head.producers.len();
        if !many && self.streams.values().map(producers).sum::<usize>() <= PRODUCERS_MAX {
            return;
        }
        let mut used: Vec<_> = self.streams.values().map(|stream| stream.used).collect();
        let (_, &mut middle, _) = used.select_nth_unstable(self.streams.len() / 2);
        self.streams.retain(|_, stream| stream.used > middle);
    }

    fn bear(&mut self) -> Result<WorkingStream, BackendError> {
        let id = StreamId::new(self.next_id);
        let too_many = || BackendError::message("the log holds 2^32 streams");
        self.next_id = self.next_id.checked_add(1).ok_or_else(too_many)?;
        Ok(WorkingStream {
            id,
            head: StreamHead::default(),
            bytes_in: 0,
            bytes_gone: 0,
            oldest_time: UnixMillis::default(),
            stored: false,
            staged: Vec::new(),
            trim_failed: false,
            undropped_bytes: 0,
            used: 0,
        })
    }
}

impl WorkingStream {
    fn load(tables: &Tables, id: StreamId, head: &Head) -> Result<Self, BackendError> {
        Ok(Self {
            id,
            head: StreamHead {
                lineage: tables.lineage(id, head)?,
                floor: head.floor,
                last_time: head.last_time,
                producers: tables.producers(id, &head.name)?,
            },
            bytes_in: head.bytes_in,
            bytes_gone: head.bytes_gone,
            oldest_time: head.oldest_time,
            stored: true,
            staged: Vec::new(),
            trim_failed: false,
            undropped_bytes: 0,
            used: 0,
        })
    }

    pub(super) fn plan(
        &self,
        epoch: Epoch,
        now: UnixMillis,
        batch: Vec<EventDraft>,
    ) -> Result<Plan, AppendError> {
        self.head.plan(epoch, now, batch)
    }

    /// Makes a plan part of the group.
    pub(super) fn commit(&mut self, plan: &Plan, group: &mut Group) {
        let Some(first) = plan.events.first() else { return };
        let tail = self.head.tail(first.offset.epoch);
        if tail.seq > Seq::ZERO && tail.epoch != first.offset.epoch {
            group.put(rows::end_key(self.id, tail.epoch), rows::end_value(tail.seq));
        }
        if tail.seq == self.head.floor {
            self.oldest_time = first.time;
        }
        for event in &plan.events {
            group.event(self.id, event, self.bytes_in);
            self.staged.push(Place { time: event.time, before: self.bytes_in });
            self.bytes_in += event.bytes();
        }
        let id = self.id;
        self.head.commit(plan, |change| match change {
            HeadChange::Run(producer, run) => {
                group.put(rows::run_key(id, producer, run.first), rows::run_value(&run));
            }
            HeadChange::Gone(producer, first) => group.remove(rows::run_key(id, producer, first)),
        });
    }

    /// What an append does for its own stream: keeps it to its count and bytes, age being a matter
    /// of time. To raise the floor, an old event has to be read; so a large stream is let grow a
    /// little first, and not every append does that.
    pub(super) fn trim_after_append(
        &mut self,
        tables: &Tables,
        retention: Retention,
        now: UnixMillis,
    ) -> Result<(), EventFault> {
        let retention = Retention { age: None, ..retention };
        let loose = |max: u64| max.saturating_add(max / SLACK);
        let loose =
            Retention { events: retention.events.map(loose), bytes: retention.bytes.map(loose), age: None };
        if !self.keeps_to(&self.bounds(loose, now)) {
            self.trim(tables, retention, now)?;
        }
        Ok(())
    }

    /// Raises the floor to what the stream's retention wants. Answers whether it did.
    pub(super) fn trim(
        &mut self,
        tables: &Tables,
        retention: Retention,
        now: UnixMillis,
    ) -> Result<bool, EventFault> {
        let bounds = self.bounds(retention, now);
        if self.keeps_to(&bounds) {
            return Ok(false);
        }
        let first = self.head.floor.max(bounds.floor).plus(1);
        let end = self.head.lineage.tail_seq().plus(1);
        let kept = first_that(first, end, |seq| self.place(tables, seq).map(|place| bounds.allow(place)))?;
        let place = match kept {
            kept if kept == end => Place { time: self.head.last_time, before: self.bytes_in },
            kept => self.place(tables, kept)?,
        };
        self.undropped_bytes += place.before - self.bytes_gone;
        self.head.floor = kept.before();
        self.bytes_gone = place.before;
        self.oldest_time = place.time;
        Ok(true)
    }

    fn bounds(&self, retention: Retention, now: UnixMillis) -> Bounds {
        Bounds::new(retention, now, self.head.lineage.tail_seq(), self.bytes_in)
    }

    fn keeps_to(&self, bounds: &Bounds) -> bool {
        bounds.keep(self.head.floor, self.head.lineage.tail_seq(), self.bytes_gone, self.oldest_time)
    }

    fn place(&self, tables: &Tables, seq: Seq) -> Result<Place, EventFault> {
        let from_tail = self.head.lineage.tail_seq().get() - seq.get();
        let staged = (self.staged.len() as u64).checked_sub(from_tail + 1).map(|at| at as usize);
        staged.map_or_else(|| tables.place(self.id, seq), |at| Ok(self.staged[at]))
    }

    /// The rows that say where the stream will stand.
    fn store(&self, name: &StreamName, epoch: Epoch, group: &mut Group) {
        if !self.stored {
            group.put(rows::name_key(name), rows::id_value(self.id));
        }
        let head = Head {
            name: name.clone(),
            tail: self.head.tail(epoch),
            last_time: self.head.last_time,
            bytes_in: self.bytes_in,
            floor: self.head.floor,
            bytes_gone: self.bytes_gone,
            oldest_time: self.oldest_time,
        };
        group.put(rows::head_key(self.id), head.encode());
    }

    fn stored(&mut self, epoch: Epoch, file_bytes: u64) -> (Standpoint, bool) {
        self.staged = Vec::new();
        self.stored = true;
        let drop = self.undropped_bytes >= file_bytes;
        if drop {
            self.undropped_bytes = 0;
        }
        let standpoint = Standpoint {
            id: self.id,
            tail: self.head.tail(epoch),
            floor: self.head.floor,
            bytes: self.bytes_in - self.bytes_gone,
        };
        (standpoint, drop)
    }
}

/// What a stream's retention comes to at one moment.
struct Bounds {
    /// By count: the last sequence that has to go.
    floor: Seq,
    /// By bytes: the oldest event that stays has at least so many before it.
    before: u64,
    /// By age: the oldest event that stays is not older.
    oldest: UnixMillis,
}

impl Bounds {
    fn new(retention: Retention, now: UnixMillis, tail: Seq, bytes_in: u64) -> Self {
        let floor = retention.events.map_or(0, |max| tail.get().saturating_sub(max));
        let age = |age: std::time::Duration| now.minus_millis(age.as_millis().try_into().unwrap_or(u64::MAX));
        Self {
            floor: Seq::new(floor).unwrap_or(Seq::ZERO),
            before: retention.bytes.map_or(0, |max| bytes_in.saturating_sub(max)),
            oldest: retention.age.map_or(UnixMillis::default(), age),
        }
    }

    /// Whether everything above `floor` may stay.
    fn keep(&self, floor: Seq, tail: Seq, before: u64, oldest: UnixMillis) -> bool {
        floor == tail || (floor >= self.floor && self.allow(Place { time: oldest, before }))
    }

    fn allow(&self, oldest: Place) -> bool {
        oldest.before >= self.before && oldest.time >= self.oldest
    }
}

/// Whether a stream's retention wants something of it gone.
pub(super) fn wants_trim(head: &Head, retention: Retention, now: UnixMillis) -> bool {
    let bounds = Bounds::new(retention, now, head.tail.seq, head.bytes_in);
    !bounds.keep(head.floor, head.tail.seq, head.bytes_gone, head.oldest_time)
}
