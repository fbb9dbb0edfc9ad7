//! The keys and rows of the two tables.
//!
//! ```text
//!   events   stream id (4 B) · seq (8 B)            → record
//!   state    0                                      → the next stream id
//!            1 · epoch (8 B)                        → nothing: this log was open in it
//!            2 · stream name                        → stream id
//!            3 · stream id                          → Head
//!            4 · stream id · epoch (8 B)            → the stream's last seq in that closed epoch
//!            5 · stream id · producer · 0 · first   → Run
//! ```
//! Numbers in keys are big-endian, so that the order of the bytes is the order of the numbers.

use evergate_domain::{Epoch, Offset, ProducerId, Seq, StreamName, UnixMillis};

use super::coding::{Input, put_varint};
use crate::Run;

/// A stream's number in this log: shorter than its name in every key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct StreamId(u32);

impl StreamId {
    pub(super) const fn new(number: u32) -> Self {
        Self(number)
    }

    pub(super) const fn get(self) -> u32 {
        self.0
    }
}

/// What is known of a stream in one row, so that it is always read as one state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    /// The stream's name, because the row is found by number.
    pub(super) name: StreamName,
    /// The newest event.
    pub(super) tail: Offset,
    /// The newest event's time.
    pub(super) last_time: UnixMillis,
    /// Bytes taken in by the stream so far.
    pub(super) bytes_in: u64,
    /// The last sequence that is gone.
    pub(super) floor: Seq,
    /// Bytes of all events up to the floor.
    pub(super) bytes_gone: u64,
    /// The time of the oldest event that is kept, or of the newest if none is.
    pub(super) oldest_time: UnixMillis,
}

impl Head {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out = vec![];
        for number in [
            self.tail.epoch.get(),
            self.tail.seq.get(),
            self.last_time.get(),
            self.bytes_in,
            self.floor.get(),
            self.bytes_gone,
            self.oldest_time.get(),
        ] {
            put_varint(&mut out, number);
        }
        out.extend_from_slice(self.name.as_str().as_bytes());
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut input = Input::new(bytes);
        let tail = Offset::new(Epoch::new(input.varint()?)?, Seq::new(input.varint()?)?);
        let last_time = UnixMillis::new(input.varint()?);
        let bytes_in = input.varint()?;
        let floor = Seq::new(input.varint()?)?;
        let bytes_gone = input.varint()?;
        let oldest_time = UnixMillis::new(input.varint()?);
        let name = StreamName::new(std::str::from_utf8(input.rest()).ok()?).ok()?;
        let sound = floor <= tail.seq && bytes_gone <= bytes_in;
        sound.then_some(Self { name, tail, last_time, bytes_in, floor, bytes_gone, oldest_time })
    }
}

pub(super) const NEXT_ID: &[u8] = &[0];
pub(super) const EPOCHS: &[u8] = &[1];
pub(super) const HEADS: &[u8] = &[3];

pub(super) fn epoch_key(epoch: Epoch) -> Vec<u8> {
    [EPOCHS, &epoch.get().to_be_bytes()].concat()
}

pub(super) fn epoch_of(key: &[u8]) -> Option<Epoch> {
    let mut input = Input::new(key.strip_prefix(EPOCHS)?);
    let epoch = Epoch::new(u64::from_be_bytes(input.array()?))?;
    input.is_empty().then_some(epoch)
}

pub(super) fn name_key(name: &StreamName) -> Vec<u8> {
    [&[2], name.as_str().as_bytes()].concat()
}

pub(super) fn id_value(id: StreamId) -> Vec<u8> {
    id.0.to_be_bytes().to_vec()
}

pub(super) fn id_of(value: &[u8]) -> Option<StreamId> {
    value.try_into().ok().map(u32::from_be_bytes).map(StreamId)
}

pub(super) fn head_key(id: StreamId) -> Vec<u8> {
    [HEADS, &id.0.to_be_bytes()].concat()
}

pub(super) fn ends_prefix(id: StreamId) -> Vec<u8> {
    [&[4], &id.0.to_be_bytes()[..]].concat()
}

pub(super) fn end_key(id: StreamId, epoch: Epoch) -> Vec<u8> {
    [ends_prefix(id).as_slice(), &epoch.get().to_be_bytes()].concat()
}

pub(super) fn end_value(seq: Seq) -> Vec<u8> {
    seq.get().to_be_bytes().to_vec()
}

pub(super) fn end_of(key: &[u8], value: &[u8]) -> Option<Offset> {
    let epoch = Epoch::new(u64::from_be_bytes(key.get(5..)?.try_into().ok()?))?;
    let seq = Seq::new(u64::from_be_bytes(value.try_into().ok()?))?;
    Some(Offset::new(epoch, seq))
}

pub(super) fn runs_prefix(id: StreamId) -> Vec<u8> {
    [&[5], &id.0.to_be_bytes()[..]].concat()
}

pub(super) fn run_key(id: StreamId, producer: &ProducerId, first: Seq) -> Vec<u8> {
    // No producer id holds the byte 0, so the runs of one lie together and in order.
    [runs_prefix(id).as_slice(), producer.as_str().as_bytes(), &[0], &first.get().to_be_bytes()].concat()
}

pub(super) fn run_value(run: &Run) -> Vec<u8> {
    let mut out = vec![];
    put_varint(&mut out, run.count);
    put_varint(&mut out, run.offset.epoch.get());
    put_varint(&mut out, run.offset.seq.get());
    out
}

pub(super) fn run_of(key: &[u8], value: &[u8]) -> Option<(ProducerId, Run)> {
    let (producer, first) = key.get(5..)?.split_at_checked(key.len().checked_sub(5 + 9)?)?;
    let producer = ProducerId::new(std::str::from_utf8(producer).ok()?).ok()?;
    let first = Seq::new(u64::from_be_bytes(first.strip_prefix(&[0])?.try_into().ok()?))?;
    let mut input = Input::new(value);
    let count = input.varint().filter(|&count| count > 0)?;
    let offset = Offset::new(Epoch::new(input.varint()?)?, Seq::new(input.varint()?)?);
    Some((producer, Run { first, count, offset }))
}

pub(super) fn event_key(id: StreamId, seq: Seq) -> [u8; 12] {
    let mut key = [0; 12];
    key[..4].copy_from_slice(&id.0.to_be_bytes());
    key[4..].copy_from_slice(&seq.get().to_be_bytes());
    key
}

pub(super) fn event_of(key: &[u8]) -> Option<(StreamId, Seq)> {
    let (id, seq) = key.split_at_checked(4)?;
    Some((id_of(id)?, Seq::new(u64::from_be_bytes(seq.try_into().ok()?))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seq(n: u64) -> Seq {
        Seq::new(n).expect("fits")
    }

    proptest! {
        #[test]
        fn rows_survive(numbers in prop::array::uniform8(0u64..1 << 53), id: u32, producer in "[a-zA-Z0-9_.:-]{1,128}") {
            let [epoch, tail, time, bytes, ..] = numbers;
            let offset = Offset::new(Epoch::new(epoch).expect("fits"), seq(tail));
            let id = StreamId::new(id);
            let head = Head {
                name: StreamName::new("quote").expect("valid"),
                tail: offset,
                last_time: UnixMillis::new(time),
                bytes_in: bytes,
                floor: seq(tail / 2),
                bytes_gone: bytes / 3,
                oldest_time: UnixMillis::new(time / 2),
            };
            prop_assert_eq!(Head::decode(&head.encode()), Some(head));
            prop_assert_eq!(epoch_of(&epoch_key(offset.epoch)), Some(offset.epoch));
            prop_assert_eq!(end_of(&end_key(id, offset.epoch), &end_value(offset.seq)), Some(offset));
            prop_assert_eq!(event_of(&event_key(id, offset.seq)), Some((id, offset.seq)));
            let producer = ProducerId::new(&producer).expect("valid");
            let run = Run { first: seq(time), count: bytes + 1, offset };
            prop_assert_eq!(run_of(&run_key(id, &producer, run.first), &run_value(&run)), Some((producer, run)));
        }

        #[test]
        fn hostile_rows_never_panic(key in prop::collection::vec(any::<u8>(), 0..30), value in prop::collection::vec(any::<u8>(), 0..30)) {
            let _ = (Head::decode(&value), epoch_of(&key), end_of(&key, &value));
            let _ = (run_of(&key, &value), event_of(&key), id_of(&value));
        }
    }

    #[test]
    fn the_runs_of_a_stream_lie_apart_from_another_producers() {
        let id = StreamId::new(1);
        let p = |name: &str| ProducerId::new(name).expect("valid");
        assert!(run_key(id, &p("a"), seq(NUMBER)) < run_key(id, &p("a"), seq(NUMBER + 1)));
        assert!(run_key(id, &p("a"), seq(NUMBER)) < run_key(id, &p("ab"), seq(0)));
    }

    const NUMBER: u64 = 255;
}
