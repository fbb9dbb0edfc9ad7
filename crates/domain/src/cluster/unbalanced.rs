//! When a region's clients are to be sent where they belong without anybody asking for it.

use std::collections::BTreeMap;

use crate::RegionName;
use crate::cluster::{Command, Digest, View};

/// Regions to which an edge has come since their clients were last sent where they belong, as a leader sees them.
/// Nothing of this is agreed on: whoever leads next waits anew. Time is handed in, as to
/// [`LeaseTable`](crate::cluster::LeaseTable).
#[derive(Debug, Clone, Default)]
pub struct Unbalanced {
    /// Which edges a region has, and since when.
    since: BTreeMap<RegionName, (Digest, u64)>,
}

impl Unbalanced {
    /// What is to be agreed on now: one rebalance at the most, of a region whose edges have been the same for long
    /// enough. After an edge has come it is done once: whoever does not go where it belongs then has its reasons.
    pub fn due(&mut self, view: &View, now_ms: u64) -> Option<Command> {
        let after_ms = u64::from(view.settings().rebalance_after_ms);
        if after_ms == 0 {
            self.since.clear();
            return None;
        }
        let mut counts: BTreeMap<&RegionName, usize> = BTreeMap::new();
        for node in view.nodes().values().filter(|node| node.takes_clients()) {
            *counts.entry(&node.region).or_default() += 1;
        }
        let mut due = None;
        self.since.retain(|region, _| counts.contains_key(region));
        for (region, _) in counts.iter().filter(|(_, edges)| **edges > 1) {
            if view.balanced().contains(*region) {
                self.since.remove(*region);
                continue;
            }
            let edges = view.edges_of(region);
            let since = self.since.entry((*region).clone()).or_insert((edges, now_ms));
            if since.0 != edges {
                *since = (edges, now_ms);
            }
            if now_ms.saturating_sub(since.1) >= after_ms {
                due = due.or_else(|| Some(Command::Rebalance((*region).clone())));
            }
        }
        let is_busy = view.rebalance().is_some() || view.drains().values().any(|drain| drain.running);
        due.filter(|_| !is_busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::UnixMillis;
    use crate::cluster::testing::edge;
    use crate::cluster::{ClusterSettings, Node, Proposal, State};

    fn apply(state: &mut State, command: Command) {
        let proposal = Proposal { by: "tester".to_owned(), at: UnixMillis::new(7), command };
        state.apply(&proposal).expect("it may be done");
    }

    fn join(state: &mut State, name: &str, incarnation: u64) {
        apply(state, Command::Join(Box::new(Node { format: 2, incarnation, ..edge(name) })));
    }

    fn cluster(rebalance_after_ms: u32) -> State {
        let mut state = State::default();
        apply(&mut state, Command::RaiseFormat(2));
        apply(
            &mut state,
            Command::SetSettings(ClusterSettings { rebalance_after_ms, ..ClusterSettings::default() }),
        );
        state
    }

    #[test]
    fn a_region_is_balanced_once_when_its_edges_have_settled() {
        let (mut state, mut unbalanced) = (cluster(5_000), Unbalanced::default());
        join(&mut state, "a", 1);
        assert_eq!(unbalanced.due(state.view(), 9_000), None, "one edge has everybody");
        join(&mut state, "b", 1);
        assert_eq!(unbalanced.due(state.view(), 10_000), None);
        join(&mut state, "c", 1);
        assert_eq!(unbalanced.due(state.view(), 14_999), None, "the time begins anew");
        assert_eq!(unbalanced.due(state.view(), 19_998), None);
        let eu = Command::Rebalance(edge("a").region);
        assert_eq!(unbalanced.due(state.view(), 19_999), Some(eu.clone()));
        assert_eq!(unbalanced.due(state.view(), 20_100), Some(eu.clone()), "until it is agreed on");
        apply(&mut state, eu.clone());
        assert_eq!(unbalanced.due(state.view(), 90_000), None, "it runs");
        apply(&mut state, Command::CancelRebalance(edge("a").region));
        assert_eq!(unbalanced.due(state.view(), 90_000), None, "once for each that comes");
        // Whoever is started anew and was not missed has its clients; one that is gone has none when it is back.
        join(&mut state, "b", 2);
        assert_eq!(unbalanced.due(state.view(), 99_000), None);
        apply(&mut state, Command::Leave { node: edge("b").name, incarnation: 2 });
        assert_eq!(unbalanced.due(state.view(), 100_000), None);
        join(&mut state, "b", 3);
        assert_eq!(unbalanced.due(state.view(), 101_000), None);
        assert_eq!(unbalanced.due(state.view(), 106_000), Some(eu));
    }

    #[test]
    fn nothing_is_due_where_nobody_wants_it_or_a_drain_runs() {
        let (mut state, mut unbalanced) = (cluster(0), Unbalanced::default());
        ["a", "b", "c"].into_iter().for_each(|name| join(&mut state, name, 1));
        assert_eq!(unbalanced.due(state.view(), 0), None);
        assert_eq!(unbalanced.due(state.view(), 1_000_000), None);
        let (mut state, mut unbalanced) = (cluster(1_000), Unbalanced::default());
        ["a", "b", "c"].into_iter().for_each(|name| join(&mut state, name, 1));
        apply(&mut state, Command::Drain { node: edge("c").name, force: false });
        assert_eq!(unbalanced.due(state.view(), 0), None);
        assert_eq!(unbalanced.due(state.view(), 5_000), None);
        apply(&mut state, Command::Drained { node: edge("c").name, incarnation: 1 });
        assert!(unbalanced.due(state.view(), 5_000).is_some());
    }
}
