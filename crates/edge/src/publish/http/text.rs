//! An event whose payload is the body, and whose other parts are header fields:
//!
//! ```text
//! Evergate-Type: trade
//! Evergate-Key: AAPL
//! Evergate-Producer: feed-7/42      producer id and sequence; an id holds no "/"
//! ```
//!
//! The values are UTF-8 as they stand; percent-encoding is not undone.

use http::HeaderMap;

use super::header;
use crate::publish::{Faults, Part, RawEvent, RawProducer};

const TYPE: &str = "Evergate-Type";
const KEY: &str = "Evergate-Key";
const PRODUCER: &str = "Evergate-Producer";

/// The event with this payload; what is wrong with its header fields is among the faults.
pub(super) fn event(headers: &HeaderMap, data: Option<String>, faults: &mut Faults) -> RawEvent {
    let kind = header::one(headers, TYPE, faults);
    let key = header::one(headers, KEY, faults);
    let producer = header::one(headers, PRODUCER, faults).map(|value| producer(&value, faults));
    RawEvent { data, kind, key, producer, trace: None }
}

/// Refuses the fields above beside a body that has a place for what they say: one of the two would
/// be ignored without a word.
pub(super) fn refuse_headers(headers: &HeaderMap, faults: &mut Faults) {
    for name in [TYPE, KEY, PRODUCER] {
        if headers.contains_key(name) {
            faults.malformed(0, Part::Header(name), "goes with a text body; a JSON object says it itself");
        }
    }
}

fn producer(value: &str, faults: &mut Faults) -> RawProducer {
    let Some((id, seq)) = value.rsplit_once('/') else {
        faults.malformed(0, Part::Producer, "is not <id>/<sequence>, as in feed-7/42");
        return RawProducer::default();
    };
    // `parse` alone would take a sign.
    let seq = if seq.bytes().all(|byte| byte.is_ascii_digit()) { seq.parse().ok() } else { None };
    if seq.is_none() {
        faults.malformed(0, Part::ProducerSeq, "the sequence after \"/\" is not a whole number");
    }
    RawProducer { id: Some(id.to_owned()), seq }
}
