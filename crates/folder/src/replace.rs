//! Writing so that neither a crash nor a power cut leaves a half.

use std::fs::File;
use std::io;
use std::path::Path;

/// Puts a file in place of another, whole or not at all, and safe from a power cut when it returns.
///
/// # Errors
/// The file system's. The file is then as it was, or as it is to be.
pub fn replace(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut new = path.as_os_str().to_owned();
    new.push(".new");
    std::fs::write(&new, content)?;
    File::open(&new)?.sync_all()?;
    std::fs::rename(new, path)?;
    path.parent().map_or(Ok(()), sync)
}

/// Makes what was created or renamed in a folder safe from a power cut.
///
/// # Errors
/// The file system's.
pub fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}
