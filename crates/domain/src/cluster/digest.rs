//! A number by which two nodes find out that they do not hold the same.

use std::fmt;

use xxhash_rust::xxh3::Xxh3Default;

/// 64 bits of what was fed. Not a proof against somebody who wants two things to look the same: all who
/// compare digests belong to one cluster.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(u64);

/// Takes parts in, each of which ends where it ends: `"ab", "c"` is not `"a", "bc"`.
pub(super) struct Digester(Xxh3Default);

impl Digest {
    /// From its number, as the wire carries it.
    #[must_use]
    pub fn new(number: u64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Digester {
    pub(super) fn new() -> Self {
        Self(Xxh3Default::new())
    }

    /// The same bytes on every machine: little end first.
    pub(super) fn number(&mut self, number: impl Into<u64>) {
        self.0.update(&number.into().to_le_bytes());
    }

    pub(super) fn text(&mut self, text: &str) {
        self.number(text.len() as u64);
        self.0.update(text.as_bytes());
    }

    pub(super) fn optional<T>(&mut self, value: Option<T>, feed: impl FnOnce(&mut Self, T)) {
        self.number(u8::from(value.is_some()));
        if let Some(value) = value {
            feed(self, value);
        }
    }

    pub(super) fn finish(&self) -> Digest {
        Digest(self.0.digest())
    }
}
