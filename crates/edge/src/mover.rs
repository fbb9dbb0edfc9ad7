//! Sends clients to the edges they belong to, when the cluster wants it.

use std::collections::BTreeMap;
use std::sync::Weak;
use std::time::Duration;

use evergate_domain::NodeName;
use evergate_domain::cluster::Pace;

use crate::http::{Context, Stray};

/// Streams of one client are ended together, for they may share a connection: so many at the most.
const TOGETHER_MAX: usize = 64;

/// Ends the streams of clients who belong to other edges, those that were open when it began, each once: whoever comes
/// back here has been sent here, and stays. Keeps nothing alive.
pub struct Mover {
    context: Weak<Context>,
    /// By where they belong.
    waiting: BTreeMap<NodeName, Waiting>,
}

/// Those who are to go to one edge.
#[derive(Default)]
struct Waiting {
    strays: Vec<Stray>,
    pace: Pace,
}

impl Mover {
    pub(crate) fn new(context: Weak<Context>) -> Self {
        Self { context, waiting: BTreeMap::new() }
    }

    /// Looks who belongs elsewhere now, and forgets whom it looked at before.
    pub fn begin(&mut self) {
        self.waiting.clear();
        let Some(context) = self.context.upgrade() else { return };
        for stray in context.streams.placed() {
            if let Some(edge) = context.affinity.elsewhere(stray.key) {
                self.waiting.entry(edge).or_default().strays.push(stray);
            }
        }
        // Streams of one client stand together.
        self.waiting.values_mut().for_each(|waiting| waiting.strays.sort_unstable());
        self.tell();
    }

    /// How many streams are still to be ended.
    #[must_use]
    pub fn left(&self) -> usize {
        self.waiting.values().map(|waiting| waiting.strays.len()).sum()
    }

    /// So much time went by: ends as many as the edges to which they belong can take, beside what `senders` edges
    /// send in all, and answers how many. An edge that takes nobody any more is sent nobody: its clients stay here.
    pub fn turn(&mut self, elapsed: Duration, senders: usize) -> usize {
        let Some(context) = self.context.upgrade() else {
            self.waiting.clear();
            return 0;
        };
        let elapsed_ms = u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX);
        let mut going = Vec::new();
        self.waiting.retain(|edge, waiting| {
            let Some((free, share)) = context.affinity.room_at(edge) else { return false };
            waiting.pace.gain(elapsed_ms, free, share, senders);
            while waiting.pace.due() > 0
                && let Some(next) = waiting.next()
            {
                // Places may be others by now.
                if context.affinity.elsewhere(next[0].key).is_some() {
                    waiting.pace.spend(next.len());
                    going.extend(next);
                }
            }
            !waiting.strays.is_empty()
        });
        let sent = if going.is_empty() { 0 } else { context.streams.send_away(&going) };
        if sent > 0 {
            context.engine.look_for_cuts();
        }
        self.tell();
        sent
    }

    /// Ends nobody any more.
    pub fn stop(&mut self) {
        self.waiting.clear();
        self.tell();
    }

    fn tell(&self) {
        metrics::gauge!("evergate_streams_to_move").set(self.left() as f64);
    }
}

impl Waiting {
    /// The streams of one client.
    fn next(&mut self) -> Option<Vec<Stray>> {
        let last = self.strays.last()?.key;
        let alike = self.strays.iter().rev().take_while(|stray| stray.key == last).count();
        Some(self.strays.split_off(self.strays.len() - alike.min(TOGETHER_MAX)))
    }
}
