//! Connections that are used before their handshake is over: TLS 1.3's early data, and the answers to it.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustls::ServerConnection;
use tokio::time::{Instant, sleep_until};

/// What is known of the handshake of a client that was heard before it had ended it. Cheap to clone; all
/// clones tell the same.
#[derive(Debug, Clone)]
pub struct Early(Arc<Handshake>);

#[derive(Debug)]
struct Handshake {
    over: AtomicBool,
    due: Instant,
}

impl Early {
    pub(crate) fn new(due: Instant) -> Self {
        Self(Arc::new(Handshake { over: AtomicBool::new(false), due }))
    }

    /// Whether the client has ended its handshake. Whoever only repeats what was recorded of somebody else
    /// never does: until then everything that comes may be such a repetition, and from then on nothing is, of
    /// what came before neither.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.0.over.load(Ordering::Acquire)
    }

    /// Ends when the time for the handshake is over and the handshake is not; else never. Cancel-safe.
    pub async fn overdue(&self) {
        sleep_until(self.0.due).await;
        if self.is_over() {
            pending::<()>().await;
        }
    }

    /// Takes note of what the connection has come to. Gives whether its handshake is over.
    pub(crate) fn look(&self, connection: &ServerConnection) -> bool {
        if !connection.is_handshaking() {
            self.0.over.store(true, Ordering::Release);
        }
        self.is_over()
    }
}
