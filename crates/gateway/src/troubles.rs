//! What of a shared dependency cannot be used right now, for the admin pages. It never makes a
//! process unready: all of them would be at once, and live streams go on.

use std::sync::{Arc, OnceLock};

use evergate_eventlog::EventLog;

/// Asks the log, once there is one.
#[derive(Clone, Default)]
pub(crate) struct Troubles(Arc<OnceLock<Arc<dyn EventLog>>>);

impl Troubles {
    /// From now on this log is asked.
    pub(crate) fn ask(&self, log: &Arc<dyn EventLog>) {
        // Set once, by whoever opened it.
        let _ = self.0.set(Arc::clone(log));
    }

    /// Each in a sentence.
    pub(crate) fn now(&self) -> Vec<String> {
        self.0.get().map_or_else(Vec::new, |log| log.troubles())
    }
}

impl std::fmt::Debug for Troubles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Troubles").field(&self.now()).finish()
    }
}
