//! The folder of a node: whose it is, who holds it, where things lie in it.

use std::io;
use std::path::{Path, PathBuf};

use evergate_folder::{FolderError, Kind};

use super::error::OpenError;

const KIND: Kind = Kind { title: "evergate control node", format: 1 };

/// A folder that is a node's and is held by this value.
#[derive(Debug)]
pub(crate) struct Folder {
    held: evergate_folder::Folder,
}

impl Folder {
    /// Takes the folder, and makes it a node's if it is empty.
    pub(crate) fn open(dir: &Path) -> Result<Self, OpenError> {
        let held = evergate_folder::Folder::open(dir, KIND).map_err(|error| refused(dir, error))?;
        Ok(Self { held })
    }

    pub(crate) fn dir(&self) -> &Path {
        self.held.dir()
    }

    pub(super) fn log(&self) -> PathBuf {
        self.held.dir().join("raft.redb")
    }

    pub(super) fn snapshot(&self) -> PathBuf {
        self.held.dir().join("snapshot")
    }

    pub(super) fn damaged(&self, what: impl Into<String>) -> OpenError {
        OpenError::Damaged { dir: self.held.dir().to_owned(), what: what.into() }
    }

    pub(super) fn io(&self, source: io::Error) -> OpenError {
        OpenError::Io { dir: self.held.dir().to_owned(), source }
    }
}

fn refused(dir: &Path, error: FolderError) -> OpenError {
    let dir = dir.to_owned();
    match error {
        FolderError::Locked => OpenError::Locked { dir },
        FolderError::Foreign { found } => OpenError::Foreign { dir, found },
        FolderError::Newer { found, known } => {
            OpenError::Newer { dir, what: "a control node's folder", found, known }
        }
        FolderError::Io(source) => OpenError::Io { dir, source },
    }
}
