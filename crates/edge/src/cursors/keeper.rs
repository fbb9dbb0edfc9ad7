//! All kept cursors that this edge moves, and what of it is not written yet.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use evergate_domain::{Claim, CursorKey, PackedCursor, StoredCursor, StreamSet};
use evergate_eventlog::{CursorStore, CursorStoreError, CursorWrite, Move, TakeOver, Written};
use evergate_fanout::Engine;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cursors::{Dismissal, Place, Reason};

/// Cursors written by one call, so that a failure costs little.
const BATCH: usize = 4096;

/// How many take-overs may be under way at once, of different cursors.
const TURNS: usize = 1024;

/// How often the cursors of connections that stand still are touched, so that the store does not
/// take them for forgotten.
const TOUCH_EVERY: Duration = Duration::from_secs(6 * 3600);

/// Moves kept cursors for the streams of this edge.
pub(crate) struct Keeper {
    store: Arc<dyn CursorStore>,
    engine: Engine,
    /// Moves that may wait to be written. Beyond it, hints are dropped: the cursors stay where they
    /// are, further back.
    waiting_max: usize,
    /// Keep apart those who take over the same cursor at once.
    turns: Box<[tokio::sync::Mutex<()>]>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// One for each cursor: the stream that moves it.
    live: HashMap<CursorKey, Live>,
    /// What is not written yet, the newest move of each cursor.
    waiting: Waiting,
}

struct Live {
    claim: Claim,
    dismissal: Dismissal,
    /// The last position that was noted.
    position: Option<PackedCursor>,
    /// Whether its client acknowledges, so that hints are of no use.
    acknowledges: bool,
}

impl Keeper {
    pub(crate) fn new(store: Arc<dyn CursorStore>, engine: Engine, waiting_max: usize) -> Arc<Self> {
        let turns = (0..TURNS).map(|_| tokio::sync::Mutex::default()).collect();
        Arc::new(Self { store, engine, waiting_max, turns, state: Mutex::default() })
    }

    /// Takes a client's cursor over for a new stream. An older stream here is told to go; one on
    /// another edge learns it when it next moves the cursor.
    ///
    /// Answers with what is kept; `asserted` is where the client itself says that it is.
    pub(crate) async fn take(
        self: &Arc<Self>,
        key: CursorKey,
        streams: StreamSet,
        dismissal: Dismissal,
        asserted: Option<PackedCursor>,
        acknowledges: bool,
    ) -> Result<(Place, Option<StoredCursor>), CursorStoreError> {
        let claim = Claim::new(fastrand::u32(1..));
        let place = Place { keeper: Arc::clone(self), key, claim, streams };
        // Those who come at once take over one after the other, here as in the store.
        let stripe = usize::from(u16::from_be_bytes([place.key.field()[2], place.key.field()[3]]));
        let _turn = self.turns[stripe % TURNS].lock().await;
        // What the stream before has moved is to be found, also if it was not written yet.
        self.write_one(&place.key).await?;
        let take = TakeOver { claim, position: asserted, acknowledges };
        let kept = self.store.take_over(&place.key, take).await?;
        let live = Live {
            claim,
            dismissal,
            position: kept.as_ref().map(|kept| kept.position.clone()),
            acknowledges: acknowledges || kept.as_ref().is_some_and(|kept| kept.acknowledged),
        };
        let before = self.state.lock().live.insert(place.key.clone(), live);
        if let Some(before) = before {
            before.dismissal.dismiss(Reason::Replaced);
            self.engine.look_for_cuts();
        }
        Ok((place, kept))
    }

    /// Puts down where a stream begins of which nothing was kept, before its client hears of it. False
    /// if another stream has taken the cursor over meanwhile.
    pub(crate) async fn begin(
        &self,
        place: &Place,
        position: PackedCursor,
    ) -> Result<bool, CursorStoreError> {
        let (key, claim) = (place.key.clone(), place.claim);
        let begin = CursorWrite { key, claim, position: position.clone(), by: Move::Hint };
        for written in self.store.write(&[begin]).await {
            if written? == Written::Replaced {
                return Ok(false);
            }
        }
        // Known here, it is touched as long as the stream lasts.
        let mut state = self.state.lock();
        if let Some(live) = state.live.get_mut(&place.key).filter(|live| live.claim == place.claim) {
            live.position.get_or_insert(position);
        }
        Ok(true)
    }

    /// Notes a move for the next flush. False if another stream has taken the cursor over.
    pub(super) fn note(&self, place: &Place, position: PackedCursor, by: Move) -> bool {
        let mut state = self.state.lock();
        let State { live, waiting } = &mut *state;
        let Some(live) = live.get_mut(&place.key).filter(|live| live.claim == place.claim) else {
            return false;
        };
        match by {
            Move::Acknowledgement => live.acknowledges = true,
            Move::Hint if live.acknowledges => return true,
            Move::Hint => {}
        }
        live.position = Some(position.clone());
        put(waiting, self.waiting_max, &place.key, (place.claim, position, by));
        true
    }

    /// A stream has ended. What it has moved is still written.
    pub(super) fn leave(&self, key: &CursorKey, claim: Claim) {
        let mut state = self.state.lock();
        if state.live.get(key).is_some_and(|live| live.claim == claim) {
            state.live.remove(key);
        }
    }

    /// Flushes at this pace until told to stop, and then finishes the flush that is under way.
    pub(crate) async fn run(&self, every: Duration, stop: &CancellationToken) {
        let mut touch_at = Instant::now() + TOUCH_EVERY;
        loop {
            // Edges that were started together do not stay together.
            let pause = tokio::time::sleep(every.mul_f64(0.9 + 0.2 * fastrand::f64()));
            if stop.run_until_cancelled(pause).await.is_none() {
                return;
            }
            if touch_at <= Instant::now() {
                touch_at = Instant::now() + TOUCH_EVERY;
                self.touch();
                if let Err(error) = self.store.expire().await {
                    tracing::warn!(%error, "old cursors could not be forgotten");
                }
            }
            self.flush().await;
        }
    }

    /// Writes everything that waits. What cannot be written goes on waiting.
    pub(crate) async fn flush(&self) {
        let mut waiting: Vec<_> = std::mem::take(&mut self.state.lock().waiting)
            .into_iter()
            .map(|(key, (claim, position, by))| CursorWrite { key, claim, position, by })
            .collect();
        // Redis is given a bucket at a time: scattered over all batches, each costs three times as much.
        waiting.sort_unstable_by(|a, b| a.key.service_and_bucket().cmp(&b.key.service_and_bucket()));
        let mut failure = None;
        while !waiting.is_empty() {
            let batch = waiting.split_off(waiting.len().saturating_sub(BATCH));
            let Err(Unwritten { all, error }) = self.write(batch).await else { continue };
            failure = Some(error);
            // Where only a part of the store is down, the cursors of the others are still written.
            if all {
                let mut state = self.state.lock();
                for write in waiting.drain(..) {
                    put_back(&mut state.waiting, write);
                }
            }
        }
        if let Some(error) = failure {
            tracing::warn!(%error, waiting = self.waiting(), "cursors could not be kept; trying on");
        }
        metrics::gauge!("evergate_cursors_waiting").set(self.waiting() as f64);
    }

    /// How many moves are not written yet.
    pub(crate) fn waiting(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Writes what waits for one cursor. It waits until it is written, also if the caller goes away.
    async fn write_one(&self, key: &CursorKey) -> Result<(), CursorStoreError> {
        let waiting = self.state.lock().waiting.get(key).cloned();
        let Some((claim, position, by)) = waiting.clone() else { return Ok(()) };
        let write = CursorWrite { key: key.clone(), claim, position, by };
        self.write(vec![write]).await.map_err(|unwritten| unwritten.error)?;
        let mut state = self.state.lock();
        if state.waiting.get(key) == waiting.as_ref() {
            state.waiting.remove(key);
        }
        Ok(())
    }

    /// Writes a batch. What could not be written waits on.
    async fn write(&self, batch: Vec<CursorWrite>) -> Result<(), Unwritten> {
        let (many, answers) = (batch.len(), self.store.write(&batch).await);
        let (mut replaced, mut failed, mut first) = (false, 0, None);
        let mut state = self.state.lock();
        for (write, written) in batch.into_iter().zip(answers) {
            let written = match written {
                Ok(written) => written,
                Err(error) => {
                    failed += 1;
                    first.get_or_insert(error);
                    put_back(&mut state.waiting, write);
                    continue;
                }
            };
            let Some(live) = state.live.get_mut(&write.key).filter(|live| live.claim == write.claim) else {
                continue;
            };
            match written {
                Written::Moved => {}
                Written::Acknowledged => live.acknowledges = true,
                Written::Replaced => {
                    live.dismissal.dismiss(Reason::Replaced);
                    replaced = true;
                }
            }
        }
        drop(state);
        metrics::counter!("evergate_cursor_writes_total").increment((many - failed) as u64);
        metrics::counter!("evergate_cursor_writes_failed_total").increment(failed as u64);
        if replaced {
            self.engine.look_for_cuts();
        }
        first.map_or(Ok(()), |error| Err(Unwritten { all: failed == many, error }))
    }

    /// Has the next flush write every cursor that is in use, moved or not.
    fn touch(&self) {
        let mut state = self.state.lock();
        let State { live, waiting } = &mut *state;
        for (key, live) in live {
            if let Some(position) = &live.position
                && !waiting.contains_key(key)
            {
                put(waiting, self.waiting_max, key, (live.claim, position.clone(), Move::Hint));
            }
        }
    }
}

/// Why some of a batch was not written.
struct Unwritten {
    /// Whether nothing of it was.
    all: bool,
    /// The first error there was.
    error: CursorStoreError,
}

type Waiting = HashMap<CursorKey, (Claim, PackedCursor, Move)>;

/// The newest move of a cursor is the one that counts, but a hint never hides an acknowledgement.
fn put(waiting: &mut Waiting, max: usize, key: &CursorKey, new: (Claim, PackedCursor, Move)) {
    let full = waiting.len() >= max;
    match waiting.get_mut(key) {
        Some((claim, _, Move::Acknowledgement)) if new.2 == Move::Hint && *claim == new.0 => {}
        Some(old) => *old = new,
        None if full && new.2 == Move::Hint => {
            metrics::counter!("evergate_cursor_hints_dropped_total").increment(1);
        }
        None => drop(waiting.insert(key.clone(), new)),
    }
}

/// What could not be written waits on, unless something newer does by now.
fn put_back(waiting: &mut Waiting, write: CursorWrite) {
    let CursorWrite { key, claim, position, by } = write;
    waiting.entry(key).or_insert((claim, position, by));
}
