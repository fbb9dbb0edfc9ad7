//! What a durable log is told when it is opened.

use std::path::PathBuf;

/// Where the log lies and how much it may take.
#[derive(Debug, Clone)]
pub struct DiskOptions {
    /// The log's own directory. Made if it is missing; nothing else may be in it.
    pub dir: PathBuf,
    /// Appends are refused as [`Full`](crate::AppendError::Full) while the file system has less
    /// free space than this. It is what sorting and merging the tables work with, and trimming
    /// frees space with: too small, and a disk that fills up has to be cleared by hand.
    pub reserve_bytes: u64,
    /// Batches that wait to be written. When so many wait, an append waits for its turn to wait.
    pub queue_batches: usize,
    /// Bytes of all batches that wait or are being written: the most memory that publishers can
    /// take here. A larger batch is let in alone.
    pub queue_bytes: u64,
    /// The size of a journal file. An opened log reads the last few again, so this bounds the time
    /// to start, and the memory for what is not in tables yet, to a small multiple of it.
    pub journal_bytes: u64,
    /// Memory for blocks of the tables that were read lately. Small, and replays of old events
    /// read the disk more often.
    pub cache_bytes: u64,
}

impl DiskOptions {
    /// A log in this directory.
    #[must_use]
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            reserve_bytes: 512 << 20,
            queue_batches: 4096,
            queue_bytes: 64 << 20,
            journal_bytes: 16 << 20,
            cache_bytes: 32 << 20,
        }
    }
}
