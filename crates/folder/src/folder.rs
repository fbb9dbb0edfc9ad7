//! A folder that is held.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use crate::error::FolderError;
use crate::replace::{replace, sync};

const FORMAT_FILE: &str = "FORMAT";
const LOCK_FILE: &str = "LOCK";
/// May lie in a folder before it becomes one of ours: what a crash leaves while it becomes one, and what
/// a file system keeps at its root.
const HARMLESS: [&str; 3] = [LOCK_FILE, "FORMAT.new", "lost+found"];

/// What a folder is.
#[derive(Debug, Clone, Copy)]
pub struct Kind {
    /// In words, as its file says it: `evergate event log`.
    pub title: &'static str,
    /// The format this program writes. Raised with every change that an earlier version would misread.
    pub format: u64,
}

/// A folder that is of a kind and is held by this value.
#[derive(Debug)]
pub struct Folder {
    dir: PathBuf,
    /// Closing the file is what lets go of the lock.
    _lock: File,
}

impl Folder {
    /// Takes the folder, and makes it one of this kind if it is empty or not there.
    ///
    /// # Errors
    /// If it is held, or holds anything else.
    pub fn open(dir: &Path, kind: Kind) -> Result<Self, FolderError> {
        let make = !dir.join(FORMAT_FILE).try_exists()?;
        if make {
            std::fs::create_dir_all(dir)?;
            if let Some(found) = foreign(dir)? {
                return Err(FolderError::Foreign { found });
            }
        }
        let lock = File::options().write(true).create(true).truncate(false).open(dir.join(LOCK_FILE))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(FolderError::Locked),
            Err(TryLockError::Error(error)) => return Err(error.into()),
        }
        let folder = Self { dir: dir.to_owned(), _lock: lock };
        if make {
            folder.write(kind)?;
        }
        folder.check(kind)?;
        Ok(folder)
    }

    /// Where it is.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whole or not at all, so that a crash never leaves a folder that is half of a kind.
    fn write(&self, Kind { title, format }: Kind) -> io::Result<()> {
        replace(&self.dir.join(FORMAT_FILE), format!("{title}, format {format}\n").as_bytes())?;
        self.dir.canonicalize()?.parent().map_or(Ok(()), sync)
    }

    fn check(&self, Kind { title, format }: Kind) -> Result<(), FolderError> {
        let text = std::fs::read_to_string(self.dir.join(FORMAT_FILE))?;
        let found = text.trim_end().strip_prefix(title).and_then(|text| text.strip_prefix(", format "));
        match found.and_then(|found| found.parse::<u64>().ok()) {
            Some(found) if found == format => Ok(()),
            Some(found) if found > format => Err(FolderError::Newer { found, known: format }),
            Some(_) | None => Err(FolderError::Foreign { found: FORMAT_FILE.to_owned() }),
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    const OURS: Kind = Kind { title: "a shelf", format: 2 };

    #[test]
    fn it_is_held_by_one_at_a_time() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("deep/down");
        let held = Folder::open(&path, OURS).expect("made");
        assert!(matches!(Folder::open(&path, OURS), Err(FolderError::Locked)));
        drop(held);
        Folder::open(&path, OURS).expect("free again");
    }

    #[test]
    fn nothing_else_is_taken() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("thesis.tex"), "").expect("written");
        match Folder::open(dir.path(), OURS) {
            Err(FolderError::Foreign { found }) => assert_eq!(found, "thesis.tex"),
            other => panic!("taken: {other:?}"),
        }
        assert_eq!(std::fs::read_dir(dir.path()).expect("read").count(), 1, "and nothing was left there");
    }

    #[test]
    fn one_left_half_made_is_taken() {
        let dir = tempfile::tempdir().expect("a folder");
        for name in HARMLESS {
            std::fs::write(dir.path().join(name), "").expect("written");
        }
        Folder::open(dir.path(), OURS).expect("made");
    }

    #[test]
    fn another_kind_and_a_later_format_are_told_apart() {
        let dir = tempfile::tempdir().expect("a folder");
        drop(Folder::open(dir.path(), OURS).expect("made"));
        let other = Kind { title: "a drawer", ..OURS };
        assert!(matches!(Folder::open(dir.path(), other), Err(FolderError::Foreign { .. })));
        let older = Kind { format: 1, ..OURS };
        assert!(matches!(Folder::open(dir.path(), older), Err(FolderError::Newer { found: 2, known: 1 })));
        let newer = Kind { format: 3, ..OURS };
        assert!(matches!(Folder::open(dir.path(), newer), Err(FolderError::Foreign { .. })));
        std::fs::write(dir.path().join(FORMAT_FILE), "a shelf, format two\n").expect("written");
        assert!(matches!(Folder::open(dir.path(), OURS), Err(FolderError::Foreign { .. })));
        Folder::open(dir.path().join("beside").as_path(), OURS).expect("another folder");
    }
}
