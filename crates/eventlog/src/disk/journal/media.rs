//! The file below the journal, behind a seam so that tests can make it fail.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;

/// A file that is only ever written at its end.
pub(in crate::disk) trait Media: Send {
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()>;

    /// Returns when everything written is on the device.
    fn sync(&mut self) -> io::Result<()>;

    /// Forgets everything from here on, and returns when that is on the device.
    fn cut(&mut self, at: u64) -> io::Result<()>;
}

/// Makes an empty file with this much room.
pub(in crate::disk) type CreateMedia = Arc<dyn Fn(&Path, u64) -> io::Result<Box<dyn Media>> + Send + Sync>;

/// Real files.
pub(in crate::disk) fn files() -> CreateMedia {
    Arc::new(|path, bytes| Ok(Box::new(create(path, bytes)?)))
}

/// A file with its blocks reserved, where the file system can do that: then no append can find the
/// disk full, and syncing one need not change the file's length.
fn create(path: &Path, bytes: u64) -> io::Result<File> {
    let file = File::options().write(true).create(true).truncate(true).open(path)?;
    match fallocate(&file, FallocateFlags::empty(), 0, bytes) {
        Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL) => Ok(file),
        Err(error) => Err(error.into()),
    }
}

impl Media for File {
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> io::Result<()> {
        self.write_all_at(bytes, at)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }

    fn cut(&mut self, at: u64) -> io::Result<()> {
        self.set_len(at)?;
        self.sync_all()
    }
}
