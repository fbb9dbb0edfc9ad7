//! Undoes gzip, strictly: what was sent must be readable at once, by whoever has read nothing before.

use flate2::{Crc, Decompress, FlushDecompress, Status};

const HEADER: usize = 10;

/// A body that is being read.
pub(crate) struct Gunzip {
    head: Vec<u8>,
    inflate: Decompress,
    crc: Crc,
    trailer: Vec<u8>,
    ended: bool,
}

impl Gunzip {
    pub(crate) fn new() -> Self {
        Self {
            head: Vec::new(),
            inflate: Decompress::new(false),
            crc: Crc::new(),
            trailer: Vec::new(),
            ended: false,
        }
    }

    /// Takes bytes cut anywhere and gives what they say.
    pub(crate) fn feed(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let head = (HEADER - self.head.len()).min(bytes.len());
        self.head.extend_from_slice(&bytes[..head]);
        assert!([0x1f, 0x8b, 8, 0].starts_with(&self.head[..self.head.len().min(4)]), "{:?}", self.head);
        bytes = &bytes[head..];
        let (data, used) = if self.ended { (Vec::new(), 0) } else { inflate(&mut self.inflate, bytes) };
        self.crc.update(&data);
        self.ended |= used < bytes.len();
        self.trailer.extend_from_slice(&bytes[used..]);
        assert!(self.trailer.len() <= 8, "bytes behind the end: {:?}", self.trailer);
        data
    }

    /// Takes what was sent at once. All of it must be read, and be no news that needs older ones.
    pub(crate) fn feed_whole(&mut self, bytes: &[u8]) -> Vec<u8> {
        let begun = self.head.len();
        let data = self.feed(bytes);
        if !self.ended {
            assert!(bytes.ends_with(&[0, 0, 0xff, 0xff]), "not flushed: {bytes:?}");
            let blocks = &bytes[HEADER - begun.min(HEADER)..];
            assert_eq!(inflate(&mut Decompress::new(false), blocks).0, data, "it looks back");
        }
        data
    }

    /// Whether the body was whole: its end, the right sum and the right length.
    pub(crate) fn is_whole(&self) -> bool {
        let expected = [self.crc.sum().to_le_bytes(), self.crc.amount().to_le_bytes()].concat();
        self.trailer == expected
    }
}

fn inflate(inflate: &mut Decompress, bytes: &[u8]) -> (Vec<u8>, usize) {
    let (mut data, before) = (Vec::with_capacity(1 << 12), inflate.total_in());
    loop {
        let used = usize::try_from(inflate.total_in() - before).expect("small");
        let status = inflate
            .decompress_vec(&bytes[used..], &mut data, FlushDecompress::Sync)
            .expect("valid deflate blocks");
        let used = usize::try_from(inflate.total_in() - before).expect("small");
        if status == Status::StreamEnd || (used == bytes.len() && data.len() < data.capacity()) {
            return (data, used);
        }
        data.reserve(1 << 12);
    }
}
