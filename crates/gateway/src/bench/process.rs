//! What a process on this machine has used: `/proc/<pid>`, proc(5).

use std::fs;
use std::time::Duration;

/// What the system counts CPU time in: `USER_HZ` is 100 wherever Linux runs.
const TICK: Duration = Duration::from_millis(10);

/// CPU time of some processes so far, user and system, their children not counted.
pub(super) fn cpu(pids: &[u32]) -> Result<Duration, String> {
    let ticks = pids.iter().map(|pid| ticks_of(&read(*pid, "stat")?).ok_or_else(|| strange(*pid)));
    let ticks: u32 = ticks.sum::<Result<u32, String>>()?;
    Ok(TICK * ticks)
}

/// Memory that some processes hold and share with no file, in bytes.
pub(super) fn memory(pids: &[u32]) -> Result<u64, String> {
    pids.iter().map(|pid| anonymous_of(&read(*pid, "status")?).ok_or_else(|| strange(*pid))).sum()
}

fn read(pid: u32, file: &str) -> Result<String, String> {
    let path = format!("/proc/{pid}/{file}");
    fs::read_to_string(&path).map_err(|error| format!("--pid {pid}: {path}: {error}"))
}

fn strange(pid: u32) -> String {
    format!("--pid {pid}: the system tells of it in an unknown way")
}

/// The 14th and the 15th field; the second may hold spaces and parentheses.
fn ticks_of(stat: &str) -> Option<u32> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u32>().ok();
    Some(next()? + next()?)
}

fn anonymous_of(status: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok().map(|kilobytes| kilobytes << 10)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn a_process_with_a_strange_name_is_read() {
        let stat = "42 (a ) b) S 1 42 42 0 -1 4194560 1 2 3 4 250 17 6 7 20 0 3 0 99";
        assert_eq!(ticks_of(stat), Some(267));
        assert_eq!(anonymous_of("Name:\tx\nVmRSS:\t 9 kB\nRssAnon:\t  12 kB\n"), Some(12 << 10));
    }

    #[test]
    fn this_process_uses_something() {
        let own = [std::process::id()];
        assert!(memory(&own).unwrap() > 0);
        let before = cpu(&own).unwrap();
        while cpu(&own).unwrap() == before {
            std::hint::black_box(before);
        }
        assert!(cpu(&[u32::MAX]).is_err());
    }
}
