//! Why a log on disk cannot be opened: each a different thing to do for whoever runs it.

use std::io;
use std::path::PathBuf;

/// Why a log cannot be opened. Nothing in the directory was changed, except that an incomplete
/// end, never acknowledged, may have been cut off.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another log of this one, has it open.
    #[error("{} is in use by another process", dir.display())]
    Locked {
        /// The log's directory.
        dir: PathBuf,
    },
    /// There is something in the directory, and it is no log.
    #[error("{} is not empty and holds no event log (it has {found:?})", dir.display())]
    NotALog {
        /// The directory.
        dir: PathBuf,
        /// One of the things found.
        found: String,
    },
    /// The log was written by a later version of this program.
    #[error("{} has format {found}; this version reads formats up to {known}", dir.display())]
    Newer {
        /// The log's directory.
        dir: PathBuf,
        /// Its format.
        found: u64,
        /// The latest format known here.
        known: u64,
    },
    /// Something acknowledged cannot be read back. The log stays closed rather than going on
    /// without it in silence.
    #[error("the event log in {} is damaged: {what}", dir.display())]
    Damaged {
        /// The log's directory.
        dir: PathBuf,
        /// What and where.
        what: String,
    },
    /// The file system refused.
    #[error("cannot open the event log in {}", dir.display())]
    Io {
        /// The log's directory.
        dir: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}
