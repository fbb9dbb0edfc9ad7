//! Whether a caller is a node of the group, by what it proved to be.
//!
//! Edges have their certificates from the same authority as control nodes, so that alone says nothing. A node is
//! who stands for a host by which a member is reached: just what it has to prove when it is called there. Or, if
//! the operator says which names nodes have, who has one of them.
//!
//! A node that was away may not know of members that came meanwhile. Whoever is unknown is refused, and those
//! who are known are asked who else there is ([`acquaint`](crate::group)): at its next call it may be known.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evergate_tls::Identity;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::acquaintance::Me;
use crate::group::Seeds;

const REFUSED: &str = "evergate_raft_strangers_total";

/// Strangers are told of in the log output so often at the most; all of them are counted.
const SAY_EVERY: Duration = Duration::from_secs(10);

/// Hosts that are remembered of what members said of others.
const HEARD_MAX: usize = 256;

/// Who is at the other end of a connection.
#[derive(Debug, Clone)]
pub(crate) enum Caller {
    /// Nobody has to prove anything here, as no TLS is spoken.
    Unproven,
    /// It proved to be this; nothing, if its certificate holds no names that can be read.
    Proven(Option<Arc<Identity>>),
}

/// It is no node of this group, as far as this node knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "the caller's certificate, for {names:?}, stands for no host of a member of the control group; give it one that \
     does, or name who may speak for a node in control.raft_identities"
)]
pub(crate) struct Stranger {
    names: Vec<String>,
}

/// Judges callers.
pub(crate) struct Admission {
    me: Arc<Me>,
    /// What nodes are called. If there is any, nothing else counts.
    patterns: Vec<String>,
    /// `HOST:PORT` of those of whom this node was told at its start.
    told: Vec<String>,
    /// Hosts of members that other members know.
    heard: Mutex<BTreeSet<String>>,
    unknown: Notify,
    said: Mutex<Option<Instant>>,
}

impl Admission {
    pub(crate) fn new(me: Arc<Me>, patterns: Vec<String>, seeds: &Seeds) -> Self {
        let told = match seeds {
            Seeds::Listed(peers) => peers.values().cloned().collect(),
            Seeds::Named { name, .. } => vec![name.clone()],
            Seeds::Nobody => Vec::new(),
        };
        let (heard, unknown, said) = (Mutex::default(), Notify::new(), Mutex::default());
        Self { me, patterns, told, heard, unknown, said }
    }

    /// Whether a caller may speak for a node.
    pub(crate) fn admit(&self, caller: Option<&Caller>) -> Result<(), Stranger> {
        let identity = match caller {
            Some(Caller::Unproven) => return Ok(()),
            Some(Caller::Proven(identity)) => identity.as_deref(),
            None => None,
        };
        if identity.is_some_and(|identity| self.is_node(identity)) {
            return Ok(());
        }
        let names = identity.map_or_else(Vec::new, |identity| identity.names().to_vec());
        let stranger = Stranger { names };
        metrics::counter!(REFUSED).increment(1);
        if self.is_time_to_say() {
            tracing::warn!(%stranger, "a call of the control group was refused");
        }
        if self.patterns.is_empty() {
            self.unknown.notify_one();
        }
        Err(stranger)
    }

    /// Returns when somebody was refused who may be a member of which this node does not know. Cancel-safe.
    pub(crate) async fn is_wondering(&self) {
        self.unknown.notified().await;
    }

    /// `HOST:PORT` of everybody who is known to this node by itself.
    pub(crate) fn known(&self) -> BTreeSet<String> {
        self.told.iter().cloned().chain(self.me.members()).collect()
    }

    /// Takes over where members are, as known ones say: `HOST:PORT` each.
    pub(crate) fn hear_of(&self, members: impl IntoIterator<Item = String>) {
        let hosts = members.into_iter().map(|address| host(&address).to_owned());
        *self.heard.lock() = hosts.take(HEARD_MAX).collect();
    }

    fn is_node(&self, identity: &Identity) -> bool {
        if !self.patterns.is_empty() {
            return self.patterns.iter().any(|name| identity.fits(name) || identity.stands_for(name));
        }
        let known = self.known();
        // Who was told of nobody and belongs to no group yet has nothing to protect, and takes the first that comes.
        known.is_empty()
            || known.iter().any(|address| identity.stands_for(host(address)))
            || self.heard.lock().iter().any(|host| identity.stands_for(host))
    }

    fn is_time_to_say(&self) -> bool {
        let mut said = self.said.lock();
        let is_time = said.is_none_or(|said| said.elapsed() >= SAY_EVERY);
        if is_time {
            *said = Some(Instant::now());
        }
        is_time
    }
}

fn host(address: &str) -> &str {
    address.rsplit_once(':').map_or(address, |(host, _)| host)
}
