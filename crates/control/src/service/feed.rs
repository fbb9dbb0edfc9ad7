//! What a follower is sent.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use evergate_domain::cluster::Digest;
use evergate_member::{encode_delta, encode_view};
use evergate_proto::control::v1 as proto;
use proto::watch_response::{Alive, What};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::agreed::News;
use crate::agreement::Agreement;

/// Something is sent at least so often, so that a control node that is gone is noticed.
const ALIVE_EVERY: Duration = Duration::from_millis(500);

/// How loaded nodes are is told so often at the most.
const LOADS_EVERY: Duration = Duration::from_secs(1);

/// One follower. Nothing is queued for it but the steps it lacks, and those are made when the last ones are
/// sent.
pub(super) struct Feed<A> {
    group: A,
    applied: watch::Receiver<u64>,
    loads: watch::Receiver<Arc<proto::Loads>>,
    stop: CancellationToken,
    version: u64,
    digest: Digest,
    steps: VecDeque<What>,
    alive_at: Instant,
    loads_at: Instant,
}

impl<A: Agreement> Feed<A> {
    pub(super) fn new(
        group: A,
        loads: watch::Receiver<Arc<proto::Loads>>,
        stop: CancellationToken,
        version: u64,
        digest: Digest,
    ) -> Self {
        let now = Instant::now();
        let applied = group.applied();
        let mut loads = loads;
        loads.mark_changed();
        metrics::gauge!("evergate_control_followers").increment(1.0);
        // The first answer comes at once, if only to say that there is nothing new.
        Self {
            group,
            applied,
            loads,
            stop,
            version,
            digest,
            steps: VecDeque::new(),
            alive_at: now,
            loads_at: now,
        }
    }

    /// The next message; `None` when the node ends. Cancel-safe: what was not sent is made again.
    pub(super) async fn next(&mut self) -> Option<proto::WatchResponse> {
        let what = loop {
            // Before the look, so that nothing which comes after it is missed.
            self.applied.borrow_and_update();
            if self.steps.is_empty() {
                self.look();
            }
            if let Some(step) = self.steps.pop_front() {
                break step;
            }
            let now = Instant::now();
            if self.loads.has_changed().unwrap_or(false) && now >= self.loads_at {
                self.loads_at = now + LOADS_EVERY;
                break What::Loads((**self.loads.borrow_and_update()).clone());
            }
            if now >= self.alive_at {
                break What::Alive(Alive { has_leader: self.group.leadership().address.is_some() });
            }
            tokio::select! {
                biased;
                () = self.stop.cancelled() => return None,
                changed = self.applied.changed() => changed.ok()?,
                () = tokio::time::sleep_until(self.alive_at) => {}
            }
        };
        self.alive_at = Instant::now() + ALIVE_EVERY;
        Some(proto::WatchResponse { what: Some(what) })
    }

    /// Takes whatever is new, as steps.
    fn look(&mut self) {
        let (version, digest) = (self.version, self.digest);
        let steps = self.group.look(|machine| {
            let view = machine.state().view();
            match machine.news(version, digest) {
                News::None => None,
                News::Deltas(deltas) => Some((view.version(), view.digest(), Ok(deltas))),
                News::Whole => Some((view.version(), view.digest(), Err(view.clone()))),
            }
        });
        // Written down outside of the look, for which commands wait.
        let Some((version, digest, steps)) = steps else { return };
        (self.version, self.digest) = (version, digest);
        match steps {
            Ok(deltas) => self.steps.extend(deltas.iter().map(|delta| What::Delta(encode_delta(delta)))),
            Err(view) => self.steps.push_back(What::View(encode_view(&view))),
        }
    }
}

impl<A> Drop for Feed<A> {
    fn drop(&mut self) {
        metrics::gauge!("evergate_control_followers").decrement(1.0);
    }
}
