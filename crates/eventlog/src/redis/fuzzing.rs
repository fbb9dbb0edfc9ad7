//! What a Redis might say, read as it would be; for fuzzers. A function returns for whatever it is given, or panics,
//! which is a finding.

use evergate_domain::{Event, EventDraft, Offset, UnixMillis};

use super::reply::{self, Refusal};
use super::wire::{self, Message};
use super::{checks, reader};

/// A reply as it goes over the connection.
pub fn reply(bytes: &[u8]) {
    let Ok(value) = redis::parse_redis_value(bytes) else { return };
    for (name, value) in checks::pairs(value.clone()) {
        assert!(!name.is_empty() || !value.is_empty() || !bytes.is_empty());
    }
    if let Some(text) = reply::text(value.clone()) {
        let _ = (reply::offset(&text), reply::seq(&text), reply::epoch(&text));
    }
    if let Some(words) = reply::words(value.clone()) {
        let refusal = Refusal::read(&words);
        let judged = reader::judged_of(&words, Offset::BEGINNING);
        assert!(refusal.is_none() || judged.is_none(), "both at once: {words:?}");
    }
    if let Some(event) = reader::event(value) {
        same_again(&event);
    }
}

/// A message on the live channel.
pub fn message(bytes: &[u8]) {
    let Some(Message::Events { events, .. }) = Message::parse(bytes) else { return };
    for pair in events.windows(2) {
        assert_eq!(pair[0].offset.next(), pair[1].offset, "dense");
    }
    for event in events {
        same_again(&event);
    }
}

/// An event that was read is written as one that reads the same.
fn same_again(event: &Event) {
    let Event { offset, time, key, kind, data, producer, trace } = event.clone();
    let draft = EventDraft { key, kind, data, producer, trace };
    let mut written = Vec::new();
    wire::encode(&draft, &mut written);
    let time: UnixMillis = time;
    assert_eq!(wire::decode(offset, time, &written).as_ref(), Some(event));
}
