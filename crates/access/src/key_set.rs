//! The keys that vouch for tokens, as RFC 7517 writes them down.

use std::sync::Arc;

use serde::Deserialize;

use crate::algorithm::Algorithm;
use crate::error::Refusal;
use crate::key::{Key, NoKey};
use crate::object::Object;

/// A set that is larger than this is not read.
pub const KEY_SET_BYTES_MAX: usize = 256 << 10;

/// Keys that one set may hold.
const KEYS_MAX: usize = 64;

/// Where a set comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// Written for us, and only we can read it: it may hold shared secrets, and everything in it is
    /// meant for us.
    Private,
    /// Published for everybody: a shared secret in it is none, and keys of other kinds are for others.
    Public,
}

/// The keys that are believed. None is a set too: then nobody is.
#[derive(Debug, Default)]
pub struct KeySet {
    keys: Vec<Arc<Key>>,
}

/// Why a set of keys is not believed. The operator's to mend, or the issuer's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// More bytes than any set needs.
    #[error("it has more than {KEY_SET_BYTES_MAX} bytes")]
    TooLarge,
    /// Not a JSON Web Key Set.
    #[error("it is no JSON Web Key Set: an object with a list of \"keys\"")]
    NoSet,
    /// Too many keys.
    #[error("it has more than {KEYS_MAX} keys")]
    TooMany,
    /// A key is wrong: which, from 1, and how.
    #[error("key {number}: {what}")]
    Key {
        /// Which of the list, from 1.
        number: usize,
        /// What is wrong with it.
        what: &'static str,
    },
    /// None of the keys is one that we could use.
    #[error("it holds no key that could be used")]
    Empty,
}

#[derive(Deserialize)]
struct Written {
    keys: Vec<Object>,
}

impl KeySet {
    /// Reads a JSON Web Key Set.
    pub fn read(json: &[u8], origin: Origin) -> Result<Self, KeySetError> {
        if json.len() > KEY_SET_BYTES_MAX {
            return Err(KeySetError::TooLarge);
        }
        let Written { keys: written } = serde_json::from_slice(json).map_err(|_| KeySetError::NoSet)?;
        if written.len() > KEYS_MAX {
            return Err(KeySetError::TooMany);
        }
        let mut keys = Vec::new();
        for (index, jwk) in written.iter().enumerate() {
            let wrong = |what| KeySetError::Key { number: index + 1, what };
            match Key::read(jwk) {
                Ok(key) if key.is_shared() && origin == Origin::Public => {
                    return Err(wrong("a shared secret that is published is known to everybody"));
                }
                Ok(key) => keys.push(Arc::new(key)),
                Err(NoKey::Secret(what)) => return Err(wrong(what)),
                // What others publish for others must not shut out everybody.
                Err(NoKey::NotForUs | NoKey::Malformed(_)) if origin == Origin::Public => {}
                Err(NoKey::NotForUs) => return Err(wrong("its kty, alg, crv or use is none of ours")),
                Err(NoKey::Malformed(what)) => return Err(wrong(what)),
            }
        }
        if keys.is_empty() { Err(KeySetError::Empty) } else { Ok(Self { keys }) }
    }

    /// All keys of several sets.
    #[must_use]
    pub fn joined<'a>(sets: impl IntoIterator<Item = &'a Self>) -> Self {
        Self { keys: sets.into_iter().flat_map(|set| set.keys.iter().cloned()).collect() }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether the message is signed by the key that it names, or by the only one that it can mean.
    pub(crate) fn check(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
        message: &[u8],
        signature: &[u8],
    ) -> Result<(), Refusal> {
        let named = self.keys.iter().filter(|key| id.is_none() || key.id() == id);
        let mut known = false;
        let mut candidates = Vec::new();
        for key in named {
            known = true;
            if key.algorithm() == algorithm {
                candidates.push(key);
            }
        }
        // A token that names no key is not tried with one after the other.
        if candidates.is_empty() || (id.is_none() && candidates.len() > 1) {
            let other = known && id.is_some();
            return Err(if other { Refusal::Algorithm } else { Refusal::UnknownKey });
        }
        // Two keys of one name and algorithm are two sources of the same issuer, of which there are few.
        let signed = candidates.iter().any(|key| key.signed(message, signature));
        if signed { Ok(()) } else { Err(Refusal::Signature) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(json: &str, origin: Origin) -> Result<usize, KeySetError> {
        KeySet::read(json.as_bytes(), origin).map(|set| set.len())
    }

    const SECRET: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8";

    #[test]
    fn a_secret_belongs_in_no_public_set_and_a_private_key_in_none() {
        let shared = format!(r#"{{"keys":[{{"kty":"oct","alg":"HS256","k":"{SECRET}"}}]}}"#);
        assert_eq!(read(&shared, Origin::Private), Ok(1));
        assert!(matches!(read(&shared, Origin::Public), Err(KeySetError::Key { number: 1, .. })));
        let private = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{SECRET}","d":"AA"}}]}}"#);
        for origin in [Origin::Private, Origin::Public] {
            assert!(matches!(read(&private, origin), Err(KeySetError::Key { number: 1, .. })));
        }
    }

    #[test]
    fn keys_of_others_are_passed_over_where_others_publish_them() {
        let ours = format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{SECRET}","kid":"a"}}"#);
        for other in [
            r#"{"kty":"AKP","alg":"ML-DSA-44"}"#.to_owned(),
            r#"{"kty":"EC","crv":"P-521","x":"AA","y":"AA"}"#.to_owned(),
            r#"{"kty":"RSA","use":"enc","n":"AA","e":"AQAB"}"#.to_owned(),
            format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{SECRET}","key_ops":["sign"]}}"#),
            format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{SECRET}","alg":"ES256"}}"#),
            r#"{"kty":"RSA","alg":"RS256","n":"AQAB","e":"AQAB"}"#.to_owned(),
        ] {
            let both = format!(r#"{{"keys":[{other},{ours}]}}"#);
            assert_eq!(read(&both, Origin::Public), Ok(1), "{other}");
            assert!(
                matches!(read(&both, Origin::Private), Err(KeySetError::Key { number: 1, .. })),
                "{other}"
            );
            assert_eq!(read(&format!(r#"{{"keys":[{other}]}}"#), Origin::Public), Err(KeySetError::Empty));
        }
    }

    #[test]
    fn a_weak_secret_and_what_is_no_set_are_told() {
        for bad in ["", "[]", r#"{"keys":{}}"#, r#"{"keys":[7]}"#, r#"{"keys":[{"kty":"oct","kty":"oct"}]}"#]
        {
            assert_eq!(read(bad, Origin::Private), Err(KeySetError::NoSet), "{bad}");
        }
        for bad in [
            r#"{"kty":"oct","alg":"HS256","k":"c2hvcnQ"}"#.to_owned(),
            format!(r#"{{"kty":"oct","k":"{SECRET}"}}"#),
            format!(r#"{{"kty":"oct","alg":"HS512","k":"{SECRET}"}}"#),
            format!(r#"{{"kty":"oct","alg":"RS256","k":"{SECRET}"}}"#),
            format!(r#"{{"kty":"oct","alg":"none","k":"{SECRET}"}}"#),
            format!(r#"{{"kty":"oct","alg":"HS256","k":"{SECRET}="}}"#),
        ] {
            let set = format!(r#"{{"keys":[{bad}]}}"#);
            assert!(matches!(read(&set, Origin::Private), Err(KeySetError::Key { .. })), "{bad}");
        }
        let large = format!(r#"{{"keys":[],"x":"{}"}}"#, "x".repeat(KEY_SET_BYTES_MAX));
        assert_eq!(read(&large, Origin::Private), Err(KeySetError::TooLarge));
        let one = format!(r#"{{"kty":"OKP","crv":"Ed25519","x":"{SECRET}"}}"#);
        let many = format!(r#"{{"keys":[{}]}}"#, vec![one; KEYS_MAX + 1].join(","));
        assert_eq!(read(&many, Origin::Public), Err(KeySetError::TooMany));
    }

    #[test]
    fn a_key_is_not_printed() {
        let json = format!(r#"{{"keys":[{{"kty":"oct","alg":"HS256","kid":"a","k":"{SECRET}"}}]}}"#);
        let set = KeySet::read(json.as_bytes(), Origin::Private).expect("valid");
        let printed = format!("{set:?}");
        assert!(
            printed.contains("Hs256") && !printed.contains("31") && !printed.contains(SECRET),
            "{printed}"
        );
    }
}
