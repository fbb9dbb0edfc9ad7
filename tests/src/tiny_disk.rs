//! A disk that is easily filled: a small tmpfs in a mount namespace of its own, which only processes
//! sent into it can see. It goes away with the value.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::namespace::Namespace;

/// The disk, and the process that keeps its namespace alive.
#[derive(Debug)]
pub struct TinyDisk {
    keeper: Namespace,
    folder: TempDir,
}

impl TinyDisk {
    /// Mounts a disk of `mib` MiB.
    ///
    /// # Errors
    /// Why this system does not let us.
    pub fn mount(mib: u32) -> Result<Self, String> {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let unshare = ["--mount", "--propagation", "private"];
        let script = format!("mount -t tmpfs -o size={mib}m tmpfs \"$0\"");
        let keeper = Namespace::enter(&unshare, &script, folder.path().to_str().expect("a plain name"))?;
        Ok(Self { keeper, folder })
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
        if leave_mib == 0 {
            // To the last page.
            while file.write_all(&block[..4096]).is_ok() {}
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

#[cfg(test)]
mod tests {
    use std::process::Command;

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
