//! All kept cursors that this edge moves, and what of it is not written yet.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use evergate_domain::{Claim, CursorKey, PackedCursor, StoredCursor, StreamSet, UnixMillis};
use evergate_eventlog::{
    Clock as _, CursorStore, CursorStoreError, CursorWrite, Move, Only, SystemClock, TakeOver, Wish, Written,
};
use evergate_fanout::Engine;
use futures_util::stream::{self, StreamExt as _};
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::cursors::late::Late;
use crate::cursors::waiting::{Waiting, Waits};
use crate::cursors::{Dismissal, Place, Reason};

/// Cursors written by one call, so that a failure costs little.
const BATCH: usize = 4096;

/// How many take-overs may be under way at once, of different cursors.
const TURNS: usize = 1024;

/// Connections that began while the store was away and come to their places in one turn, and at once.
const LATE: usize = 4096;
const LATE_TOGETHER: usize = 32;

/// How often the cursors of connections that stand still are touched, so that the store does not
/// take them for forgotten.
const TOUCH_EVERY: Duration = Duration::from_secs(6 * 3600);

/// Moves kept cursors for the streams of this edge.
pub(crate) struct Keeper {
    store: Arc<dyn CursorStore>,
    engine: Engine,
    /// Keep apart those who take over the same cursor at once.
    turns: Box<[tokio::sync::Mutex<()>]>,
    state: Mutex<State>,
}

struct State {
    /// One for each cursor: the stream that moves it.
    live: HashMap<CursorKey, Live>,
    /// Those of them that began while the store was away.
    late: Late,
    /// What is not written yet.
    waiting: Waiting,
}

struct Live {
    claim: Claim,
    dismissal: Dismissal,
    /// The last position that was noted.
    position: Option<PackedCursor>,
    /// When it was. Only ever told to people.
    noted: Option<UnixMillis>,
    /// Whether its client acknowledges, so that hints are of no use.
    acknowledges: bool,
}

/// How far a stream has come that holds a cursor.
pub(super) struct Standing {
    /// Where to, and when that was found.
    pub(super) come: Option<(PackedCursor, UnixMillis)>,
    pub(super) acknowledges: bool,
}

/// What came of the wish for a client's cursor.
pub(crate) struct Taken {
    pub(crate) place: Place,
    /// What is kept of it.
    pub(crate) kept: Option<StoredCursor>,
    /// Whether the store is away, so that the place is taken when it answers again.
    pub(crate) late: bool,
}

/// Why a client's cursor was not taken over.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotTaken {
    /// The store does not answer.
    #[error(transparent)]
    Away(#[from] CursorStoreError),
    /// Nothing is kept of it, and it may not be one more.
    #[error("too many new clients")]
    TooManyNewcomers,
}

impl Keeper {
    /// `waiting_max` is how many moves may wait to be written.
    pub(crate) fn new(store: Arc<dyn CursorStore>, engine: Engine, waiting_max: usize) -> Arc<Self> {
        let turns = (0..TURNS).map(|_| tokio::sync::Mutex::default()).collect();
        let waiting = Waiting::new(waiting_max);
        let state = Mutex::new(State { live: HashMap::new(), late: Late::default(), waiting });
        Arc::new(Self { store, engine, turns, state })
    }

    /// What is kept, for somebody who only wants to know.
    pub(crate) async fn look(&self, key: &CursorKey) -> Result<Option<StoredCursor>, CursorStoreError> {
        self.store.look(key).await
    }

    /// Takes a client's cursor over for a new stream. An older stream here is told to go; one on
    /// another edge learns it when it next moves the cursor.
    ///
    /// Answers with what is kept; `asserted` is where the client itself says that it is. One that says
    /// so does not need the store to begin, and comes to its place when the store answers again.
    /// `newcomer` is asked whether there may be one more of whom nothing is kept.
    pub(crate) async fn take(
        self: &Arc<Self>,
        key: CursorKey,
        streams: StreamSet,
        dismissal: Dismissal,
        asserted: Option<PackedCursor>,
        acknowledges: bool,
        newcomer: Option<&(dyn Fn() -> bool + Sync)>,
    ) -> Result<Taken, NotTaken> {
        let claim = Claim::new(fastrand::u32(1..));
        let place = Place { keeper: Arc::clone(self), key, claim, streams, told: None };
        // Those who come at once take over one after the other, here as in the store.
        let _turn = self.turn(&place.key).lock().await;
        let take = TakeOver { claim, position: asserted, acknowledges };
        let (kept, late) = match self.take_now(&place.key, &take, newcomer).await {
            Ok(kept) => (kept, false),
            Err(NotTaken::Away(error)) if take.position.is_some() => {
                tracing::debug!(%error, "a client's place is taken later");
                (None, true)
            }
            Err(not) => return Err(not),
        };
        let live = Live {
            claim,
            dismissal,
            position: kept.as_ref().map(|kept| kept.position.clone()),
            noted: None,
            acknowledges: acknowledges || kept.as_ref().is_some_and(|kept| kept.acknowledged),
        };
        if let Some(before) = self.enter(&place, live, late.then_some(take)) {
            before.dismissal.dismiss(Reason::Replaced);
            self.engine.look_for_cuts();
        }
        Ok(Taken { place, kept, late })
    }

    async fn take_now(
        &self,
        key: &CursorKey,
        take: &TakeOver,
        newcomer: Option<&(dyn Fn() -> bool + Sync)>,
    ) -> Result<Option<StoredCursor>, NotTaken> {
        // What the stream before has moved is to be found, also if it was not written yet.
        self.write_one(key).await?;
        if let Some(newcomer) = newcomer {
            match self.store.take_if(key, take.clone(), Only::Known).await? {
                Wish::Taken(kept) => return Ok(kept),
                Wish::Denied if newcomer() => {}
                Wish::Denied => return Err(NotTaken::TooManyNewcomers),
            }
        }
        Ok(self.store.take_over(key, take.clone()).await?)
    }

    /// Makes a stream the one that moves a cursor, now or later; gives the one before.
    fn enter(&self, place: &Place, live: Live, later: Option<TakeOver>) -> Option<Live> {
        let key = &place.key;
        let mut state = self.state.lock();
        let State { live: all, late, waiting } = &mut *state;
        let before = all.insert(key.clone(), live);
        let held = !late.forget(key);
        if let Some(take) = later {
            metrics::counter!("evergate_cursors_opened_late_total").increment(1);
            // The one before has it in the store, and must let go of it.
            if let Some(before) = before.as_ref().filter(|_| held) {
                waiting.put(key, Waits::last(before.claim, before.position.clone()));
            }
            late.wait(key.clone(), take, place.streams.clone());
        }
        before
    }

    /// Puts down where a stream begins of which nothing was kept, before its client hears of it. False
    /// if another stream has taken the cursor over meanwhile.
    pub(crate) async fn begin(
        &self,
        place: &Place,
        position: PackedCursor,
    ) -> Result<bool, CursorStoreError> {
        let (key, claim) = (place.key.clone(), place.claim);
        let begin = Waits::new(claim, position.clone(), Move::Hint).of(key);
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
        let State { live, late, waiting } = &mut *state;
        let Some(live) = live.get_mut(&place.key).filter(|live| live.claim == place.claim) else {
            return false;
        };
        match by {
            Move::Acknowledgement => live.acknowledges = true,
            Move::Hint if live.acknowledges => return true,
            Move::Hint => {}
        }
        if let Some(position) = late.moved(&place.key, position, by) {
            live.position = Some(position.clone());
            live.noted = Some(SystemClock.now());
            waiting.put(&place.key, Waits::new(place.claim, position, by));
        }
        true
    }

    /// How far a stream has come. `None` if another one holds its cursor by now.
    pub(super) fn standing(&self, place: &Place) -> Option<Standing> {
        let state = self.state.lock();
        let live = state.live.get(&place.key).filter(|live| live.claim == place.claim)?;
        Some(Standing { come: live.position.clone().zip(live.noted), acknowledges: live.acknowledges })
    }

    /// A stream has ended. What it has moved is still written, and that nobody holds the cursor now.
    pub(super) fn leave(&self, key: &CursorKey, claim: Claim) {
        let mut state = self.state.lock();
        let State { live, late, waiting } = &mut *state;
        let Some(gone) = live.get(key).filter(|live| live.claim == claim) else { return };
        let position = gone.position.clone();
        live.remove(key);
        if !late.forget(key) {
            waiting.put(key, Waits::last(claim, position));
        }
    }

    /// Flushes at this pace until told to stop, and then finishes the flush that is under way.
    pub(crate) async fn run(&self, every: Duration, stop: &CancellationToken) {
        let mut touch_at = Instant::now() + TOUCH_EVERY;
        for turn in 0.. {
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
            self.take_late(turn).await;
        }
    }

    /// Brings connections that began while the store was away to their places, those that nobody holds.
    pub(super) async fn take_late(&self, turn: u64) {
        let due = self.state.lock().late.due(turn, LATE);
        let away = &AtomicBool::new(false);
        stream::iter(due)
            .for_each_concurrent(LATE_TOGETHER, |key| async move {
                if away.load(Ordering::Relaxed) {
                    return;
                }
                if let Err(error) = self.take_one_late(&key, turn).await
                    && !away.swap(true, Ordering::Relaxed)
                {
                    tracing::debug!(%error, "the store is still away");
                }
            })
            .await;
        let waiting = self.state.lock().late.waiting();
        metrics::gauge!("evergate_cursors_late").set(waiting as f64);
    }

    async fn take_one_late(&self, key: &CursorKey, turn: u64) -> Result<(), CursorStoreError> {
        let _turn = self.turn(key).lock().await;
        // Another one may have come, or this one gone.
        let Some(take) = self.state.lock().late.wish(key) else { return Ok(()) };
        let claim = take.claim;
        let wish = self.store.take_if(key, take, Only::Free).await?;
        let mut state = self.state.lock();
        let State { live, late, waiting } = &mut *state;
        let kept = match wish {
            Wish::Denied => {
                late.held(key, claim, turn);
                return Ok(());
            }
            Wish::Taken(kept) => kept,
        };
        let Some(live) = live.get_mut(key).filter(|live| live.claim == claim) else {
            // It went away meanwhile.
            waiting.put(key, Waits::last(claim, None));
            return Ok(());
        };
        live.acknowledges |= kept.as_ref().is_some_and(|kept| kept.acknowledged);
        live.position = kept.map(|kept| kept.position);
        if let Some((position, by)) = late.taken(key, live.position.clone()) {
            live.position = Some(position.clone());
            waiting.put(key, Waits::new(claim, position, by));
        }
        Ok(())
    }

    /// Keeps those apart who take over the same cursor.
    fn turn(&self, key: &CursorKey) -> &tokio::sync::Mutex<()> {
        let stripe = usize::from(u16::from_be_bytes([key.field()[2], key.field()[3]]));
        &self.turns[stripe % TURNS]
    }

    /// Writes everything that waits. What cannot be written goes on waiting.
    pub(crate) async fn flush(&self) {
        let mut waiting = self.state.lock().waiting.take();
        let mut failure = None;
        while !waiting.is_empty() {
            let batch = waiting.split_off(waiting.len().saturating_sub(BATCH));
            // Where only a part of the store is down, what belongs to the others is still written. What is
            // down answers at once after the first time, and is not waited for again and again.
            if let Err(error) = self.write(batch).await {
                failure = Some(error);
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
        let waits = self.state.lock().waiting.get(key).cloned();
        let Some(waits) = waits else { return Ok(()) };
        self.write(vec![waits.clone().of(key.clone())]).await?;
        let mut state = self.state.lock();
        if state.waiting.get(key) == Some(&waits) {
            state.waiting.remove(key);
        }
        Ok(())
    }

    /// Writes a batch. What could not be written waits on; the first error says why.
    async fn write(&self, batch: Vec<CursorWrite>) -> Result<(), CursorStoreError> {
        let (many, answers) = (batch.len(), self.store.write(&batch).await);
        let (mut replaced, mut failed, mut first) = (false, 0, None);
        let mut state = self.state.lock();
        for (write, written) in batch.into_iter().zip(answers) {
            let written = match written {
                Ok(written) => written,
                Err(error) => {
                    failed += 1;
                    first.get_or_insert(error);
                    state.waiting.put_back(write);
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
        first.map_or(Ok(()), Err)
    }

    /// Has the next flush write every cursor that is in use, moved or not.
    fn touch(&self) {
        let mut state = self.state.lock();
        let State { live, late, waiting } = &mut *state;
        for (key, live) in live {
            if let Some(position) = &live.position
                && waiting.get(key).is_none()
                && late.wish(key).is_none()
            {
                waiting.put(key, Waits::new(live.claim, position.clone(), Move::Hint));
            }
        }
    }
}
