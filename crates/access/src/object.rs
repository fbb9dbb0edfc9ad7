//! A JSON object in which nothing is said twice.
//!
//! Two readers of `{"sub": "a", "sub": "b"}` may see two subjects; RFC 7515, section 4, asks for names
//! that occur once, and this is where it is held to.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde_json::Value;

/// The members of an object, by name.
#[derive(Debug, Default)]
pub(crate) struct Object(BTreeMap<String, Value>);

impl Object {
    /// Reads the whole text as one object.
    pub(crate) fn read(json: &[u8]) -> Option<Self> {
        serde_json::from_slice(json).ok()
    }

    /// The member of this name.
    pub(crate) fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name)
    }

    /// The member of this name as text; the error is that it is something else.
    pub(crate) fn text(&self, name: &str) -> Result<Option<&str>, ()> {
        self.get(name).map(|value| value.as_str().ok_or(())).transpose()
    }
}

impl<'de> Deserialize<'de> for Object {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Object;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Object, A::Error> {
                let mut members = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, Value>()? {
                    if members.insert(name, value).is_some() {
                        return Err(A::Error::custom("a name stands there twice"));
                    }
                }
                Ok(Object(members))
            }
        }

        deserializer.deserialize_map(Members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_said_twice_and_nothing_stands_behind() {
        assert!(Object::read(br#"{"a": 1, "b": {"a": 2}}"#).is_some());
        for bad in [r#"{"a":1,"a":1}"#, r#"{"a":1,"\u0061":2}"#, r#"{"a":1} {}"#, "[]", "7", "", "{"] {
            assert!(Object::read(bad.as_bytes()).is_none(), "{bad}");
        }
    }
}
