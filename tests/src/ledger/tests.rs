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
    told.removed("s", at(1), at(7));
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

#[test]
fn a_run_without_enough_faults_and_resumes_proves_nothing() {
    let demands = |resumes, injected| Demands { traffic: NO_TRAFFIC, resumes, injected };
    let mut quiet = ledger(&ALL);
    assert!(matches!(quiet.judge_run(demands(1, 0)), Verdict::Inconclusive(_)));
    assert!(matches!(quiet.judge_run(demands(0, 1)), Verdict::Inconclusive(_)));
    quiet.injected();
    quiet.resumed("ann", "s", at(10));
    assert!(matches!(quiet.judge_run(demands(1, 1)), Verdict::Sound(_)));
    // A fault found is a fault, however little happened.
    let mut faulty = ledger(&ALL);
    faulty.received("ann", "s", at(10), "text 10");
    assert!(matches!(faulty.judge_run(demands(1, 1)), Verdict::Faulty(..)));
}

#[test]
fn a_silent_trim_is_a_loss() {
    let mut trimmed = ledger(&[1, 2, 7, 8, 9, 10]);
    trimmed.removed("s", at(1), at(7));
    let loss = |seq| Fault::Loss("ann".into(), "s".into(), at(seq));
    assert_eq!(faults(&trimmed), [loss(3), loss(4), loss(5), loss(6)]);
}

#[test]
fn a_gap_must_be_true() {
    let gap = |from, until| Fault::FalseGap("ann".into(), "s".into(), at(from), at(until));
    let mut there = ledger(&[1, 2, 7, 8, 9, 10]);
    there.told("ann", "s", at(3), at(7));
    assert_eq!(faults(&there), [gap(3, 7)], "nothing was removed");
    let mut half = ledger(&[1, 2, 7, 8, 9, 10]);
    half.removed("s", at(1), at(5));
    half.told("ann", "s", at(3), at(7));
    assert_eq!(faults(&half), [gap(3, 7)], "it says more than was removed");
    let mut had = ledger(&ALL);
    had.removed("s", at(1), at(7));
    had.told("ann", "s", at(3), at(7));
    assert_eq!(faults(&had), [gap(3, 7)], "it had them");
}

#[test]
fn a_position_ahead_is_found_even_if_the_events_come_after_all() {
    let mut ahead = ledger(&[1, 2, 3, 4, 5]);
    ahead.positioned("ann", "s", at(7));
    for seq in 6..=10 {
        ahead.received("ann", "s", at(seq), &format!("text {seq}"));
    }
    assert_eq!(faults(&ahead), [Fault::Ahead("ann".into(), "s".into(), at(5), at(7))]);
}

#[test]
fn a_position_where_one_is_or_past_what_one_was_told_is_none_ahead() {
    let mut resumed = ledger(&[1, 2]);
    resumed.resumed("ann", "s", at(2));
    resumed.removed("s", at(1), at(7));
    resumed.told("ann", "s", at(3), at(7));
    resumed.positioned("ann", "s", at(6));
    for seq in 7..=10 {
        resumed.received("ann", "s", at(seq), &format!("text {seq}"));
    }
    assert_eq!(faults(&resumed), []);
}

#[test]
fn a_resume_further_on_is_a_loss_and_is_said_to_be_ahead() {
    let mut resumed = ledger(&[1, 2, 3]);
    resumed.resumed("ann", "s", at(5));
    for seq in 6..=10 {
        resumed.received("ann", "s", at(seq), &format!("text {seq}"));
    }
    let loss = |seq| Fault::Loss("ann".into(), "s".into(), at(seq));
    assert_eq!(faults(&resumed), [loss(4), loss(5), Fault::Ahead("ann".into(), "s".into(), at(3), at(5))]);
}

#[test]
fn what_nobody_was_answered_for_is_owed_once_anybody_has_it() {
    let mut unknown = ledger(&ALL);
    unknown.subscribed("bob", "s", at(9));
    unknown.received("bob", "s", at(10), "text 10");
    unknown.attempted("s", "no answer");
    unknown.attempted("s", "later");
    unknown.received("ann", "s", at(11), "no answer");
    unknown.received("ann", "s", at(12), "later");
    // So far bob may just be slow.
    assert_eq!(faults(&unknown), []);
    unknown.received("bob", "s", at(12), "later");
    assert_eq!(faults(&unknown), [Fault::Skipped("bob".into(), "s".into(), at(11))]);
}

#[test]
fn what_was_refused_must_not_appear() {
    let mut phantom = ledger(&ALL);
    phantom.attempted("s", "not this");
    phantom.refused("s", "not this");
    assert_eq!(faults(&phantom), []);
    phantom.received("ann", "s", at(11), "not this");
    assert_eq!(faults(&phantom), [Fault::Phantom("s".into(), at(11))]);
}

#[test]
fn a_producer_s_events_keep_their_order_whoever_else_publishes() {
    let mut shuffled = ledger(&ALL);
    shuffled.attempted_as("s", "p", 1, "p one");
    shuffled.attempted_as("s", "q", 1, "q one");
    shuffled.attempted_as("s", "p", 2, "p two");
    shuffled.received("ann", "s", at(11), "p two");
    shuffled.received("ann", "s", at(12), "q one");
    assert_eq!(faults(&shuffled), []);
    shuffled.received("ann", "s", at(13), "p one");
    assert_eq!(faults(&shuffled), [Fault::Shuffled("s".into(), "p".into(), at(11))]);
}

#[test]
fn two_histories_are_found() {
    let mut forked = ledger(&ALL);
    forked.attempted("s", "another tenth");
    forked.acknowledged("s", Offset::new(8, 10), "another tenth");
    forked.received("ann", "s", Offset::new(8, 10), "another tenth");
    assert_eq!(faults(&forked), [Fault::Fork("s".into(), at(10), Offset::new(8, 10))]);
}

/// Ten events of epoch 7, of which a crash took those from 8 on; then three of epoch 9.
fn cut_off(received: &[u64]) -> Ledger {
    let mut cut = ledger(received);
    cut.may_lose("s");
    for seq in 8..=10 {
        let text = format!("text {seq} after the crash");
        cut.attempted("s", &text);
        cut.acknowledged("s", Offset::new(9, seq), &text);
    }
    cut
}

fn go_on(cut: &mut Ledger) {
    for seq in 8..=10 {
        cut.received("ann", "s", Offset::new(9, seq), &format!("text {seq} after the crash"));
    }
}

#[test]
fn a_tail_that_a_crash_took_is_no_fault_where_it_may_be_and_all_are_told() {
    for had in 7..=10 {
        let mut cut = cut_off(&ALL[..had]);
        cut.told_of_a_loss("ann", "s", at(had as u64), Offset::new(9, 8));
        go_on(&mut cut);
        assert_eq!(faults(&cut), [], "it had {had}");
        assert_eq!(cut.losses(), Losses { events: 3, notices: 1, unneeded: 0 });
        assert_eq!(cut.epoch_received(), 9);
    }
}

#[test]
fn a_loss_without_a_notice_is_found() {
    let untold = Fault::Untold("ann".into(), "s".into(), Offset::new(9, 8));
    // Those that it never had are lost to it, too.
    let loss = |seq| Fault::Loss("ann".into(), "s".into(), at(seq));
    for (had, lost) in [(10, vec![]), (9, vec![10]), (7, vec![8, 9, 10])] {
        let mut cut = cut_off(&ALL[..had]);
        go_on(&mut cut);
        let expected: Vec<_> = lost.into_iter().map(loss).chain([untold.clone()]).collect();
        assert_eq!(faults(&cut), expected, "it had {had}");
    }
    // A notice of another crash is none of this one.
    let mut cut = cut_off(&ALL);
    cut.told_of_a_loss("ann", "s", Offset::new(5, 0), at(1));
    go_on(&mut cut);
    assert_eq!(faults(&cut), [untold]);
}

#[test]
fn a_notice_excuses_only_what_is_lost() {
    let mut cut = cut_off(&[1, 2, 3, 4, 5, 6]);
    cut.told_of_a_loss("ann", "s", at(6), Offset::new(9, 8));
    go_on(&mut cut);
    assert_eq!(faults(&cut), [Fault::Loss("ann".into(), "s".into(), at(7))], "it is still there");
}

#[test]
fn whoever_came_after_a_crash_need_not_be_told() {
    let mut cut = cut_off(&ALL);
    cut.told_of_a_loss("ann", "s", at(10), Offset::new(9, 8));
    go_on(&mut cut);
    cut.subscribed("bob", "s", Offset::new(9, 7));
    for seq in 8..=10 {
        cut.received("bob", "s", Offset::new(9, seq), &format!("text {seq} after the crash"));
    }
    assert_eq!(faults(&cut), []);
}

#[test]
fn what_a_crash_took_may_be_stored_once_more() {
    let mut cut = cut_off(&ALL);
    cut.told_of_a_loss("ann", "s", at(10), Offset::new(9, 8));
    go_on(&mut cut);
    cut.acknowledged("s", Offset::new(9, 11), "text 9");
    cut.received("ann", "s", Offset::new(9, 11), "text 9");
    assert_eq!(faults(&cut), []);
    cut.received("ann", "s", Offset::new(9, 12), "text 5");
    assert_eq!(faults(&cut), [Fault::Doubled("s".into(), at(5), Offset::new(9, 12))]);
}

#[test]
fn a_notice_without_a_loss_is_counted() {
    let mut sound = ledger(&ALL);
    sound.may_lose("s");
    sound.attempted("s", "later");
    sound.acknowledged("s", Offset::new(9, 11), "later");
    sound.told_of_a_loss("ann", "s", at(10), Offset::new(9, 11));
    sound.received("ann", "s", Offset::new(9, 11), "later");
    assert_eq!(faults(&sound), []);
    assert_eq!(sound.losses(), Losses { events: 0, notices: 1, unneeded: 1 });
}

#[test]
fn where_nothing_may_be_lost_a_notice_excuses_nothing() {
    let mut forked = cut_off(&[1, 2, 3, 4, 5, 6, 7, 8, 9]);
    forked.stream("s").may_lose = false;
    forked.told_of_a_loss("ann", "s", at(9), Offset::new(9, 8));
    go_on(&mut forked);
    let expected =
        [Fault::Fork("s".into(), at(10), Offset::new(9, 8)), Fault::Loss("ann".into(), "s".into(), at(10))];
    assert_eq!(faults(&forked), expected);
}
