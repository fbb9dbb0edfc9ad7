//! Something that is made of files, and made anew when they change.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::{Mutex, RwLock};

use crate::error::LoadError;

/// What became of a look at the files.
#[derive(Debug)]
pub enum Refreshed {
    /// They are as they were.
    Unchanged,
    /// They were read anew, and serve whoever comes from now on.
    Renewed,
    /// They changed, but do not work: what was read before goes on. Told once for each change.
    Kept(LoadError),
}

/// Tells one state of a file from another. A file that is replaced by another through a link, as
/// Kubernetes does it, has another inode; the time of the last change is that of its rights, too, so
/// that a file that could not be read is read again once it can be.
type Stamp = (u64, i64, i64, u64);

/// The newest `T` that could be made of the files.
pub(crate) struct FromFiles<T> {
    files: Vec<PathBuf>,
    make: Box<dyn Fn() -> Result<T, LoadError> + Send + Sync>,
    current: RwLock<Arc<T>>,
    /// As they were when they were read last.
    seen: Mutex<Vec<Option<Stamp>>>,
}

impl<T> FromFiles<T> {
    pub(crate) fn load(
        files: Vec<PathBuf>,
        make: impl Fn() -> Result<T, LoadError> + Send + Sync + 'static,
    ) -> Result<Self, LoadError> {
        // Before they are read: what changes in between is seen by the next look.
        let seen = stamps(&files);
        let current = RwLock::new(Arc::new(make()?));
        Ok(Self { files, make: Box::new(make), current, seen: Mutex::new(seen) })
    }

    pub(crate) fn current(&self) -> Arc<T> {
        Arc::clone(&self.current.read())
    }

    /// Reads the files if one of them has changed since they were read last.
    pub(crate) fn refresh(&self) -> Refreshed {
        let mut seen = self.seen.lock();
        let now = stamps(&self.files);
        if *seen == now {
            return Refreshed::Unchanged;
        }
        *seen = now;
        match (self.make)() {
            Ok(made) => {
                *self.current.write() = Arc::new(made);
                Refreshed::Renewed
            }
            Err(error) => Refreshed::Kept(error),
        }
    }
}

fn stamps(files: &[PathBuf]) -> Vec<Option<Stamp>> {
    files.iter().map(|path| stamp(path)).collect()
}

fn stamp(path: &Path) -> Option<Stamp> {
    let about = fs::metadata(path).ok()?;
    Some((about.ino(), about.ctime(), about.ctime_nsec(), about.len()))
}

/// A whole file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, LoadError> {
    fs::read(path).map_err(|source| LoadError::Unreadable { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_read_once_and_one_that_does_not_work_keeps_what_was() {
        let directory = tempfile::tempdir().expect("a place for files");
        let path = directory.path().join("number");
        fs::write(&path, "1").expect("written");
        let read_number = {
            let path = path.clone();
            move || {
                let text = String::from_utf8(read(&path)?).expect("text");
                text.parse::<u32>().map_err(|_| LoadError::malformed(&path, "is no number"))
            }
        };
        let number = FromFiles::load(vec![path.clone()], read_number).expect("a number");
        assert!(matches!(number.refresh(), Refreshed::Unchanged));

        fs::write(&path, "twenty-two").expect("written");
        assert!(matches!(number.refresh(), Refreshed::Kept(LoadError::Malformed { .. })));
        assert!(matches!(number.refresh(), Refreshed::Unchanged), "told once");
        assert_eq!(*number.current(), 1);

        fs::write(&path, "22").expect("written");
        assert!(matches!(number.refresh(), Refreshed::Renewed));
        assert_eq!(*number.current(), 22);

        fs::remove_file(&path).expect("removed");
        assert!(matches!(number.refresh(), Refreshed::Kept(LoadError::Unreadable { .. })));
        assert_eq!(*number.current(), 22);
    }
}
