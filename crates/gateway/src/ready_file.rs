//! The file by which a supervisor or a test learns that the listeners are bound, and where.

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

/// The real addresses of a running process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct Addresses {
    pub http: SocketAddr,
    pub grpc: SocketAddr,
    pub admin: SocketAddr,
}

/// The real addresses of a control node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub(crate) struct ControlAddresses {
    pub control: SocketAddr,
    pub admin: SocketAddr,
}

/// A ready file on the disk. Dropping it removes the file, unless another process has put its own
/// in its place.
#[derive(Debug)]
pub(crate) struct ReadyFile {
    path: PathBuf,
}

#[derive(Debug, Serialize)]
struct Contents<A> {
    pid: u32,
    #[serde(flatten)]
    addresses: A,
}

/// Whose a file is.
#[derive(Debug, Deserialize)]
struct Owner {
    pid: u32,
}

impl ReadyFile {
    /// Writes the file in one step: whoever sees it sees all of it.
    pub(crate) fn write(path: &Path, addresses: impl Serialize) -> io::Result<Self> {
        let contents = Contents { pid: std::process::id(), addresses };
        let mut text = serde_json::to_vec(&contents)?;
        text.push(b'\n');
        // In the same directory, because a rename does not cross file systems; with our process id,
        // because two processes may be starting.
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(format!(".{}.new", contents.pid));
        let new = path.with_file_name(name);
        let written = fs::File::create(&new)
            .and_then(|mut file| file.write_all(&text))
            .and_then(|()| fs::rename(&new, path));
        if let Err(error) = written {
            let _ = fs::remove_file(&new);
            return Err(error);
        }
        Ok(Self { path: path.to_owned() })
    }

    fn is_ours(&self) -> bool {
        fs::read(&self.path)
            .ok()
            .and_then(|text| serde_json::from_slice::<Owner>(&text).ok())
            .is_some_and(|owner| owner.pid == std::process::id())
    }
}

impl Drop for ReadyFile {
    fn drop(&mut self) {
        if self.is_ours()
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "the ready file cannot be removed");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn addresses() -> Addresses {
        let address = |port| SocketAddr::from(([127, 0, 0, 1], port));
        Addresses { http: address(1), grpc: address(2), admin: address(3) }
    }

    #[test]
    fn it_appears_whole_and_goes_with_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ready.json");
        let file = ReadyFile::write(&path, addresses()).unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let expected = format!(
            "{{\"pid\":{},\"http\":\"127.0.0.1:1\",\"grpc\":\"127.0.0.1:2\",\"admin\":\"127.0.0.1:3\"}}\n",
            std::process::id()
        );
        assert_eq!(text, expected);
        drop(file);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_successors_file_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("ready.json");
        let file = ReadyFile::write(&path, addresses()).unwrap();
        let successor = Contents { pid: 1, addresses: addresses() };
        fs::write(&path, serde_json::to_vec(&successor).unwrap()).unwrap();
        drop(file);
        assert!(path.exists());
    }

    #[test]
    fn a_place_that_cannot_be_written_is_an_error_and_leaves_nothing() {
        let directory = tempfile::tempdir().unwrap();
        assert!(ReadyFile::write(&directory.path().join("no/ready.json"), addresses()).is_err());
        let taken = directory.path().join("taken");
        fs::create_dir(&taken).unwrap();
        fs::write(taken.join("x"), "").unwrap();
        assert!(ReadyFile::write(&taken, addresses()).is_err());
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
    }
}
