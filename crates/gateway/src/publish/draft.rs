//! An event before it is published, and how a line of input becomes one.

use evergate_domain::{EventType, Key};
use serde::Deserialize;
use serde_json::value::RawValue;

/// An event without a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Draft {
    pub data: String,
    pub kind: Option<EventType>,
    pub key: Option<Key>,
}

/// How lines are read. Type and key are those of every event that does not say its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum LineFormat {
    /// A line is the data.
    Plain { kind: Option<EventType>, key: Option<Key> },
    /// A line is a JSON object.
    Json { kind: Option<EventType>, key: Option<Key> },
}

/// What a line of JSON may hold.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written<'a> {
    #[serde(borrow)]
    data: &'a RawValue,
    #[serde(rename = "type")]
    kind: Option<String>,
    key: Option<String>,
}

impl LineFormat {
    /// Reads one line, without its line end. `None` for a blank line between JSON objects.
    pub(crate) fn read(&self, line: &str) -> Result<Option<Draft>, String> {
        match self {
            Self::Plain { kind, key } => {
                Ok(Some(Draft { data: line.to_owned(), kind: kind.clone(), key: key.clone() }))
            }
            Self::Json { .. } if line.trim().is_empty() => Ok(None),
            Self::Json { kind, key } => {
                let written: Written<'_> = serde_json::from_str(line).map_err(|error| told(&error))?;
                let own_kind = written.kind.map(|kind| EventType::new(&kind)).transpose();
                let own_key = written.key.map(|key| Key::new(&key)).transpose();
                Ok(Some(Draft {
                    data: data(written.data),
                    kind: own_kind.map_err(|error| error.to_string())?.or_else(|| kind.clone()),
                    key: own_key.map_err(|error| error.to_string())?.or_else(|| key.clone()),
                }))
            }
        }
    }
}

/// Text as it is, any other JSON value as its compact text.
fn data(value: &RawValue) -> String {
    serde_json::from_str(value.get()).unwrap_or_else(|_| compact(value.get()))
}

/// Takes the white space out of valid JSON. Parsing and printing it anew would round large
/// numbers and reorder fields.
fn compact(json: &str) -> String {
    let mut compact = String::with_capacity(json.len());
    let (mut in_text, mut escaped) = (false, false);
    for character in json.chars() {
        if in_text || !matches!(character, ' ' | '\t' | '\n' | '\r') {
            compact.push(character);
        }
        match character {
            '"' if !escaped => in_text = !in_text,
            _ => {}
        }
        escaped = in_text && character == '\\' && !escaped;
    }
    compact
}

/// A JSON error without its line, which is always the first of one.
fn told(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.replace(&format!(" at line {} column {}", error.line(), error.column()), "");
    format!("column {}: {text}", error.column())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn json(line: &str) -> Result<Option<Draft>, String> {
        let key = Key::new("default").ok();
        LineFormat::Json { kind: None, key }.read(line)
    }

    #[test]
    fn a_plain_line_is_the_data_even_if_it_is_empty() {
        let plain = LineFormat::Plain { kind: EventType::new("t").ok(), key: None };
        let draft = plain.read("").unwrap().unwrap();
        assert_eq!(draft, Draft { data: String::new(), kind: EventType::new("t").ok(), key: None });
    }

    #[test]
    fn an_object_may_have_a_type_and_a_key_of_its_own() {
        let draft = json(r#"{"data": "a\nb", "type": "trade", "key": "AAPL"}"#).unwrap().unwrap();
        assert_eq!(draft.data, "a\nb");
        assert_eq!(draft.kind, EventType::new("trade").ok());
        assert_eq!(draft.key, Key::new("AAPL").ok());
        assert_eq!(json(r#"{"data":""}"#).unwrap().unwrap().key, Key::new("default").ok());
        assert_eq!(json("  ").unwrap(), None);
    }

    #[test]
    fn data_that_is_no_text_is_its_compact_json() {
        for (written, data) in [
            (r#"{ "b" : [1, 2.50 ] , "a" : "x \" \\" }"#, r#"{"b":[1,2.50],"a":"x \" \\"}"#),
            ("12345678901234567890123", "12345678901234567890123"),
            ("null", "null"),
            (r#" " \\" "#, " \\"),
        ] {
            assert_eq!(json(&format!("{{\"data\": {written}}}")).unwrap().unwrap().data, data);
        }
    }

    #[test]
    fn what_is_no_event_is_explained() {
        for (line, expected) in [
            ("{", "column 1: EOF while parsing an object"),
            ("{}", "column 2: missing field `data`"),
            (r#"{"data":"","id":1}"#, "column 15: unknown field `id`, expected one of `data`, `type`, `key`"),
            (r#"{"data":"","key":""}"#, "key is empty"),
            (r#"{"data":"","key":1}"#, "column 18: invalid type: integer `1`, expected a string"),
        ] {
            assert_eq!(json(line).unwrap_err(), expected, "{line}");
        }
    }
}
