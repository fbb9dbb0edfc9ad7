//! What this process has taken by itself.

use evergate_edge::MemoryGauge;

/// Its memory that is backed by no file. What the kernel holds for its sockets is not among it.
#[derive(Debug)]
pub(super) struct Process;

impl MemoryGauge for Process {
    fn used(&self) -> Option<u64> {
        anonymous(&std::fs::read_to_string("/proc/self/status").ok()?)
    }
}

/// `RssAnon` of `/proc/self/status`, in bytes.
fn anonymous(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim_end().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_taken_something() {
        assert!(Process.used().is_some_and(|used| used > 64 << 10));
        let status = "VmRSS:\t   16352 kB\nRssAnon:\t    6352 kB\nRssFile:\t   10000 kB\n";
        assert_eq!(anonymous(status), Some(6352 << 10));
        for other in ["", "RssAnon: kB\n", "RssAnon: 1 MB\n"] {
            assert_eq!(anonymous(other), None, "{other:?}");
        }
    }
}
