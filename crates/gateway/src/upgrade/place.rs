//! The place in the file system where the two processes meet.

use std::fs::{self, Metadata, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// A Unix socket of ours. Dropping it removes it, unless another has taken its place.
#[derive(Debug)]
pub(super) struct Place {
    path: PathBuf,
    /// Device and number of the file.
    identity: (u64, u64),
}

/// Why processes cannot meet at a place.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PlaceError {
    #[error("the directory {} cannot be examined", .0.display())]
    Unseen(PathBuf, #[source] io::Error),
    #[error("{} can be written to by others (mode {mode:03o}), who could put themselves in our place; take it from them with chmod go-w", .directory.display())]
    Open { directory: PathBuf, mode: u32 },
    #[error("{} is there already and is no socket", .0.display())]
    Taken(PathBuf),
    #[error("cannot listen on {}", .0.display())]
    Bind(PathBuf, #[source] io::Error),
}

/// Whether only the owner of the directory decides who is met there.
pub(super) fn examine(path: &Path) -> Result<(), PlaceError> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let seen = fs::metadata(directory).map_err(|error| PlaceError::Unseen(directory.to_owned(), error))?;
    let mode = seen.mode() & 0o777;
    if mode & 0o022 != 0 {
        return Err(PlaceError::Open { directory: directory.to_owned(), mode });
    }
    match fs::symlink_metadata(path) {
        Ok(there) if !there.file_type().is_socket() => Err(PlaceError::Taken(path.to_owned())),
        // What is not there, or cannot be seen, shows when it is used.
        Ok(_) | Err(_) => Ok(()),
    }
}

impl Place {
    /// Listens there, in the place of whoever did before: in one step, and at no moment for anybody but
    /// our own user.
    pub(super) fn bind(path: &Path) -> Result<(Self, UnixListener), PlaceError> {
        examine(path)?;
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}", std::process::id()));
        let new = path.with_file_name(name);
        let bind = || {
            // Left by a process of the same number.
            match fs::remove_file(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                Ok(()) | Err(_) => {}
            }
            let listener = UnixListener::bind(&new)?;
            fs::set_permissions(&new, Permissions::from_mode(0o600))?;
            let identity = identity(&fs::symlink_metadata(&new)?);
            fs::rename(&new, path)?;
            Ok((Self { path: path.to_owned(), identity }, listener))
        };
        bind().map_err(|error| {
            let _ = fs::remove_file(&new);
            PlaceError::Bind(path.to_owned(), error)
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let ours = fs::symlink_metadata(&self.path).is_ok_and(|seen| identity(&seen) == self.identity);
        if ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "the upgrade socket cannot be removed");
        }
    }
}

fn identity(seen: &Metadata) -> (u64, u64) {
    (seen.dev(), seen.ino())
}
