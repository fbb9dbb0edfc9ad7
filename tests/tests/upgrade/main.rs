//! From one process to the next on one host: by handing the listeners over while both run, and by
//! systemd's holding them while none does.

mod activation;
mod failures;
mod storm;
mod takeover;
mod units;

#[path = "../redis/work.rs"]
#[expect(dead_code, reason = "written for the tests over Redis; some of it only they need")]
mod work;

use std::path::{Path, PathBuf};

use evergate_tests::process::Options;
use evergate_tests::redis::RedisServer;
use tempfile::TempDir;

/// A directory of our own, and in it the place where two processes meet.
struct Meeting {
    folder: TempDir,
}

impl Meeting {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().expect("a temporary folder can be made") }
    }

    fn folder(&self) -> &Path {
        self.folder.path()
    }

    fn place(&self) -> PathBuf {
        self.folder.path().join("upgrade.sock")
    }

    /// How a process is to be started that has its log in this Redis, and takes over.
    fn options(&self, redis: &RedisServer) -> Options {
        let place = self.place();
        redis.options().set("upgrade.socket", place.to_str().expect("a plain path"))
    }
}
