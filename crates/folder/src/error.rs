//! Why a folder cannot be had: each a different thing to do for whoever runs the process.

use std::io;

/// Why a folder cannot be had. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    /// Another process, or another part of this one, has it open.
    #[error("it is in use by another process")]
    Locked,
    /// There is something in it, and it is not what is wanted.
    #[error("it is not empty and holds something else ({found:?})")]
    Foreign {
        /// One of the things found.
        found: String,
    },
    /// It was written by a later version of this program.
    #[error("it has format {found}; this version reads formats up to {known}")]
    Newer {
        /// Its format.
        found: u64,
        /// The latest format known here.
        known: u64,
    },
    /// The file system refused.
    #[error("the file system refuses")]
    Io(#[from] io::Error),
}
