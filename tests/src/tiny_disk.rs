//! A disk that is easily filled: a small tmpfs in a mount namespace of its own, which only processes
//! sent into it can see. It goes away with the value.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// The disk, and the process that keeps its namespace alive.
#[derive(Debug)]
pub struct TinyDisk {
    keeper: Child,
    folder: TempDir,
}

impl TinyDisk {
    /// Mounts a disk of `mib` MiB.
    ///
    /// # Errors
    /// Why this system does not let us.
    pub fn mount(mib: u32) -> Result<Self, String> {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        // "$0" is the folder. The keeper reads until its input is closed, that is, until we are gone.
        let script = format!("mount -t tmpfs -o size={mib}m tmpfs \"$0\" && echo mounted && exec cat");
        let mut keeper = Command::new("setpriv")
            .args([
                "--pdeathsig",
                "KILL",
                "--",
                "unshare",
                "--mount",
                "--propagation",
                "private",
                "sh",
                "-c",
                &script,
            ])
            .arg(folder.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("unshare cannot be started: {error}"))?;
        let mut line = String::new();
        let output = keeper.stdout.take().expect("standard output is piped");
        BufReader::new(output).read_line(&mut line).map_err(|error| error.to_string())?;
        if line.trim() == "mounted" {
            return Ok(Self { keeper, folder });
        }
        let _ = keeper.kill();
        let told = keeper.wait_with_output().map_err(|error| error.to_string())?;
        Err(format!("no mount in a namespace of its own: {}", String::from_utf8_lossy(&told.stderr).trim()))
    }

    /// The disk's place as a process on it sees it.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The words before a command that send it onto the disk.
    #[must_use]
    pub fn launcher(&self) -> [String; 4] {
        ["nsenter".into(), "--target".into(), self.keeper.id().to_string(), "--mount".into()]
    }

    /// Takes space away, up to leaving `leave_mib` free.
    pub fn fill(&self, leave_mib: u64) {
        let free = self.free_bytes();
        let take = free.saturating_sub(leave_mib << 20);
        let mut file = fs::File::create(self.ballast()).expect("the disk can be written");
        let block = vec![0; 1 << 20];
        for _ in 0..take >> 20 {
            file.write_all(&block).expect("there is room");
        }
    }

    /// Gives the space back.
    pub fn empty(&self) {
        fs::remove_file(self.ballast()).expect("the ballast is there");
    }

    /// Free space on the disk.
    #[must_use]
    pub fn free_bytes(&self) -> u64 {
        let told = rustix::fs::statvfs(self.outside()).expect("the disk is there");
        told.f_bavail * told.f_frsize
    }

    fn ballast(&self) -> PathBuf {
        self.outside().join("ballast")
    }

    /// The disk's place as we see it, who are not in its namespace.
    fn outside(&self) -> PathBuf {
        let inside = self.folder.path().strip_prefix("/").expect("a temporary folder has a full path");
        Path::new("/proc").join(self.keeper.id().to_string()).join("root").join(inside)
    }
}

impl Drop for TinyDisk {
    fn drop(&mut self) {
        let _ = self.keeper.kill();
        let _ = self.keeper.wait();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::left_out::left_out;

    #[test]
    fn only_those_sent_there_see_the_disk() {
        let disk = match TinyDisk::mount(8) {
            Ok(disk) => disk,
            Err(why) => return left_out("only_those_sent_there_see_the_disk", &why),
        };
        disk.fill(2);
        assert!(disk.free_bytes() < 4 << 20, "{}", disk.free_bytes());
        let seen = |words: &[String]| {
            let output = Command::new(&words[0]).args(&words[1..]).arg("ls").arg(disk.path()).output();
            String::from_utf8(output.expect("ls runs").stdout).expect("names are text")
        };
        assert_eq!(seen(&disk.launcher()), "ballast\n");
        assert_eq!(seen(&["env".to_owned()]), "");
        disk.empty();
        assert!(disk.free_bytes() > 7 << 20, "{}", disk.free_bytes());
    }
}
