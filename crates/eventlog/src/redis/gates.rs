//! The right to append, slot by slot, as this process knows it.
//!
//! Nothing here decides: the function compares. What is remembered is only what to say to it.

use std::sync::Arc;

use evergate_domain::{Epoch, NUMBER_MAX};
use parking_lot::Mutex;
use redis::{Value, cmd};

use super::keys::{SLOTS, Slot};
use super::link::Connected;
use super::reply::{self, Refusal};
use super::{Shared, error, moves};
use crate::{BackendError, Clock};

/// An open epoch, and the word that proves it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Gate {
    pub(super) epoch: Epoch,
    pub(super) token: String,
}

/// Why a gate was not opened.
#[derive(Debug)]
pub(super) enum NotOpened {
    Redis(redis::RedisError),
    Odd(BackendError),
}

/// All gates.
pub(super) struct Gates {
    known: Vec<Mutex<Gate>>,
    /// One opening of a slot at a time: the others of this process use what it brings.
    opening: Vec<tokio::sync::Mutex<()>>,
    clock: Arc<dyn Clock>,
}

impl Gates {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            known: (0..SLOTS).map(|_| Mutex::default()).collect(),
            opening: (0..SLOTS).map(|_| tokio::sync::Mutex::default()).collect(),
            clock,
        }
    }

    /// What to say. At first nothing true is known, and the answer tells.
    pub(super) fn get(&self, slot: Slot) -> Gate {
        self.known[slot.index()].lock().clone()
    }

    /// Takes over what another process opened.
    pub(super) fn adopt(&self, slot: Slot, gate: Gate) {
        let mut known = self.known[slot.index()].lock();
        // A late answer must not bring back an earlier epoch.
        if gate.epoch >= known.epoch {
            *known = gate;
        }
    }

    /// Opens a gate that was found shut under `stale`, or learns who was faster.
    pub(super) async fn open(
        &self,
        on: &Connected,
        slot: Slot,
        stale: &Gate,
        fence: Epoch,
        least: Epoch,
        shared: &Shared,
    ) -> Result<(), NotOpened> {
        let options = &shared.options;
        let _one = self.opening[slot.index()].lock().await;
        let known = self.get(slot);
        if known != *stale {
            return Ok(());
        }
        // Above the fence, above all that anybody here remembers, and never used by a history that
        // was lost: the milliseconds do for that. Nothing compares the number with a clock again.
        let least = least.max(known.epoch).get() + 1;
        let epoch = self.clock.now().get().max(least).min(NUMBER_MAX);
        let token = format!("{:016x}", fastrand::u64(..));
        let whole = moves::came_whole(shared, slot, fence).await;
        let mut open = cmd("FCALL");
        open.arg("evergate_1_open").arg(1).arg(slot.record());
        open.arg(fence.get()).arg(epoch).arg(&token);
        if whole {
            open.arg(1);
        }
        let answer = on.send(&open).await.map_err(NotOpened::Redis)?;
        let odd = || NotOpened::Odd(error::odd("open"));
        let words = reply::words(answer).ok_or_else(odd)?;
        if let [opened, _, _, replicas] = words.as_slice()
            && opened == "OPEN"
        {
            metrics::counter!("evergate_redis_gates_opened_total").increment(1);
            if replicas != "0" {
                // So that no promoted replica forgets the epoch. What is acknowledged later as
                // replicated is confirmed for itself, and this with it.
                let millis = u64::try_from(options.confirm_timeout.as_millis()).unwrap_or(u64::MAX);
                let wait = cmd("WAIT").arg(1).arg(millis).to_owned();
                let _: Value = on.send(&wait).await.map_err(NotOpened::Redis)?;
            }
            self.adopt(slot, Gate { epoch: Epoch::new(epoch).ok_or_else(odd)?, token });
            return Ok(());
        }
        match Refusal::read(&words).ok_or_else(odd)? {
            Refusal::Fenced { epoch, token } => self.adopt(slot, Gate { epoch, token }),
            // Somebody fenced it meanwhile. The next attempt names the new fence.
            Refusal::Shut { .. } => {}
            Refusal::Foreign | Refusal::Level(_) => return Err(odd()),
        }
        Ok(())
    }
}
