//! Accepts connections: one listener, a bound, and an owner for every task.

use std::sync::Arc;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::connection::{self, Ends};
use crate::http::context::Context;
use crate::http::door::Door;

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
        let mut door = Door::new(&context.config.connections);
        let accepting = async {
            loop {
                let mut entry = door.opens().await;
                match listener.accept().await {
                    Ok((stream, from)) => {
                        door.accepted();
                        if !door.admit(from, &mut entry, &context.config.proxies) {
                            continue;
                        }
                        let (context, ends) = (Arc::clone(&context), self.ends.clone());
                        self.connections.spawn(connection::serve(stream, from, context, ends, entry));
                    }
                    Err(error) => door.failed(&error).await,
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
