//! What the functions answer, read with suspicion.

use evergate_domain::{Epoch, Level, Offset, Seq};
use redis::Value;

use super::levels;

/// The words of an answer: an array of texts.
pub(super) fn words(value: Value) -> Option<Vec<String>> {
    match value {
        Value::Array(values) => values.into_iter().map(text).collect(),
        _ => None,
    }
}

/// A text.
pub(super) fn text(value: Value) -> Option<String> {
    match value {
        Value::BulkString(bytes) => String::from_utf8(bytes).ok(),
        Value::SimpleString(text) | Value::VerbatimString { text, .. } => Some(text),
        Value::Okay => Some("OK".to_owned()),
        Value::Int(number) => Some(number.to_string()),
        _ => None,
    }
}

pub(super) fn offset(word: &str) -> Option<Offset> {
    word.parse().ok()
}

pub(super) fn seq(word: &str) -> Option<Seq> {
    word.parse().ok().and_then(Seq::new)
}

pub(super) fn epoch(word: &str) -> Option<Epoch> {
    word.parse().ok().and_then(Epoch::new)
}

/// Why a function did not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The gate is shut. It is opened by naming this fence, under an epoch above `least`.
    Shut { fence: Epoch, least: Epoch },
    /// Another epoch is open.
    Fenced { epoch: Epoch, token: String },
    /// There are keys under this stream's names that no log made.
    Foreign,
    /// The stream was made at a level below the one that was asked for.
    Level(Level),
}

impl Refusal {
    /// Reads a refusal; `None` if the answer is none.
    pub(super) fn read(words: &[String]) -> Option<Self> {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match *words.as_slice() {
            ["SHUT", fence, least] => Some(Self::Shut { fence: epoch(fence)?, least: epoch(least)? }),
            ["FENCED", at, token] => Some(Self::Fenced { epoch: epoch(at)?, token: token.to_owned() }),
            ["FOREIGN", _] => Some(Self::Foreign),
            ["LEVEL", made] => Some(Self::Level(levels::level(made)?)),
            _ => None,
        }
    }
}
