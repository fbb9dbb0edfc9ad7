//! Slots that a cluster moves from one primary to another: telling a move from a crash.
//!
//! The gate does not move along, so the new primary's is opened under a new epoch, and the one before
//! looks as if a crash had ended it. None did, if both primaries say so, each for the life of its own
//! process:
//!
//! ```text
//!   new:     "nothing of the slot is here"      noted beforehand     what is here now came later
//!   former:  "nothing of the slot is left"      asked now            all of it went
//!   former:  "the epoch was opened here, and    asked after that     it had all that was ever
//!             I am the same primary still"                           acknowledged under it
//! ```
//! A primary that restarts or is replaced has forgotten both. Whoever lacks one of these words has
//! everybody told of a possible loss, as after a crash.

use std::sync::Arc;
use std::time::Duration;

use evergate_domain::Epoch;
use redis::{RedisError, Value, cmd};

use super::Shared;
use super::keys::Slot;
use super::link::Connected;
use super::node::{Node, Purpose};
use super::topology::Map;
use super::url::Deployment;

/// How long the word of a slot's former primary is waited for, while appends to the slot wait.
const WORD_MAX: Duration = Duration::from_millis(500);

/// What a primary was asked to note last: over which connection, and how the slots lay then.
#[derive(Default)]
pub(super) struct Vacancies {
    noted: Option<(u64, Arc<Map>)>,
}

impl Vacancies {
    /// Has a primary note which of the slots that it does not hold it has nothing of, once for each
    /// connection and map: a process that was started anew has forgotten it, and what it gave away may
    /// come again.
    pub(super) async fn note(&mut self, shared: &Shared, node: &Node) {
        if !matches!(shared.options.url.deployment(), Deployment::Cluster { .. }) {
            return;
        }
        let Some(on) = node.link(Purpose::Read).now() else { return };
        let map = shared.topology.now();
        let is_noted =
            |(generation, noted): &(u64, Arc<Map>)| *generation == on.generation && Arc::ptr_eq(noted, &map);
        if self.noted.as_ref().is_some_and(is_noted) {
            return;
        }
        let held = node.holds(&map);
        let elsewhere: Vec<_> = Slot::all().into_iter().filter(|slot| !held[slot.index()]).collect();
        let mut pipe = redis::pipe();
        for slot in &elsewhere {
            pipe.cmd("FCALL_RO").arg("evergate_1_vacant").arg(0);
            pipe.arg(slot.record()).arg(slot.hash_slot().index());
        }
        if !elsewhere.is_empty()
            && let Err(error) = on.send_all(&pipe, elsewhere.len()).await
        {
            return on.failed(&error);
        }
        self.noted = Some((on.generation, map));
    }
}

/// Whether a slot whose gate is shut came from another primary with all that was acknowledged there.
/// The new primary must say the same of itself, which `open` sees to.
pub(super) async fn came_whole(shared: &Shared, slot: Slot, fence: Epoch) -> bool {
    let Some(former) = shared.topology.former(slot) else { return false };
    let word = tokio::time::timeout(WORD_MAX, gave_whole(&former, slot, fence)).await;
    matches!(word, Ok(Ok(true)))
}

/// In this order: whatever was gone when it was counted had left a primary that is the same still when
/// it is asked for that.
async fn gave_whole(former: &Connected, slot: Slot, fence: Epoch) -> Result<bool, RedisError> {
    let mut left = cmd("CLUSTER");
    left.arg("COUNTKEYSINSLOT").arg(slot.hash_slot().index());
    if former.send(&left).await? != Value::Int(0) {
        return Ok(false);
    }
    let mut held = cmd("FCALL_RO");
    held.arg("evergate_1_held").arg(0).arg(slot.record()).arg(fence.get());
    Ok(former.send(&held).await? == Value::Int(1))
}
