//! Sends the clients away that belong to other edges, when the cluster wants it.

use std::sync::Arc;
use std::time::Duration;

use evergate_edge::Mover;
use evergate_member::{Placement, Voice};
use tokio::time::{Instant, MissedTickBehavior};
use tracing::info;

use crate::membership::Followed;

/// How often streams are ended: all connections are looked at each time.
const TURN: Duration = Duration::from_millis(250);

/// How long it is waited until it is known that nobody is left here, before it is said again.
const SAY_AGAIN: Duration = Duration::from_secs(2);

/// Does what each rebalance wants of this edge, for as long as it is followed.
pub(crate) async fn rebalance(mut followed: Followed, mut mover: Mover, voice: Voice) {
    let asked = |followed: &mut Followed| {
        let view = followed.borrow_and_update().view.clone();
        voice.asked_to_rebalance(&view).map(|plan| (plan.plan, plan.left.len()))
    };
    let mut done = None;
    loop {
        let Some((plan, _)) = asked(&mut followed) else {
            if followed.changed().await.is_err() {
                return;
            }
            continue;
        };
        if done == Some(plan) {
            voice.rebalanced(plan);
            let is_heard = |placement: &Arc<Placement>| {
                voice.asked_to_rebalance(&placement.view).is_none_or(|asked| asked.plan != plan)
            };
            let heard = tokio::time::timeout(SAY_AGAIN, followed.wait_for(is_heard)).await;
            if matches!(heard, Ok(Err(_))) {
                return;
            }
            continue;
        }
        mover.begin();
        let streams = mover.left();
        info!(plan, streams, "clients that belong to other edges are sent there");
        let mut moved = 0;
        let mut turns = tokio::time::interval(TURN);
        turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut before = turns.tick().await;
        while mover.left() > 0 {
            turns.tick().await;
            let Some((_, senders)) = asked(&mut followed).filter(|(wanted, _)| *wanted == plan) else {
                break;
            };
            let now = Instant::now();
            moved += mover.turn(now.duration_since(std::mem::replace(&mut before, now)), senders);
        }
        let stayed = streams - moved;
        if mover.left() > 0 {
            mover.stop();
            info!(plan, moved, stayed, "the rebalance was cancelled; the others stay");
        } else {
            info!(plan, moved, stayed, "everybody was sent away whom the rebalance wanted elsewhere");
        }
        done = Some(plan);
    }
}
