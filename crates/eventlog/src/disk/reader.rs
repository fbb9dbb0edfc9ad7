//! Reading a stream: judging a cursor and fetching what comes after it, as one answer.
//!
//! A read looks at the stream's state once, then fetches. What it fetches never changes, it can
//! only vanish, and only below the floor. So an event that should be there and is not means that
//! the floor rose meanwhile, and the read begins anew; or else that it is damaged.

use std::sync::Arc;

use evergate_domain::{Event, Offset, Seq, Start, StreamName, UnixMillis};

use super::catalog::{EventFault, event_fault, first_that};
use super::record;
use super::rows::StreamId;
use super::streams::{Durable, Stream};
use super::tables::Tables;
use crate::{Epochs, Lineage, Page, ReadError, ReadLimit, Standing};

/// What can be said at once, and what has to be fetched for the rest.
pub(super) enum Look<T, F> {
    Answer(T),
    Fetch(F),
}

/// The events after `after` up to `tail` are wanted.
pub(super) struct Wanted {
    id: StreamId,
    after: Seq,
    tail: Seq,
}

/// Judges a cursor.
pub(super) fn look_after(durable: &Durable, after: Offset, epochs: &Epochs) -> Look<Page, Wanted> {
    match (durable.judge(after, epochs), durable.id()) {
        (Standing::Gap(gap), _) => Look::Answer(Page::Gap(gap)),
        (Standing::After(after), Some(id)) if after < durable.tail() => {
            Look::Fetch(Wanted { id, after, tail: durable.tail() })
        }
        (Standing::After(_), _) => Look::Answer(Page::Events { events: vec![], at_end: true }),
    }
}

/// The first event of `floor..tail` that is not before `time` is wanted.
pub(super) struct WantedTime {
    id: StreamId,
    floor: Seq,
    tail: Seq,
    time: UnixMillis,
    /// To spell the place as a cursor.
    lineage: Lineage,
}

/// Finds a beginning.
pub(super) fn look_for(durable: &Durable, start: Start, epochs: &Epochs) -> Look<Offset, WantedTime> {
    let (floor, tail) = (durable.floor(), durable.tail());
    let seq = match (start, durable.id()) {
        (Start::After(offset), _) => return Look::Answer(offset),
        (Start::Time(time), Some(id)) if floor < tail => {
            let lineage = durable.lineage().clone();
            return Look::Fetch(WantedTime { id, floor, tail, time, lineage });
        }
        (Start::Latest | Start::Time(_), _) => tail,
        (Start::Earliest, _) => floor,
        (Start::Last(n), _) => Seq::new(tail.get().saturating_sub(n)).unwrap_or(Seq::ZERO).max(floor),
    };
    Look::Answer(durable.cursor_at(seq, epochs.current()))
}

/// A stream, and what is needed to fetch from it. Its methods may block.
pub(super) struct Reader<'a> {
    pub(super) tables: &'a Tables,
    pub(super) epochs: &'a Epochs,
    pub(super) name: &'a StreamName,
    pub(super) stream: &'a Stream,
}

impl Reader<'_> {
    /// See [`EventLog::read`](crate::EventLog::read).
    pub(super) fn page(&self, after: Offset, limit: ReadLimit) -> Result<Page, ReadError> {
        self.insist(|durable| look_after(durable, after, self.epochs), |wanted| self.fetch(wanted, limit))
    }

    /// See [`EventLog::locate`](crate::EventLog::locate).
    pub(super) fn locate(&self, start: Start) -> Result<Offset, ReadError> {
        self.insist(|durable| look_for(durable, start, self.epochs), |wanted| self.search(wanted))
    }

    fn insist<T, F>(
        &self,
        look: impl Fn(&Durable) -> Look<T, F>,
        fetch: impl Fn(&F) -> Result<T, EventFault>,
    ) -> Result<T, ReadError> {
        loop {
            let wanted = match self.ask(&look)? {
                Look::Answer(answer) => return Ok(answer),
                Look::Fetch(wanted) => wanted,
            };
            match fetch(&wanted) {
                Ok(answer) => return Ok(answer),
                Err(EventFault::Missing(seq)) if self.ask(Durable::floor)? >= seq => {}
                Err(fault) => return Err(fault.of(self.name)),
            }
        }
    }

    fn ask<T>(&self, ask: impl FnOnce(&Durable) -> T) -> Result<T, ReadError> {
        let answer = self.stream.ask(self.tables, self.name, |durable| ask(durable));
        answer.map_err(ReadError::Unavailable)
    }

    fn fetch(&self, wanted: &Wanted, limit: ReadLimit) -> Result<Page, EventFault> {
        let &Wanted { id, after, tail } = wanted;
        let there = tail.get() - after.get();
        let count = u64::try_from(limit.events.max(1)).unwrap_or(u64::MAX).min(there);
        let mut events: Vec<Arc<Event>> = Vec::with_capacity(count.min(1024) as usize);
        let mut bytes = 0;
        let mut rows = self.tables.events(id, after.plus(1), after.plus(count));
        for n in 1..=count {
            if bytes >= limit.bytes.max(1) {
                break;
            }
            let seq = after.plus(n);
            let (found, record) = match rows.next() {
                Some(row) => row.map_err(|error| event_fault(seq, error))?,
                None => return Err(EventFault::Missing(seq)),
            };
            if found != seq {
                return Err(EventFault::Missing(seq));
            }
            let event =
                record::decode(id, seq, &record).map_err(|record::Damage| EventFault::Damaged(seq))?;
            bytes += event.bytes();
            events.push(Arc::new(event));
        }
        let at_end = events.len() as u64 == there;
        Ok(Page::Events { events, at_end })
    }

    fn search(&self, wanted: &WantedTime) -> Result<Offset, EventFault> {
        let WantedTime { id, floor, tail, time, .. } = *wanted;
        let in_time = |seq| self.tables.place(id, seq).map(|place| place.time >= time);
        let first = first_that(floor.plus(1), tail.plus(1), in_time)?;
        Ok(wanted.lineage.cursor_at(first.before(), self.epochs.current()))
    }
}
