//! Undoes gzip as it comes, strictly.

use flate2::{Crc, Decompress, FlushDecompress, Status};

const HEADER: [u8; 4] = [0x1f, 0x8b, 8, 0];
const HEADER_BYTES: usize = 10;
const TRAILER_BYTES: usize = 8;

/// A compressed body that is being read.
pub struct Gunzip {
    head: Vec<u8>,
    inflate: Decompress,
    crc: Crc,
    ended: bool,
    trailer: Vec<u8>,
}

impl Default for Gunzip {
    fn default() -> Self {
        Self {
            head: Vec::new(),
            inflate: Decompress::new(false),
            crc: Crc::new(),
            ended: false,
            trailer: Vec::new(),
        }
    }
}

impl std::fmt::Debug for Gunzip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gunzip").field("read", &self.crc.amount()).field("ended", &self.ended).finish()
    }
}

impl Gunzip {
    /// Takes bytes cut anywhere and appends all that can be known from them to `content`.
    ///
    /// # Panics
    /// If they are not gzip, or go on behind its end.
    pub fn feed(&mut self, mut bytes: &[u8], content: &mut Vec<u8>) {
        let head = (HEADER_BYTES - self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..head]);
        let shown = self.head.len().min(HEADER.len());
        assert_eq!(self.head[..shown], HEADER[..shown], "no gzip header");
        bytes = &bytes[head..];
        let begin = content.len();
        while !self.ended {
            content.reserve(1 << 12);
            let before = self.inflate.total_in();
            let status = self.inflate.decompress_vec(bytes, content, FlushDecompress::Sync);
            self.ended = status.expect("valid deflate blocks") == Status::StreamEnd;
            let used = usize::try_from(self.inflate.total_in() - before).expect("no more than there is");
            bytes = &bytes[used..];
            if bytes.is_empty() && content.len() < content.capacity() {
                break;
            }
        }
        self.crc.update(&content[begin..]);
        self.trailer.extend_from_slice(bytes);
        assert!(self.trailer.len() <= TRAILER_BYTES, "something behind the end: {:?}", self.trailer);
    }

    /// Whether the body came to its end, with the right sum and length.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.trailer == [self.crc.sum().to_le_bytes(), self.crc.amount().to_le_bytes()].concat()
    }
}
