//! A control node: what it has taken of the log, whose leases it holds, and what it knows if it leads.

use std::collections::{BTreeMap, VecDeque};

use evergate_domain::NodeName;
use evergate_domain::cluster::{Delta, LeaseTable, State, Unbalanced, View};

/// Deltas that are kept for those who follow; whoever is further back gets a whole view.
const DELTAS_MAX: usize = 16;

/// A control node.
#[derive(Default)]
pub(crate) struct Control {
    pub(crate) is_up: bool,
    pub(crate) state: State,
    /// Commands of the log that it has taken.
    pub(crate) applied: usize,
    deltas: VecDeque<Delta>,
    /// Whose leases it holds: incarnation, and when it last heard of it.
    pub(crate) lessees: BTreeMap<NodeName, (u64, u64)>,
    /// When it last told the leader of them.
    pub(crate) reported_ms: u64,
    /// While it leads.
    pub(crate) leases: Option<LeaseTable>,
    /// While it leads.
    pub(crate) unbalanced: Unbalanced,
}

/// What a follower gets that is at some version.
pub(crate) enum News {
    /// Nothing is new.
    None,
    /// The steps to the newest version.
    Deltas(Vec<Delta>),
    /// All of it.
    Whole(Box<View>),
}

impl Control {
    /// One that runs and knows nothing yet.
    pub(crate) fn up() -> Self {
        Self { is_up: true, ..Self::default() }
    }

    /// Takes what it has not taken of the log, up to `to`.
    pub(crate) fn catch_up(&mut self, log: &[evergate_domain::cluster::Proposal], to: usize) {
        while self.applied < to {
            if let Ok(outcome) = self.state.apply(&log[self.applied]) {
                self.deltas.extend(outcome.deltas);
            }
            self.applied += 1;
        }
        while self.deltas.len() > DELTAS_MAX {
            self.deltas.pop_front();
        }
    }

    /// Ends, as by a kill. Its disk keeps what it has taken.
    pub(crate) fn crash(&mut self) {
        let (state, applied) = (std::mem::take(&mut self.state), self.applied);
        // As a snapshot is taken and read again.
        let (view, audit) = (state.view(), state.audit().entries().cloned());
        let whole = View::whole(view.version(), view.ring_version(), view.contents(), view.digest());
        let view = whole.expect("a view makes itself");
        let audit = evergate_domain::cluster::Audit::from_entries(audit);
        let state = State::from_parts(view, audit, state.drains_asked());
        *self = Self { state, applied, ..Self::default() };
    }

    /// What is new since a follower's view.
    pub(crate) fn news(&self, view: &View) -> News {
        let here = self.state.view();
        if view.version() == here.version() && view.digest() == here.digest() {
            return News::None;
        }
        let from = self.deltas.iter().position(|delta| delta.from == view.version());
        match from {
            Some(from) => News::Deltas(self.deltas.iter().skip(from).cloned().collect()),
            // A follower may be ahead of a control node that has not caught up.
            None if view.version() > here.version() => News::None,
            None => News::Whole(Box::new(here.clone())),
        }
    }
}
