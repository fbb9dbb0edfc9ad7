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

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;
    use crate::disk::heads::Standpoint;
    use crate::disk::streams::Streams;
    use evergate_domain::{Gap, GapReason};

    fn seq(n: u64) -> Seq {
        Seq::new(n).expect("fits")
    }

    /// What a trim in the midst of a read comes to, without the luck of meeting one.
    #[test]
    fn a_read_that_a_trim_overtakes_is_judged_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let tables =
            Tables::open(&dir.path().join("state"), &dir.path().join("events"), 1 << 20).expect("opens");
        let (name, streams) = (StreamName::new("s").expect("valid"), Streams::default());
        let epochs = Epochs::open(vec![], UnixMillis::new(7));
        let stream = streams.get(&name);
        let stand = |floor| {
            let tail = Offset::new(epochs.current(), seq(10));
            let at = Standpoint { id: StreamId::new(0), tail, floor: seq(floor), bytes: 0 };
            streams.publish(&name, at, &[]);
        };
        stream.ask(&tables, &name, |_| ()).expect("reads its state");
        stand(0);
        let reader = Reader { tables: &tables, epochs: &epochs, name: &name, stream: &stream };
        let after = Offset::new(epochs.current(), seq(2));

        // The first fetch finds that an event is gone; meanwhile the floor has risen over it.
        let overtaken = |missing: u64, floor| {
            let fetches = Cell::new(0);
            let page = reader.insist(
                |durable| look_after(durable, after, &epochs),
                |_| {
                    fetches.set(fetches.get() + 1);
                    stand(floor);
                    Err(EventFault::Missing(seq(missing)))
                },
            );
            (fetches.get(), page)
        };
        match overtaken(3, 5) {
            (1, Ok(Page::Gap(Gap { reason: GapReason::Trimmed, lost: Some(3), .. }))) => {}
            other => panic!("{other:?}"),
        }

        // A hole that no trim explains is damage.
        stand(0);
        let at_7 = Offset::new(epochs.current(), seq(7));
        let page = reader.page(at_7, ReadLimit { events: 1, bytes: 1 });
        assert!(matches!(page, Err(ReadError::Damaged { seq, .. }) if seq.get() == 8), "{page:?}");
    }
}
