//! What the tables know of streams, read back into the types that decide.

use evergate_domain::{Epoch, Offset, Seq, StreamName};

use super::record::{self, Place};
use super::rows::{self, Head, StreamId};
use super::tables::Tables;
use crate::{BackendError, Lineage, ProducerTable, ReadError};

/// Why an event cannot be read.
#[derive(Debug)]
pub(super) enum EventFault {
    /// It is not there.
    Missing(Seq),
    /// It is there, and not what was written.
    Damaged(Seq),
    /// The storage refused.
    Unavailable(BackendError),
}

impl Tables {
    /// Every epoch this log was ever open in, ascending.
    pub(super) fn epochs(&self) -> Result<Vec<Epoch>, BackendError> {
        let rows = self.state_rows(rows::EPOCHS);
        rows.map(|row| rows::epoch_of(&row.map_err(failed)?.0).ok_or_else(|| damaged("an epoch"))).collect()
    }

    /// The number for the next stream that is born.
    pub(super) fn next_id(&self) -> Result<StreamId, BackendError> {
        match self.state(rows::NEXT_ID).map_err(failed)? {
            Some(row) => rows::id_of(&row).ok_or_else(|| damaged("the number of streams")),
            None => Ok(StreamId::new(0)),
        }
    }

    /// A stream that was published to, as of its last durable append or trim.
    pub(super) fn head(&self, name: &StreamName) -> Result<Option<(StreamId, Head)>, BackendError> {
        let Some(row) = self.state(&rows::name_key(name)).map_err(failed)? else { return Ok(None) };
        let id = rows::id_of(&row).ok_or_else(|| damaged(name))?;
        // The name and the first head are one group, but a reader may come between the two rows.
        let Some(row) = self.state(&rows::head_key(id)).map_err(failed)? else { return Ok(None) };
        let head = Head::decode(&row).filter(|head| head.name == *name);
        head.map(|head| Some((id, head))).ok_or_else(|| damaged(name))
    }

    /// Every stream's head.
    pub(super) fn heads(&self) -> impl Iterator<Item = Result<Head, BackendError>> {
        let rows = self.state_rows(rows::HEADS);
        rows.map(|row| Head::decode(&row.map_err(failed)?.1).ok_or_else(|| damaged("a stream")))
    }

    /// The epochs of a stream. Those before the head's never change again, so the answer fits the
    /// head even if the stream has moved on.
    pub(super) fn lineage(&self, id: StreamId, head: &Head) -> Result<Lineage, BackendError> {
        let mut ends: Vec<Offset> = vec![];
        for row in self.state_rows(&rows::ends_prefix(id)) {
            let (key, value) = row.map_err(failed)?;
            let end = rows::end_of(&key, &value).ok_or_else(|| damaged(&head.name))?;
            if end.epoch < head.tail.epoch {
                ends.push(end);
            }
        }
        ends.push(head.tail);
        if ends.is_sorted_by(|a, b| a.epoch < b.epoch && a.seq < b.seq) {
            Ok(Lineage::new(ends))
        } else {
            Err(damaged(&head.name))
        }
    }

    /// Who published to a stream lately.
    pub(super) fn producers(&self, id: StreamId, name: &StreamName) -> Result<ProducerTable, BackendError> {
        let rows = self.state_rows(&rows::runs_prefix(id));
        let runs = rows.map(|row| {
            let (key, value) = row.map_err(failed)?;
            rows::run_of(&key, &value).ok_or_else(|| damaged(name))
        });
        runs.collect::<Result<Vec<_>, _>>().map(ProducerTable::restore)
    }

    /// Where an event stands.
    pub(super) fn place(&self, id: StreamId, seq: Seq) -> Result<Place, EventFault> {
        let record = self.event(id, seq).map_err(|error| event_fault(seq, error))?;
        let record = record.ok_or(EventFault::Missing(seq))?;
        record::place(id, seq, &record).map_err(|record::Damage| EventFault::Damaged(seq))
    }
}

impl EventFault {
    /// The same, to whoever reads the log.
    pub(super) fn of(self, stream: &StreamName) -> ReadError {
        match self {
            Self::Missing(seq) | Self::Damaged(seq) => ReadError::Damaged { stream: stream.to_string(), seq },
            Self::Unavailable(error) => ReadError::Unavailable(error),
        }
    }
}

/// What a failed read of the table of events means.
pub(super) fn event_fault(seq: Seq, error: lsm_tree::Error) -> EventFault {
    if let lsm_tree::Error::Io(error) = error {
        return EventFault::Unavailable(BackendError::new(error));
    }
    // Everything else is about bytes that are not as they were written.
    EventFault::Damaged(seq)
}

/// The first number of `from..to` for which `holds`, else `to`. `holds` must go on holding once it
/// does. Looks at few numbers, and fewest when the answer is near the front.
pub(super) fn first_that<E>(
    from: Seq,
    to: Seq,
    mut holds: impl FnMut(Seq) -> Result<bool, E>,
) -> Result<Seq, E> {
    let (mut low, mut high, mut stride) = (from, from, 1);
    while high < to && !holds(high)? {
        low = high.plus(1);
        high = high.plus(stride).min(to);
        stride *= 2;
    }
    while low < high {
        let middle = low.plus((high.get() - low.get()) / 2);
        if holds(middle)? {
            high = middle;
        } else {
            low = middle.plus(1);
        }
    }
    Ok(low)
}

fn failed(error: lsm_tree::Error) -> BackendError {
    BackendError::new(error)
}

fn damaged(what: impl std::fmt::Display) -> BackendError {
    BackendError::message(format!("what is stored of {what} is damaged"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_holds_is_found_wherever_it_is() {
        let seq = |n| Seq::new(n).expect("fits");
        for from in 0..20 {
            for to in from..40 {
                for first in 0..45 {
                    let found = first_that(seq(from), seq(to), |s| Ok::<_, ()>(s.get() >= first))
                        .expect("never fails");
                    assert_eq!(found.get(), first.clamp(from, to), "{first} in {from}..{to}");
                }
            }
        }
    }
}
