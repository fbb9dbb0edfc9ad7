//! One suite for every implementation of [`CursorStore`]: what the contract says, as tests.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use evergate_domain::{
    Claim, ClientId, Cursor, CursorKey, KeyFilter, PackedCursor, StoredCursor, StreamName, StreamSet,
    UnixMillis,
};

use super::{
    CursorStore, CursorStoreError, CursorWrite, Move, Only, TakeOver, Wish, Written, answer, judge, taken_if,
    taken_over,
};
use crate::{Clock, ManualClock};

/// How the suite gets at a store.
#[async_trait]
pub(crate) trait Subject: Send + Sync {
    /// The store: fresh and empty the first time, after that the same again if it is durable.
    async fn open(&self, clock: Arc<dyn Clock>) -> Arc<dyn CursorStore>;

    /// Whether it outlives its process.
    fn durable(&self) -> bool {
        false
    }
}

/// Declares every test of the suite for one [`Subject`] value.
macro_rules! suite {
    ($subject:expr) => {
        $crate::cursors::conformance::suite!(
            $subject,
            the_last_connection_moves_the_cursor_and_those_before_learn_it,
            a_client_that_says_where_it_is_is_believed,
            who_acknowledges_is_moved_by_nothing_else,
            what_a_browser_sends_by_itself_acknowledges_nothing,
            of_two_that_begin_the_last_one_counts,
            only_who_let_go_can_be_followed_late,
            whoever_lets_go_moves_nothing_more,
            one_that_is_not_there_is_not_begun,
            whoever_looks_changes_nothing,
            clients_and_subscriptions_never_mix,
            a_write_finds_its_order_within_a_batch,
            what_nobody_touches_is_forgotten_after_a_day_or_two,
            random_calls_match_the_model,
            a_closed_store_says_so,
            cursors_survive_a_restart,
        );
    };
    ($subject:expr, $($test:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $crate::cursors::conformance::$test(&$subject).await;
            }
        )*
    };
}
pub(crate) use suite;

const DAY: u64 = 86_400_000;

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(UnixMillis::new(20_000 * DAY + 1)))
}

fn key_of(client: &str, names: &[&str]) -> CursorKey {
    let names = names.iter().map(|name| StreamName::new(name).expect("valid")).collect();
    let streams = StreamSet::new(names).expect("valid");
    let filters = vec![KeyFilter::all(); streams.names().len()];
    CursorKey::new(&ClientId::new(client).expect("valid"), &streams, &filters)
}

fn key(client: &str) -> CursorKey {
    key_of(client, &["quote"])
}

fn at(seq: u64) -> PackedCursor {
    let streams = StreamSet::new(vec![StreamName::new("quote").expect("valid")]).expect("valid");
    Cursor::parse(&streams, &format!("1790000000000-{seq}")).expect("valid").pack()
}

fn take(claim: u32, position: Option<u64>) -> TakeOver {
    TakeOver { claim: Claim::new(claim), position: position.map(at), acknowledges: false }
}

fn write(key: &CursorKey, claim: u32, seq: u64, by: Move) -> CursorWrite {
    CursorWrite { key: key.clone(), claim: Claim::new(claim), position: at(seq), by, last: false }
}

fn hint(key: &CursorKey, claim: u32, seq: u64) -> CursorWrite {
    write(key, claim, seq, Move::Hint)
}

fn ack(key: &CursorKey, claim: u32, seq: u64) -> CursorWrite {
    write(key, claim, seq, Move::Acknowledgement)
}

/// The last write of a connection, which moves nothing.
fn leave(key: &CursorKey, claim: u32) -> CursorWrite {
    CursorWrite { position: PackedCursor::default(), last: true, ..hint(key, claim, 0) }
}

async fn one(store: &dyn CursorStore, write: CursorWrite) -> Written {
    store.write(&[write]).await.remove(0).expect("writes")
}

/// Takes over without a word of its own, and tells what was kept.
async fn kept(store: &dyn CursorStore, key: &CursorKey, claim: u32) -> Option<PackedCursor> {
    store.take_over(key, take(claim, None)).await.expect("answers").map(|kept| kept.position)
}

pub(crate) async fn the_last_connection_moves_the_cursor_and_those_before_learn_it(subject: &dyn Subject) {
    let store = subject.open(clock()).await;
    let key = key("c");
    assert_eq!(kept(&*store, &key, 1).await, None, "nothing comes from nothing");
    store.take_over(&key, take(1, Some(5))).await.expect("begins");
    assert_eq!(one(&*store, hint(&key, 1, 7)).await, Written::Moved);
    assert_eq!(kept(&*store, &key, 2).await, Some(at(7)), "the position goes on");
    assert_eq!(one(&*store, hint(&key, 1, 9)).await, Written::Replaced);
    assert_eq!(one(&*store, ack(&key, 1, 9)).await, Written::Replaced);
    assert_eq!(one(&*store, hint(&key, 2, 8)).await, Written::Moved);
    assert_eq!(kept(&*store, &key, 2).await, Some(at(8)), "the old connection moved nothing");
}

pub(crate) async fn a_client_that_says_where_it_is_is_believed(subject: &dyn Subject) {
    let store = subject.open(clock()).await;
    let key = key("c");
    store.take_over(&key, take(1, Some(50))).await.expect("begins");
    let back = store.take_over(&key, take(2, Some(20))).await.expect("answers").expect("kept");
    assert_eq!((back.position, back.claim), (at(20), Claim::new(2)));
    assert_eq!(kept(&*store, &key, 3).await, Some(at(20)));
}

pub(crate) async fn who_acknowledges_is_moved_by_nothing_else(subject: &dyn Subject) {
    let store = subject.open(clock()).await;
    let key = key("c");
    store.take_over(&key, take(1, Some(1))).await.expect("begins");
    assert_eq!(one(&*store, ack(&key, 1, 3)).await, Written::Moved);
    assert_eq!(one(&*store, hint(&key, 1, 9)).await, Written::Acknowledged);
    let again = store.take_over(&key, take(2, None)).await.expect("answers").expect("kept");
    assert_eq!((again.position, again.acknowledged), (at(3), true));
    assert_eq!(one(&*store, hint(&key, 2, 9)).await, Written::Acknowledged, "also of the next connection");
    assert_eq!(one(&*store, ack(&key, 2, 2)).await, Written::Moved);
    assert_eq!(kept(&*store, &key, 3).await, Some(at(2)), "an acknowledgement may go back");

    let declared = TakeOver { acknowledges: true, ..take(1, Some(4)) };
    let other = key_of("other", &["quote"]);
    store.take_over(&other, declared).await.expect("begins");
    assert_eq!(one(&*store, hint(&other, 1, 9)).await, Written::Acknowledged, "before the first one too");
}

pub(crate) async fn what_a_browser_sends_by_itself_acknowledges_nothing(subject: &dyn Subject) {
    let store = subject.open(clock()).await;
    let key = key("c");
    store.take_over(&key, TakeOver { acknowledges: true, ..take(1, Some(1)) }).await.expect("begins");
    assert_eq!(one(&*store, ack(&key, 1, 4)).await, Written::Moved);
    let back = store.take_over(&key, take(2, Some(10))).await.expect("answers").expect("kept");
    assert_eq!((back.position, back.acknowledged), (at(4), true));
    assert_eq!(kept(&*store, &key, 3).await, Some(at(4)));
}

pub(crate) async fn of_two_that_begin_the_last_one_counts(subject: &dyn Subject) {
    let store = subject.open(clock()).await;
    for acknowledges in [false, true] {
        let key = key(if acknowledges { "acks" } else { "c" });
        for claim in [1, 2] {
            let take = TakeOver { acknowledges, ..take(claim, None) };
            assert_eq!(store.take_over(&key, take).await.expect("answers"), None);
        }
        assert_eq!(one(&*store, hint(&key, 2, 10)).await, Written::Moved);
        assert_eq!(one(&*store, hint(&key, 1, 15)).await, Written::Replaced, "it was slower");
        let again = if acknowledges { Written::Acknowledged } else { Written::Moved };
        assert_eq!(one(&*store, hint(&key, 2, 11)).await, again);
        let kept = store.take_over(&key, take(3, None)).await.expect("answers").expect("kept");
        assert_eq!(
            (kept.position, kept.acknowledged),
            (at(if acknowledges { 10 } else { 11 }), acknowledges)
        );
    }
}

pub(crate) async fn only_who_let_go_can_be_followed_late(subject: &dyn Subject) {
    let store = subject.open(clock()).await;
    let key = key("c");
    let free = async |take: TakeOver| store.take_if(&key, take, Only::Free).await.expect("answers");
    let position = |free: Wish| match free {
        Wish::Taken(kept) => kept.map(|kept| kept.position),
        Wish::Denied => panic!("it is free"),
    };
    assert_eq!(position(free(take(1, Some(5))).await), Some(at(5)), "nothing was kept");
    assert_eq!(position(free(take(1, Some(9))).await), Some(at(5)), "it has it already");
    assert_eq!(free(take(2, Some(7))).await, Wish::Denied);
    assert_eq!(one(&*store, hint(&key, 2, 7)).await, Written::Replaced, "so it moves nothing");
    assert_eq!(one(&*store, hint(&key, 1, 8)).await, Written::Moved);
    assert_eq!(one(&*store, leave(&key, 1)).await, Written::Moved);
    assert_eq!(position(free(take(2, Some(7))).await), Some(at(8)), "what is kept stays");
    assert_eq!(kept(&*store, &key, 3).await, Some(at(8)), "whoever comes anew takes it from anybody");
    assert_eq!(free(take(2, Some(7))).await, Wish::Denied);

    let acks = TakeOver { acknowledges: true, ..take(4, None) };
    assert_eq!(one(&*store, leave(&key, 3)).await, Written::Moved);
    let Wish::Taken(Some(taken)) = free(acks).await else { panic!("it is free") };
    assert_eq!((taken.position, taken.claim, taken.acknowledged), (at(8), Claim::new(4), true));
}

pub(crate) async fn whoever_lets_go_moves_nothing_more(subject: &dyn Subject) {
    let store = subject.open(clock()).await;
    let key = key("c");
    assert_eq!(one(&*store, leave(&key, 1)).await, Written::Moved);
    assert_eq!(kept(&*store, &key, 1).await, None, "of nothing, nothing is kept");
    let last = CursorWrite { last: true, ..ack(&key, 1, 6) };
    assert_eq!(one(&*store, last).await, Written::Moved);
    assert_eq!(one(&*store, hint(&key, 1, 7)).await, Written::Replaced);
    assert_eq!(one(&*store, leave(&key, 1)).await, Written::Replaced, "harmless");
    let again = store.take_over(&key, take(2, None)).await.expect("answers").expect("kept");
    assert_eq!((again.position, again.acknowledged), (at(6), true));
    let last = CursorWrite { last: true, ..hint(&key, 2, 9) };
    assert_eq!(one(&*store, last).await, Written::Acknowledged, "but it lets go");
    let answered = store.take_if(&key, take(3, None), Only::Free).await.expect("answers");
    let Wish::Taken(Some(taken)) = answered else { panic!("{answered:?}") };
    assert_eq!((taken.position, taken.acknowledged), (at(6), true));
}

pub(crate) async fn one_that_is_not_there_is_not_begun(subject: &dyn Subject) {
    let store = subject.open(clock()).await;
    let key = key("c");
    let known = async |take: TakeOver| store.take_if(&key, take, Only::Known).await.expect("answers");
    assert_eq!(known(take(1, Some(5))).await, Wish::Denied);
    assert_eq!(one(&*store, leave(&key, 1)).await, Written::Moved, "there is nothing");
    assert_eq!(known(take(1, None)).await, Wish::Denied);
    assert_eq!(kept(&*store, &key, 2).await, None);
    assert_eq!(known(take(3, None)).await, Wish::Taken(None), "it is there, though nothing is kept");
    let Wish::Taken(Some(taken)) = known(take(4, Some(7))).await else { panic!("it is there") };
    assert_eq!((taken.position, taken.claim), (at(7), Claim::new(4)), "from whoever has it");
    assert_eq!(one(&*store, hint(&key, 3, 8)).await, Written::Replaced);
}

pub(crate) async fn whoever_looks_changes_nothing(subject: &dyn Subject) {
    let clock = clock();
    let store = subject.open(Arc::clone(&clock) as _).await;
    let key = key("c");
    let look = async || store.look(&key).await.expect("answers");
    assert_eq!(look().await, None);
    assert_eq!(kept(&*store, &key, 1).await, None);
    let begins =
        StoredCursor { position: PackedCursor::default(), claim: Claim::new(1), acknowledged: false };
    assert_eq!(look().await, Some(begins.clone()), "taken over, and not begun");
    assert_eq!(one(&*store, ack(&key, 1, 6)).await, Written::Moved);
    let there = StoredCursor { position: at(6), acknowledged: true, ..begins };
    assert_eq!(look().await, Some(there.clone()));
    assert_eq!(one(&*store, leave(&key, 1)).await, Written::Acknowledged, "but it lets go");
    assert_eq!(look().await, Some(StoredCursor { claim: Claim::NOBODY, ..there }));
    // From the day after, a look keeps nothing alive.
    for day in [20_001, 20_002] {
        clock.set(UnixMillis::new(day * DAY + 1));
        store.expire().await.expect("expires");
        assert_eq!(look().await.is_some(), day == 20_001, "on day {day}");
    }
}

pub(crate) async fn clients_and_subscriptions_never_mix(subject: &dyn Subject) {
    let store = subject.open(clock()).await;
    let keys = [key("a"), key("b"), key_of("a", &["news"]), key_of("a", &["news", "quote"])];
    for (key, n) in keys.iter().zip(1..) {
        store.take_over(key, take(n, Some(u64::from(n) * 10))).await.expect("begins");
    }
    for (key, n) in keys.iter().zip(1..) {
        assert_eq!(kept(&*store, key, n).await, Some(at(u64::from(n) * 10)));
    }
}

pub(crate) async fn a_write_finds_its_order_within_a_batch(subject: &dyn Subject) {
    let store = subject.open(clock()).await;
    let keys: Vec<_> = (0..300).map(|n| key(&format!("client-{n}"))).collect();
    let batch: Vec<_> = keys
        .iter()
        .flat_map(|key| [hint(key, 1, 1), hint(key, 2, 2), ack(key, 1, 3), hint(key, 1, 4)])
        .collect();
    let written: Vec<_> = store.write(&batch).await.into_iter().map(|it| it.expect("writes")).collect();
    assert_eq!(written.len(), batch.len());
    for answers in written.chunks(4) {
        use Written::{Acknowledged, Moved, Replaced};
        assert_eq!(answers, [Moved, Replaced, Moved, Acknowledged]);
    }
    for key in &keys {
        assert_eq!(kept(&*store, key, 1).await, Some(at(3)));
    }
    assert!(store.write(&[]).await.is_empty(), "nothing to do");
}

pub(crate) async fn what_nobody_touches_is_forgotten_after_a_day_or_two(subject: &dyn Subject) {
    let clock = clock();
    let store = subject.open(Arc::clone(&clock) as _).await;
    let (quiet, lively, acked) = (key("quiet"), key("lively"), key("acked"));
    for key in [&quiet, &lively, &acked] {
        store.take_over(key, take(1, Some(5))).await.expect("begins");
    }
    one(&*store, ack(&acked, 1, 6)).await;
    clock.set(UnixMillis::new(20_001 * DAY + 1));
    store.expire().await.expect("expires");
    assert_eq!(one(&*store, hint(&lively, 1, 6)).await, Written::Moved);
    assert_eq!(one(&*store, hint(&acked, 1, 9)).await, Written::Acknowledged);
    assert_eq!(kept(&*store, &quiet, 1).await, Some(at(5)), "a day is not long");
    let untouched = key("untouched");
    clock.set(UnixMillis::new(20_000 * DAY + 1));
    store.take_over(&untouched, take(1, Some(5))).await.expect("begins");
    clock.set(UnixMillis::new(20_002 * DAY + 1));
    store.expire().await.expect("expires");
    assert_eq!(kept(&*store, &untouched, 2).await, None, "but two are");
    assert_eq!(kept(&*store, &lively, 2).await, Some(at(6)));
    assert_eq!(kept(&*store, &acked, 2).await, Some(at(6)));
}

pub(crate) async fn random_calls_match_the_model(subject: &dyn Subject) {
    let clock = clock();
    let store = subject.open(Arc::clone(&clock) as _).await;
    let keys: Vec<_> = (0..4).map(|n| key(&format!("r{n}"))).collect();
    let mut model = HashMap::<CursorKey, StoredCursor>::new();
    let mut random = fastrand::Rng::with_seed(7);
    for step in 0..600 {
        let key = &keys[random.usize(..keys.len())];
        assert_eq!(store.look(key).await.expect("answers"), model.get(key).cloned(), "step {step}");
        if random.u8(..4) == 0 {
            let take = TakeOver {
                claim: Claim::new(random.u32(1..4)),
                position: random.bool().then(|| at(random.u64(1..100))),
                acknowledges: random.u8(..8) == 0,
            };
            if random.bool() {
                let only = if random.bool() { Only::Free } else { Only::Known };
                let (expected, next) = taken_if(model.get(key), &take, only);
                assert_eq!(store.take_if(key, take, only).await.expect("answers"), expected, "step {step}");
                model.extend(next.map(|next| (key.clone(), next)));
                continue;
            }
            let expected = taken_over(model.get(key), &take);
            let answered = store.take_over(key, take).await.expect("answers");
            assert_eq!(answered, answer(expected.clone()), "step {step}");
            model.insert(key.clone(), expected);
        } else {
            let by = if random.u8(..4) == 0 { Move::Acknowledgement } else { Move::Hint };
            let mut write = write(key, random.u32(1..4), random.u64(1..100), by);
            write.last = random.u8(..4) == 0;
            if write.last && random.bool() {
                write.position = PackedCursor::default();
            }
            let (expected, next) = judge(model.get(key), &write);
            assert_eq!(one(&*store, write).await, expected, "step {step}");
            model.extend(next.map(|next| (key.clone(), next)));
        }
        // Clocks of several nodes are never quite equal, and midnight is always somewhere.
        clock.set(UnixMillis::new((20_000 + random.u64(..2)) * DAY));
    }
    assert!(!model.is_empty());
}

pub(crate) async fn a_closed_store_says_so(subject: &dyn Subject) {
    let store = subject.open(clock()).await;
    store.close().await;
    store.close().await;
    let error = store.take_over(&key("c"), take(1, None)).await.expect_err("closed");
    assert!(matches!(error, CursorStoreError::Closed), "{error}");
    let error = store.look(&key("c")).await.expect_err("closed");
    assert!(matches!(error, CursorStoreError::Closed), "{error}");
}

pub(crate) async fn cursors_survive_a_restart(subject: &dyn Subject) {
    if !subject.durable() {
        return;
    }
    let store = subject.open(clock()).await;
    store.take_over(&key("c"), take(1, Some(5))).await.expect("begins");
    one(&*store, ack(&key("c"), 1, 8)).await;
    store.close().await;
    let store = subject.open(clock()).await;
    let again = store.take_over(&key("c"), take(2, None)).await.expect("answers").expect("kept");
    assert_eq!((again.position, again.acknowledged), (at(8), true));
}
