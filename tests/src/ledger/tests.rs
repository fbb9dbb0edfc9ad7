//! Every kind of fault is planted once, and must be found.

use super::*;

const NO_TRAFFIC: Traffic = Traffic { acknowledged: 0, received: 0 };

fn at(seq: u64) -> Offset {
    Offset::new(7, seq)
}

/// Ten events, all acknowledged, one subscriber from the start which got those in `received`.
fn ledger(received: &[u64]) -> Ledger {
    let mut ledger = Ledger::new();
    ledger.subscribed("ann", "s", at(0));
    for seq in 1..=10 {
        ledger.attempted("s", &format!("text {seq}"));
        ledger.acknowledged("s", at(seq), &format!("text {seq}"));
    }
    for &seq in received {
        ledger.received("ann", "s", at(seq), &format!("text {seq}"));
    }
    ledger
}

fn faults(ledger: &Ledger) -> Vec<Fault> {
    match ledger.judge(NO_TRAFFIC) {
        Verdict::Faulty(_, faults) => faults,
        Verdict::Sound(_) | Verdict::Inconclusive(_) => Vec::new(),
    }
}

const ALL: [u64; 10] = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10];

#[test]
fn a_sound_run_is_sound() {
    let totals = ledger(&ALL).judge(Traffic { acknowledged: 10, received: 10 }).expect_sound();
    assert_eq!(totals, Totals { acknowledged: 10, received: 10 });
}

#[test]
fn a_run_without_enough_traffic_proves_nothing() {
    for at_least in [Traffic { acknowledged: 11, received: 0 }, Traffic { acknowledged: 0, received: 11 }] {
        assert!(matches!(ledger(&ALL).judge(at_least), Verdict::Inconclusive(_)));
    }
    assert!(matches!(
        Ledger::new().judge(Traffic { acknowledged: 1, received: 1 }),
        Verdict::Inconclusive(_)
    ));
}

#[test]
#[should_panic(expected = "inconclusive")]
fn an_inconclusive_run_is_no_success() {
    Ledger::new().judge(Traffic { acknowledged: 1, received: 1 }).expect_sound();
}

#[test]
#[should_panic(expected = "never got s 7-4")]
fn a_faulty_run_says_what_was_wrong() {
    ledger(&[1, 2, 3, 5, 6, 7, 8, 9, 10]).judge(NO_TRAFFIC).expect_sound();
}

#[test]
fn a_loss_is_found_in_the_middle_and_at_the_end() {
    let loss = |seq| Fault::Loss("ann".into(), "s".into(), at(seq));
    assert_eq!(faults(&ledger(&[1, 2, 3, 5, 6, 7, 8, 9, 10])), [loss(4)]);
    assert_eq!(faults(&ledger(&[1, 2, 3, 4, 5, 6, 7, 8])), [loss(9), loss(10)]);
    assert_eq!(faults(&ledger(&[])).len(), 10);
}

#[test]
fn a_loss_that_was_told_is_none_but_only_within_what_was_told() {
    let mut told = ledger(&[1, 2, 7, 8, 9, 10]);
    told.told("ann", "s", at(3), at(6));
    assert_eq!(faults(&told), [Fault::Loss("ann".into(), "s".into(), at(6))]);
}

#[test]
fn what_came_before_the_subscription_is_not_owed() {
    let mut late = ledger(&ALL);
    late.subscribed("bob", "s", at(8));
    late.received("bob", "s", at(9), "text 9");
    assert_eq!(faults(&late), [Fault::Loss("bob".into(), "s".into(), at(10))]);
}

#[test]
fn a_duplicate_is_found() {
    let twice = [1, 2, 3, 4, 5, 6, 7, 7, 8, 9, 10];
    assert_eq!(faults(&ledger(&twice)), [Fault::Duplicate("ann".into(), "s".into(), at(7))]);
    let much_later = [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 2];
    assert_eq!(faults(&ledger(&much_later)), [Fault::Duplicate("ann".into(), "s".into(), at(2))]);
}

#[test]
fn disorder_is_found() {
    let swapped = [1, 2, 4, 3, 5, 6, 7, 8, 9, 10];
    assert_eq!(faults(&ledger(&swapped)), [Fault::Disorder("ann".into(), "s".into(), at(3))]);
}

#[test]
fn an_altered_text_is_found() {
    let mut altered = ledger(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    altered.attempted("s", "text ten");
    altered.received("ann", "s", at(10), "text ten");
    assert_eq!(faults(&altered), [Fault::Altered("s".into(), at(10))]);
}

#[test]
fn an_event_stored_twice_is_found() {
    let mut doubled = ledger(&ALL);
    doubled.received("ann", "s", at(11), "text 5");
    assert_eq!(faults(&doubled), [Fault::Doubled("s".into(), at(5), at(11))]);
    let mut answered_twice = ledger(&ALL);
    answered_twice.acknowledged("s", at(11), "text 10");
    assert!(faults(&answered_twice).contains(&Fault::Doubled("s".into(), at(10), at(11))));
}

#[test]
fn an_invented_event_is_found() {
    let mut invented = ledger(&ALL);
    invented.received("ann", "s", at(11), "nobody said this");
    assert_eq!(faults(&invented), [Fault::Invented("ann".into(), "s".into(), at(11))]);
}

#[test]
fn an_event_nobody_was_answered_for_may_appear() {
    let mut unknown = ledger(&ALL);
    unknown.attempted("s", "sent, never answered");
    unknown.received("ann", "s", at(11), "sent, never answered");
    assert_eq!(faults(&unknown), []);
}

#[test]
fn a_hole_in_the_sequence_is_found_across_epochs_too() {
    let mut holed = ledger(&ALL);
    holed.attempted("s", "later");
    holed.acknowledged("s", Offset::new(8, 12), "later");
    holed.received("ann", "s", Offset::new(8, 12), "later");
    assert_eq!(faults(&holed), [Fault::Hole("s".into(), at(11))]);

    let mut dense = ledger(&ALL);
    dense.attempted("s", "later");
    dense.acknowledged("s", Offset::new(8, 11), "later");
    dense.received("ann", "s", Offset::new(8, 11), "later");
    assert_eq!(faults(&dense), []);
}
