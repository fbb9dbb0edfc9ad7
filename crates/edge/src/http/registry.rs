//! The event streams that are open here, each under a name of its own.

use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use slab::Slab;
use tokio_util::sync::CancellationToken;

use crate::cursors::Place;

/// Names a stream: node, shard, slot and generation, so that any edge could find its owner, and 64
/// random bits, so that nobody can guess it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ConnectionId<'a> {
    node: &'a str,
    slot: usize,
    generation: u64,
    secret: u64,
}

/// Which of the engine's shards has it changes during a stream's life, so that part is constant.
const SHARD: usize = 0;

impl fmt::Display for ConnectionId<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}~{SHARD}~{}~{}~{:016x}", self.node, self.slot, self.generation, self.secret)
    }
}

/// All open streams. Bounded: beyond the bound a stream is refused, never another one ended.
pub(crate) struct Registry {
    node: String,
    max: usize,
    open: Arc<Mutex<Open>>,
}

#[derive(Default)]
struct Open {
    records: Slab<Record>,
    generation: u64,
}

/// What is kept of every open stream; there may be many, so it is small.
struct Record {
    generation: u64,
    secret: u64,
    cut: CancellationToken,
    /// Its client's kept cursor, if it has one.
    place: Option<Arc<Place>>,
}

/// A place in the registry, for as long as it is held.
pub(crate) struct Lease {
    slot: usize,
    open: Arc<Mutex<Open>>,
}

impl Registry {
    pub(crate) fn new(node: String, max: usize) -> Self {
        Self { node, max, open: Arc::default() }
    }

    /// A place for a stream on a connection that `cut` would end, and its name; `None` if the edge
    /// is full.
    pub(crate) fn enter(&self, cut: CancellationToken) -> Option<(Lease, String)> {
        let mut open = self.open.lock();
        if open.records.len() >= self.max {
            return None;
        }
        open.generation += 1;
        let (generation, secret) = (open.generation, fastrand::u64(..));
        let slot = open.records.insert(Record { generation, secret, cut, place: None });
        metrics::gauge!("evergate_streams_open").set(open.records.len() as f64);
        let id = ConnectionId { node: &self.node, slot, generation, secret };
        Some((Lease { slot, open: Arc::clone(&self.open) }, id.to_string()))
    }

    /// Ends the connection that carries this stream, without a word. False if there is none.
    pub(crate) fn cut(&self, id: &str) -> bool {
        self.find(id, |record| record.cut.cancel()).is_some()
    }

    /// Whether there is such a stream.
    pub(crate) fn contains(&self, id: &str) -> bool {
        self.find(id, |_| ()).is_some()
    }

    /// The hold of this stream on its client's kept cursor. `None` if there is no such stream, and
    /// nothing within if it has no kept cursor.
    pub(crate) fn place(&self, id: &str) -> Option<Option<Arc<Place>>> {
        self.find(id, |record| record.place.clone())
    }

    fn find<T>(&self, id: &str, then: impl FnOnce(&Record) -> T) -> Option<T> {
        let slot = id.rsplit('~').nth(2)?.parse::<usize>().ok()?;
        let open = self.open.lock();
        let record = open.records.get(slot)?;
        let Record { generation, secret, .. } = *record;
        let whole = ConnectionId { node: &self.node, slot, generation, secret }.to_string();
        (whole == id).then(|| then(record))
    }

    /// How many streams are open.
    pub(crate) fn len(&self) -> usize {
        self.open.lock().records.len()
    }
}

impl Lease {
    /// Lets the hold on a kept cursor be found by the stream's name.
    pub(crate) fn hold(&self, place: Arc<Place>) {
        if let Some(record) = self.open.lock().records.get_mut(self.slot) {
            record.place = Some(place);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        let record = open.records.remove(self.slot);
        metrics::gauge!("evergate_streams_open").set(open.records.len() as f64);
        // What it holds may have more to do than this lock should wait for.
        drop(open);
        drop(record);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bound_holds_and_a_place_is_given_back() {
        let registry = Registry::new("n.1".to_owned(), 2);
        let token = CancellationToken::new;
        let (a, b) = (registry.enter(token()), registry.enter(token()));
        assert!(a.is_some() && b.is_some() && registry.enter(token()).is_none());
        drop(a);
        assert!(registry.enter(token()).is_some());
    }

    #[test]
    fn only_the_whole_name_cuts() {
        let registry = Registry::new("n".to_owned(), 2);
        let token = CancellationToken::new();
        let (lease, id) = registry.enter(token.clone()).expect("room");
        for wrong in ["", "n~0~0~1~0000000000000000", "~~~~", &id[..id.len() - 1], &format!("x{id}")] {
            assert!(!registry.cut(wrong), "{wrong}");
        }
        assert!(!token.is_cancelled());
        assert!(registry.cut(&id) && token.is_cancelled());
        drop(lease);
        assert!(!registry.cut(&id));
    }
}
