//! How others end a stream, in words.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// Ends a stream with `evergate.goaway` and a reason, where cutting its connection would end it
/// without a word.
#[derive(Debug, Clone)]
pub(crate) struct Dismissal {
    cut: CancellationToken,
    reason: Arc<OnceLock<&'static str>>,
}

impl Dismissal {
    /// For a stream that ends when `cut` is cancelled.
    pub(crate) fn new(cut: CancellationToken) -> Self {
        Self { cut, reason: Arc::default() }
    }

    /// Ends the stream. The first reason counts.
    pub(crate) fn dismiss(&self, reason: &'static str) {
        // Lost only to another reason, which ends it just as well.
        let _ = self.reason.set(reason);
        self.cut.cancel();
    }

    /// Why the stream is to end, if it was dismissed.
    pub(crate) fn reason(&self) -> Option<&'static str> {
        self.reason.get().copied()
    }
}
