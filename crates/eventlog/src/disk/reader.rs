//! Reading a stream: judging a cursor and fetching what comes after it, as one answer.
//!
//! A read takes the stream's extent at one moment, then fetches. What it fetches cannot change,
//! only vanish, and only what the floor has passed; so an event that should be there and is not
//! means that the floor rose meanwhile, and the read begins anew, or that it is damaged.

use std::sync::Arc;

use evergate_domain::{Event, Offset, Seq, Start, StreamName, UnixMillis};

use super::catalog::{EventFault, event_fault, first_that};
use super::record;
use super::rows::StreamId;
use super::streams::{Extent, Stream};
use super::tables::Tables;
use crate::{Epochs, Page, ReadError, ReadLimit, Standing};

/// A stream, and what is needed to read it. May block.
pub(super) struct Reader<'a> {
    pub(super) tables: &'a Tables,
    pub(super) epochs: &'a Epochs,
    pub(super) name: &'a StreamName,
    pub(super) stream: &'a Stream,
}

impl Reader<'_> {
    /// See [`EventLog::read`](crate::EventLog::read).
    pub(super) fn page(&self, after: Offset, limit: ReadLimit) -> Result<Page, ReadError> {
        self.insist(|extent, standing| {
            let (seq, id) = match (standing(after), extent.id) {
                (Standing::Gap(gap), _) => return Ok(Page::Gap(gap)),
                (Standing::After(seq), Some(id)) if seq < extent.tail => (seq, id),
                (Standing::After(_), _) => return Ok(Page::Events { events: vec![], at_end: true }),
            };
            let last = u64::try_from(limit.events.max(1)).unwrap_or(u64::MAX).min(extent.tail.get() - seq.get());
            let events = self.fetch(id, seq.plus(1), seq.plus(last), limit.bytes.max(1))?;
            let at_end = events.last().is_none_or(|event| event.offset.seq == extent.tail);
            Ok(Page::Events { events, at_end })
        })
    }

    /// See [`EventLog::locate`](crate::EventLog::locate).
    pub(super) fn locate(&self, start: Start) -> Result<Offset, ReadError> {
        let seq = self.insist(|extent, _| {
            Ok(match (place_in(extent, start), extent.id, start) {
                (Some(seq), ..) => seq,
                (None, Some(id), Start::Time(time)) => self.last_before(id, extent, time)?,
                (None, ..) => extent.tail,
            })
        })?;
        let current = self.epochs.current();
        let cursor = self.stream.ask(self.tables, self.name, |durable| durable.cursor_at(seq, current));
        cursor.map_err(ReadError::Unavailable)
    }

    /// Reads at one extent of the stream; again if that was overtaken by a trim.
    fn insist<T>(
        &self,
        read: impl Fn(Extent, &dyn Fn(Offset) -> Standing) -> Result<T, EventFault>,
    ) -> Result<T, ReadError> {
        loop {
            let (extent, lineage) = self.ask(|durable| (durable.extent(), durable.lineage().clone()))?;
            let standing = |cursor| lineage.judge(cursor, extent.floor, self.epochs);
            match read(extent, &standing) {
                Ok(answer) => return Ok(answer),
                Err(EventFault::Missing(seq)) if self.ask(|durable| durable.extent().floor)? >= seq => {}
                Err(fault) => return Err(fault.of(self.name)),
            }
        }
    }
}
