//! A disk that is really full: refused appends, working reads, and appends again once there is
//! room, with nothing lost on the way.
//!
//! The test mounts a small file system of its own in a namespace of its own. Where the system does
//! not let it, it says so and passes; the same decisions are tested without a real disk beside the
//! code.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test expects one answer and shows any other")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evergate_domain::{EventDraft, Offset, Retention, StreamName, StreamPolicies};
use evergate_eventlog::{AppendError, DiskLog, DiskOptions, EventLog, Page, ReadLimit, SystemClock};

const DIR: &str = "EVERGATE_FULL_DIR";
/// The file system's size, and that of the file that takes part of it.
const MIB: u64 = 64;
const BALLAST_MIB: u64 = 24;

#[test]
fn a_full_disk_refuses_appends_until_there_is_room() {
    if !Command::new("unshare").args(["-rm", "true"]).status().is_ok_and(|status| status.success()) {
        println!("passed over: no namespaces for file systems here");
        return;
    }
    let dir = tempfile::tempdir().expect("a directory");
    let mount = format!("mount -t tmpfs -o size={MIB}m tmpfs \"${DIR}\" && exec \"$0\" \"$@\"");
    let done = Command::new("unshare")
        .args(["-rm", "sh", "-c", &mount])
        .arg(std::env::current_exe().expect("this file"))
        .args(["--exact", "on_a_small_file_system", "--ignored", "--nocapture"])
        .env(DIR, dir.path())
        .status()
        .expect("runs itself");
    assert!(done.success(), "see above");
}

#[test]
#[ignore = "run by the other test where there is a small file system"]
fn on_a_small_file_system() {
    let Some(dir) = std::env::var_os(DIR).map(PathBuf::from) else { return };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    // With a reserve, it is refused in good time; without one, when the disk has no more.
    for reserve_bytes in [16 << 20, 0] {
        let acknowledged = runtime.block_on(fill_and_free(&dir, reserve_bytes));
        println!("with {reserve_bytes} bytes reserved: {acknowledged} events acknowledged, all there");
    }
}

async fn fill_and_free(dir: &Path, reserve_bytes: u64) -> u64 {
    let ballast = dir.join("ballast");
    std::fs::write(&ballast, vec![1; (BALLAST_MIB << 20) as usize]).expect("room for the ballast");
    let log_dir = dir.join(format!("log-{reserve_bytes}"));
    let open = || {
        let options =
            DiskOptions { reserve_bytes, journal_bytes: 1 << 20, ..DiskOptions::new(log_dir.clone()) };
        let policies = Arc::new(StreamPolicies::open(Retention::FOREVER));
        DiskLog::open(&options, policies, Arc::new(SystemClock)).expect("opens")
    };
    let log = open();
    let name = StreamName::new("s").expect("valid");
    let append = async |log: &DiskLog, n: u64| log.append(&name, vec![EventDraft::new(content(n))]).await;

    // Merging and deleting in the background may make room once more; full is what stays full.
    let (mut acknowledged, mut refused) = (0, 0);
    while refused < 50 {
        match append(&log, acknowledged + 1).await {
            Ok(_) => (acknowledged, refused) = (acknowledged + 1, 0),
            Err(AppendError::Full(_)) => refused += 1,
            Err(error) => panic!("{error:?}"),
        }
        if refused > 0 {
            check(&log, &name, acknowledged).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        assert!(acknowledged < MIB << 20, "it never was full");
    }
    assert!(acknowledged > 100, "{acknowledged}");

    std::fs::remove_file(&ballast).expect("removed");
    // What waits for room in the background tries again every second.
    let freed = Instant::now();
    while let Err(error) = append(&log, acknowledged + 1).await {
        assert!(matches!(error, AppendError::Full(_)), "{error:?}");
        assert!(freed.elapsed() < Duration::from_secs(30), "it never went on: {error}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    acknowledged += 1;
    check(&log, &name, acknowledged).await;
    log.close().await;

    let log = open();
    check(&log, &name, acknowledged).await;
    log.close().await;
    drop(log);
    std::fs::remove_dir_all(&log_dir).expect("removed");
    acknowledged
}

fn content(n: u64) -> String {
    format!("{n}/{}", "x".repeat(10_000))
}

async fn check(log: &DiskLog, name: &StreamName, acknowledged: u64) {
    let (mut cursor, mut n) = (Offset::BEGINNING, 0);
    loop {
        let limit = ReadLimit { events: 256, bytes: u64::MAX };
        match log.read(name, cursor, limit).await.expect("reads go on") {
            Page::Events { events, at_end } => {
                for event in events {
                    n += 1;
                    assert_eq!(event.offset.seq.get(), n);
                    assert!(event.data == content(n), "event {n} changed");
                    cursor = event.offset;
                }
                if at_end {
                    break;
                }
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(n, acknowledged);
}
