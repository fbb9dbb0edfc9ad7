//! HTTP/1.1 chunked framing (RFC 9112, section 7.1), the only framing the engine writes.

use std::fmt::Write as _;

use bytes::{Bytes, BytesMut};

/// What ends a chunked body.
pub(super) const LAST: &[u8] = b"0\r\n\r\n";

/// Room for a chunk's size line and for its end.
const FRAMING_MAX: usize = 20;

/// Data as one chunk; nothing at all if it is empty, because an empty chunk ends the body.
pub(super) fn of(data: &[u8]) -> Bytes {
    if data.is_empty() {
        return Bytes::new();
    }
    let mut chunk = BytesMut::with_capacity(FRAMING_MAX + data.len());
    write!(chunk, "{:x}\r\n", data.len()).expect("memory takes it");
    chunk.extend_from_slice(data);
    chunk.extend_from_slice(b"\r\n");
    chunk.freeze()
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
