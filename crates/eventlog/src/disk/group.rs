//! What one group commit changes: rows, collected while requests are judged, then made durable as
//! one frame of the journal and put into the tables.

use std::collections::BTreeMap;

use evergate_domain::Event;

use super::coding::{Input, put_bytes};
use super::journal::Frame;
use super::record;
use super::rows::{StreamId, event_key};

const PUT_STATE: u8 = 0;
const REMOVE_STATE: u8 = 1;
const PUT_EVENT: u8 = 2;

/// Rows to write together. A state row that is set twice has its last value.
#[derive(Debug, Default)]
pub(super) struct Group {
    state: BTreeMap<Vec<u8>, Option<Vec<u8>>>,
    events: Vec<([u8; 12], Vec<u8>)>,
}

/// One change, as the tables take it.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Change<'a> {
    /// The state row has this value.
    PutState(&'a [u8], &'a [u8]),
    /// The state row is gone.
    RemoveState(&'a [u8]),
    /// The event is there. Events are never overwritten, and go only by the floor.
    PutEvent(&'a [u8], &'a [u8]),
}

impl Group {
    pub(super) fn put(&mut self, key: impl Into<Vec<u8>>, value: Vec<u8>) {
        self.state.insert(key.into(), Some(value));
    }

    pub(super) fn remove(&mut self, key: Vec<u8>) {
        self.state.insert(key, None);
    }

    pub(super) fn event(&mut self, stream: StreamId, event: &Event, before: u64) {
        self.events.push((event_key(stream, event.offset.seq), record::encode(stream, event, before)));
    }

    pub(super) fn is_empty(&self) -> bool {
        self.state.is_empty() && self.events.is_empty()
    }

    /// How many events it adds.
    pub(super) fn event_count(&self) -> usize {
        self.events.len()
    }

    /// The changes, in the order in which they are to be made.
    pub(super) fn changes(&self) -> impl Iterator<Item = Change<'_>> {
        let events = self.events.iter().map(|(key, value)| Change::PutEvent(key, value));
        let state = self.state.iter().map(|(key, value)| match value {
            Some(value) => Change::PutState(key, value),
            None => Change::RemoveState(key),
        });
        events.chain(state)
    }

    /// The group as the journal keeps it. `None` if it is too large for any frame.
    pub(super) fn frame(&self, number: u64) -> Option<Frame> {
        let bytes: usize = self.events.iter().map(|(key, value)| key.len() + value.len() + 8).sum();
        let mut frame = Frame::with_capacity(bytes + 128 * self.state.len());
        let out = frame.payload();
        for change in self.changes() {
            match change {
                Change::PutState(key, value) => put(out, PUT_STATE, key, Some(value)),
                Change::RemoveState(key) => put(out, REMOVE_STATE, key, None),
                Change::PutEvent(key, value) => put(out, PUT_EVENT, key, Some(value)),
            }
        }
        frame.seal(number)
    }
}

fn put(out: &mut Vec<u8>, tag: u8, key: &[u8], value: Option<&[u8]>) {
    out.push(tag);
    put_bytes(out, key);
    if let Some(value) = value {
        put_bytes(out, value);
    }
}

/// Reads the changes of a frame back. `None` in their midst if the payload is not one that
/// [`Group::frame`] wrote.
pub(super) fn changes_of(payload: &[u8]) -> impl Iterator<Item = Option<Change<'_>>> {
    let mut input = Input::new(payload);
    let mut broken = false;
    std::iter::from_fn(move || {
        if broken || input.is_empty() {
            return None;
        }
        let change = next(&mut input);
        broken = change.is_none();
        Some(change)
    })
}

fn next<'a>(input: &mut Input<'a>) -> Option<Change<'a>> {
    let tag = input.byte()?;
    let key = input.bytes()?;
    match tag {
        PUT_STATE => Some(Change::PutState(key, input.bytes()?)),
        REMOVE_STATE => Some(Change::RemoveState(key)),
        PUT_EVENT => Some(Change::PutEvent(key, input.bytes()?)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evergate_domain::{EventDraft, UnixMillis};

    #[test]
    fn a_frame_holds_every_change_in_order() {
        let mut group = Group::default();
        let event = EventDraft::new("data").placed("1-1".parse().expect("valid"), UnixMillis::new(5));
        group.put([9], vec![1]);
        group.event(StreamId::new(1), &event, 0);
        group.put([8], vec![2]);
        group.remove(vec![9]);
        let mut frame = group.frame(7).expect("small");
        let payload = frame.payload().split_off(super::super::journal::FRAME_HEADER_BYTES);
        let read: Vec<_> = changes_of(&payload).map(|change| change.expect("written above")).collect();
        assert_eq!(read, group.changes().collect::<Vec<_>>());
        assert!(matches!(
            read[..],
            [Change::PutEvent(..), Change::PutState([8], [2]), Change::RemoveState([9])]
        ));
    }

    #[test]
    fn a_payload_that_ends_early_is_found() {
        let mut group = Group::default();
        group.put([9], vec![1, 2, 3]);
        let mut frame = group.frame(7).expect("small");
        let payload = frame.payload().split_off(super::super::journal::FRAME_HEADER_BYTES);
        for length in 1..payload.len() {
            assert!(changes_of(&payload[..length]).any(|change| change.is_none()));
        }
    }
}
