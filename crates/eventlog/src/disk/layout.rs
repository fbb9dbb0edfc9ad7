//! The log's directory: whose it is, who holds it, where things lie in it.
//!
//! ```text
//!   FORMAT      says what this is and in which version
//!   LOCK        held by the process that has the log open
//!   journal/    what is not in tables yet
//!   state/      the table of what is known of streams
//!   events/     the table of events
//! ```

use std::path::{Path, PathBuf};

use evergate_folder::{Folder, FolderError, Kind, sync};

use super::error::OpenError;

const KIND: Kind = Kind { title: "evergate event log", format: 1 };

/// A directory that is a log and is held by this value.
#[derive(Debug)]
pub(super) struct Layout {
    folder: Folder,
}

impl Layout {
    /// Takes the directory, and makes a log of it if it is empty.
    pub(super) fn open(dir: &Path) -> Result<Self, OpenError> {
        let folder = Folder::open(dir, KIND).map_err(|error| refused(dir, error))?;
        let layout = Self { folder };
        let failed = |source| OpenError::Io { dir: dir.to_owned(), source };
        for part in [layout.journal(), layout.state(), layout.events()] {
            std::fs::create_dir_all(part).map_err(failed)?;
        }
        sync(dir).map_err(failed)?;
        Ok(layout)
    }

    pub(super) fn dir(&self) -> &Path {
        self.folder.dir()
    }

    pub(super) fn journal(&self) -> PathBuf {
        self.folder.dir().join("journal")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.folder.dir().join("state")
    }

    pub(super) fn events(&self) -> PathBuf {
        self.folder.dir().join("events")
    }
}

fn refused(dir: &Path, error: FolderError) -> OpenError {
    let dir = dir.to_owned();
    match error {
        FolderError::Locked => OpenError::Locked { dir },
        FolderError::Foreign { found } => OpenError::NotALog { dir, found },
        FolderError::Newer { found, known } => OpenError::Newer { dir, found, known },
        FolderError::Io(source) => OpenError::Io { dir, source },
    }
}
