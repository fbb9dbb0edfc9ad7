//! Accepts connections: one listener, a bound, and an owner for every task.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::connection::{self, Ends};
use crate::http::context::Context;

/// Connections beyond the streams' bound: for publishes, refusals and everything short.
const CONNECTIONS_EXTRA: usize = 1_000;

/// Serves HTTP on a listener until told to stop, then as long as connections last.
pub(crate) struct Server {
    /// Stops accepting.
    pub(crate) accept: CancellationToken,
    /// What ends connections.
    pub(crate) ends: Ends,
    connections: TaskTracker,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self {
            accept: CancellationToken::new(),
            ends: Ends { drain: CancellationToken::new(), kill: CancellationToken::new() },
            connections: TaskTracker::new(),
        }
    }

    /// Accepts until [`Server::accept`] is cancelled. At the bound it pauses: what waits in the
    /// listener's queue is served later instead of being reset now.
    pub(crate) async fn run(&self, listener: TcpListener, context: Arc<Context>) {
        let places = Arc::new(Semaphore::new(context.config.connections.streams_max + CONNECTIONS_EXTRA));
        let accepting = async {
            loop {
                let place = Arc::clone(&places).acquire_owned().await.expect("never closed");
                match listener.accept().await {
                    Ok((stream, _)) => {
                        let (context, ends) = (Arc::clone(&context), self.ends.clone());
                        self.connections.spawn(async move {
                            connection::serve(stream, context, ends, place).await;
                        });
                        metrics::counter!("evergate_connections_total").increment(1);
                    }
                    Err(error) => pause(&error).await,
                }
            }
        };
        self.accept.run_until_cancelled(accepting).await;
    }

    /// How many connections are open.
    pub(crate) fn open(&self) -> usize {
        self.connections.len()
    }

    /// Waits until the last connection is gone. Only after [`Server::run`] returned.
    pub(crate) async fn closed(&self) {
        self.connections.close();
        self.connections.wait().await;
    }
}

/// A failing accept concerns one connection, or everything when descriptors ran out; then a moment's
/// rest lets some come free instead of spinning.
async fn pause(error: &io::Error) {
    tracing::warn!(%error, "could not accept a connection");
    tokio::time::sleep(Duration::from_millis(20)).await;
}
