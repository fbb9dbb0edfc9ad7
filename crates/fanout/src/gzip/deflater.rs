//! Deflating an event: once for everybody who is sent it.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use flate2::{Compress, Compression, FlushCompress, Status};
use parking_lot::Mutex;

use crate::gzip::{FLUSHED, Part};

/// Deflates. Keeps its compressors, a few hundred kilobytes each, for the next event: at most as many
/// as threads have deflated at once.
#[derive(Debug, Default)]
pub(crate) struct Deflater {
    idle: Mutex<Vec<Compress>>,
    deflated: AtomicU64,
}

/// Bytes as deflate blocks that look at nothing before them and end with an empty stored block.
#[derive(Debug)]
pub(crate) struct Deflated {
    bytes: Bytes,
    part: Part,
}

impl Deflater {
    /// Deflates some bytes. Where that does not make them smaller it stores them.
    pub(crate) fn deflate(&self, bytes: &[u8]) -> Deflated {
        self.deflated.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("evergate_events_deflated_total").increment(1);
        let idle = self.idle.lock().pop();
        let mut compress = idle.unwrap_or_else(|| Compress::new(Compression::default(), false));
        // More than stored blocks take, so that one call is mostly enough.
        let mut out = Vec::with_capacity(bytes.len() + bytes.len() / 64 + 64);
        let before = compress.total_in();
        loop {
            let taken = usize::try_from(compress.total_in() - before).expect("no more than there was");
            // A full flush forgets what was before: whoever begins here has none of it.
            let status = compress.compress_vec(&bytes[taken..], &mut out, FlushCompress::Full);
            debug_assert!(matches!(status, Ok(Status::Ok | Status::BufError)), "{status:?}");
            if out.len() < out.capacity() {
                break;
            }
            out.reserve(64);
        }
        self.idle.lock().push(compress);
        assert!(out.ends_with(&FLUSHED), "a flush ends with an empty block");
        out.shrink_to_fit();
        Deflated { bytes: out.into(), part: Part::of(bytes) }
    }

    /// How often it was asked to.
    pub(crate) fn deflated(&self) -> u64 {
        self.deflated.load(Ordering::Relaxed)
    }
}

impl Deflated {
    pub(crate) fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub(crate) fn part(&self) -> &Part {
        &self.part
    }

    /// The blocks up to and with the first byte of the empty one, which another stored block may take
    /// over.
    pub(crate) fn open(&self) -> &[u8] {
        &self.bytes[..self.bytes.len() - FLUSHED.len()]
    }
}
