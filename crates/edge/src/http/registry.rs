//! The event streams that are open here, each under a name of its own.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evergate_access::Principal;
use evergate_domain::ClientId;
use evergate_domain::cluster::PlacementKey;
use parking_lot::Mutex;
use slab::Slab;
use tokio_util::sync::CancellationToken;

use crate::access::{NotRenewed, Term, Watch, Watched};
use crate::cursors::{Dismissal, Place, Reason};
use crate::http::leases::Leases;

/// Names a stream: node, shard, slot and generation, so that any edge could find its owner, and 64
/// random bits, so that nobody can guess it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ConnectionId<'a> {
    node: &'a str,
    slot: usize,
    generation: u64,
    secret: u64,
}

/// The node that the id of a connection names, whether or not there is such a connection.
pub(crate) fn node_of(id: &str) -> &str {
    id.split_once('~').map_or(id, |(node, _)| node)
}

/// Which of the engine's shards has it changes during a stream's life, so that part is constant.
const SHARD: usize = 0;

/// Whoever knows the name of a stream may end it or move its kept place, so it is drawn from the system and
/// not from a generator, whose next number follows from those before.
fn secret() -> u64 {
    getrandom::u64().expect("the system gives random numbers once it has started")
}

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
    leases: Leases,
    watch: Watch,
    /// Those that were told to end for the edge's own reasons, until they have.
    sent_away: HashMap<usize, Reason>,
}

/// What is kept of every open stream; there may be many, so it is small.
struct Record {
    generation: u64,
    secret: u64,
    cut: CancellationToken,
    /// Its client's kept cursor, if it has one.
    place: Option<Arc<Place>>,
    /// Where its client stands on the ring of this edge's region, if that is its region.
    key: Option<PlacementKey>,
}

/// A stream whose client may belong to another edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Stray {
    /// Streams of one client stand together.
    pub(crate) key: PlacementKey,
    slot: usize,
    generation: u64,
}

/// A place in the registry, for as long as it is held.
pub(crate) struct Entry {
    slot: usize,
    open: Arc<Mutex<Open>>,
}

impl Registry {
    pub(crate) fn new(node: String, max: usize) -> Self {
        Self { node, max, open: Arc::default() }
    }

    /// A place for a stream on a connection that `cut` would end, and its name; `None` if the edge
    /// is full.
    pub(crate) fn enter(&self, cut: CancellationToken) -> Option<(Entry, String)> {
        let secret = secret();
        let mut open = self.open.lock();
        if open.records.len() >= self.max {
            return None;
        }
        open.generation += 1;
        let generation = open.generation;
        let slot = open.records.insert(Record { generation, secret, cut, place: None, key: None });
        metrics::gauge!("evergate_streams_open").set(open.records.len() as f64);
        let id = ConnectionId { node: &self.node, slot, generation, secret };
        Some((Entry { slot, open: Arc::clone(&self.open) }, id.to_string()))
    }

    /// Ends the connection that carries this stream, without a word. False if there is none.
    pub(crate) fn cut(&self, id: &str) -> bool {
        self.find(id, |open, slot| open.records[slot].cut.cancel()).is_some()
    }

    /// Whether there is such a stream.
    pub(crate) fn contains(&self, id: &str) -> bool {
        self.find(id, |_, _| ()).is_some()
    }

    /// The hold of this stream on its client's kept cursor. `None` if there is no such stream, and
    /// nothing within if it has no kept cursor.
    pub(crate) fn place(&self, id: &str) -> Option<Option<Arc<Place>>> {
        self.find(id, |open, slot| open.records[slot].place.clone())
    }

    /// The holds of the open streams of this client.
    pub(crate) fn of_client(&self, client: &ClientId) -> Vec<Arc<Place>> {
        let open = self.open.lock();
        let places = open.records.iter().filter_map(|(_, record)| record.place.as_ref());
        places.filter(|place| place.is_of(client)).map(Arc::clone).collect()
    }

    /// The client of this stream lives. False if there is no such stream.
    pub(crate) fn heard(&self, id: &str) -> bool {
        self.find(id, |open, slot| open.leases.heard(slot, Instant::now())).is_some()
    }

    /// The streams whose leases have run out, each told once.
    pub(crate) fn lapsed(&self, ping_interval: Duration) -> Vec<Dismissal> {
        self.open.lock().leases.lapsed(Instant::now(), ping_interval)
    }

    /// Tells the streams whose tokens run out, and ends those whose have. True if the engine is to look.
    pub(crate) fn tick(&self, now: u64) -> bool {
        self.open.lock().watch.tick(now)
    }

    /// A fresh token came for this stream. `None` if there is none.
    pub(crate) fn renew(
        &self,
        id: &str,
        fresh: Arc<Principal>,
        term: Option<Term>,
    ) -> Option<Result<(), NotRenewed>> {
        self.find(id, |open, slot| open.watch.renew(slot, fresh, term))
    }

    /// Ends the streams whose bearers are believed no longer. True if there was one.
    pub(crate) fn end_revoked(&self, revoked: impl Fn(&Principal) -> bool) -> bool {
        self.open.lock().watch.end_revoked(revoked)
    }

    /// Ends so many streams, for want of memory: those without a token first, then those of the lowest
    /// priority, and among equals the newest. True if the engine is to look.
    pub(crate) fn shed(&self, streams: usize) -> bool {
        let mut open = self.open.lock();
        let Open { records, watch, sent_away, .. } = &mut *open;
        let mut rest: Vec<_> = records
            .iter()
            .filter(|(slot, _)| !sent_away.contains_key(slot))
            .map(|(slot, record)| (watch.priority(slot), Reverse(record.generation), slot))
            .collect();
        let streams = streams.min(rest.len());
        if streams < rest.len() {
            rest.select_nth_unstable(streams);
        }
        for (.., slot) in &rest[..streams] {
            sent_away.insert(*slot, Reason::Overload);
            records[*slot].cut.cancel();
        }
        streams > 0
    }

    /// The open streams of clients who have a place on the ring of this edge's region.
    pub(crate) fn placed(&self) -> Vec<Stray> {
        let open = self.open.lock();
        let stray = |(slot, record): (usize, &Record)| {
            Some(Stray { key: record.key?, slot, generation: record.generation })
        };
        open.records.iter().filter_map(stray).collect()
    }

    /// Ends those of them that are still open, because their clients belong to other edges, and answers how many
    /// there were. The engine is to look then.
    pub(crate) fn send_away(&self, strays: &[Stray]) -> usize {
        let mut open = self.open.lock();
        let Open { records, sent_away, .. } = &mut *open;
        let mut sent = 0;
        for stray in strays {
            if let Some(record) = records.get(stray.slot)
                && record.generation == stray.generation
                && !sent_away.contains_key(&stray.slot)
            {
                sent_away.insert(stray.slot, Reason::Rebalance);
                record.cut.cancel();
                sent += 1;
            }
        }
        sent
    }

    /// How many streams were opened with a token.
    pub(crate) fn watched(&self) -> usize {
        self.open.lock().watch.len()
    }

    /// How many streams are held by a lease.
    pub(crate) fn leased(&self) -> usize {
        self.open.lock().leases.len()
    }

    /// The node that all ids of this registry name.
    pub(crate) fn node(&self) -> &str {
        &self.node
    }

    fn find<T>(&self, id: &str, then: impl FnOnce(&mut Open, usize) -> T) -> Option<T> {
        let slot = id.rsplit('~').nth(2)?.parse::<usize>().ok()?;
        let mut open = self.open.lock();
        let record = open.records.get(slot)?;
        let Record { generation, secret, .. } = *record;
        let whole = ConnectionId { node: &self.node, slot, generation, secret }.to_string();
        (whole == id).then(|| then(&mut open, slot))
    }

    /// How many streams are open.
    pub(crate) fn len(&self) -> usize {
        self.open.lock().records.len()
    }
}

impl Entry {
    /// From now on the stream lasts as long as its token.
    pub(crate) fn watch(&self, watched: Watched) {
        self.open.lock().watch.enter(self.slot, watched);
    }

    /// Why it is to end, if the edge has its own reasons.
    pub(crate) fn sent_away_for(&self) -> Option<Reason> {
        self.open.lock().sent_away.get(&self.slot).copied()
    }

    /// From now on the stream itself is ended by this, and no other that its connection carries.
    pub(crate) fn ends_by(&self, cut: CancellationToken) {
        if let Some(record) = self.open.lock().records.get_mut(self.slot) {
            record.cut = cut;
        }
    }

    /// Tells where the stream's client stands on the ring of this edge's region.
    pub(crate) fn stands_at(&self, key: PlacementKey) {
        if let Some(record) = self.open.lock().records.get_mut(self.slot) {
            record.key = Some(key);
        }
    }

    /// Lets the hold on a kept cursor be found by the stream's name.
    pub(crate) fn hold(&self, place: Arc<Place>) {
        if let Some(record) = self.open.lock().records.get_mut(self.slot) {
            record.place = Some(place);
        }
    }

    /// From now on the stream ends unless its client pings.
    pub(crate) fn lease(&self, dismissal: Dismissal) {
        self.open.lock().leases.grant(self.slot, dismissal, Instant::now());
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let mut open = self.open.lock();
        let record = open.records.remove(self.slot);
        open.leases.end(self.slot);
        open.watch.leave(self.slot);
        open.sent_away.remove(&self.slot);
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
    fn a_stream_without_a_lease_costs_what_it_did() {
        assert_eq!(size_of::<Record>(), 5 * size_of::<usize>());
        let registry = Registry::new("n".to_owned(), 2);
        let (entry, id) = registry.enter(CancellationToken::new()).expect("room");
        assert!(registry.heard(&id) && node_of(&id) == registry.node() && registry.leased() == 0);
        entry.lease(Dismissal::new(CancellationToken::new()));
        assert_eq!(registry.leased(), 1);
        assert!(registry.lapsed(Duration::from_secs(60)).is_empty());
        drop(entry);
        assert!(!registry.heard(&id) && registry.leased() == 0);
    }

    #[test]
    fn the_newest_are_shed_first_and_each_once() {
        let registry = Registry::new("n".to_owned(), 9);
        let cuts: Vec<_> = (0..3).map(|_| CancellationToken::new()).collect();
        let mut entries: Vec<_> =
            cuts.iter().map(|cut| registry.enter(cut.clone()).expect("room").0).collect();
        let ended = || cuts.iter().map(CancellationToken::is_cancelled).collect::<Vec<_>>();
        assert!(registry.shed(1));
        assert_eq!(ended(), [false, false, true]);
        assert_eq!(entries[2].sent_away_for(), Some(Reason::Overload));
        assert_eq!(entries[1].sent_away_for(), None);
        assert!(registry.shed(1));
        assert_eq!(ended(), [false, true, true], "the newest is on its way already");
        // Whoever gets the slot after it is not meant.
        entries.pop();
        let (next, _) = registry.enter(CancellationToken::new()).expect("room");
        assert_eq!(next.sent_away_for(), None);
        assert!(registry.shed(9) && !registry.shed(9));
    }

    #[test]
    fn only_those_who_are_meant_are_sent_away() {
        let registry = Registry::new("n".to_owned(), 9);
        let cuts: Vec<_> = (0..3).map(|_| CancellationToken::new()).collect();
        let mut entries: Vec<_> =
            cuts.iter().map(|cut| registry.enter(cut.clone()).expect("room").0).collect();
        // The last one's client belongs to another region.
        for (entry, client) in entries[..2].iter().zip([b"one", b"two"]) {
            entry.stands_at(PlacementKey::of_bytes(client));
        }
        let placed = registry.placed();
        assert_eq!(placed.len(), 2);
        // Another stream has the slot of one that has gone.
        drop(entries.remove(1));
        let (next, _) = registry.enter(CancellationToken::new()).expect("room");
        assert_eq!(registry.send_away(&placed), 1);
        assert_eq!(registry.send_away(&placed), 0, "it is on its way already");
        let ended: Vec<_> = cuts.iter().map(CancellationToken::is_cancelled).collect();
        assert_eq!(ended, [true, false, false]);
        assert_eq!(entries[0].sent_away_for(), Some(Reason::Rebalance));
        assert_eq!(next.sent_away_for(), None);
    }

    #[test]
    fn only_the_whole_name_cuts() {
        let registry = Registry::new("n".to_owned(), 2);
        let token = CancellationToken::new();
        let (entry, id) = registry.enter(token.clone()).expect("room");
        for wrong in ["", "n~0~0~1~0000000000000000", "~~~~", &id[..id.len() - 1], &format!("x{id}")] {
            assert!(!registry.cut(wrong), "{wrong}");
        }
        assert!(!token.is_cancelled());
        assert!(registry.cut(&id) && token.is_cancelled());
        drop(entry);
        assert!(!registry.cut(&id));
    }
}
