//! The folder of a node: whose it is, who holds it, where things lie in it.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::error::OpenError;

/// The format this program writes. Raised with every change that an earlier version would misread.
const FORMAT: u64 = 1;
const FORMAT_FILE: &str = "FORMAT";
const FORMAT_TITLE: &str = "evergate control node, format ";
const LOCK_FILE: &str = "LOCK";
/// May lie in a folder before it becomes a node's: what a crash leaves while it becomes one, and what a
/// file system keeps at its root.
const HARMLESS: [&str; 3] = [LOCK_FILE, "FORMAT.new", "lost+found"];

/// A folder that is a node's and is held by this value.
#[derive(Debug)]
pub(crate) struct Folder {
    dir: PathBuf,
    /// Closing the file is what lets go of the lock.
    _lock: File,
}

impl Folder {
    /// Takes the folder, and makes it a node's if it is empty.
    pub(crate) fn open(dir: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Io { dir: dir.to_owned(), source };
        let make = !dir.join(FORMAT_FILE).try_exists().map_err(failed)?;
        if make {
            std::fs::create_dir_all(dir).map_err(failed)?;
            if let Some(found) = foreign(dir).map_err(failed)? {
                return Err(OpenError::Foreign { dir: dir.to_owned(), found });
            }
        }
        let lock = File::options().write(true).create(true).truncate(false).open(dir.join(LOCK_FILE));
        let lock = lock.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { dir: dir.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let folder = Self { dir: dir.to_owned(), _lock: lock };
        if make {
            folder.write_format().map_err(failed)?;
        }
        folder.check_format()?;
        Ok(folder)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn log(&self) -> PathBuf {
        self.dir.join("raft.redb")
    }

    pub(super) fn snapshot(&self) -> PathBuf {
        self.dir.join("snapshot")
    }

    pub(super) fn damaged(&self, what: impl Into<String>) -> OpenError {
        OpenError::Damaged { dir: self.dir.clone(), what: what.into() }
    }

    pub(super) fn io(&self, source: io::Error) -> OpenError {
        OpenError::Io { dir: self.dir.clone(), source }
    }

    fn write_format(&self) -> io::Result<()> {
        replace(&self.dir.join(FORMAT_FILE), format!("{FORMAT_TITLE}{FORMAT}\n").as_bytes())?;
        self.dir.canonicalize()?.parent().map_or(Ok(()), sync)
    }

    fn check_format(&self) -> Result<(), OpenError> {
        let dir = self.dir.clone();
        let text = std::fs::read_to_string(dir.join(FORMAT_FILE)).map_err(|source| self.io(source))?;
        match text.trim_end().strip_prefix(FORMAT_TITLE).and_then(|format| format.parse().ok()) {
            Some(FORMAT) => Ok(()),
            Some(found) if found > FORMAT => {
                Err(OpenError::Newer { dir, what: "a control node's folder", found, known: FORMAT })
            }
            Some(_) | None => Err(OpenError::Foreign { dir, found: FORMAT_FILE.into() }),
        }
    }
}

/// Puts a file in place of another, whole or not at all, and safe from a power cut when it returns.
pub(super) fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    std::fs::write(&new, content)?;
    File::open(&new)?.sync_all()?;
    std::fs::rename(new, path)?;
    path.parent().map_or(Ok(()), sync)
}

pub(super) fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

fn foreign(dir: &Path) -> io::Result<Option<String>> {
    for entry in std::fs::read_dir(dir)? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if !HARMLESS.contains(&name.as_str()) {
            return Ok(Some(name));
        }
    }
    Ok(None)
}
