//! An event as a JSON object:
//!
//! ```json
//! {"data": "…", "type": "…", "key": "…", "producer": {"id": "…", "seq": 7}, "level": "HOME"}
//! ```
//!
//! `data` is required: a string as it is, any other value as its compact text, with its numbers
//! spelled as they were. The rest may be left out or be null. A member that is not known or given
//! twice is refused, since one of the sender's wishes would be lost without a word.

use std::fmt;

use evergate_domain::Level;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{NO_LEVEL, level_named};
use crate::publish::{Faults, Part, RawEvent, RawProducer};

const MEMBERS: [&str; 5] = ["data", "type", "key", "producer", "level"];
const PRODUCER_MEMBERS: [&str; 2] = ["id", "seq"];

/// How many members of one object are reported as unknown or given twice.
const STRAYS_MAX: usize = 8;

/// How much of an unknown member's name is repeated, in characters.
const NAME_CHARS_MAX: usize = 64;

/// Reads the event number `index`; what is wrong with it is among the faults.
pub(super) fn event(text: &str, index: usize, faults: &mut Faults) -> (RawEvent, Option<Level>) {
    let mut event = RawEvent::default();
    let [data, kind, key, producer, level] = match members(text, MEMBERS) {
        Ok(Object { members, strays }) => {
            for (name, detail) in strays {
                faults.malformed(index, part(&name), detail);
            }
            members
        }
        Err(error) => {
            faults.malformed(index, Part::Event, in_words(&error));
            return (event, None);
        }
    };
    match data {
        None => faults.malformed(index, Part::Data, "is missing"),
        Some(data) if is_string(data) => event.data = string(data, index, Part::Data, faults),
        Some(data) => event.data = Some(compact(data.get())),
    }
    event.kind = optional(kind).and_then(|kind| string(kind, index, Part::Type, faults));
    event.key = optional(key).and_then(|key| string(key, index, Part::Key, faults));
    event.producer = optional(producer).map(|producer| self::producer(producer, index, faults));
    let level =
        optional(level).and_then(|level| string(level, index, Part::Level, faults)).and_then(|name| {
            let level = level_named(&name);
            if level.is_none() {
                faults.malformed(index, Part::Level, NO_LEVEL);
            }
            level
        });
    (event, level)
}

fn producer(producer: &RawValue, index: usize, faults: &mut Faults) -> RawProducer {
    let Ok(Object { members: [id, seq], strays }) = members(producer.get(), PRODUCER_MEMBERS) else {
        faults.malformed(index, Part::Producer, "is not an object with id and seq");
        return RawProducer::default();
    };
    for (name, detail) in strays {
        faults.malformed(index, Part::Member(format!("producer.{name}")), detail);
    }
    if id.is_none() {
        faults.malformed(index, Part::ProducerId, "is missing");
    }
    let id = id.and_then(|id| string(id, index, Part::ProducerId, faults));
    let detail = if seq.is_none() { "is missing" } else { "is not a whole number" };
    let seq = seq.and_then(|seq| seq.get().parse().ok());
    if seq.is_none() {
        faults.malformed(index, Part::ProducerSeq, detail);
    }
    RawProducer { id, seq }
}

/// The members of an object, known by these names.
struct Object<'a, const N: usize> {
    members: [Option<&'a RawValue>; N],
    /// Names that are not known or came twice, and which of the two.
    strays: Vec<(String, String)>,
}

fn members<'a, const N: usize>(text: &'a str, names: [&'static str; N]) -> serde_json::Result<Object<'a, N>> {
    let mut input = serde_json::Deserializer::from_str(text);
    let object = Names(names).deserialize(&mut input)?;
    input.end()?;
    Ok(object)
}

/// Reads an object whose members have these names.
struct Names<const N: usize>([&'static str; N]);

impl<'de, const N: usize> DeserializeSeed<'de> for Names<N> {
    type Value = Object<'de, N>;

    fn deserialize<D: Deserializer<'de>>(self, input: D) -> Result<Self::Value, D::Error> {
        input.deserialize_map(self)
    }
}

impl<'de, const N: usize> Visitor<'de> for Names<N> {
    type Value = Object<'de, N>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut input: A) -> Result<Self::Value, A::Error> {
        let mut object = Object { members: [None; N], strays: Vec::new() };
        while let Some(name) = input.next_key::<String>()? {
            let value = input.next_value::<&RawValue>()?;
            let detail = match self.0.iter().position(|known| *known == name) {
                Some(at) if object.members[at].is_none() => {
                    object.members[at] = Some(value);
                    continue;
                }
                Some(_) => "is given more than once".to_owned(),
                None => format!("is not known; known are {}", self.0.join(", ")),
            };
            if object.strays.len() < STRAYS_MAX {
                object.strays.push((name.chars().take(NAME_CHARS_MAX).collect(), detail));
            }
        }
        Ok(object)
    }
}

/// The part that a member of the event is.
fn part(member: &str) -> Part {
    match member {
        "data" => Part::Data,
        "type" => Part::Type,
        "key" => Part::Key,
        "producer" => Part::Producer,
        "level" => Part::Level,
        _ => Part::Member(member.to_owned()),
    }
}

/// A member that may be left out: null is the same.
fn optional(member: Option<&RawValue>) -> Option<&RawValue> {
    member.filter(|value| value.get() != "null")
}

fn is_string(value: &RawValue) -> bool {
    value.get().starts_with('"')
}

fn string(value: &RawValue, index: usize, part: Part, faults: &mut Faults) -> Option<String> {
    let text = serde_json::from_str(value.get());
    let detail = match text {
        Ok(text) => return Some(text),
        // Its only mistake can be half of a surrogate pair, which no UTF-8 can hold.
        Err(error) if is_string(value) => in_words(&error),
        Err(_) => "is not a string".to_owned(),
    };
    faults.malformed(index, part, detail);
    None
}

/// The value without the white space between its tokens; nothing else changes.
fn compact(json: &str) -> String {
    let mut compact = String::with_capacity(json.len());
    let (mut in_string, mut escaped) = (false, false);
    for c in json.chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else {
            if matches!(c, ' ' | '\t' | '\n' | '\r') {
                continue;
            }
            in_string = c == '"';
        }
        compact.push(c);
    }
    compact
}

/// What the parser says, without a line number that could be taken for the body's.
fn in_words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(end) if error.line() <= 1 => format!("{} at column {}", &text[..end], error.column()),
        Some(_) | None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::{Value, json};

    #[test]
    fn compact_text_keeps_every_token_as_it_was_spelled() {
        for (pretty, expected) in [
            ("1.0", "1.0"),
            ("-0", "-0"),
            ("1E+05", "1E+05"),
            ("12345678901234567890123.10", "12345678901234567890123.10"),
            ("[ 1 ,\r\n\t2 ]", "[1,2]"),
            ("{ \"a b\" : \" c \\\" d\\\\\" , \"e\" : [ ] }", "{\"a b\":\" c \\\" d\\\\\",\"e\":[]}"),
            ("\"\\\\\" ", "\"\\\\\""),
            ("{\"\\u00e4\": \"ä\u{a0}\"}", "{\"\\u00e4\":\"ä\u{a0}\"}"),
        ] {
            assert_eq!(compact(pretty), expected);
        }
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            ".*".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::hash_map(".*", inner, 0..5)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn compact_undoes_pretty_printing(value in value()) {
            let pretty = serde_json::to_string_pretty(&value).expect("serialises");
            prop_assert_eq!(compact(&pretty), value.to_string());
        }

        #[test]
        fn any_value_arrives_as_data(value in value()) {
            let mut faults = Faults::default();
            let text = json!({ "data": &value }).to_string();
            let (event, _) = event(&text, 0, &mut faults);
            prop_assert!(faults.is_empty());
            let expected = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            prop_assert_eq!(event.data, Some(expected));
        }

        #[test]
        fn no_text_makes_the_reader_panic(text in "[\\[\\]{}\",:0-9a-z\\\\ \n-]{0,60}") {
            event(&text, 0, &mut Faults::default());
        }
    }
}
