//! Who is believed no longer, although nothing of its token says so.

use std::collections::HashMap;

use ring::digest::{Context, SHA256};

use crate::principal::Principal;

/// Revocations that are remembered. Beyond it none is taken, for one that is put out would let somebody
/// in again.
const REVOCATIONS_MAX: usize = 16_384;

/// What is called back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Revoked<'a> {
    /// One token, by its `jti`.
    Token(&'a str),
    /// Everything of one subject, by its `sub`.
    Subject(&'a str),
}

/// One entry as nodes tell it each other: a digest, of which nobody learns who it is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Revocation {
    /// SHA-256 over what kind of name it is, and the name.
    pub digest: [u8; 32],
    /// Until when it is remembered, in seconds since 1970.
    pub until: u64,
}

impl Revocation {
    /// Calls something back until a moment in seconds since 1970; after that the token must have expired
    /// by itself.
    #[must_use]
    pub fn new(revoked: Revoked<'_>, until: u64) -> Self {
        Self { digest: digest(revoked), until }
    }
}

/// Everything that was called back. Pure: the time is handed in.
#[derive(Debug, Default)]
pub struct Revocations {
    until: HashMap<[u8; 32], u64>,
    version: u64,
}

/// There is no room for another; nothing was changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("there are {REVOCATIONS_MAX} revocations already")]
pub struct Full;

impl Revocations {
    /// Remembers it, or remembers it for longer. False if that is nothing new.
    pub fn add(&mut self, revocation: Revocation, now: u64) -> Result<bool, Full> {
        let Revocation { digest, until } = revocation;
        if until <= now || self.until.get(&digest).is_some_and(|known| *known >= until) {
            return Ok(false);
        }
        if !self.until.contains_key(&digest) && self.until.len() >= REVOCATIONS_MAX {
            self.forget(now);
            if self.until.len() >= REVOCATIONS_MAX {
                return Err(Full);
            }
        }
        self.until.insert(digest, until);
        self.version += 1;
        Ok(true)
    }

    /// Forgets what has run out.
    pub fn forget(&mut self, now: u64) {
        self.until.retain(|_, until| *until > now);
    }

    /// Whether this one is believed no longer.
    #[must_use]
    pub fn contains(&self, principal: &Principal, now: u64) -> bool {
        if self.until.is_empty() {
            return false;
        }
        let token = principal.token_id().map(Revoked::Token);
        let subject = principal.subject().map(Revoked::Subject);
        let called_back = |revoked| self.until.get(&digest(revoked)).is_some_and(|until| *until > now);
        token.into_iter().chain(subject).any(called_back)
    }

    /// Rises with every change, so that it need not be told twice.
    #[must_use]
    pub fn version(&self) -> u64 {
        self.version
    }

    /// All of them.
    pub fn iter(&self) -> impl Iterator<Item = Revocation> {
        self.until.iter().map(|(digest, until)| Revocation { digest: *digest, until: *until })
    }
}

fn digest(revoked: Revoked<'_>) -> [u8; 32] {
    let (kind, name) = match revoked {
        Revoked::Token(name) => ("jti\0", name),
        Revoked::Subject(name) => ("sub\0", name),
    };
    let mut context = Context::new(&SHA256);
    context.update(kind.as_bytes());
    context.update(name.as_bytes());
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::object::Object;

    fn somebody(subject: &str, token: &str) -> Principal {
        let claims = format!(r#"{{"sub":"{subject}","jti":"{token}"}}"#);
        let claims = Object::read(claims.as_bytes()).expect("an object");
        Principal::read(&claims, "evergate").expect("valid")
    }

    #[test]
    fn a_token_or_a_subject_is_called_back_for_a_time() {
        let mut revocations = Revocations::default();
        assert!(!revocations.contains(&somebody("a", "1"), 10));
        assert_eq!(revocations.add(Revocation::new(Revoked::Token("1"), 20), 10), Ok(true));
        assert_eq!(revocations.add(Revocation::new(Revoked::Subject("b"), 30), 10), Ok(true));
        let called_back = |subject, token, now| revocations.contains(&somebody(subject, token), now);
        assert!(called_back("a", "1", 10) && !called_back("a", "2", 10) && !called_back("1", "a", 10));
        assert!(called_back("b", "2", 10) && called_back("b", "2", 29));
        assert!(!called_back("b", "2", 30) && !called_back("a", "1", 20));
    }

    #[test]
    fn what_is_known_is_no_news_and_a_full_table_puts_nobody_out() {
        let mut revocations = Revocations::default();
        let token = |n: usize| Revocation::new(Revoked::Token(&n.to_string()), 100 + n as u64);
        for n in 0..REVOCATIONS_MAX {
            assert_eq!(revocations.add(token(n), 0), Ok(true));
        }
        let version = revocations.version();
        assert_eq!(revocations.add(token(5), 0), Ok(false));
        assert_eq!(revocations.add(token(REVOCATIONS_MAX), 0), Err(Full));
        assert_eq!(revocations.add(Revocation { until: 9, ..token(REVOCATIONS_MAX) }, 10), Ok(false));
        assert_eq!(revocations.version(), version);
        // One has run out.
        assert_eq!(revocations.add(token(REVOCATIONS_MAX), 100), Ok(true));
        assert_eq!(revocations.iter().count(), REVOCATIONS_MAX);
    }
}
