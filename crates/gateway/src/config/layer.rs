//! Layers of written values, and the stack they make.
//!
//! Each source (defaults, file, environment, flags) is one layer. A layer remembers also which
//! values were mistaken, so that a rule between settings is not blamed on a value nobody could
//! read.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use evergate_domain::StreamPattern;

use super::mistake::{Mistake, Place};
use super::near::nearest;
use super::registry::{self, SETTINGS, STREAM_SETTINGS, STREAMS, Setting};
use super::value::Value;

/// Which setting a value belongs to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key {
    General(&'static str),
    OfStream { stream: StreamPattern, name: &'static str },
}

/// A value and where it was written; no value if it was mistaken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub value: Option<Value>,
    pub place: Place,
}

/// What one source says.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Layer {
    written: BTreeMap<Key, Written>,
    /// Streams with a table of their own, even an empty one.
    streams: BTreeSet<StreamPattern>,
}

impl Key {
    /// Resolves a key as it is written in a flag. The message says why it names nothing.
    pub(crate) fn resolve(text: &str) -> Result<(Self, &'static Setting), String> {
        if let Some(setting) = registry::find(text) {
            return Ok((Self::General(setting.key), setting));
        }
        let of_stream = text
            .strip_prefix(STREAMS)
            .and_then(|rest| rest.strip_prefix('.'))
            // From the end: the name of a stream may itself hold dots.
            .and_then(|rest| rest.rsplit_once('.'));
        let Some((stream, name)) = of_stream else {
            return Err(unknown(text));
        };
        let setting = registry::find_of_stream(name).ok_or_else(|| unknown_of_stream(name))?;
        let stream = stream.trim_matches('"').parse::<StreamPattern>().map_err(|error| error.to_string())?;
        let key = Self::OfStream { stream, name: setting.key };
        Ok((key, setting))
    }
}

impl Layer {
    pub(crate) fn insert(&mut self, key: Key, value: Option<Value>, place: Place) {
        if let Key::OfStream { stream, .. } = &key {
            self.list_stream(stream.clone());
        }
        self.written.insert(key, Written { value, place });
    }

    pub(crate) fn list_stream(&mut self, stream: StreamPattern) {
        self.streams.insert(stream);
    }

    pub(crate) fn get(&self, key: &Key) -> Option<&Written> {
        self.written.get(key)
    }

    /// Reads `text` for `setting` and inserts it, or notes the mistake.
    pub(crate) fn read(
        &mut self,
        key: Key,
        setting: &Setting,
        text: &str,
        place: Place,
        mistakes: &mut Vec<Mistake>,
    ) {
        let value = match setting.kind.read_text(text) {
            Ok(value) => Some(value),
            Err(message) => {
                mistakes.push(Mistake::new(place.clone(), key.to_string(), message));
                None
            }
        };
        self.insert(key, value, place);
    }

    /// Lays `upper` over this layer: where both say something, `upper` counts.
    pub(crate) fn cover(&mut self, upper: Self) {
        self.written.extend(upper.written);
        self.streams.extend(upper.streams);
    }

    pub(crate) fn streams(&self) -> impl Iterator<Item = &StreamPattern> {
        self.streams.iter()
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::General(key) => f.write_str(key),
            Self::OfStream { stream, name } => write!(f, "{STREAMS}.\"{stream}\".{name}"),
        }
    }
}

/// Says that no setting has this key, and which one was perhaps meant.
pub(crate) fn unknown(key: &str) -> String {
    let known = SETTINGS.iter().map(|setting| setting.key);
    suggest("unknown setting", nearest(key, known))
}

/// Says that no table or setting has this name, and which one was perhaps meant.
pub(crate) fn unknown_table(name: &str) -> String {
    let sections: BTreeSet<&str> = SETTINGS.iter().filter_map(Setting::section).collect();
    suggest("unknown table", nearest(name, sections))
}

/// Says that a stream has no such setting of its own, and which one was perhaps meant.
pub(crate) fn unknown_of_stream(name: &str) -> String {
    let known = STREAM_SETTINGS.iter().map(|setting| setting.key);
    suggest("unknown setting of a stream", nearest(name, known))
}

pub(crate) fn suggest(what: &str, near: Option<&str>) -> String {
    match near {
        Some(near) => format!("{what}; did you mean {near:?}?"),
        None => what.to_owned(),
    }
}
