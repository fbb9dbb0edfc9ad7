//! The contract on real servers.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test fails on whatever it did not expect")]

use super::testing::{Server, log};
use super::*;
use crate::ManualClock;
use crate::conformance::{self, Subject};

/// A log on a server of its own.
struct OnRedis {
    level: Level,
    servers: tokio::sync::OnceCell<(Server, Option<Server>)>,
}

impl OnRedis {
    fn new(level: Level) -> Self {
        Self { level, servers: tokio::sync::OnceCell::new() }
    }

    async fn server(&self) -> &Server {
        let start = || async {
            let server = Server::start().await;
            let replica = match self.level {
                Level::Home => None,
                Level::Replicated | Level::Quorum => Some(server.replica().await),
            };
            (server, replica)
        };
        &self.servers.get_or_init(start).await.0
    }
}

#[async_trait]
impl Subject for OnRedis {
    async fn open(&self, policies: StreamPolicies, clock: Arc<dyn Clock>) -> Arc<dyn EventLog> {
        let options = self.server().await.options(self.level);
        log(options, policies, clock).await
    }

    fn durable(&self) -> bool {
        true
    }

    /// Redis goes on while a process that uses it restarts, and so does the epoch: many share it.
    /// What makes it rise is that the right to append changes hands, which is done here in order.
    async fn reopen(&self, policies: StreamPolicies, clock: Arc<dyn Clock>) -> Arc<dyn EventLog> {
        let options = self.server().await.options(self.level);
        let log = log(options, policies, clock).await;
        log.take_over().await.expect("takes over");
        log
    }
}

mod contract_at_home {
    use super::*;
    conformance::suite!(OnRedis::new(Level::Home));
}

mod contract_replicated {
    use super::*;
    conformance::suite!(OnRedis::new(Level::Replicated));
}

mod apply;
mod cursors;
mod deployments;
mod faults;
mod functions;
mod levels;
mod model;
mod moves;
mod opening;
mod pruning;
mod ways;
