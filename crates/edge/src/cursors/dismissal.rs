//! How others end a stream, in words.

use std::sync::{Arc, OnceLock};

use tokio_util::sync::CancellationToken;

/// Why a stream is ended by somebody else than its client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Another stream of the same client has taken its kept cursor over.
    Replaced,
    /// Its client holds it by a lease and was silent for too long.
    LeaseExpired,
    /// Its token has expired, and no fresh one came.
    TokenExpired,
    /// Its token or its subject was called back.
    Revoked,
    /// The process is short of memory.
    Overload,
    /// Its client belongs to another edge, and the cluster wants it there.
    Rebalance,
}

impl Reason {
    /// The word in `evergate.goaway`.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Replaced => "replaced",
            Self::LeaseExpired => "lease-expired",
            Self::TokenExpired => "token-expired",
            Self::Revoked => "revoked",
            Self::Overload => "overload",
            Self::Rebalance => "rebalance",
        }
    }
}

/// Ends a stream with `evergate.goaway` and a reason, where cutting its connection would end it
/// without a word.
#[derive(Debug, Clone)]
pub(crate) struct Dismissal {
    cut: CancellationToken,
    reason: Arc<OnceLock<Reason>>,
}

impl Dismissal {
    /// For a stream that ends when `cut` is cancelled.
    pub(crate) fn new(cut: CancellationToken) -> Self {
        Self { cut, reason: Arc::default() }
    }

    /// Ends the stream. The first reason counts. An engine that has parked it must be told to look.
    pub(crate) fn dismiss(&self, reason: Reason) {
        // Lost only to another reason, which ends it just as well.
        let _ = self.reason.set(reason);
        self.cut.cancel();
    }

    /// Why the stream is to end, if it was dismissed.
    pub(crate) fn reason(&self) -> Option<Reason> {
        self.reason.get().copied()
    }
}
