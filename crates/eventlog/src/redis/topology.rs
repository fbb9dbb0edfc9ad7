//! Who holds what: from a hash slot to the primary that has it, on every kind of deployment.
//!
//! ```text
//!   call ── hash slot ──▶ Route ──▶ Map ──▶ Node ──▶ a connection
//!             ▲             │ error: "look again", "it moved", "ask there"
//!             │             ▼
//!             └─ new Map ─ Keeper ── asks Sentinels, or the cluster's nodes
//! ```
//! Nothing is decided here that could lose anything: whoever believes an old map is refused by the
//! server (`MOVED`, `READONLY`), by the gate, or gets no confirmation. What a map is good for is
//! finding the way quickly. A call that was told `MOVED` or `ASK` was not executed.

mod finder;
mod keeper;
mod layout;

use std::collections::HashMap;
use std::sync::Arc;

use evergate_domain::StreamPolicies;
use parking_lot::Mutex;
use redis::{RedisError, ServerErrorKind};
use tokio::sync::{Notify, watch};

use super::address::Address;
use super::hash_slot::HashSlot;
use super::keys::Slot;
use super::link::Connected;
use super::node::{Node, Purpose};
use super::{RedisOpenError, RedisOptions, checks};
use crate::BackendError;

pub(super) use finder::Finder;
pub(super) use keeper::Keeper;
pub(super) use layout::Layout;

/// Hints between two looks. Beyond them they are dropped.
const HINTS_MAX: usize = 1024;

/// What is known of all primaries.
pub(super) struct Topology {
    map: watch::Sender<Arc<Map>>,
    hints: Mutex<Vec<Hint>>,
    nudged: Notify,
    /// Why the primaries cannot be asked for, if they cannot.
    trouble: Mutex<Option<String>>,
    /// Who held each of the log's slots before it moved, as far as that was seen.
    before: Mutex<HashMap<Slot, Address>>,
}

/// A state of affairs.
pub(super) struct Map {
    layout: Layout,
    nodes: HashMap<Address, Arc<Node>>,
}

/// What a call learnt on its way.
enum Hint {
    Moved(HashSlot, Address),
    /// This server is about to take something over.
    Asked(Address),
}

impl Map {
    /// The primary that holds this hash slot.
    pub(super) fn node(&self, at: HashSlot) -> Option<&Arc<Node>> {
        self.nodes.get(self.layout.owner(at)?)
    }

    /// All primaries.
    pub(super) fn primaries(&self) -> impl Iterator<Item = &Arc<Node>> {
        self.layout.primaries().iter().filter_map(|address| self.nodes.get(address))
    }
}

impl Topology {
    fn new(map: Map) -> Self {
        Self {
            map: watch::Sender::new(Arc::new(map)),
            hints: Mutex::default(),
            nudged: Notify::new(),
            trouble: Mutex::default(),
            before: Mutex::default(),
        }
    }

    /// Looks at every primary as closely as it must be before the log is opened. One that cannot be
    /// reached is looked at when it can be, if there are others.
    pub(super) async fn check(
        &self,
        options: &RedisOptions,
        policies: &StreamPolicies,
    ) -> Result<(), RedisOpenError> {
        let map = self.now();
        let (mut reached, mut silent) = (0, Vec::new());
        for node in map.primaries() {
            match checks::check_at(options, policies, &node.place).await {
                Ok(()) => reached += 1,
                Err(error @ RedisOpenError::Unreachable { .. }) => silent.push(error),
                Err(error) => return Err(error),
            }
        }
        if reached == 0 {
            let uncovered = RedisOpenError::Uncovered { many: map.layout.orphans() };
            return Err(silent.into_iter().next().unwrap_or(uncovered));
        }
        // Only now: where none is reached, nothing goes on.
        for error in silent {
            tracing::warn!(%error, "going on without this Redis: its streams are unavailable until it answers");
        }
        Ok(())
    }

    /// The map, now and whenever it changes.
    pub(super) fn maps(&self) -> watch::Receiver<Arc<Map>> {
        self.map.subscribe()
    }

    /// The map as it is now.
    pub(super) fn now(&self) -> Arc<Map> {
        Arc::clone(&self.map.borrow())
    }

    /// The way to whoever holds a hash slot.
    pub(super) fn route(&self, at: HashSlot, purpose: Purpose) -> Route<'_> {
        Route { topology: self, at, purpose, detour: None }
    }

    /// A connection to the primary that held this slot before, if it is one still, and not the one that
    /// holds it now: then a cluster moved the slot, and nobody took anything over from anybody.
    pub(super) fn former(&self, slot: Slot) -> Option<Connected> {
        let before = self.before.lock().get(&slot).cloned()?;
        let map = self.now();
        let is_primary = map.layout.primaries().contains(&before);
        if !is_primary || map.layout.owner(slot.hash_slot()) == Some(&before) {
            return None;
        }
        map.nodes.get(&before)?.link(Purpose::Read).now()
    }

    /// Notes which slots are somewhere else than they were. Of those that moved unseen nobody knows
    /// where they were last.
    fn moved(&self, from: &Layout, to: &Layout, blind: bool) {
        let mut before = self.before.lock();
        if blind {
            before.clear();
            return;
        }
        for slot in Slot::all() {
            let owner = from.owner(slot.hash_slot());
            if let Some(owner) = owner.filter(|owner| to.owner(slot.hash_slot()) != Some(*owner)) {
                before.insert(slot, owner.clone());
            }
        }
    }

    /// Asks for another look at who the primaries are.
    pub(super) fn look_again(&self) {
        self.nudged.notify_one();
    }

    /// Notes what an error says about the way to a hash slot.
    pub(super) fn learn(&self, at: HashSlot, error: &RedisError) {
        if let (Some(to), true) = (redirect(error), is(error, ServerErrorKind::Moved)) {
            self.hint(Hint::Moved(at, to));
        }
        self.look_again();
    }

    fn hint(&self, hint: Hint) {
        let mut hints = self.hints.lock();
        // The calls that are turned away after this are turned away again, and tell it then.
        if hints.len() < HINTS_MAX {
            hints.push(hint);
        }
    }

    /// What cannot be reached, each in a sentence.
    pub(super) fn troubles(&self) -> Vec<String> {
        let map = self.now();
        let mut troubles: Vec<String> = self.trouble.lock().iter().cloned().collect();
        let orphans = map.layout.orphans();
        if orphans > 0 {
            troubles.push(format!("no Redis primary holds {orphans} of the log's 256 slots"));
        }
        for node in map.primaries() {
            if let Some(why) = node.place.trouble() {
                troubles.push(format!("Redis at {} cannot be reached: {why}", node.place.address));
            }
        }
        troubles
    }

    /// Says which server cannot be reached.
    pub(super) fn unreachable(&self, at: HashSlot) -> BackendError {
        let map = self.now();
        BackendError::message(match map.node(at) {
            Some(node) => format!("no connection to Redis at {}", node.place.address),
            None => "no Redis primary holds this stream's slot".to_owned(),
        })
    }
}

/// On the way to whoever holds one hash slot. Errors met on the way are told to it, and it finds the next.
pub(super) struct Route<'a> {
    topology: &'a Topology,
    at: HashSlot,
    purpose: Purpose,
    /// The next attempt goes there, and says that it was sent.
    detour: Option<Address>,
}

impl Route<'_> {
    /// A connection to whoever holds it, as soon as there is one. Cancel-safe.
    pub(super) async fn connected(&mut self) -> Option<Connected> {
        let mut maps = self.topology.maps();
        loop {
            let map = Arc::clone(&maps.borrow_and_update());
            let detour = self.detour.as_ref().and_then(|address| map.nodes.get(address));
            let Some(node) = detour.or_else(|| map.node(self.at)) else {
                self.topology.look_again();
                maps.changed().await.ok()?;
                continue;
            };
            let asking = detour.is_some();
            let link = node.link(self.purpose);
            tokio::select! {
                biased;
                connected = link.connected() => if let Some(mut connected) = connected {
                    self.detour = None;
                    connected.asking = asking;
                    return Some(connected);
                } else {
                    // It was retired, and another map is coming.
                    maps.changed().await.ok()?;
                },
                changed = maps.changed() => changed.ok()?,
            }
        }
    }

    /// A connection, if there is one right now.
    pub(super) fn now(&self) -> Option<Connected> {
        self.topology.now().node(self.at)?.link(self.purpose).now()
    }

    /// Notes an error that was met over this connection.
    pub(super) fn failed(&mut self, on: &Connected, error: &RedisError) {
        on.failed(error);
        if is(error, ServerErrorKind::Ask) {
            self.detour = redirect(error);
            if let Some(to) = self.detour.clone() {
                self.topology.hint(Hint::Asked(to));
            }
        }
        self.topology.learn(self.at, error);
    }

    /// Says which server cannot be reached.
    pub(super) fn unreachable(&self) -> BackendError {
        self.topology.unreachable(self.at)
    }
}

fn is(error: &RedisError, kind: ServerErrorKind) -> bool {
    error.kind() == redis::ErrorKind::Server(kind)
}

/// Where `MOVED` or `ASK` points to.
fn redirect(error: &RedisError) -> Option<Address> {
    let (at, _) = error.redirect_node()?;
    let (host, port) = at.rsplit_once(':')?;
    Some(Address::new(host, port.parse().ok()?))
}
