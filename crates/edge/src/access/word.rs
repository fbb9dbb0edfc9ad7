//! What a stream is to be told beside its events.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// Frames that wait for whoever writes to a stream; the latest take the place of those before.
#[derive(Debug, Default)]
pub(crate) struct Word {
    frames: Mutex<Option<Bytes>>,
    bell: Arc<Notify>,
}

impl Word {
    /// Leaves frames, and rings. An engine that has parked the stream must be told to look.
    pub(crate) fn leave(&self, frames: Bytes) {
        *self.frames.lock() = Some(frames);
        self.bell.notify_one();
    }

    /// Takes back what nobody has taken.
    pub(crate) fn withdraw(&self) {
        *self.frames.lock() = None;
    }

    /// Takes them.
    pub(crate) fn take(&self) -> Option<Bytes> {
        self.frames.lock().take()
    }

    /// Whether they still wait.
    pub(crate) fn waits(&self) -> bool {
        self.frames.lock().is_some()
    }

    /// Rings when there are some.
    pub(crate) fn bell(&self) -> Arc<Notify> {
        Arc::clone(&self.bell)
    }
}
