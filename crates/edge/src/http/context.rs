//! What every request needs at hand.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use evergate_fanout::{Engine, Hub};

use crate::calls::{Calls, Owner, Peers};
use crate::config::EdgeConfig;
use crate::cursors::Keeper;
use crate::http::affinity::Affinity;
use crate::http::limits::Limits;
use crate::http::registry::Registry;
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
    stopping: AtomicBool,
}

impl Context {
    pub(crate) fn new(
        config: EdgeConfig,
        hub: Hub,
        engine: Engine,
        publisher: Publisher,
        cursors: Arc<Keeper>,
    ) -> Arc<Self> {
        let streams = Arc::new(Registry::new(config.node.clone(), config.connections.streams()));
        let calls =
            Calls::new(Owner::new(Arc::clone(&streams)), Peers::new(&config.peers, config.placement.clone()));
        let limits = Limits::new(&config.clients);
        let affinity = Affinity::new(&config.node, &config.region, config.placement.clone());
        let stopping = AtomicBool::new(false);
        Arc::new(Self { config, hub, engine, publisher, streams, calls, cursors, limits, affinity, stopping })
    }

    /// New streams are refused from now on, so that their clients go elsewhere.
    pub(crate) fn stop(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Acquire)
    }
}
