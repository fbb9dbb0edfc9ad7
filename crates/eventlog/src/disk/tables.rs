//! The two sorted tables: `state` and `events`.
//!
//! They are LSM trees: a sorted part in memory takes the changes, is sealed, and is written out as
//! a sorted file; files are merged later. What a tree has in memory is lost with the process; the
//! journal has it too. So the trees never decide what is durable, they only make it findable.
//!
//! The two are separate because they grow apart: events of a busy stream come in the order of
//! their keys, and their files need no merging at all.
//!
//! Each group's changes carry its number as the tree's sequence number, so a tree knows which
//! groups it holds durably. Reads always want the newest; a read in progress keeps the files it
//! began with.

use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use evergate_domain::Seq;
use lsm_tree::compaction::{CompactionFilter, Factory, ItemAccessor, Leveled, Verdict, filter::Context};
use lsm_tree::config::{BlockSizePolicy, FilterPolicy, FilterPolicyEntry};
use lsm_tree::{
    AbstractTree as _, AnyTree, Cache, Config, DescriptorTable, Error, Guard as _, InternalValue, Memtable,
    SeqNo, Slice, ValueType,
};
use parking_lot::Mutex;

use super::group::{Change, Group, changes_of};
use super::rows::{Head, StreamId, event_key, event_of, head_key};

/// Reads want the newest state, and nothing older is kept for anybody.
const NEWEST: SeqNo = SeqNo::MAX;
/// The size of a table file. A whole file below a stream's floor is deleted without being read.
pub(super) const FILE_BYTES: u64 = if cfg!(test) { 64 << 10 } else { 32 << 20 };
/// Table files that are kept open.
const FILES_OPEN: usize = 256;

/// The tables.
pub(super) struct Tables {
    state: AnyTree,
    events: AnyTree,
    /// The parts in memory that take what comes next. Held here, because asking the trees for them
    /// waits while a tree syncs its list of files, and appends must not.
    active: Mutex<Active>,
    stop: Arc<AtomicBool>,
}

struct Active {
    state: Arc<Memtable>,
    events: Arc<Memtable>,
}

impl Active {
    fn of(state: &AnyTree, events: &AnyTree) -> Self {
        Self { state: state.active_memtable(), events: events.active_memtable() }
    }

    fn change(&self, number: u64, change: &Change<'_>) {
        let value = |key, value| InternalValue::from_components(key, value, number, ValueType::Value);
        match *change {
            Change::PutState(key, row) => self.state.insert(value(key, row)),
            Change::RemoveState(key) => self.state.insert(InternalValue::new_tombstone(key, number)),
            Change::PutEvent(key, row) => self.events.insert(value(key, row)),
        };
    }
}

impl Tables {
    pub(super) fn open(state: &Path, events: &Path, cache_bytes: u64) -> Result<Self, Error> {
        let cache = Arc::new(Cache::with_capacity_bytes(cache_bytes));
        let files = Arc::new(DescriptorTable::new(FILES_OPEN));
        let config = |path| {
            Config::new(path, lsm_tree::SequenceNumberCounter::default(), Default::default())
                .use_cache(Arc::clone(&cache))
                .use_descriptor_table(Some(Arc::clone(&files)))
        };
        let stop = Arc::new(AtomicBool::new(false));
        let state = config(state).open()?;
        let below_floor = BelowFloor { state: AssertUnwindSafe(state.clone()), stop: Arc::clone(&stop) };
        let events = config(events)
            // An event that is looked up is there: a filter would only say yes.
            .filter_policy(FilterPolicy::all(FilterPolicyEntry::None))
            .data_block_size_policy(BlockSizePolicy::all(8 << 10))
            .with_compaction_filter_factory(Some(Arc::new(below_floor)))
            .open()?;
        let active = Mutex::new(Active::of(&state, &events));
        Ok(Self { state, events, active, stop })
    }

    /// The last group whose changes are all durable here.
    pub(super) fn last_group(&self) -> u64 {
        // Every group sets a state row, and the events of a group are written out before its
        // state. The newest state row is never overwritten, so nothing takes its number away.
        self.state.get_highest_persisted_seqno().unwrap_or(0)
    }

    /// Takes a group. From now on it is read.
    pub(super) fn apply(&self, number: u64, group: &Group) {
        let active = self.active.lock();
        group.changes().for_each(|change| active.change(number, &change));
    }

    /// Takes a group that the journal had, as far as the tables do not hold it yet. False if it
    /// cannot be understood.
    pub(super) fn replay(&self, number: u64, payload: &[u8]) -> bool {
        let state = self.last_group() < number;
        let events = self.events.get_highest_persisted_seqno().is_none_or(|last| last < number);
        let active = self.active.lock();
        changes_of(payload).all(|change| {
            let Some(change) = change else { return false };
            let wanted = match change {
                Change::PutEvent(..) => events,
                Change::PutState(..) | Change::RemoveState(..) => state,
            };
            if wanted {
                active.change(number, &change);
            }
            true
        })
    }

    pub(super) fn state(&self, key: &[u8]) -> Result<Option<Slice>, Error> {
        self.state.get(key, NEWEST)
    }

    /// All state rows whose key begins so, in order.
    pub(super) fn state_rows(
        &self,
        prefix: &[u8],
    ) -> impl Iterator<Item = Result<(Slice, Slice), Error>> + use<> {
        self.state.prefix(prefix, NEWEST, None).map(lsm_tree::Guard::into_inner)
    }

    pub(super) fn event(&self, stream: StreamId, seq: Seq) -> Result<Option<Slice>, Error> {
        self.events.get(event_key(stream, seq), NEWEST)
    }

    /// The events of a stream from `first` to `last`, in order, as far as they are there.
    pub(super) fn events(
        &self,
        stream: StreamId,
        first: Seq,
        last: Seq,
    ) -> impl Iterator<Item = Result<(Seq, Slice), Error>> + use<> {
        let range = event_key(stream, first)..=event_key(stream, last);
        self.events.range(range, NEWEST, None).map(|row| {
            let (key, value) = row.into_inner()?;
            let (_, seq) = event_of(&key).ok_or(Error::InvalidHeader("event key"))?;
            Ok((seq, value))
        })
    }

    /// Seals what is in memory; what comes next goes into a new part.
    pub(super) fn seal(&self) {
        let mut active = self.active.lock();
        self.state.rotate_memtable();
        self.events.rotate_memtable();
        *active = Active::of(&self.state, &self.events);
    }

    /// Writes out all that is sealed. Durable when it returns.
    pub(super) fn flush(&self) -> Result<(), Error> {
        // In this order: see `last_group`.
        for tree in [&self.events, &self.state] {
            let lock = tree.get_flush_lock();
            tree.flush(&lock, NEWEST)?;
        }
        Ok(())
    }

    /// Merges one step. False if there was nothing to do.
    pub(super) fn merge(&self) -> Result<bool, Error> {
        let strategy = Arc::new(Leveled::default().with_table_target_size(FILE_BYTES));
        let mut merged = false;
        for tree in [&self.events, &self.state] {
            let before = shape(tree);
            tree.compact(strategy.clone(), NEWEST)?;
            merged |= shape(tree) != before;
        }
        Ok(merged)
    }

    /// Rewrites all events, which leaves out every one that is gone.
    pub(super) fn rewrite_events(&self) -> Result<(), Error> {
        self.events.major_compact(FILE_BYTES, NEWEST)
    }

    /// Deletes the files that hold nothing but events of this stream up to `floor`.
    pub(super) fn drop_files(&self, stream: StreamId, floor: Seq) -> Result<(), Error> {
        self.events.drop_range(event_key(stream, Seq::ZERO)..=event_key(stream, floor))
    }

    /// Bytes of the files with events.
    pub(super) fn event_bytes(&self) -> u64 {
        self.events.disk_space()
    }

    /// Bytes of all files.
    pub(super) fn disk_bytes(&self) -> u64 {
        self.state.disk_space() + self.events.disk_space()
    }

    /// Once this is set, a merge that is under way fails soon, and every later one.
    pub(super) fn stop_merges(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.stop)
    }
}

/// Changes with every merge, even one that only moves files: files leave the level they were in.
fn shape(tree: &AnyTree) -> (u64, Vec<usize>) {
    (tree.disk_space(), (0..).map_while(|level| tree.level_table_count(level)).collect())
}

/// Leaves out of every merge what lies at or below its stream's floor.
///
/// The floor alone says what is gone; no event is ever deleted one by one. That is sound because a
/// floor only rises, is durable before it is seen here, and because an event is written once, so
/// nothing older can come to light under it.
struct BelowFloor {
    state: AssertUnwindSafe<AnyTree>,
    stop: Arc<AtomicBool>,
}

impl Factory for BelowFloor {
    fn name(&self) -> &'static str {
        "below the floor"
    }

    fn make_filter(&self, _: &Context) -> Box<dyn CompactionFilter> {
        Box::new(Floors { state: self.state.0.clone(), stop: Arc::clone(&self.stop), current: None })
    }
}

struct Floors {
    state: AnyTree,
    stop: Arc<AtomicBool>,
    /// The stream the merge is in, and its floor. Keys come in order, so a stream comes once.
    current: Option<(StreamId, Seq)>,
}

impl CompactionFilter for Floors {
    fn filter_item(&mut self, item: ItemAccessor<'_>, _: &Context) -> Result<Verdict, Error> {
        if self.stop.load(Ordering::Relaxed) {
            return Err(std::io::Error::from(std::io::ErrorKind::Interrupted).into());
        }
        let Some((stream, seq)) = event_of(item.key()) else { return Ok(Verdict::Keep) };
        let floor = match self.current {
            Some((current, floor)) if current == stream => floor,
            Some(_) | None => {
                let head = self.state.get(head_key(stream), NEWEST)?.and_then(|row| Head::decode(&row));
                let floor = head.map_or(Seq::ZERO, |head| head.floor);
                self.current = Some((stream, floor));
                floor
            }
        };
        Ok(if seq <= floor { Verdict::Destroy } else { Verdict::Keep })
    }
}
