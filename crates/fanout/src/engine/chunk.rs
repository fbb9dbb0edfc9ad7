//! HTTP/1.1 chunked framing (RFC 9112, section 7.1), the only framing the engine writes.

use bytes::{Bytes, BytesMut};

use crate::gzip::{self, Encoding, Part};

/// What ends a chunked body.
pub(super) const LAST: &[u8] = b"0\r\n\r\n";

/// Room in front of a chunk's data for its size line.
const HEAD_MAX: usize = 18;

/// A chunk under construction: its size is known last but comes first, so room is left for it.
pub(super) struct Chunk(BytesMut);

impl Chunk {
    pub(super) fn new(capacity: usize) -> Self {
        let mut bytes = BytesMut::with_capacity(HEAD_MAX + capacity + 2);
        bytes.resize(HEAD_MAX, 0);
        Self(bytes)
    }

    pub(super) fn put(&mut self, data: &[u8]) {
        self.0.extend_from_slice(data);
    }

    /// Puts frames that are one connection's own, and gives what they add to a compressed body.
    pub(super) fn put_private(&mut self, frames: &[u8], encoding: Encoding) -> Option<Part> {
        match encoding {
            Encoding::Identity => {
                self.put(frames);
                None
            }
            Encoding::Gzip => {
                gzip::stored(frames, false, |bytes| self.put(bytes));
                Some(Part::of(frames))
            }
        }
    }

    fn len(&self) -> usize {
        self.0.len() - HEAD_MAX
    }

    /// The finished chunk; nothing at all if it has no data, because an empty chunk ends the body.
    pub(super) fn finish(mut self) -> Bytes {
        let len = self.len();
        if len == 0 {
            return Bytes::new();
        }
        let head = format!("{len:x}\r\n");
        let begin = HEAD_MAX - head.len();
        self.0[begin..HEAD_MAX].copy_from_slice(head.as_bytes());
        self.0.extend_from_slice(b"\r\n");
        self.0.freeze().slice(begin..)
    }
}

/// Data as one chunk.
pub(super) fn of(data: &[u8]) -> Bytes {
    let mut chunk = Chunk::new(data.len());
    chunk.put(data);
    chunk.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_comes_first_and_nothing_is_no_chunk() {
        assert_eq!(&of(b"hello")[..], b"5\r\nhello\r\n");
        assert_eq!(&of(&[b'x'; 300])[..5], b"12c\r\n");
        assert!(of(b"").is_empty());
    }
}
