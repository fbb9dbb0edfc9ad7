//! How events look in Redis: as a field of a stream's entry, and in a message on the live channel.
//!
//! ```text
//!   event     <producer> \t <its seq> \t <traceparent> \n <key> \n <type> \n <data>
//!   message   array of "<epoch> <first seq> <time> <hwm>" and the events    appended
//!             C <epoch>-<seq> \n                                            committed up to here
//! ```
//! The array is in MessagePack, because Redis packs that in C.
//! Nothing before the data can hold a control character, and only the data may hold a line break,
//! so the text is readable in `redis-cli` and needs no escapes. Whoever parses here trusts nothing.

use std::sync::Arc;

use evergate_domain::{
    Epoch, Event, EventDraft, EventType, Key, Offset, ProducerId, ProducerSeq, Seq, TraceParent, UnixMillis,
};

/// Bytes that an event takes besides its data, key and type, at a guess.
pub(super) const OVERHEAD_BYTES: u64 = 64;

/// Writes the event at the end of `out`.
pub(super) fn encode(draft: &EventDraft, out: &mut Vec<u8>) {
    use std::io::Write as _;
    if let Some(producer) = &draft.producer {
        out.extend_from_slice(producer.id.as_str().as_bytes());
        write!(out, "\t{}", producer.seq).expect("a Vec takes every byte");
    } else {
        out.push(b'\t');
    }
    out.push(b'\t');
    if let Some(trace) = &draft.trace {
        write!(out, "{trace}").expect("a Vec takes every byte");
    }
    out.push(b'\n');
    out.extend_from_slice(draft.key.as_ref().map_or("", Key::as_str).as_bytes());
    out.push(b'\n');
    out.extend_from_slice(draft.kind.as_ref().map_or("", EventType::as_str).as_bytes());
    out.push(b'\n');
    out.extend_from_slice(draft.data.as_bytes());
}

/// Reads an event; `None` if it is none that was written by [`encode`].
pub(super) fn decode(offset: Offset, time: UnixMillis, text: &[u8]) -> Option<Event> {
    let mut parts = std::str::from_utf8(text).ok()?.splitn(4, '\n');
    let (head, key, kind, data) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let mut head = head.split('\t');
    let (producer, seq, trace) = (head.next()?, head.next()?, head.next()?);
    Some(Event {
        offset,
        time,
        key: optional(key, |key| Key::new(key).ok())?,
        kind: optional(kind, |kind| EventType::new(kind).ok())?,
        data: data.to_owned(),
        producer: optional(producer, |id| {
            Some(ProducerSeq { id: ProducerId::new(id).ok()?, seq: Seq::new(seq.parse().ok()?)? })
        })?,
        trace: optional(trace, TraceParent::parse)?,
    })
}

/// An empty text is nothing, another one must be read.
fn optional<T>(text: &str, read: impl FnOnce(&str) -> Option<T>) -> Option<Option<T>> {
    if text.is_empty() { Some(None) } else { read(text).map(Some) }
}

/// What comes over the live channel.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Message {
    /// One append, dense.
    Events { events: Vec<Arc<Event>>, hwm: Seq },
    /// The mark rose.
    Committed(Offset),
}

impl Message {
    /// Reads a message; `None` if it is none.
    pub(super) fn parse(payload: &[u8]) -> Option<Self> {
        if let Some(mark) = payload.strip_prefix(b"C ") {
            let mark = std::str::from_utf8(mark.strip_suffix(b"\n")?).ok()?;
            return Some(Self::Committed(mark.parse().ok()?));
        }
        let mut rest = payload;
        let many = array(&mut rest)?.checked_sub(1)?;
        let mut words = std::str::from_utf8(string(&mut rest)?).ok()?.split(' ');
        let mut number = || words.next()?.parse::<u64>().ok();
        let (epoch, first) = (Epoch::new(number()?)?, Seq::new(number()?)?);
        let (time, hwm) = (UnixMillis::new(number()?), Seq::new(number()?)?);
        // No stream comes so far, and there is no number for what would follow.
        first.get().checked_add(u64::try_from(many).ok()?).and_then(Seq::new)?;
        let mut events = Vec::new();
        let mut offset = Offset::new(epoch, first);
        for _ in 0..many {
            events.push(Arc::new(decode(offset, time, string(&mut rest)?)?));
            offset = offset.next();
        }
        rest.is_empty().then_some(Self::Events { events, hwm })
    }
}

/// The head of a MessagePack array: how many follow.
fn array(bytes: &mut &[u8]) -> Option<usize> {
    match number(bytes, 1)? {
        marker @ 0x90..=0x9f => Some(marker & 0x0f),
        0xdc => number(bytes, 2),
        0xdd => number(bytes, 4),
        _ => None,
    }
}

/// A MessagePack string, or bytes.
fn string<'a>(bytes: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = match number(bytes, 1)? {
        marker @ 0xa0..=0xbf => marker & 0x1f,
        0xc4 | 0xd9 => number(bytes, 1)?,
        0xc5 | 0xda => number(bytes, 2)?,
        0xc6 | 0xdb => number(bytes, 4)?,
        _ => return None,
    };
    let (string, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(string)
}

/// A big-endian number of this many bytes.
fn number(bytes: &mut &[u8], width: usize) -> Option<usize> {
    let (number, rest) = bytes.split_at_checked(width)?;
    *bytes = rest;
    Some(number.iter().fold(0, |number, &byte| number << 8 | usize::from(byte)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn offset(text: &str) -> Offset {
        text.parse().expect("valid")
    }

    fn encoded(draft: &EventDraft) -> Vec<u8> {
        let mut out = vec![];
        encode(draft, &mut out);
        out
    }

    #[test]
    fn the_format_is_as_it_is_stored() {
        let draft = EventDraft {
            key: Key::new("AAPL").ok(),
            kind: EventType::new("trade").ok(),
            producer: Some(ProducerSeq { id: ProducerId::new("p").expect("valid"), seq: Seq::ZERO.plus(7) }),
            trace: TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
            ..EventDraft::new("1\n2")
        };
        let text = "p\t7\t00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\nAAPL\ntrade\n1\n2";
        assert_eq!(encoded(&draft), text.as_bytes());
        assert_eq!(encoded(&EventDraft::new("")), b"\t\t\n\n\n");
    }

    #[test]
    fn messages_are_read() {
        let message = b"\x93\xac7 41 1000 40\xa6\t\t\n\n\na\xd9\x05\t\t\n\n\n";
        let Some(Message::Events { events, hwm }) = Message::parse(message) else { panic!("not read") };
        assert_eq!(hwm.get(), 40);
        let read: Vec<_> = events.iter().map(|e| (e.offset.to_string(), e.data.as_str())).collect();
        assert_eq!(read, [("7-41".to_owned(), "a"), ("7-42".to_owned(), "")]);
        assert_eq!(Message::parse(b"C 7-42\n"), Some(Message::Committed(offset("7-42"))));
    }

    #[test]
    fn what_is_no_message_is_refused() {
        for bad in [
            &b""[..],
            b"E",
            b"X 1\n",
            b"\x90",
            b"\x92\xac7 41 1000 40",
            b"\x93\xac7 41 1000 40\xa5\t\t\n\n\n",
            b"\x92\xac7 41 1000 40\xa6\t\t\n\n\n",
            b"\x92\xac7 41 1000 40\xa5\t\t\n\n\n\0",
            b"\x92\xac7 41 1000 40\xdb\xff\xff\xff\xff\t\t\n\n\n",
            b"\xdd\xff\xff\xff\xff\xac7 41 1000 40\xa5\t\t\n\n\n",
            b"\x92\xa97 41 1000\xa5\t\t\n\n\n",
            b"\x92\xba7 9007199254740992 1000 40\xa5\t\t\n\n\n",
            b"\x92\xba7 9007199254740991 1000 40\xa5\t\t\n\n\n",
            b"\x92\xac7 41 1000 40\xa5abcde",
            b"C 7-42",
            b"C 7\n",
            b"C 07-1\n",
        ] {
            assert_eq!(Message::parse(bad), None, "{:?}", String::from_utf8_lossy(bad));
        }
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(data in ".{0,40}|(\\PC|[\\r\\n\\t\\x00]){0,20}", key in "[a-z/]{0,5}", kind in "[a-z]{0,5}") {
            let draft = EventDraft { key: Key::new(&key).ok(), kind: EventType::new(&kind).ok(), ..EventDraft::new(data) };
            let event = decode(offset("1-2"), UnixMillis::new(3), &encoded(&draft));
            prop_assert_eq!(event, Some(draft.placed(offset("1-2"), UnixMillis::new(3))));
        }

        #[test]
        fn hostile_bytes_never_panic(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = Message::parse(&bytes);
            let _ = decode(offset("1-2"), UnixMillis::new(3), &bytes);
        }
    }
}
