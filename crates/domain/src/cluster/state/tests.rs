//! What the state promises, whatever it is asked.

use proptest::prelude::*;

use super::*;
use crate::UnixMillis;
use crate::cluster::testing::{command, edge};
use crate::cluster::{AUDIT_MAX, ClusterSettings, RefusalKind};

fn by(command: Command) -> Proposal {
    Proposal { by: "tester".to_owned(), at: UnixMillis::new(7), command }
}

fn name(text: &str) -> NodeName {
    NodeName::new(text).expect("a name")
}

fn join(state: &mut State, node: Node) {
    state.apply(&by(Command::Join(Box::new(node)))).expect("it may join");
}

fn drain(state: &mut State, node: &str) {
    state.apply(&by(Command::Drain { node: name(node), force: false })).expect("it may be drained");
}

fn draining(state: &State) -> Vec<&str> {
    state.view().nodes().values().filter(|node| node.draining).map(|node| node.name.as_str()).collect()
}

fn refusal(state: &mut State, command: Command) -> Refusal {
    let before = state.clone();
    let refusal = state.apply(&by(command)).expect_err("it is refused");
    assert_eq!(*state, before);
    refusal
}

#[test]
fn one_node_is_drained_at_a_time_and_the_next_when_it_is_done() {
    let mut state = State::default();
    ["a", "b", "c"].into_iter().for_each(|node| join(&mut state, edge(node)));
    drain(&mut state, "b");
    drain(&mut state, "a");
    assert_eq!(draining(&state), ["b"]);
    assert_eq!(
        refusal(&mut state, Command::Drain { node: name("a"), force: true }),
        Refusal::AlreadyDraining(name("a"))
    );
    state.apply(&by(Command::Drained { node: name("b"), incarnation: 1 })).expect("it was running");
    assert_eq!(draining(&state), ["a", "b"], "whoever is drained stays so");
    drain_is_refused_for_the_last(&mut state);
    // What takes its place is as good as new, and what was asked of it is done.
    join(&mut state, Node { incarnation: 2, ..edge("a") });
    assert_eq!(draining(&state), ["b"]);
    assert!(state.view().drains().is_empty());
    state.apply(&by(Command::Undrain(name("b")))).expect("it was drained");
    assert_eq!(refusal(&mut state, Command::Undrain(name("b"))), Refusal::NotDraining(name("b")));
}

fn drain_is_refused_for_the_last(state: &mut State) {
    let refusal = refusal(state, Command::Drain { node: name("c"), force: false });
    assert_eq!(refusal.kind(), RefusalKind::Conflict);
    assert_eq!(refusal.to_string(), "no other edge of region eu takes clients; c is drained only by force");
}

#[test]
fn a_drain_waits_while_nobody_else_could_take_its_clients() {
    let mut state = State::default();
    ["a", "b"].into_iter().for_each(|node| join(&mut state, edge(node)));
    let settings = ClusterSettings { drains_at_once: 2, ..ClusterSettings::default() };
    state.apply(&by(Command::SetSettings(settings))).expect("good settings");
    drain(&mut state, "a");
    assert_eq!(
        refusal(&mut state, Command::Drain { node: name("b"), force: false }).kind(),
        RefusalKind::Conflict
    );
    state.apply(&by(Command::Undrain(name("a")))).expect("it was draining");
    // Asked for while there was another, whose turn came first.
    drain(&mut state, "b");
    join(&mut state, edge("c"));
    drain(&mut state, "c");
    assert_eq!(draining(&state), ["b", "c"]);
    state.apply(&by(Command::Drained { node: name("b"), incarnation: 1 })).expect("it was running");
    state.apply(&by(Command::Lost { node: name("a"), incarnation: 1 })).expect("it is that run");
    assert_eq!(draining(&state), ["b", "c"], "what has begun goes on");
}

#[test]
fn a_lost_node_stays_lost_until_it_is_back_whatever_is_started_in_its_name() {
    let mut state = State::default();
    join(&mut state, edge("a"));
    state.apply(&by(Command::Lost { node: name("a"), incarnation: 1 })).expect("it is that run");
    join(&mut state, Node { incarnation: 2, ..edge("a") });
    assert_eq!(state.view().nodes()[&name("a")].lease, Lease::Lost);
    let outdated = Refusal::Outdated(name("a"));
    assert_eq!(refusal(&mut state, Command::Back { node: name("a"), incarnation: 1 }), outdated);
    assert_eq!(refusal(&mut state, Command::Join(Box::new(edge("a")))), Refusal::NameInUse(name("a")));
    state.apply(&by(Command::Back { node: name("a"), incarnation: 2 })).expect("it is that run");
    assert_eq!(state.view().nodes()[&name("a")].lease, Lease::Held);
    assert_eq!(refusal(&mut state, Command::Forget(name("a"))), Refusal::StillThere(name("a")));
    state.apply(&by(Command::Leave { node: name("a"), incarnation: 2 })).expect("it is that run");
    assert!(state.view().nodes().is_empty());
}

#[test]
fn an_older_binary_is_told_that_it_must_be_updated() {
    let mut state = State::default();
    join(&mut state, Node { format: 2, ..edge("a") });
    join(&mut state, edge("old"));
    let refused = refusal(&mut state, Command::RaiseFormat(2));
    assert_eq!(refused.to_string(), "the format cannot be raised from 0 to 2: old understands 1 at the most");
    state.apply(&by(Command::Leave { node: name("old"), incarnation: 1 })).expect("it is that run");
    state.apply(&by(Command::RaiseFormat(2))).expect("all understand it");
    assert_eq!(
        refusal(&mut state, Command::Join(Box::new(edge("old")))).to_string(),
        "old understands format 1, and the cluster has agreed on 2: update the node before it joins"
    );
}

#[test]
fn an_epoch_rises_whoever_begins_it() {
    let mut state = State::default();
    join(&mut state, edge("a"));
    let slot = crate::cluster::SlotNumber::new(7).expect("a slot");
    let begin = |at_least| Command::BeginEpoch {
        slot,
        home: RegionName::new("eu").expect("a name"),
        at_least: Epoch::new(at_least).expect("an epoch"),
    };
    let begun = |state: &mut State, at_least| {
        state.apply(&by(begin(at_least))).expect("none is open").epoch.map(Epoch::get)
    };
    assert_eq!(begun(&mut state, 40), Some(40), "above what a log has used");
    assert_eq!(refusal(&mut state, begin(0)).kind(), RefusalKind::Conflict);
    let ends = crate::cluster::Digest::new(1);
    let end = Command::EndEpoch { slot, epoch: Epoch::new(40).expect("an epoch"), ends };
    state.apply(&by(end)).expect("it is open");
    assert_eq!(begun(&mut state, 0), Some(41));
    let home = RegionName::new("eu").expect("a name");
    assert_eq!(refusal(&mut state, Command::RemoveRegion(home)).kind(), RefusalKind::Conflict);
}

#[test]
fn the_audit_trail_is_bounded_and_says_who() {
    let mut state = State::default();
    for n in 1..=AUDIT_MAX as u32 + 10 {
        let settings = ClusterSettings { hysteresis_ms: n, ..ClusterSettings::default() };
        state.apply(&by(Command::SetSettings(settings))).expect("good settings");
    }
    assert_eq!(state.audit().entries().count(), AUDIT_MAX);
    let newest = state.audit().entries().next_back().expect("there are some");
    assert_eq!((newest.version, &*newest.by), (AUDIT_MAX as u64 + 10, "tester"));
    for by in ["", "a\nb", &"x".repeat(129)] {
        let proposal = Proposal { by: by.to_owned(), ..super::tests::by(Command::RaiseFormat(9)) };
        assert_eq!(state.apply(&proposal).expect_err("nobody").kind(), RefusalKind::Invalid);
    }
}

/// Two edges and a third, in a cluster whose nodes all understand rebalances.
fn three() -> State {
    let mut state = State::default();
    ["a", "b", "c"].into_iter().for_each(|node| join(&mut state, Node { format: 2, ..edge(node) }));
    state.apply(&by(Command::RaiseFormat(2))).expect("all understand it");
    state
}

fn eu() -> RegionName {
    RegionName::new("eu").expect("a name")
}

fn left(state: &State) -> Vec<&str> {
    state.view().rebalance().iter().flat_map(|plan| &plan.left).map(NodeName::as_str).collect()
}

#[test]
fn a_rebalance_is_over_when_everybody_has_sent_away_whom_it_had_to() {
    let mut state = three();
    state.apply(&by(Command::Rebalance(eu()))).expect("there are three");
    assert_eq!(left(&state), ["a", "b", "c"]);
    assert_eq!(refusal(&mut state, Command::Rebalance(eu())), Refusal::Rebalancing(eu()));
    let plan = state.view().rebalance().expect("it runs").plan;
    let done = |node, incarnation, plan| Command::Rebalanced { node: name(node), incarnation, plan };
    state.apply(&by(done("a", 1, plan))).expect("it is that run");
    let before = state.clone();
    state.apply(&by(done("a", 1, plan))).expect("said twice");
    state.apply(&by(done("b", 1, plan - 1))).expect("of a plan that is over");
    assert_eq!(state, before);
    assert_eq!(refusal(&mut state, done("b", 7, plan)), Refusal::Outdated(name("b")));
    // Whoever is lost has nobody any more, and whoever is started anew has nobody yet.
    state.apply(&by(Command::Lost { node: name("b"), incarnation: 1 })).expect("it is that run");
    assert_eq!(left(&state), ["c"]);
    join(&mut state, Node { format: 2, incarnation: 2, ..edge("c") });
    assert_eq!(state.view().rebalance(), None);
    let what: Vec<_> = state.audit().entries().map(|entry| &*entry.what).collect();
    assert!(
        what.contains(&"rebalance eu") && !what.iter().any(|what| what.starts_with("rebalanced")),
        "{what:?}"
    );
}

#[test]
fn a_rebalance_is_cancelled_and_no_two_plans_are_taken_for_each_other() {
    let mut state = three();
    assert_eq!(refusal(&mut state, Command::CancelRebalance(eu())), Refusal::NotRebalancing(eu()));
    state.apply(&by(Command::Rebalance(eu()))).expect("there are three");
    let first = state.view().rebalance().expect("it runs").plan;
    state.apply(&by(Command::CancelRebalance(eu()))).expect("it runs");
    assert_eq!(state.view().rebalance(), None);
    state.apply(&by(Command::Rebalance(eu()))).expect("nothing runs");
    assert!(state.view().rebalance().expect("it runs").plan > first);
}

#[test]
fn a_rebalance_needs_somebody_to_go_to_and_no_drain() {
    let mut state = three();
    drain(&mut state, "a");
    assert_eq!(refusal(&mut state, Command::Rebalance(eu())), Refusal::DrainFirst(name("a")));
    state.apply(&by(Command::Leave { node: name("a"), incarnation: 1 })).expect("it is that run");
    state.apply(&by(Command::Lost { node: name("b"), incarnation: 1 })).expect("it is that run");
    let refused = refusal(&mut state, Command::Rebalance(eu()));
    assert_eq!(refused.to_string(), "region eu has no two edges that take clients");
    let nowhere = RegionName::new("as").expect("a name");
    assert_eq!(refusal(&mut state, Command::Rebalance(nowhere)).kind(), RefusalKind::Unknown);
}

#[test]
fn what_an_older_node_would_not_understand_is_refused_until_there_is_none() {
    let mut state = State::default();
    ["a", "b"].into_iter().for_each(|node| join(&mut state, edge(node)));
    for command in [
        Command::Rebalance(eu()),
        Command::Rebalanced { node: name("a"), incarnation: 1, plan: 1 },
        Command::Note("add control node 4".to_owned()),
    ] {
        let refused = refusal(&mut state, command);
        assert!(refused.to_string().contains("needs format 2, and the cluster has agreed on 0"), "{refused}");
    }
}

#[test]
fn a_note_is_remembered_and_changes_nothing_else() {
    let mut state = three();
    let view = state.view().clone();
    let outcome = state.apply(&by(Command::Note("add control node 4".to_owned()))).expect("words");
    assert!(outcome.deltas.is_empty());
    assert_eq!(*state.view(), view);
    let newest = state.audit().entries().next_back().expect("there are some");
    assert_eq!(
        (newest.version, &*newest.by, &*newest.what),
        (view.version(), "tester", "add control node 4")
    );
    for words in [String::new(), "a\nb".to_owned(), "x".repeat(257)] {
        assert_eq!(refusal(&mut state, Command::Note(words)).kind(), RefusalKind::Invalid);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// A rebalance waits for nodes that are there and hold their leases, and never for nobody: it comes to an end
    /// whoever dies. None begins beside another, or before all understand it.
    #[test]
    fn a_rebalance_waits_for_somebody_who_can_be_heard(commands in prop::collection::vec(command(), 0..120)) {
        let mut state = State::default();
        state.apply(&by(Command::RaiseFormat(2))).expect("there is nobody");
        ["n0", "n1", "n2"].into_iter().for_each(|node| join(&mut state, Node { format: 2, ..edge(node) }));
        for command in commands {
            let before = state.view().rebalance().cloned();
            if state.apply(&by(command.clone())).is_err() {
                continue;
            }
            let Some(running) = state.view().rebalance() else { continue };
            prop_assert!(state.view().format() >= 2);
            prop_assert!(!running.left.is_empty());
            for node in &running.left {
                let node = state.view().nodes().get(node);
                prop_assert!(node.is_some_and(|node| node.lease == Lease::Held), "{:?}", node);
            }
            if let Some(before) = before {
                prop_assert_eq!((&before.region, before.plan), (&running.region, running.plan));
                prop_assert!(running.left.is_subset(&before.left), "it waits for nobody new");
            } else {
                prop_assert!(matches!(command, Command::Rebalance(_)), "{}", command);
            }
        }
    }

    /// The same commands lead to the same state; a refused one changes nothing; and whoever follows the
    /// deltas holds what was agreed on.
    #[test]
    fn a_state_follows_from_its_commands_alone(commands in prop::collection::vec(command(), 0..60)) {
        let (mut one, mut other, mut followed) = (State::default(), State::default(), View::default());
        for command in commands {
            let before = one.clone();
            let outcome = one.apply(&by(command.clone()));
            prop_assert_eq!(&outcome, &other.apply(&by(command)));
            match outcome {
                Ok(outcome) => for delta in &outcome.deltas {
                    followed = followed.follow(delta).expect("it leads on");
                },
                Err(_) => prop_assert_eq!(&one, &before),
            }
            prop_assert_eq!(&one, &other);
            prop_assert_eq!(&followed, one.view());
            // A machine made of its parts is the same.
            one = State::from_parts(one.view().clone(), one.audit().clone(), one.drains_asked());
        }
    }

    /// No more nodes are drained at once than may be, a plan is always of a node that is there, and no
    /// region loses its last edge to a plan that nobody forced.
    #[test]
    fn plans_leave_somebody_to_take_the_clients(commands in prop::collection::vec(command(), 0..80)) {
        let mut state = State::default();
        for command in commands {
            let before = state.view().clone();
            if state.apply(&by(command)).is_err() {
                continue;
            }
            let view = state.view();
            let running = |view: &View| view.drains().values().filter(|drain| drain.running).count();
            let most = (view.settings().drains_at_once as usize).max(running(&before));
            prop_assert!(running(view) <= most);
            prop_assert!(view.drains().keys().all(|node| view.nodes().contains_key(node)));
            for drain in view.drains().values().filter(|drain| drain.running && !drain.force) {
                let begins = before.drains().get(&drain.node).is_none_or(|before| !before.running);
                let region = &view.nodes()[&drain.node].region;
                let took = before.nodes().get(&drain.node).is_some_and(Node::takes_clients);
                let left = view.nodes().values().any(|node| node.region == *region && node.takes_clients());
                prop_assert!(!begins || !took || left, "{:?}", drain);
            }
        }
    }
}
