//! A subscriber's position over one stream or several, as one printable token.
//!
//! Over one stream the token is the offset itself. Over several it is
//! `m1.<base64url of: digest, then per stream zigzag(epoch − the one before), seq>`, the streams in
//! the order of their sorted names and the numbers as LEB128 varints. Epochs of streams in one log
//! are mostly equal, so a stream costs about four bytes and twelve streams stay within the 128
//! bytes beyond which browsers treat an id with suspicion.

use std::fmt;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::{Epoch, NameError, Offset, OffsetError, Seq, StreamName};

/// The most streams one connection may follow.
pub const STREAMS_MAX: usize = 16;

const PREFIX: &str = "m1.";
const DIGEST_BYTES: usize = 4;

/// The streams of one connection: sorted, distinct, at least one and at most [`STREAMS_MAX`]. Copies share the names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct StreamSet(Arc<[StreamName]>);

impl StreamSet {
    /// Sorts and checks the names; a name given twice counts once.
    pub fn new(mut names: Vec<StreamName>) -> Result<Self, CursorError> {
        names.sort();
        names.dedup();
        if names.is_empty() || names.len() > STREAMS_MAX {
            return Err(CursorError::StreamCount(names.len()));
        }
        Ok(Self(names.into()))
    }

    /// The names in sorted order.
    #[must_use]
    pub fn names(&self) -> &[StreamName] {
        &self.0
    }

    /// Where `name` stands in the sorted order.
    #[must_use]
    pub fn position(&self, name: &StreamName) -> Option<usize> {
        self.0.binary_search(name).ok()
    }

    /// Tells subscriptions apart: a token made for other streams must not be taken for this one's.
    fn digest(&self) -> [u8; DIGEST_BYTES] {
        let mut hasher = xxhash_rust::xxh3::Xxh3::new();
        for name in &*self.0 {
            hasher.update(name.as_str().as_bytes());
            hasher.update(b"\n");
        }
        let [a, b, c, d, ..] = hasher.digest().to_be_bytes();
        [a, b, c, d]
    }
}

/// Why a text is no cursor of this subscription. The sender's fault.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CursorError {
    /// A stream name is malformed.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Over one stream a cursor is an offset.
    #[error(transparent)]
    Offset(#[from] OffsetError),
    /// Too few or too many streams.
    #[error("a subscription names 1 to {STREAMS_MAX} streams, not {0}")]
    StreamCount(usize),
    /// Not a token that Evergate made.
    #[error("a cursor over several streams is the token from the last id: line, unchanged")]
    Malformed,
    /// The token belongs to a subscription of other streams.
    #[error("the cursor was made for another set of streams")]
    OtherStreams,
}

/// Positions in all streams of a [`StreamSet`], in its order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    offsets: Vec<Offset>,
    digest: [u8; DIGEST_BYTES],
}

impl Cursor {
    /// A cursor from one offset per stream, in the set's order.
    ///
    /// # Panics
    /// If there are not exactly as many offsets as streams.
    #[must_use]
    pub fn new(streams: &StreamSet, offsets: Vec<Offset>) -> Self {
        assert_eq!(offsets.len(), streams.0.len(), "one offset per stream");
        // Over one stream the token is the offset, and nothing tells of others.
        let digest = if offsets.len() == 1 { [0; DIGEST_BYTES] } else { streams.digest() };
        Self { offsets, digest }
    }

    /// Reads a token made for exactly these streams.
    pub fn parse(streams: &StreamSet, text: &str) -> Result<Self, CursorError> {
        let offsets = if streams.0.len() == 1 { vec![text.parse()?] } else { parse_token(streams, text)? };
        Ok(Self::new(streams, offsets))
    }

    /// The offsets, in the order of the set's names.
    #[must_use]
    pub fn offsets(&self) -> &[Offset] {
        &self.offsets
    }

    /// Moves one stream's position.
    ///
    /// # Panics
    /// If there is no such stream.
    pub fn set(&mut self, stream: usize, offset: Offset) {
        self.offsets[stream] = offset;
    }

    /// Writes the token at the end of `out`: `[A-Za-z0-9._~-]` only.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        match self.offsets[..] {
            [offset] => offset.write_to(out),
            _ => out.extend_from_slice(self.token().as_bytes()),
        }
    }

    fn token(&self) -> String {
        let mut bytes = Vec::with_capacity(DIGEST_BYTES + self.offsets.len() * 8);
        bytes.extend_from_slice(&self.digest);
        push_offsets(&mut bytes, &self.offsets);
        let mut token = String::from(PREFIX);
        URL_SAFE_NO_PAD.encode_string(bytes, &mut token);
        token
    }

    /// The shortest form, for keeping where it is known which streams it belongs to.
    #[must_use]
    pub fn pack(&self) -> PackedCursor {
        let mut bytes = Vec::with_capacity(self.offsets.len() * 12);
        push_offsets(&mut bytes, &self.offsets);
        PackedCursor(bytes.into())
    }
}

/// A cursor without the names of its streams: `zigzag(epoch − the one before), seq` per stream, as
/// LEB128 varints. About ten bytes for one stream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub struct PackedCursor(Box<[u8]>);

impl PackedCursor {
    /// Takes bytes that [`as_bytes`](Self::as_bytes) once gave. They are judged when unpacked.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        Self(bytes.into())
    }

    /// The bytes to keep.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether there are no bytes: no cursor packs into none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The cursor, if the bytes are one of exactly as many streams.
    pub fn unpack(&self, streams: &StreamSet) -> Result<Cursor, CursorError> {
        Ok(Cursor::new(streams, take_offsets(streams, &self.0)?))
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.offsets[..] {
            [offset] => offset.fmt(f),
            _ => f.write_str(&self.token()),
        }
    }
}

fn parse_token(streams: &StreamSet, text: &str) -> Result<Vec<Offset>, CursorError> {
    let body = text.strip_prefix(PREFIX).ok_or(CursorError::Malformed)?;
    let bytes = URL_SAFE_NO_PAD.decode(body).map_err(|_| CursorError::Malformed)?;
    let (digest, rest) = bytes.split_at_checked(DIGEST_BYTES).ok_or(CursorError::Malformed)?;
    if digest != streams.digest() {
        return Err(CursorError::OtherStreams);
    }
    take_offsets(streams, rest)
}

fn push_offsets(bytes: &mut Vec<u8>, offsets: &[Offset]) {
    let mut before = 0;
    for offset in offsets {
        let epoch = signed(offset.epoch.get());
        push_varint(bytes, zigzag(epoch - before));
        push_varint(bytes, offset.seq.get());
        before = epoch;
    }
}

fn take_offsets(streams: &StreamSet, mut rest: &[u8]) -> Result<Vec<Offset>, CursorError> {
    let mut offsets = Vec::with_capacity(streams.0.len());
    let mut before = 0;
    for _ in &*streams.0 {
        let step = unzigzag(take_varint(&mut rest)?);
        let epoch = u64::try_from(before + step).map_err(|_| CursorError::Malformed)?;
        let seq = take_varint(&mut rest)?;
        offsets.push(Offset::new(
            Epoch::new(epoch).ok_or(CursorError::Malformed)?,
            Seq::new(seq).ok_or(CursorError::Malformed)?,
        ));
        before = signed(epoch);
    }
    if rest.is_empty() { Ok(offsets) } else { Err(CursorError::Malformed) }
}

/// Epochs stay below 2^53, so they and their differences fit a signed number.
fn signed(number: u64) -> i64 {
    i64::try_from(number).expect("at most 2^53")
}

fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)).cast_unsigned()
}

fn unzigzag(n: u64) -> i64 {
    (n >> 1).cast_signed() ^ -((n & 1).cast_signed())
}

fn push_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n.to_le_bytes()[0] | 0x80);
        n >>= 7;
    }
    out.push(n.to_le_bytes()[0]);
}

/// At most 8 bytes (56 bits) and no padding: every number has one spelling, and none overflows.
fn take_varint(bytes: &mut &[u8]) -> Result<u64, CursorError> {
    let mut n = 0;
    for (at, &byte) in bytes.iter().enumerate().take(8) {
        n |= u64::from(byte & 0x7f) << (7 * at);
        if byte & 0x80 == 0 {
            let padded = byte == 0 && at > 0;
            *bytes = &bytes[at + 1..];
            return if padded { Err(CursorError::Malformed) } else { Ok(n) };
        }
    }
    Err(CursorError::Malformed)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::NUMBER_MAX;
    use proptest::prelude::*;

    fn set(names: &[&str]) -> StreamSet {
        StreamSet::new(names.iter().map(|n| StreamName::new(n).expect("valid")).collect()).expect("valid")
    }

    fn offset(epoch: u64, seq: u64) -> Offset {
        Offset::new(Epoch::new(epoch).expect("fits"), Seq::new(seq).expect("fits"))
    }

    #[test]
    fn over_one_stream_the_cursor_is_the_offset() {
        let streams = set(&["quote"]);
        let cursor = Cursor::parse(&streams, "7-42").expect("valid");
        assert_eq!(cursor.offsets(), [offset(7, 42)]);
        assert_eq!(cursor.to_string(), "7-42");
        assert!(Cursor::parse(&streams, "m1.AAAA").is_err());
    }

    #[test]
    fn a_token_of_other_streams_is_refused() {
        let ours = set(&["news", "quote"]);
        let token = Cursor::new(&ours, vec![offset(1, 2), offset(1, 3)]).to_string();
        assert!(Cursor::parse(&ours, &token).is_ok());
        assert_eq!(Cursor::parse(&set(&["news", "quotes"]), &token), Err(CursorError::OtherStreams));
        assert_eq!(Cursor::parse(&set(&["a", "news", "quote"]), &token), Err(CursorError::OtherStreams));
        assert_eq!(Cursor::parse(&ours, "1-42"), Err(CursorError::Malformed));
    }

    #[test]
    fn twelve_streams_of_one_log_fit_128_bytes() {
        let names: Vec<String> = (0..12).map(|n| format!("stream-{n:02}")).collect();
        let streams = set(&names.iter().map(String::as_str).collect::<Vec<_>>());
        let cursor =
            Cursor::new(&streams, (0..12).map(|n| offset(1_790_000_000_000, 100_000_000 + n)).collect());
        assert!(cursor.to_string().len() <= 128, "{} bytes", cursor.to_string().len());
    }

    #[test]
    fn names_are_sorted_distinct_and_counted() {
        assert_eq!(set(&["b", "a", "b"]).names().len(), 2);
        assert_eq!(StreamSet::new(vec![]), Err(CursorError::StreamCount(0)));
        let many = (0..17).map(|n| StreamName::new(&format!("s{n}")).expect("valid")).collect();
        assert_eq!(StreamSet::new(many), Err(CursorError::StreamCount(17)));
    }

    proptest! {
        #[test]
        fn a_token_is_exact_and_printable(offsets in prop::collection::vec((0..=NUMBER_MAX, 0..=NUMBER_MAX), 2..=16)) {
            let names: Vec<String> = (0..offsets.len()).map(|n| format!("s{n:02}")).collect();
            let streams = set(&names.iter().map(String::as_str).collect::<Vec<_>>());
            let cursor = Cursor::new(&streams, offsets.iter().map(|&(e, s)| offset(e, s)).collect());
            let token = cursor.to_string();
            prop_assert!(token.bytes().all(|b| b.is_ascii_alphanumeric() || b"._~-".contains(&b)));
            prop_assert_eq!(Cursor::parse(&streams, &token), Ok(cursor.clone()));
            let packed = PackedCursor::from_bytes(cursor.pack().as_bytes());
            prop_assert_eq!(packed.unpack(&streams), Ok(cursor));
        }

        #[test]
        fn hostile_text_is_refused_without_panic(text in ".{0,200}") {
            let streams = set(&["a", "b"]);
            let _ = Cursor::parse(&streams, &text);
        }

        #[test]
        fn hostile_bytes_in_a_token_are_refused_or_canonical(mut bytes in prop::collection::vec(any::<u8>(), 0..40)) {
            let streams = set(&["a", "b"]);
            let mut whole = streams.digest().to_vec();
            whole.append(&mut bytes);
            if let Ok(cursor) = PackedCursor::from_bytes(&whole[DIGEST_BYTES..]).unpack(&streams) {
                let packed = cursor.pack();
                prop_assert_eq!(packed.as_bytes(), &whole[DIGEST_BYTES..]);
            }
            let token = format!("m1.{}", URL_SAFE_NO_PAD.encode(whole));
            if let Ok(cursor) = Cursor::parse(&streams, &token) {
                prop_assert_eq!(cursor.to_string(), token);
            }
        }
    }
}
