//! The log's directory: whose it is, who holds it, where things lie in it.
//!
//! ```text
//!   FORMAT      says what this is and in which version
//!   LOCK        held by the process that has the log open
//!   journal/    what is not in tables yet
//!   state/      the table of what is known of streams
//!   events/     the table of events
//! ```

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use super::error::OpenError;

/// The format this program writes. Raised with every change that an earlier version would misread.
const FORMAT: u64 = 1;
const FORMAT_FILE: &str = "FORMAT";
const FORMAT_TITLE: &str = "evergate event log, format ";
const LOCK_FILE: &str = "LOCK";
/// May lie in a directory before it becomes a log: what a crash leaves while it becomes one, and
/// what a file system keeps at its root.
const HARMLESS: [&str; 3] = [LOCK_FILE, "FORMAT.new", "lost+found"];

/// A directory that is a log and is held by this value.
#[derive(Debug)]
pub(super) struct Layout {
    dir: PathBuf,
    /// Closing the file is what lets go of the lock.
    _lock: File,
}

impl Layout {
    /// Takes the directory, and makes a log of it if it is empty.
    pub(super) fn open(dir: &Path) -> Result<Self, OpenError> {
        let failed = |source| OpenError::Io { dir: dir.to_owned(), source };
        let make = !dir.join(FORMAT_FILE).try_exists().map_err(failed)?;
        if make {
            std::fs::create_dir_all(dir).map_err(failed)?;
            if let Some(found) = foreign(dir).map_err(failed)? {
                return Err(OpenError::NotALog { dir: dir.to_owned(), found });
            }
        }
        let lock = File::options().write(true).create(true).truncate(false).open(dir.join(LOCK_FILE));
        let lock = lock.map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { dir: dir.to_owned() }),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        let layout = Self { dir: dir.to_owned(), _lock: lock };
        if make {
            layout.write_format().map_err(failed)?;
        }
        layout.check_format()?;
        for part in [layout.journal(), layout.state(), layout.events()] {
            std::fs::create_dir_all(part).map_err(failed)?;
        }
        sync(dir).map_err(failed)?;
        Ok(layout)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(super) fn journal(&self) -> PathBuf {
        self.dir.join("journal")
    }

    pub(super) fn state(&self) -> PathBuf {
        self.dir.join("state")
    }

    pub(super) fn events(&self) -> PathBuf {
        self.dir.join("events")
    }

    /// Whole or not at all, so that a crash never leaves a directory that is half a log.
    fn write_format(&self) -> io::Result<()> {
        let new = self.dir.join("FORMAT.new");
        std::fs::write(&new, format!("{FORMAT_TITLE}{FORMAT}\n"))?;
        File::open(&new)?.sync_all()?;
        std::fs::rename(new, self.dir.join(FORMAT_FILE))?;
        sync(&self.dir)?;
        self.dir.canonicalize()?.parent().map_or(Ok(()), sync)
    }

    fn check_format(&self) -> Result<(), OpenError> {
        let dir = self.dir.clone();
        let text = match std::fs::read_to_string(dir.join(FORMAT_FILE)) {
            Ok(text) => text,
            Err(source) => return Err(OpenError::Io { dir, source }),
        };
        match text.trim_end().strip_prefix(FORMAT_TITLE).and_then(|format| format.parse().ok()) {
            Some(FORMAT) => Ok(()),
            Some(found) if found > FORMAT => Err(OpenError::Newer { dir, found, known: FORMAT }),
            Some(_) | None => Err(OpenError::NotALog { dir, found: FORMAT_FILE.into() }),
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

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_is_held_by_one_at_a_time() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("deep/down");
        let held = Layout::open(&path).expect("made");
        assert!(matches!(Layout::open(&path), Err(OpenError::Locked { .. })));
        drop(held);
        Layout::open(&path).expect("free again");
    }

    #[test]
    fn nothing_else_is_taken_for_a_log() {
        let dir = tempfile::tempdir().expect("a directory");
        std::fs::write(dir.path().join("thesis.tex"), "").expect("written");
        match Layout::open(dir.path()) {
            Err(OpenError::NotALog { found, .. }) => assert_eq!(found, "thesis.tex"),
            other => panic!("taken: {other:?}"),
        }
        assert_eq!(std::fs::read_dir(dir.path()).expect("read").count(), 1, "and nothing was left there");
    }

    #[test]
    fn a_directory_left_half_made_is_taken() {
        let dir = tempfile::tempdir().expect("a directory");
        for name in HARMLESS {
            std::fs::write(dir.path().join(name), "").expect("written");
        }
        Layout::open(dir.path()).expect("made");
    }

    #[test]
    fn a_later_format_is_refused() {
        let dir = tempfile::tempdir().expect("a directory");
        drop(Layout::open(dir.path()).expect("made"));
        std::fs::write(dir.path().join(FORMAT_FILE), format!("{FORMAT_TITLE}{}\n", FORMAT + 1))
            .expect("written");
        match Layout::open(dir.path()) {
            Err(OpenError::Newer { found, known, .. }) => assert_eq!((found, known), (FORMAT + 1, FORMAT)),
            other => panic!("taken: {other:?}"),
        }
        std::fs::write(dir.path().join(FORMAT_FILE), "something else").expect("written");
        assert!(matches!(Layout::open(dir.path()), Err(OpenError::NotALog { .. })));
    }
}
