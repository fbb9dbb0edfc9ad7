//! Why a node's folder cannot be opened: each a different thing to do for whoever runs it.

use std::io;
use std::path::PathBuf;

/// Why a node's folder cannot be opened. Nothing in it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another node of this one, has it open.
    #[error("{} is in use by another process", dir.display())]
    Locked {
        /// The folder.
        dir: PathBuf,
    },
    /// There is something in the folder, and it is no control node's.
    #[error("{} is not empty and holds no control node (it has {found:?})", dir.display())]
    Foreign {
        /// The folder.
        dir: PathBuf,
        /// One of the things found.
        found: String,
    },
    /// The folder is another node's, or another cluster's.
    #[error(
        "{} belongs to node {found_id} of cluster {found_cluster:?}, and this is node {id} of cluster {cluster:?}",
        dir.display()
    )]
    Other {
        /// The folder.
        dir: PathBuf,
        /// Whose it is.
        found_id: u64,
        /// Of which cluster.
        found_cluster: String,
        /// Who wanted to have it.
        id: u64,
        /// Of which cluster.
        cluster: String,
    },
    /// The folder, or something in it, was written by a later version of this program.
    #[error("{} has format {found} of {what}; this version reads formats up to {known}", dir.display())]
    Newer {
        /// The folder.
        dir: PathBuf,
        /// Of what.
        what: &'static str,
        /// The format.
        found: u64,
        /// The latest format known here.
        known: u64,
    },
    /// Something that others rely on cannot be read back.
    #[error(
        "{} is damaged ({what}); this node cannot be trusted with its id any more: remove it from the members, \
         and add it with an empty folder and an id that was never used",
        dir.display()
    )]
    Damaged {
        /// The folder.
        dir: PathBuf,
        /// What and where.
        what: String,
    },
    /// The file system refused.
    #[error("cannot open {}", dir.display())]
    Io {
        /// The folder.
        dir: PathBuf,
        /// What it said.
        #[source]
        source: io::Error,
    },
}
