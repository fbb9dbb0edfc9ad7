//! How much the file system still has, asked before anything is written.

use std::io;
use std::path::Path;
use std::sync::Arc;

/// Tells the free bytes of the file system that holds a path.
pub(super) type FreeBytes = Arc<dyn Fn(&Path) -> io::Result<u64> + Send + Sync>;

/// What the file system says. Space that only its administrator may use does not count.
pub(super) fn file_system() -> FreeBytes {
    Arc::new(|path| {
        let found = rustix::fs::statvfs(path)?;
        Ok(found.f_bavail.saturating_mul(found.f_frsize))
    })
}
