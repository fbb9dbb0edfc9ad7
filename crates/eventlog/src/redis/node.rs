//! One primary, as this process knows it: four connections that are being kept, and what is wrong
//! with it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::cmd;
use tokio::sync::watch;

use super::address::Address;
use super::checks::{self, field};
use super::keys::{SLOTS, Slot};
use super::link::{self, Link, OnPush, Supervisor};
use super::topology::Map;
use super::{RedisOptions, library, reply};

/// What the connections of one primary share.
pub(super) struct Place {
    pub(super) address: Address,
    /// Where it stands in a list of servers without a cluster, `1/3` for the first of three.
    pub(super) identity: Option<String>,
    /// The key that whoever loads the library holds on to; none where it may hold no key at all.
    pub(super) library_key: Mutex<Option<String>>,
    /// The log's slots that it holds.
    pub(super) slots: Mutex<Vec<Slot>>,
    /// Subscribing and unsubscribing take turns, so that the last word about a channel is the right one.
    pub(super) turn: tokio::sync::Mutex<()>,
    /// Whether it was looked at as closely as every server is before the log is opened.
    pub(super) checked: AtomicBool,
    retired: watch::Sender<bool>,
    /// What is wrong, link by link.
    troubles: Mutex<[Option<String>; Purpose::ALL.len()]>,
}

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// Appends that nobody else confirms.
    Write,
    /// Appends that replicas confirm: while they are waited for, nothing else goes over it.
    Confirm,
    Read,
    Listen,
}

/// One primary. Whoever takes it from the map may use it as long as it likes; it is retired when
/// the map does not name it any more, and then every call under way fails.
pub(super) struct Node {
    pub(super) place: Arc<Place>,
    links: [Link; Purpose::ALL.len()],
}

impl Node {
    /// A node, and those who keep its connections, which the caller owns.
    pub(super) fn new(
        place: Arc<Place>,
        options: &Arc<RedisOptions>,
        on_push: &OnPush,
    ) -> (Self, Vec<Supervisor>) {
        let listener = |purpose| (purpose == Purpose::Listen).then(|| Arc::clone(on_push));
        let mut supervisors = Vec::new();
        let links = Purpose::ALL.map(|purpose| {
            let (link, supervisor) =
                Link::new(purpose, Arc::clone(&place), Arc::clone(options), listener(purpose));
            supervisors.push(supervisor);
            link
        });
        (Self { place, links }, supervisors)
    }

    /// Which of the log's slots it holds, by their numbers.
    pub(super) fn holds(&self, map: &Map) -> [bool; SLOTS] {
        let mut holds = [false; SLOTS];
        for slot in Slot::all() {
            let owner = map.node(slot.hash_slot());
            holds[slot.index()] = owner.is_some_and(|owner| Arc::ptr_eq(&owner.place, &self.place));
        }
        holds
    }

    pub(super) fn link(&self, purpose: Purpose) -> &Link {
        &self.links[purpose.index()]
    }
}

impl Purpose {
    const ALL: [Self; 4] = [Self::Write, Self::Confirm, Self::Read, Self::Listen];

    fn index(self) -> usize {
        match self {
            Self::Write => 0,
            Self::Confirm => 1,
            Self::Read => 2,
            Self::Listen => 3,
        }
    }

    /// Whether anything is appended over it.
    fn appends(self) -> bool {
        matches!(self, Self::Write | Self::Confirm)
    }

    /// The word in metrics and logs.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Write => "write",
            Self::Confirm => "confirm",
            Self::Read => "read",
            Self::Listen => "listen",
        }
    }
}

impl Place {
    pub(super) fn new(address: Address, identity: Option<String>) -> Self {
        Self {
            address,
            identity,
            library_key: Mutex::new(Some(library::LOADED_KEY.to_owned())),
            slots: Mutex::new(Slot::all()),
            turn: tokio::sync::Mutex::default(),
            checked: AtomicBool::new(false),
            retired: watch::Sender::new(false),
            troubles: Mutex::default(),
        }
    }

    /// Notes which of the log's slots a cluster gave it. The library is loaded under a key that it holds.
    pub(super) fn holds(&self, slots: Vec<Slot>) {
        *self.library_key.lock() = slots.first().map(|slot| slot.library());
        *self.slots.lock() = slots;
    }

    /// It is no primary any more: whoever waits for an answer waits in vain.
    pub(super) fn retire(&self) {
        self.retired.send_replace(true);
    }

    /// Ends when it is retired. Cancel-safe.
    pub(super) async fn retired(&self) {
        let mut retired = self.retired.subscribe();
        if retired.wait_for(|&retired| retired).await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    pub(super) fn is_retired(&self) -> bool {
        *self.retired.borrow()
    }

    /// Notes how one of the links does.
    pub(super) fn note(&self, purpose: Purpose, trouble: Option<String>) {
        self.troubles.lock()[purpose.index()] = trouble;
    }

    /// What is wrong, if anything is.
    pub(super) fn trouble(&self) -> Option<String> {
        self.troubles.lock().iter().flatten().next().cloned()
    }

    /// Makes sure that this is the server to talk to, and that it has the library.
    pub(super) async fn prepare(
        &self,
        purpose: Purpose,
        options: &RedisOptions,
        connection: &mut MultiplexedConnection,
    ) -> Result<(), String> {
        if purpose.appends() && !self.checked.load(Ordering::Acquire) {
            return checks::check(options, self, connection).await.map_err(|error| error.to_string());
        }
        let info = link::send(connection, cmd("INFO").arg("replication")).await;
        let info = info.map_err(|error| error.to_string())?;
        let info = reply::text(info).ok_or("INFO is no text")?;
        if field(&info, "role") != Some("master") {
            return Err("it is a replica".to_owned());
        }
        if purpose.appends() {
            checks::identity(options, self, connection).await.map_err(|error| error.to_string())?;
        }
        let key = self.library_key.lock().clone();
        if let Some(key) = key {
            let loaded = library::ensure(connection, &key).await.map_err(|error| error.to_string())?;
            if loaded != library::Loaded::Present {
                tracing::info!(at = %self.address, "the function library was loaded or is newer than this build's");
            }
        }
        Ok(())
    }
}
