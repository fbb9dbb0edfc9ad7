//! One gzip body per connection, made of blocks that all connections share.
//!
//! A body is a gzip header, then raw-deflate blocks, then a trailer. Every frame is a few blocks that
//! look at nothing before them and end at a byte, so the same ones go to whoever is sent the frame,
//! wherever it began; only the trailer's checksum is a connection's own ([`Sum`]).
//!
//! ```text
//!   header │ open: stored ▪ │ event: deflated ▪ │ event: deflated ▪ │ heartbeat: stored ▪ │ … │ end, trailer
//! ```
//! Whatever is sent at once ends with an empty stored block (▪), stored frames too: readers take it
//! for "show what you have". Go's, for one, keeps what came in any other block for later.

mod deflater;
mod sum;

pub(crate) use deflater::{Deflated, Deflater};
pub(crate) use sum::{Part, Sum};

/// How the bytes of a body are packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encoding {
    /// As they are.
    #[default]
    Identity,
    /// As one gzip member (RFC 1952). Every frame can be read as soon as it has arrived.
    Gzip,
}

/// What a body begins with: deflate, no name, no time, no system.
pub(crate) const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];

/// The length of an empty stored block and its complement, which end every flush.
pub(crate) const FLUSHED: [u8; 4] = [0, 0, 0xff, 0xff];

/// The last block, which is empty.
const LAST: [u8; 2] = [3, 0];

/// What a stored block holds at the most.
const STORED_MAX: usize = u16::MAX as usize;

/// Writes frames that are one connection's own: stored, because deflating them would cost more than
/// it saves. `open` says that a stored block's first byte was written already.
pub(crate) fn stored(data: &[u8], mut open: bool, mut put: impl FnMut(&[u8])) {
    for block in data.chunks(STORED_MAX) {
        let len = u16::try_from(block.len()).expect("cut to it");
        if !std::mem::take(&mut open) {
            put(&[0]);
        }
        put(&len.to_le_bytes());
        put(&(!len).to_le_bytes());
        put(block);
    }
    if !open {
        put(&[0]);
    }
    put(&FLUSHED);
}

/// What a body ends with.
pub(crate) fn trailer(sum: Sum) -> [u8; 10] {
    let mut trailer = [0; 10];
    trailer[..2].copy_from_slice(&LAST);
    trailer[2..6].copy_from_slice(&sum.crc().to_le_bytes());
    trailer[6..].copy_from_slice(&sum.len().to_le_bytes());
    trailer
}
