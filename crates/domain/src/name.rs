//! Names that arrive from outside: checked once, at the edge, and trusted everywhere after.
//!
//! None of them can hold a control character, so no name can inject a line into a stream, a log
//! or a header.

use std::fmt;
use std::sync::Arc;

/// Why a name was refused. The offence is always the sender's; a retry cannot help.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// Nothing was given where a name is needed.
    #[error("{what} is empty")]
    Empty {
        /// Which kind of name, in words.
        what: &'static str,
    },
    /// The name has too many bytes.
    #[error("{what} has {bytes} bytes, at most {max} are allowed")]
    TooLong {
        /// Which kind of name, in words.
        what: &'static str,
        /// Length of the name in bytes.
        bytes: usize,
        /// The largest length allowed, in bytes.
        max: usize,
    },
    /// A character is outside of the name's alphabet.
    #[error("{what} holds {character:?} at byte {at}; {allowed}")]
    Character {
        /// Which kind of name, in words.
        what: &'static str,
        /// The first character that is not allowed.
        character: char,
        /// Its position in bytes, from 0.
        at: usize,
        /// What is allowed, in words.
        allowed: &'static str,
    },
    /// The name is one that only Evergate itself may use.
    #[error("{what} {name:?} starts with the reserved prefix \"evergate.\"")]
    Reserved {
        /// Which kind of name, in words.
        what: &'static str,
        /// The name that was given.
        name: String,
    },
}

/// The rule one kind of name obeys.
struct Rule {
    what: &'static str,
    allowed: &'static str,
    bytes_max: usize,
    first: fn(char) -> bool,
    rest: fn(char) -> bool,
    reserved: Option<&'static str>,
}

impl Rule {
    fn check(&self, text: &str) -> Result<(), NameError> {
        let what = self.what;
        if text.is_empty() {
            return Err(NameError::Empty { what });
        }
        if text.len() > self.bytes_max {
            return Err(NameError::TooLong { what, bytes: text.len(), max: self.bytes_max });
        }
        for (at, character) in text.char_indices() {
            let fits = if at == 0 { self.first } else { self.rest };
            if !fits(character) {
                return Err(NameError::Character { what, character, at, allowed: self.allowed });
            }
        }
        if self.reserved.is_some_and(|prefix| text.starts_with(prefix)) {
            return Err(NameError::Reserved { what, name: text.to_owned() });
        }
        Ok(())
    }
}

/// Declares a checked, cheaply cloned name.
macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $rule:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $type(Arc<str>);

        impl $type {
            /// Checks `text` against the rule of this kind of name.
            pub fn new(text: &str) -> Result<Self, NameError> {
                const RULE: Rule = $rule;
                RULE.check(text)?;
                Ok(Self(text.into()))
            }

            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::str::FromStr for $type {
            type Err = NameError;

            fn from_str(text: &str) -> Result<Self, NameError> {
                Self::new(text)
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }
    };
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_'
}

fn is_dotted(c: char) -> bool {
    is_word(c) || matches!(c, '.' | ':' | '-')
}

fn is_node(c: char) -> bool {
    is_word(c) || matches!(c, '.' | '-')
}

fn is_client(c: char) -> bool {
    is_dotted(c) || matches!(c, '~' | '@' | '+' | '=' | '/')
}

fn is_key(c: char) -> bool {
    c != '*' && !c.is_control()
}

fn is_printable(c: char) -> bool {
    !c.is_control()
}

name!(
    /// The name of a stream: a letter, digit or `_`, then up to 127 of those and `. : -`.
    StreamName,
    Rule {
        what: "stream name",
        allowed: "a letter, a digit or _ comes first, then those and . : - are allowed",
        bytes_max: 128,
        first: is_word,
        rest: is_dotted,
        reserved: None,
    }
);

name!(
    /// A label inside a stream (`AAPL`): 1 to 256 bytes of UTF-8 without control characters and
    /// without `*`, which marks a prefix in a filter.
    Key,
    Rule {
        what: "key",
        allowed: "control characters and * are not allowed",
        bytes_max: 256,
        first: is_key,
        rest: is_key,
        reserved: None,
    }
);

name!(
    /// Who publishes, for idempotent retries: 1 to 128 letters, digits and `_ . : -`.
    ProducerId,
    Rule {
        what: "producer id",
        allowed: "letters, digits and _ . : - are allowed",
        bytes_max: 128,
        first: is_dotted,
        rest: is_dotted,
        reserved: None,
    }
);

name!(
    /// Who subscribes, so that the server can keep its place: 1 to 128 letters, digits and
    /// `_ . : - ~ @ + = /`.
    ClientId,
    Rule {
        what: "client id",
        allowed: "letters, digits and _ . : - ~ @ + = / are allowed",
        bytes_max: 128,
        first: is_client,
        rest: is_client,
        reserved: None,
    }
);

name!(
    /// The type of an event, the SSE field `event:`. 1 to 128 bytes of UTF-8 without control
    /// characters, and not starting with `evergate.`, which marks Evergate's own control events.
    EventType,
    Rule {
        what: "event type",
        allowed: "control characters are not allowed",
        bytes_max: 128,
        first: is_printable,
        rest: is_printable,
        reserved: Some("evergate."),
    }
);

name!(
    /// The name of a process of the cluster, with which the ids of its connections begin: 1 to 64 letters, digits and `_ . -`.
    NodeName,
    Rule {
        what: "node name",
        allowed: "letters, digits and _ . - are allowed",
        bytes_max: 64,
        first: is_node,
        rest: is_node,
        reserved: None,
    }
);

name!(
    /// The name of a region: 1 to 64 letters, digits and `_ . -`.
    RegionName,
    Rule {
        what: "region name",
        allowed: "letters, digits and _ . - are allowed",
        bytes_max: 64,
        first: is_node,
        rest: is_node,
        reserved: None,
    }
);

name!(
    /// The name of a zone, a part of a region that fails by itself: 1 to 64 letters, digits and `_ . -`.
    ZoneName,
    Rule {
        what: "zone name",
        allowed: "letters, digits and _ . - are allowed",
        bytes_max: 64,
        first: is_node,
        rest: is_node,
        reserved: None,
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_name_holds_to_its_alphabet_and_length() {
        for good in ["quote", "_", "9", "a.b:c-d_e", &"x".repeat(128)] {
            assert_eq!(StreamName::new(good).expect("good").as_str(), good);
        }
        for bad in ["", ".a", "-a", ":a", "a b", "a/b", "ä", "a\nb", "a\0", "{a}", &"x".repeat(129)] {
            assert!(StreamName::new(bad).is_err(), "{bad:?} was taken");
        }
    }

    #[test]
    fn no_name_takes_a_line_break() {
        for bad in ["a\rb", "a\nb", "a\0b", "a\u{85}b", "\u{7f}"] {
            assert!(StreamName::new(bad).is_err());
            assert!(Key::new(bad).is_err());
            assert!(EventType::new(bad).is_err());
            assert!(ProducerId::new(bad).is_err());
            assert!(ClientId::new(bad).is_err());
        }
    }

    #[test]
    fn a_key_has_no_star_and_a_type_no_reserved_prefix() {
        assert!(Key::new("a*").is_err());
        assert!(Key::new("päckchen/7 €").is_ok());
        assert!(matches!(EventType::new("evergate.gap"), Err(NameError::Reserved { .. })));
        assert!(EventType::new("evergreen").is_ok());
    }

    #[test]
    fn an_error_says_what_and_where() {
        let error = StreamName::new("a b").expect_err("bad");
        assert_eq!(
            error.to_string(),
            "stream name holds ' ' at byte 1; a letter, a digit or _ comes first, then those and . : - are allowed"
        );
    }
}
