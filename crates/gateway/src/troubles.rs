//! What of a shared dependency cannot be used right now, for the admin pages. It never makes a
//! process unready: all of them would be at once, and live streams go on.

use std::sync::Arc;

use parking_lot::Mutex;

/// Says what is amiss, each in a sentence.
type Told = Box<dyn Fn() -> Vec<String> + Send + Sync>;

/// Asks whoever knows.
#[derive(Clone, Default)]
pub(crate) struct Troubles(Arc<Mutex<Vec<Told>>>);

impl Troubles {
    /// From now on this is asked, too.
    pub(crate) fn ask(&self, told: impl Fn() -> Vec<String> + Send + Sync + 'static) {
        self.0.lock().push(Box::new(told));
    }

    /// Each in a sentence.
    pub(crate) fn now(&self) -> Vec<String> {
        self.0.lock().iter().flat_map(|told| told()).collect()
    }
}

impl std::fmt::Debug for Troubles {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Troubles").field(&self.now()).finish()
    }
}
