//! What every request needs at hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use evergate_domain::RetryRange;
use evergate_fanout::{Engine, Hub};

use crate::access::{self, Asked, Caller, Denied, Gate};
use crate::calls::{Calls, Owner, Peers};
use crate::config::EdgeConfig;
use crate::cursors::Keeper;
use crate::http::affinity::Affinity;
use crate::http::limits::Limits;
use crate::http::registry::Registry;
use crate::memory::Shortage;
use crate::publish::Publisher;

/// Shared by all connections of an edge.
pub(crate) struct Context {
    pub(crate) config: EdgeConfig,
    pub(crate) hub: Hub,
    pub(crate) engine: Engine,
    pub(crate) publisher: Publisher,
    pub(crate) streams: Arc<Registry>,
    pub(crate) calls: Calls,
    pub(crate) cursors: Arc<Keeper>,
    pub(crate) limits: Limits,
    pub(crate) affinity: Affinity,
    pub(crate) shortage: Arc<Shortage>,
    /// Who is let in; `None` for everybody.
    pub(crate) gate: Option<Arc<Gate>>,
    stopping: AtomicBool,
}

impl Context {
    pub(crate) fn new(
        config: EdgeConfig,
        hub: Hub,
        engine: Engine,
        publisher: Publisher,
        cursors: Arc<Keeper>,
        shortage: Arc<Shortage>,
    ) -> Arc<Self> {
        let streams = Arc::new(Registry::new(config.node.clone(), config.connections.streams()));
        let gate = config.access.as_ref().map(|access| Arc::new(Gate::new(access, &config.node)));
        let owner = Owner::new(Arc::clone(&streams), gate.clone());
        let calls = Calls::new(owner, Peers::new(&config));
        let limits = Limits::new(&config.clients, &config.agreed_limits);
        let affinity = Affinity::new(&config);
        let stopping = AtomicBool::new(false);
        Arc::new(Self {
            config,
            hub,
            engine,
            publisher,
            streams,
            calls,
            cursors,
            limits,
            affinity,
            shortage,
            gate,
            stopping,
        })
    }

    /// Sizes the wait of clients that are cut by what is agreed on and how many are open now, and gives it.
    pub(crate) fn size_retries(&self) -> RetryRange {
        self.hub.retries().set(self.affinity.retry(self.config.sse.retry, self.streams.len()))
    }

    /// Who sent a request.
    pub(crate) async fn identify(&self, asked: &Asked<'_>) -> Result<Caller, Denied> {
        match &self.gate {
            Some(gate) => match access::ticket(asked).map_err(Denied::count)? {
                Some(ticket) => {
                    let claims = self.calls.redeem(ticket).await.map_err(|error| error.denied().count())?;
                    gate.by_ticket(&claims)
                }
                None => gate.identify(asked).await,
            },
            None => Ok(Caller::anybody()),
        }
    }

    /// New streams are refused from now on, so that their clients go elsewhere.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}
