//! The contract, and what only a log on disk can go through.

use super::*;
use crate::conformance::{self, Subject};

/// A log in a directory of its own.
struct Disk(tempfile::TempDir);

impl Disk {
    fn new() -> Self {
        Self(tempfile::tempdir().expect("a directory"))
    }
}

#[async_trait]
impl Subject for Disk {
    async fn open(&self, policies: StreamPolicies, clock: Arc<dyn Clock>) -> Arc<dyn EventLog> {
        let options = DiskOptions::new(self.0.path());
        Arc::new(DiskLog::open(&options, Arc::new(policies), clock).expect("opens"))
    }

    fn durable(&self) -> bool {
        true
    }

    async fn reopen(&self, policies: StreamPolicies, clock: Arc<dyn Clock>) -> Arc<dyn EventLog> {
        self.open(policies, clock).await
    }
}

conformance::suite!(Disk::new());
