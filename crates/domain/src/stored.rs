//! The place that the server keeps for a client: under what it is kept, and who may move it.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::{ClientId, KeyFilter, KeyPattern, PackedCursor, StreamName, StreamSet};

/// Into how many buckets the cursors of a service are spread. Part of the stored format: a hundred
/// thousand clients make buckets of about fifty, which Redis stores as one flat list each.
pub const BUCKETS: u16 = 2048;

/// What subscriptions of several streams are kept under.
const MULTI: &str = "multi";

/// Names the kept cursor of one client for one subscription: the same client with other streams or
/// other keys has another one.
///
/// The names themselves are not kept, only a digest: 16 bytes of SHA-256 over the client, the sorted
/// streams and their sorted keys. Nobody can make one subscription pass for another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CursorKey {
    /// `None` for several streams.
    stream: Option<StreamName>,
    digest: [u8; 16],
}

impl CursorKey {
    /// The key of a subscription. `filters` has one filter per stream, in the set's order.
    #[must_use]
    pub fn new(client: &ClientId, streams: &StreamSet, filters: &[KeyFilter]) -> Self {
        // No name holds a control character, so no two subscriptions are spelled alike.
        let mut hash = Sha256::new();
        let mut put = |kind: &str, text: &str| {
            hash.update(kind);
            hash.update(text);
            hash.update("\n");
        };
        put("client ", client.as_str());
        for (stream, filter) in streams.names().iter().zip(filters) {
            put("stream ", stream.as_str());
            for pattern in filter.patterns() {
                match pattern {
                    KeyPattern::Exact(key) => put("key ", key.as_str()),
                    KeyPattern::Prefix(prefix) => put("prefix ", &prefix),
                }
            }
        }
        let mut digest = [0; 16];
        digest.copy_from_slice(&hash.finalize()[..16]);
        let stream = match streams.names() {
            [stream] => Some(stream.clone()),
            _ => None,
        };
        Self { stream, digest }
    }

    /// What the cursors of one bucket are kept under: `<service>:<bucket>`, the service being the
    /// stream's name, or `multi`.
    #[must_use]
    pub fn bucket(&self) -> String {
        let (service, number) = self.service_and_bucket();
        format!("{service}:{number}")
    }

    /// The same in parts, to sort by. Sorted, the cursors of a bucket stand together, and a store
    /// that is given many writes them in few calls.
    #[must_use]
    pub fn service_and_bucket(&self) -> (&str, u16) {
        let service = self.stream.as_ref().map_or(MULTI, StreamName::as_str);
        (service, u16::from_be_bytes([self.digest[0], self.digest[1]]) % BUCKETS)
    }

    /// Tells the cursors of a bucket apart.
    #[must_use]
    pub fn field(&self) -> &[u8; 16] {
        &self.digest
    }
}

/// The right of one connection to move a kept cursor. The connection that comes last has it; those
/// before it learn that they lost it when they next try to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Claim(u32);

impl Claim {
    /// Nobody's: the connection that had it has let go.
    pub const NOBODY: Self = Self(0);

    /// A claim from a random number above 0. Two live ones of the same client are equal once in 2^32.
    #[must_use]
    pub const fn new(random: u32) -> Self {
        Self(random)
    }

    /// The number.
    #[must_use]
    pub const fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08x}", self.0)
    }
}

/// A cursor as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredCursor {
    /// The position; empty while the connection that took it over has not begun.
    pub position: PackedCursor,
    /// Whose connection may move it.
    pub claim: Claim,
    /// Whether the client acknowledges what it has worked through. If so, nothing else moves the
    /// position: it promises never to skip. If not, it is a hint.
    pub acknowledged: bool,
}

impl StoredCursor {
    /// Claim (big-endian), whether it is acknowledged, position.
    #[must_use]
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(5 + self.position.as_bytes().len());
        bytes.extend_from_slice(&self.claim.0.to_be_bytes());
        bytes.push(u8::from(self.acknowledged));
        bytes.extend_from_slice(self.position.as_bytes());
        bytes
    }

    /// Reads what [`to_bytes`](Self::to_bytes) wrote; `None` if it is nothing like it.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (&[a, b, c, d, acknowledged @ (0 | 1)], position) = bytes.split_first_chunk()? else {
            return None;
        };
        Some(Self {
            position: PackedCursor::from_bytes(position),
            claim: Claim(u32::from_be_bytes([a, b, c, d])),
            acknowledged: acknowledged == 1,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Cursor;
    use proptest::prelude::*;

    fn key(client: &str, subscription: &[(&str, &[&str])]) -> CursorKey {
        let names = subscription.iter().map(|(name, _)| StreamName::new(name).expect("valid"));
        let streams = StreamSet::new(names.collect()).expect("valid");
        let mut filters = vec![KeyFilter::all(); streams.names().len()];
        for (name, keys) in subscription {
            let at = streams.position(&StreamName::new(name).expect("valid")).expect("named");
            keys.iter().for_each(|key| filters[at].add(KeyPattern::parse(key).expect("valid")));
        }
        CursorKey::new(&ClientId::new(client).expect("valid"), &streams, &filters)
    }

    #[test]
    fn the_same_subscription_has_the_same_key_however_it_is_spelled() {
        assert_eq!(
            key("c", &[("a", &["x", "y*", "z"]), ("b", &[])]),
            key("c", &[("b", &[]), ("a", &["z", "y*", "x", "x"])])
        );
    }

    #[test]
    fn another_client_stream_or_key_has_another() {
        let all = [
            key("c", &[("a", &[])]),
            key("d", &[("a", &[])]),
            key("c", &[("b", &[])]),
            key("c", &[("a", &["x"])]),
            key("c", &[("a", &["x*"])]),
            key("c", &[("a", &["x", "y"])]),
            key("c", &[("a", &["*"])]),
            key("c", &[("a", &[]), ("b", &[])]),
            key("c", &[("a", &["x"]), ("b", &[])]),
            key("c", &[("a", &[]), ("b", &["x"])]),
        ];
        for (n, one) in all.iter().enumerate() {
            assert!(all[n + 1..].iter().all(|other| other != one), "{n}");
        }
    }

    /// Stored cursors are found by it, so it never changes.
    #[test]
    fn the_place_of_a_key_never_changes() {
        let one = key("alice", &[("quote", &["AAPL"])]);
        assert_eq!(one.bucket(), "quote:1710");
        assert_eq!(u128::from_be_bytes(*one.field()), 0xf6aec3d18514ab7335f7f78f26e1f68f);
        assert!(key("alice", &[("quote", &[]), ("news", &[])]).bucket().starts_with("multi:"));
    }

    #[test]
    fn buckets_are_used_evenly() {
        let mut used = std::collections::HashMap::<_, u32>::new();
        for n in 0..20_000 {
            *used.entry(key(&format!("client-{n}"), &[("s", &[])]).bucket()).or_default() += 1;
        }
        assert!(used.len() > 2000 && used.values().all(|&n| n < 32), "{} buckets", used.len());
    }

    proptest! {
        #[test]
        fn a_stored_cursor_is_read_as_it_was_written(
            claim: u32, acknowledged: bool, epoch in 0..=crate::NUMBER_MAX, seq in 0..=crate::NUMBER_MAX,
        ) {
            let streams = StreamSet::new(vec![StreamName::new("s").expect("valid")]).expect("valid");
            let cursor = Cursor::parse(&streams, &format!("{epoch}-{seq}")).expect("valid");
            let stored = StoredCursor { position: cursor.pack(), claim: Claim::new(claim), acknowledged };
            prop_assert_eq!(StoredCursor::from_bytes(&stored.to_bytes()), Some(stored));
        }

        #[test]
        fn hostile_bytes_never_panic(bytes: Vec<u8>) {
            if let Some(stored) = StoredCursor::from_bytes(&bytes) {
                prop_assert_eq!(stored.to_bytes(), bytes);
            }
        }
    }
}
