//! Who is there, as the leader of a cluster judges it.
//!
//! Nothing of this is agreed on: only what follows from it, that a node is lost or back. Whoever leads next
//! begins with the benefit of the doubt for everybody. Time is handed in, as milliseconds since any moment
//! that stays the same while one leads.

use std::collections::BTreeMap;

use crate::NodeName;
use crate::cluster::{ClusterSettings, Command, Lease, Load, View};

/// What a leader has heard of the nodes.
#[derive(Debug, Clone, Default)]
pub struct LeaseTable {
    nodes: BTreeMap<NodeName, Heard>,
}

#[derive(Debug, Clone, Copy)]
struct Heard {
    incarnation: u64,
    /// The last sign of it.
    at_ms: u64,
    /// Since when there was never too long a silence.
    since_ms: u64,
    /// Whether it had its lease when it was last looked at. The moment from which it has none begins its
    /// time anew, whatever is heard of it: signs that were late may close the gap for which it was lost.
    held: bool,
    load: Load,
}

/// A silence that is too long: a part of the lease, since what is decided then has to be agreed on and to
/// reach everybody before the lease is over.
fn silence_ms_max(settings: &ClusterSettings) -> u64 {
    u64::from(settings.lease_ms) * 4 / 5
}

/// How often a node has to say that it is there: so often that some beats may be late or lost.
#[must_use]
pub fn beat_ms(settings: &ClusterSettings) -> u32 {
    (settings.lease_ms / 10).max(20)
}

impl Heard {
    /// Of a run that was not known. That it has its lease is assumed until it is looked at.
    fn now(incarnation: u64, at_ms: u64, load: Load) -> Self {
        Self { incarnation, at_ms, since_ms: at_ms, held: true, load }
    }
}

impl LeaseTable {
    /// What a new leader begins with.
    #[must_use]
    pub fn begin(view: &View, now_ms: u64) -> Self {
        let heard = |incarnation| Heard::now(incarnation, now_ms, Load::default());
        let held = view.nodes().values().filter(|node| node.lease == Lease::Held);
        Self { nodes: held.map(|node| (node.name.clone(), heard(node.incarnation))).collect() }
    }

    /// A node gave a sign, at a time that may be a little ago. An older sign than is known says nothing.
    pub fn hear(
        &mut self,
        node: &NodeName,
        incarnation: u64,
        at_ms: u64,
        load: Load,
        settings: &ClusterSettings,
    ) {
        let new = Heard::now(incarnation, at_ms, load);
        let Some(known) = self.nodes.get_mut(node) else {
            self.nodes.insert(node.clone(), new);
            return;
        };
        if incarnation > known.incarnation {
            *known = new;
        } else if incarnation == known.incarnation && at_ms >= known.at_ms {
            if at_ms - known.at_ms >= silence_ms_max(settings) {
                known.since_ms = known.since_ms.max(at_ms);
            }
            (known.at_ms, known.load) = (at_ms, load);
        }
    }

    /// What is to be agreed on now. Whoever is asked again before it is will say so again.
    pub fn due(&mut self, view: &View, now_ms: u64) -> Vec<Command> {
        let settings = view.settings();
        self.nodes.retain(|node, _| view.nodes().contains_key(node));
        let mut due = Vec::new();
        for node in view.nodes().values() {
            let heard = self.nodes.get_mut(&node.name).filter(|heard| heard.incarnation >= node.incarnation);
            let heard = heard.map(|heard| {
                let held = node.lease == Lease::Held;
                if heard.held && !held {
                    heard.since_ms = now_ms;
                }
                heard.held = held;
                *heard
            });
            let silent = heard.map(|heard| now_ms.saturating_sub(heard.at_ms) >= silence_ms_max(settings));
            let (name, incarnation) = (node.name.clone(), node.incarnation);
            match (node.lease, heard, silent) {
                (Lease::Held, None, _) => {
                    // It has joined since: its time begins now.
                    self.nodes.insert(name, Heard::now(incarnation, now_ms, Load::default()));
                }
                (Lease::Held, Some(_), Some(true)) => due.push(Command::Lost { node: name, incarnation }),
                (Lease::Lost, Some(heard), Some(false))
                    if heard.incarnation == incarnation
                        && now_ms.saturating_sub(heard.since_ms) >= u64::from(settings.hysteresis_ms) =>
                {
                    due.push(Command::Back { node: name, incarnation });
                }
                (Lease::Held | Lease::Lost, _, _) => {}
            }
        }
        due
    }

    /// What the nodes have told of themselves.
    pub fn loads(&self) -> impl Iterator<Item = (&NodeName, Load)> {
        self.nodes.iter().map(|(node, heard)| (node, heard.load))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::edge;
    use crate::cluster::{Change, Node};

    const SETTINGS: ClusterSettings = ClusterSettings {
        lease_ms: 3_000,
        hysteresis_ms: 10_000,
        drains_at_once: 1,
        drain_share_permille: 500,
        bound_permille: 1_250,
        retry_ms_max: 60_000,
        rebalance_after_ms: 0,
    };

    fn view(lease: Lease) -> View {
        let mut view = View::default();
        view.advance(vec![Change::Settings(SETTINGS), Change::Node(Box::new(Node { lease, ..edge("a") }))]);
        view
    }

    fn hear(table: &mut LeaseTable, incarnation: u64, at_ms: u64) {
        table.hear(&edge("a").name, incarnation, at_ms, Load::default(), &SETTINGS);
    }

    #[test]
    fn silence_costs_the_lease_before_the_lease_is_over() {
        let view = view(Lease::Held);
        let mut table = LeaseTable::begin(&view, 1_000);
        hear(&mut table, 1, 5_000);
        hear(&mut table, 1, 4_000);
        assert!(table.due(&view, 7_399).is_empty());
        assert_eq!(table.due(&view, 7_400), [Command::Lost { node: edge("a").name, incarnation: 1 }]);
        hear(&mut table, 1, 7_400);
        assert!(table.due(&view, 7_400).is_empty(), "it was only late");
    }

    #[test]
    fn a_new_leader_gives_everybody_time() {
        let view = view(Lease::Held);
        let mut table = LeaseTable::begin(&view, 50_000);
        assert!(table.due(&view, 52_399).is_empty());
        assert_eq!(table.due(&view, 52_400).len(), 1);
        let mut empty = LeaseTable::default();
        assert!(empty.due(&view, 90_000).is_empty(), "it may have joined just now");
        assert_eq!(empty.due(&view, 92_400).len(), 1);
    }

    #[test]
    fn whoever_flaps_stays_out_until_it_has_been_there_for_long_enough() {
        let view = view(Lease::Lost);
        let mut table = LeaseTable::begin(&view, 0);
        // Away again for too long after every four seconds.
        for round in 0..5 {
            let begun = round * 7_000;
            for beat in 0..14 {
                hear(&mut table, 1, begun + beat * 300);
                assert!(table.due(&view, begun + beat * 300).is_empty());
            }
        }
        let begun = 40_000;
        for beat in 0..33 {
            hear(&mut table, 1, begun + beat * 300);
            assert!(table.due(&view, begun + beat * 300).is_empty(), "beat {beat}");
        }
        hear(&mut table, 1, begun + 10_000);
        assert_eq!(
            table.due(&view, begun + 10_000),
            [Command::Back { node: edge("a").name, incarnation: 1 }]
        );
        assert!(table.due(&view, begun + 13_000).is_empty(), "it has fallen silent meanwhile");
    }

    #[test]
    fn a_late_sign_does_not_bring_a_lost_node_back_at_once() {
        let held = view(Lease::Held);
        let mut table = LeaseTable::begin(&held, 0);
        hear(&mut table, 1, 20_000);
        assert_eq!(table.due(&held, 22_400).len(), 1);
        // It was heard before it was taken for lost, by somebody who could not say so in time.
        hear(&mut table, 1, 22_300);
        let lost = view(Lease::Lost);
        for at in (22_400..32_400).step_by(300) {
            hear(&mut table, 1, at);
            assert!(table.due(&lost, at).is_empty(), "{at}");
        }
        assert_eq!(table.due(&lost, 32_400).len(), 1);
    }

    #[test]
    fn one_run_s_signs_say_nothing_about_another() {
        let view = view(Lease::Lost);
        let mut table = LeaseTable::begin(&view, 0);
        for at in (0..40).map(|beat| beat * 300) {
            hear(&mut table, 2, at);
            hear(&mut table, 1, at);
        }
        assert!(table.due(&view, 11_700).is_empty(), "the run that is known is not the one that is heard");
    }
}
