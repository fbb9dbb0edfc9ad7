//! An event as it lies on disk.
//!
//! ```text
//!   version  checksum   flags  epoch  time  before  key?  type?  producer?  trace?  data
//!     1 B      4 B       1 B   └───── varints ────┘  └──── length and bytes ────┘  the rest
//! ```
//! The checksum (CRC32C) covers the stream and the sequence too, so a record that turns up in the
//! wrong place is found out like one whose bytes changed.
//!
//! `before` is how many bytes the stream had taken in before this event. It rises with every event,
//! as the time never falls: by it and by time a place in the stream is found by halving, and what
//! a stream keeps is a subtraction.

use evergate_domain::{
    Epoch, Event, EventType, Key, Offset, ProducerId, ProducerSeq, Seq, TraceParent, UnixMillis,
};

use super::coding::{Input, put_bytes, put_varint};
use super::rows::StreamId;

const VERSION: u8 = 1;
const CHECKSUM: std::ops::Range<usize> = 1..5;

const KEY: u8 = 1;
const KIND: u8 = 2;
const PRODUCER: u8 = 4;
const TRACE: u8 = 8;

/// The stored bytes are not what was written. Where they stood is known to whoever read them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Damage;

/// What of a record places it in its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// When the event was accepted.
    pub(super) time: UnixMillis,
    /// The bytes of all earlier events of the stream.
    pub(super) before: u64,
}

/// The record of an event.
pub(super) fn encode(stream: StreamId, event: &Event, before: u64) -> Vec<u8> {
    let mut out = Vec::with_capacity(64 + event.data.len());
    out.push(VERSION);
    out.extend_from_slice(&[0; 4]);
    let flag = |bit, present| if present { bit } else { 0 };
    out.push(
        flag(KEY, event.key.is_some())
            | flag(KIND, event.kind.is_some())
            | flag(PRODUCER, event.producer.is_some())
            | flag(TRACE, event.trace.is_some()),
    );
    put_varint(&mut out, event.offset.epoch.get());
    put_varint(&mut out, event.time.get());
    put_varint(&mut out, before);
    if let Some(key) = &event.key {
        put_bytes(&mut out, key.as_str().as_bytes());
    }
    if let Some(kind) = &event.kind {
        put_bytes(&mut out, kind.as_str().as_bytes());
    }
    if let Some(producer) = &event.producer {
        put_bytes(&mut out, producer.id.as_str().as_bytes());
        put_varint(&mut out, producer.seq.get());
    }
    if let Some(trace) = &event.trace {
        put_bytes(&mut out, trace.to_string().as_bytes());
    }
    out.extend_from_slice(event.data.as_bytes());
    let sum = checksum(stream, event.offset.seq, &out);
    out[CHECKSUM].copy_from_slice(&sum.to_le_bytes());
    out
}

/// The event of a record.
pub(super) fn decode(stream: StreamId, seq: Seq, bytes: &[u8]) -> Result<Event, Damage> {
    let (flags, epoch, place, input) = open(stream, seq, bytes)?;
    parse(flags, Offset::new(epoch, seq), place, input).ok_or(Damage)
}

/// Where a record stands, without the event.
pub(super) fn place(stream: StreamId, seq: Seq, bytes: &[u8]) -> Result<Place, Damage> {
    open(stream, seq, bytes).map(|(_, _, place, _)| place)
}

fn open(stream: StreamId, seq: Seq, bytes: &[u8]) -> Result<(u8, Epoch, Place, Input<'_>), Damage> {
    let stored = bytes.get(CHECKSUM).and_then(|sum| sum.try_into().ok()).map(u32::from_le_bytes);
    if stored != Some(checksum(stream, seq, bytes)) {
        return Err(Damage);
    }
    let mut input = Input::new(bytes);
    let mut head = || {
        let version = input.byte()?;
        input.take(CHECKSUM.len())?;
        let flags = input.byte()?;
        let epoch = Epoch::new(input.varint()?)?;
        let place = Place { time: UnixMillis::new(input.varint()?), before: input.varint()? };
        (version == VERSION).then_some((flags, epoch, place))
    };
    let (flags, epoch, place) = head().ok_or(Damage)?;
    Ok((flags, epoch, place, input))
}

fn parse(flags: u8, offset: Offset, place: Place, mut input: Input<'_>) -> Option<Event> {
    let has = |bit| flags & bit != 0;
    let key = if has(KEY) { Some(Key::new(input.text()?).ok()?) } else { None };
    let kind = if has(KIND) { Some(EventType::new(input.text()?).ok()?) } else { None };
    let producer = if has(PRODUCER) {
        let id = ProducerId::new(input.text()?).ok()?;
        Some(ProducerSeq { id, seq: Seq::new(input.varint()?)? })
    } else {
        None
    };
    let trace = if has(TRACE) { Some(TraceParent::parse(input.text()?)?) } else { None };
    let data = String::from_utf8(input.rest().to_vec()).ok()?;
    Some(Event { offset, time: place.time, key, kind, data, producer, trace })
}

/// Over everything but the checksum's own place. `bytes` may be too short to be a record.
fn checksum(stream: StreamId, seq: Seq, bytes: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&stream.get().to_le_bytes());
    let sum = crc32c::crc32c_append(sum, &seq.get().to_le_bytes());
    let sum = crc32c::crc32c_append(sum, &bytes[..CHECKSUM.start.min(bytes.len())]);
    crc32c::crc32c_append(sum, bytes.get(CHECKSUM.end..).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seq(n: u64) -> Seq {
        Seq::new(n).expect("fits")
    }

    fn event() -> Event {
        Event {
            offset: "1700000000-42".parse().expect("valid"),
            time: UnixMillis::new(1_700_000_000_123),
            key: Some(Key::new("päckchen/7").expect("valid")),
            kind: Some(EventType::new("trade").expect("valid")),
            data: "a\0b\r\n🦀".to_owned(),
            producer: Some(ProducerSeq { id: ProducerId::new("p:1").expect("valid"), seq: seq(7) }),
            trace: TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
        }
    }

    #[test]
    fn every_single_changed_bit_is_found() {
        let stored = encode(StreamId::new(3), &event(), 99);
        for at in 0..stored.len() * 8 {
            let mut changed = stored.clone();
            changed[at / 8] ^= 1 << (at % 8);
            assert_eq!(decode(StreamId::new(3), seq(42), &changed), Err(Damage), "bit {at}");
        }
        for length in 0..stored.len() {
            assert_eq!(decode(StreamId::new(3), seq(42), &stored[..length]), Err(Damage));
        }
    }

    #[test]
    fn a_record_in_the_wrong_place_is_found() {
        let stored = encode(StreamId::new(3), &event(), 99);
        assert_eq!(decode(StreamId::new(3), seq(42), &stored), Ok(event()));
        assert_eq!(decode(StreamId::new(3), seq(43), &stored), Err(Damage));
        assert_eq!(decode(StreamId::new(4), seq(42), &stored), Err(Damage));
    }

    proptest! {
        #[test]
        fn an_event_survives(
            key in prop::option::of("[a-z]{1,40}"),
            kind in prop::option::of("[a-z]{1,40}"),
            producer in prop::option::of(("[a-z]{1,40}", 0u64..1 << 53)),
            traced: bool,
            data in ".{0,400}",
            before: u64,
        ) {
            let event = Event {
                key: key.map(|key| Key::new(&key).expect("valid")),
                kind: kind.map(|kind| EventType::new(&kind).expect("valid")),
                producer: producer.map(|(id, n)| ProducerSeq { id: ProducerId::new(&id).expect("valid"), seq: seq(n) }),
                trace: event().trace.filter(|_| traced),
                data,
                ..event()
            };
            let stored = encode(StreamId::new(9), &event, before);
            prop_assert_eq!(place(StreamId::new(9), seq(42), &stored), Ok(Place { time: event.time, before }));
            prop_assert_eq!(decode(StreamId::new(9), seq(42), &stored), Ok(event));
        }
    }
}
