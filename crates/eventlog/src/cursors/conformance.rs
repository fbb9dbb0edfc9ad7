//! One suite for every implementation of [`CursorStore`]: what the contract says, as tests.

use std::collections::HashMap;
use std::sync::Arc;

use async_trait::async_trait;
use evergate_domain::{
    Claim, ClientId, Cursor, CursorKey, KeyFilter, PackedCursor, StoredCursor, StreamName, StreamSet,
    UnixMillis,
};

use super::{CursorStore, CursorStoreError, CursorWrite, Move, TakeOver, Written, answer, judge, taken_over};
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
    CursorWrite { key: key.clone(), claim: Claim::new(claim), position: at(seq), by }
}

fn hint(key: &CursorKey, claim: u32, seq: u64) -> CursorWrite {
    write(key, claim, seq, Move::Hint)
}

fn ack(key: &CursorKey, claim: u32, seq: u64) -> CursorWrite {
    write(key, claim, seq, Move::Acknowledgement)
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
        if random.u8(..4) == 0 {
            let take = TakeOver {
                claim: Claim::new(random.u32(1..4)),
                position: random.bool().then(|| at(random.u64(1..100))),
                acknowledges: random.u8(..8) == 0,
            };
            let expected = taken_over(model.get(key), &take);
            let answered = store.take_over(key, take).await.expect("answers");
            assert_eq!(answered, answer(expected.clone()), "step {step}");
            model.insert(key.clone(), expected);
        } else {
            let by = if random.u8(..4) == 0 { Move::Acknowledgement } else { Move::Hint };
            let write = write(key, random.u32(1..4), random.u64(1..100), by);
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
