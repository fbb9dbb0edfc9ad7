//! The container's limit, where cgroups (version 2) set one.

use std::fs;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use evergate_edge::MemoryGauge;

const MOUNT: &str = "/sys/fs/cgroup";

/// A group of processes that has a limit in common.
#[derive(Debug)]
pub(super) struct Cgroup {
    folder: PathBuf,
}

impl Cgroup {
    /// The group with the tightest limit among those that this process is in, and the limit.
    pub(super) fn limiting() -> Option<(Self, NonZeroU64)> {
        let own = fs::read_to_string("/proc/self/cgroup").ok()?;
        Self::under(Path::new(MOUNT), own_path(&own)?)
    }

    fn under(mount: &Path, own: &str) -> Option<(Self, NonZeroU64)> {
        let own = mount.join(own.trim_start_matches('/'));
        let groups = own.ancestors().take_while(|folder| folder.starts_with(mount));
        let limits = groups.filter_map(|folder| {
            let limit = fs::read_to_string(folder.join("memory.max")).ok()?.trim().parse().ok()?;
            Some((Self { folder: folder.to_owned() }, limit))
        });
        limits.min_by_key(|(_, limit)| *limit)
    }
}

impl MemoryGauge for Cgroup {
    /// All but what the kernel gives up by itself: pages of files, which it can read again.
    fn used(&self) -> Option<u64> {
        let current: u64 =
            fs::read_to_string(self.folder.join("memory.current")).ok()?.trim().parse().ok()?;
        let of = fs::read_to_string(self.folder.join("memory.stat")).ok()?;
        Some(current.saturating_sub(reclaimable(&of)))
    }
}

/// The path in the line of version 2.
fn own_path(groups: &str) -> Option<&str> {
    groups.lines().find_map(|line| line.strip_prefix("0::"))
}

fn reclaimable(stat: &str) -> u64 {
    const KINDS: [&str; 3] = ["inactive_file", "active_file", "slab_reclaimable"];
    let kinds = stat.lines().filter_map(|line| line.split_once(' '));
    kinds.filter(|(kind, _)| KINDS.contains(kind)).filter_map(|(_, bytes)| bytes.parse::<u64>().ok()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_limit_counts_wherever_it_is_set() {
        let mount = tempfile::tempdir().expect("a folder");
        let own = mount.path().join("pod/container");
        fs::create_dir_all(&own).expect("folders");
        let write = |folder: &Path, name: &str, text: &str| {
            fs::write(folder.join(name), text).expect("it is written");
        };
        let limit = || Cgroup::under(mount.path(), "/pod/container");
        assert!(limit().is_none(), "nothing is limited");
        write(&own, "memory.max", "max\n");
        assert!(limit().is_none(), "nor here");
        write(&mount.path().join("pod"), "memory.max", "1000\n");
        let (group, bytes) = limit().expect("a limit");
        assert_eq!((bytes.get(), group.folder.as_path()), (1000, mount.path().join("pod").as_path()));
        write(&own, "memory.max", "900\n");
        let (group, bytes) = limit().expect("a limit");
        assert_eq!((bytes.get(), group.used()), (900, None), "nobody says what is taken");
        write(&own, "memory.current", "800\n");
        write(
            &own,
            "memory.stat",
            "anon 500\ninactive_file 100\nactive_file 20\nslab_reclaimable 3\nsock 4\n",
        );
        assert_eq!(group.used(), Some(677));
    }

    #[test]
    fn the_line_of_version_2_is_found_among_others() {
        assert_eq!(own_path("12:memory:/a\n0::/kube/x\n"), Some("/kube/x"));
        assert_eq!(own_path("12:memory:/a\n"), None);
    }
}
