//! Plain commands for keys that are not the log's, on whatever deployment the log is on.
//!
//! Whoever keeps something of its own beside the log needs no address, connection or slot map: the
//! key says where it is. Commands are repeated when a connection broke before the answer came, so
//! only such may be sent as do no harm when they are carried out twice.

use std::sync::Arc;

use redis::{Cmd, Value};

use super::address::Address;
use super::hash_slot::HashSlot;
use super::node::Purpose;
use super::{Shared, reader};
use crate::BackendError;

/// Sends commands to whichever primary holds a key.
#[derive(Clone)]
pub(crate) struct RedisCommands(Arc<Shared>);

impl RedisCommands {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self(shared)
    }

    /// Who holds a key, as far as is known, and whether it can be asked right now.
    pub(crate) fn owner(&self, key: &str) -> (Option<Address>, bool) {
        let map = self.0.topology.now();
        let Some(node) = map.node(HashSlot::of(key)) else { return (None, false) };
        (Some(node.place.address.clone()), node.link(Purpose::Read).now().is_some())
    }

    /// Sends one command about `key`, which must be the key that stands in it, and any others of
    /// its hash tag. An error of Redis is an error here. Cancel-safe: it may have taken effect.
    pub(crate) async fn run(&self, key: &str, command: &Cmd) -> Result<Value, BackendError> {
        reader::ask(&self.0, HashSlot::of(key), command).await
    }
}
