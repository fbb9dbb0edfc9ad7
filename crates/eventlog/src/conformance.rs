//! One suite for every implementation of [`EventLog`]: what the contract says, as tests.
//!
//! A log joins by implementing [`Subject`] and calling [`suite!`]. Tests that need durability are
//! passed over by a log that is not [`Subject::durable`].

#![expect(clippy::wildcard_enum_match_arm, reason = "a test fails on whatever it did not expect")]

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use evergate_domain::{
    Event, EventDraft, EventType, Gap, GapReason, Key, NUMBER_MAX, Offset, ProducerId, ProducerSeq,
    Retention, Seq, Start, StreamName, StreamPolicies, TraceParent, UnixMillis,
};

use crate::{AppendError, Clock, EventLog, ManualClock, Page, Placed, ReadError, ReadLimit, TailItem};

/// How the suite gets at a log.
#[async_trait]
pub(crate) trait Subject: Sync {
    /// A fresh, empty log.
    async fn open(&self, policies: StreamPolicies, clock: Arc<dyn Clock>) -> Arc<dyn EventLog>;

    /// Whether the log outlives its process.
    fn durable(&self) -> bool {
        false
    }

    /// The same log again, after it was closed. Only called on a durable one.
    async fn reopen(&self, _: StreamPolicies, _: Arc<dyn Clock>) -> Arc<dyn EventLog> {
        unreachable!("not durable")
    }
}

/// Declares every test of the suite for one [`Subject`] value.
macro_rules! suite {
    ($subject:expr) => {
        $crate::conformance::suite!(
            $subject,
            offsets_are_dense_and_in_order,
            every_field_survives,
            streams_are_independent,
            a_batch_stays_together_among_concurrent_appenders,
            a_retry_finds_its_first_attempt,
            a_batch_is_taken_whole_or_not_at_all,
            reading_keeps_its_limits_and_always_gets_on,
            a_tail_yields_everything_after_its_start,
            a_tail_that_lags_says_so,
            trimming_by_count_leaves_an_exact_gap,
            trimming_by_bytes_and_age,
            positions_off_the_history_are_told,
            every_start_is_located,
            time_never_goes_back,
            a_reader_among_appends_and_trims_misses_nothing_unsignalled,
            a_closed_log_says_so,
            random_histories_match_the_model,
            everything_survives_a_restart,
        );
    };
    ($subject:expr, $($test:ident,)*) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $test() {
                $crate::conformance::$test(&$subject).await;
            }
        )*
    };
}
pub(crate) use suite;

const ALL: ReadLimit = ReadLimit { events: usize::MAX, bytes: u64::MAX };

fn forever() -> StreamPolicies {
    StreamPolicies::open(Retention::FOREVER)
}

fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(UnixMillis::new(1_700_000_000_000)))
}

fn stream(name: &str) -> StreamName {
    StreamName::new(name).expect("valid")
}

fn draft(data: &str) -> EventDraft {
    EventDraft::new(data)
}

fn produced(producer: &str, seq: u64, data: &str) -> EventDraft {
    EventDraft {
        producer: Some(ProducerSeq {
            id: ProducerId::new(producer).expect("valid"),
            seq: Seq::new(seq).expect("fits"),
        }),
        ..draft(data)
    }
}

async fn append(log: &dyn EventLog, name: &StreamName, batch: Vec<EventDraft>) -> Vec<Placed> {
    log.append(name, batch).await.expect("appends")
}

async fn append_n(log: &dyn EventLog, name: &StreamName, n: u64) -> Offset {
    let batch = (0..n).map(|i| draft(&format!("event {i}"))).collect();
    append(log, name, batch).await.last().expect("not empty").offset
}

async fn events(log: &dyn EventLog, name: &StreamName, after: Offset) -> Vec<Arc<Event>> {
    match log.read(name, after, ALL).await.expect("reads") {
        Page::Events { events, at_end } => {
            assert!(at_end);
            events
        }
        other => panic!("no events after {after}, but {other:?}"),
    }
}

async fn gap(log: &dyn EventLog, name: &StreamName, after: Offset) -> Gap {
    match log.read(name, after, ALL).await.expect("reads") {
        Page::Gap(gap) => gap,
        other => panic!("no gap after {after}, but {other:?}"),
    }
}

fn seqs(events: &[Arc<Event>]) -> Vec<u64> {
    events.iter().map(|event| event.offset.seq.get()).collect()
}

fn at(cursor: Offset, seq: u64) -> Offset {
    Offset::new(cursor.epoch, Seq::new(seq).expect("fits"))
}

pub(crate) async fn offsets_are_dense_and_in_order(subject: &dyn Subject) {
    let log = subject.open(forever(), clock()).await;
    let name = stream("quote");
    let empty = log.status(&name).await.expect("status").tail;
    assert_eq!(empty.seq, Seq::ZERO);
    assert_eq!(append(&*log, &name, vec![]).await, []);

    let one = append(&*log, &name, vec![draft("a")]).await;
    let more = append(&*log, &name, vec![draft("b"), draft("c")]).await;
    let placed: Vec<_> = one.iter().chain(&more).map(|p| (p.offset, p.duplicate)).collect();
    assert_eq!(placed, [(at(empty, 1), false), (at(empty, 2), false), (at(empty, 3), false)]);

    for (after, expected) in [(0, &["a", "b", "c"][..]), (1, &["b", "c"]), (3, &[])] {
        let read = events(&*log, &name, at(empty, after)).await;
        let data: Vec<_> = read.iter().map(|event| event.data.as_str()).collect();
        assert_eq!(data, expected);
    }
    assert_eq!(log.status(&name).await.expect("status").tail, at(empty, 3));
}

pub(crate) async fn every_field_survives(subject: &dyn Subject) {
    let log = subject.open(forever(), clock()).await;
    let name = stream("fields");
    let full = EventDraft {
        key: Some(Key::new("päckchen/7").expect("valid")),
        kind: Some(EventType::new("trade").expect("valid")),
        data: "a\0b\r\nc\u{feff}🦀".to_owned(),
        producer: Some(ProducerSeq {
            id: ProducerId::new("p:1").expect("valid"),
            seq: Seq::new(NUMBER_MAX).expect("fits"),
        }),
        trace: TraceParent::parse("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
    };
    let large = draft(&"x".repeat(1 << 20));
    let placed = append(&*log, &name, vec![full.clone(), draft(""), large.clone()]).await;
    let read = events(&*log, &name, Offset::BEGINNING).await;
    let time = UnixMillis::new(1_700_000_000_000);
    let expected: Vec<_> = [full, draft(""), large]
        .into_iter()
        .zip(placed)
        .map(|(draft, placed)| Arc::new(draft.placed(placed.offset, time)))
        .collect();
    assert!(read == expected);
    let bytes = expected.iter().map(|event| event.bytes()).sum::<u64>();
    assert_eq!(log.status(&name).await.expect("status").bytes, bytes);
}

pub(crate) async fn streams_are_independent(subject: &dyn Subject) {
    let log = subject.open(forever(), clock()).await;
    append(&*log, &stream("a"), vec![produced("p", 1, "in a")]).await;
    let placed = append(&*log, &stream("ab"), vec![produced("p", 1, "in ab")]).await;
    assert!(!placed[0].duplicate, "a producer's sequences count per stream");
    assert_eq!(placed[0].offset.seq.get(), 1);
    assert_eq!(events(&*log, &stream("a"), Offset::BEGINNING).await[0].data, "in a");
    assert_eq!(events(&*log, &stream("b"), Offset::BEGINNING).await.len(), 0);
}

pub(crate) async fn a_batch_stays_together_among_concurrent_appenders(subject: &dyn Subject) {
    let log = subject.open(forever(), clock()).await;
    let name = stream("busy");
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..8 {
        let (log, name) = (Arc::clone(&log), name.clone());
        tasks.spawn(async move {
            for n in 0..25 {
                let batch = (0..4).map(|i| draft(&format!("{task}/{n}/{i}"))).collect();
                let placed = append(&*log, &name, batch).await;
                for pair in placed.windows(2) {
                    assert_eq!(pair[1].offset, pair[0].offset.next());
                }
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("no panic");
    }
    let read = events(&*log, &name, Offset::BEGINNING).await;
    assert_eq!(seqs(&read), (1..=800).collect::<Vec<_>>());
    for batch in read.chunks(4) {
        let of = |event: &Event| event.data.rsplit_once('/').expect("made above").0.to_owned();
        assert!(batch.iter().all(|event| of(event) == of(&batch[0])), "another batch came between");
    }
}

pub(crate) async fn a_retry_finds_its_first_attempt(subject: &dyn Subject) {
    let log = subject.open(forever(), clock()).await;
    let name = stream("retry");
    let batch: Vec<_> = (1..=64).map(|seq| produced("p", seq, "x")).collect();
    let first = append(&*log, &name, batch.clone()).await;
    append(&*log, &name, vec![produced("q", 1, "between")]).await;

    let again = append(&*log, &name, batch).await;
    for (first, again) in first.iter().zip(&again) {
        assert_eq!((again.offset, again.duplicate), (first.offset, true));
    }
    // A retry that reaches further than its first attempt did, and one within a batch.
    let mixed =
        append(&*log, &name, vec![produced("p", 64, "x"), produced("p", 70, "y"), produced("p", 70, "y")])
            .await;
    assert_eq!(mixed.iter().map(|p| p.duplicate).collect::<Vec<_>>(), [true, false, true]);
    assert_eq!(mixed[1].offset, mixed[2].offset);
    assert_eq!(log.status(&name).await.expect("status").tail.seq.get(), 66);
}

pub(crate) async fn a_batch_is_taken_whole_or_not_at_all(subject: &dyn Subject) {
    let log = subject.open(forever(), clock()).await;
    let name = stream("whole");
    append(&*log, &name, vec![produced("p", 10, "x")]).await;
    let batch = vec![draft("a"), produced("q", 1, "b"), produced("p", 5, "too old")];
    match log.append(&name, batch).await {
        Err(AppendError::SequenceTooOld { index, producer, seq, newest }) => {
            assert_eq!((index, producer.as_str(), seq.get(), newest.get()), (2, "p", 5, 10));
        }
        other => panic!("taken: {other:?}"),
    }
    assert_eq!(log.status(&name).await.expect("status").tail.seq.get(), 1);
    // Nothing of the refused batch is remembered either.
    assert!(!append(&*log, &name, vec![produced("q", 1, "b")]).await[0].duplicate);
}

pub(crate) async fn reading_keeps_its_limits_and_always_gets_on(subject: &dyn Subject) {
    let log = subject.open(forever(), clock()).await;
    let name = stream("pages");
    append(&*log, &name, (0..10).map(|_| draft("0123456789")).collect()).await;
    let page = |after, events, bytes| {
        let (log, name) = (Arc::clone(&log), name.clone());
        async move {
            match log.read(&name, after, ReadLimit { events, bytes }).await.expect("reads") {
                Page::Events { events, at_end } => (seqs(&events), at_end),
                other => panic!("{other:?}"),
            }
        }
    };
    let start = log.locate(&name, Start::Earliest).await.expect("locates");
    assert_eq!(page(start, 3, 1000).await, (vec![1, 2, 3], false));
    assert_eq!(
        page(at(log.status(&name).await.expect("status").tail, 7), 3, 1000).await,
        (vec![8, 9, 10], true)
    );
    assert_eq!(page(start, 100, 25).await, (vec![1, 2, 3], false));
    assert_eq!(page(start, 0, 0).await, (vec![1], false));
}

pub(crate) async fn a_tail_yields_everything_after_its_start(subject: &dyn Subject) {
    let log = subject.open(forever(), clock()).await;
    let name = stream("tail");
    append_n(&*log, &name, 3).await;
    let writer = tokio::spawn({
        let (log, name) = (Arc::clone(&log), name.clone());
        async move {
            for _ in 0..100 {
                append_n(&*log, &name, 2).await;
            }
        }
    });
    let mut tail = log.follow(&name).await.expect("follows");
    let mut expected = tail.start().seq.get() + 1;
    assert!(expected > 3);
    while expected <= 203 {
        match tail.next().await {
            TailItem::Events(events) => {
                for event in events.iter() {
                    let seq = event.offset.seq.get();
                    assert!(seq <= expected, "the tail left out {expected}");
                    expected = expected.max(seq + 1);
                }
            }
            TailItem::Lagged => expected = repair(&*log, &name, tail.start(), expected).await,
            other => panic!("{other:?}"),
        }
    }
    writer.await.expect("no panic");
}

async fn repair(log: &dyn EventLog, name: &StreamName, cursor: Offset, expected: u64) -> u64 {
    expected + events(log, name, at(cursor, expected - 1)).await.len() as u64
}

pub(crate) async fn a_tail_that_lags_says_so(subject: &dyn Subject) {
    let log = subject.open(forever(), clock()).await;
    let name = stream("lag");
    let mut tail = log.follow(&name).await.expect("follows");
    for _ in 0..400 {
        append_n(&*log, &name, 1).await;
    }
    assert!(matches!(tail.next().await, TailItem::Lagged));
    let read = events(&*log, &name, tail.start()).await;
    assert_eq!(seqs(&read), (1..=400).collect::<Vec<_>>());
}

pub(crate) async fn trimming_by_count_leaves_an_exact_gap(subject: &dyn Subject) {
    let keep = Retention { events: Some(10), ..Retention::FOREVER };
    let log = subject.open(StreamPolicies::open(keep), clock()).await;
    let name = stream("count");
    let last = append_n(&*log, &name, 25).await;
    let mut tail = log.follow(&name).await.expect("follows");
    log.trim().await.expect("trims");
    match tail.next().await {
        TailItem::Trimmed(floor) => assert_eq!(floor.get(), 15),
        other => panic!("{other:?}"),
    }
    let status = log.status(&name).await.expect("status");
    assert_eq!((status.floor, status.tail), (at(last, 15), last));

    assert_eq!(
        gap(&*log, &name, at(last, 4)).await,
        Gap {
            requested: at(last, 4),
            first_missing: Some(at(last, 5)),
            cursor: at(last, 15),
            resumed_at: at(last, 16),
            reason: GapReason::Trimmed,
            lost: Some(11),
        }
    );
    assert_eq!(gap(&*log, &name, Offset::BEGINNING).await.lost, Some(15));
    assert_eq!(seqs(&events(&*log, &name, at(last, 15)).await), (16..=25).collect::<Vec<_>>());
    assert_eq!(log.locate(&name, Start::Earliest).await.expect("locates"), at(last, 15));
}

pub(crate) async fn trimming_by_bytes_and_age(subject: &dyn Subject) {
    let clock = clock();
    let mut policies = forever();
    policies.named.insert(stream("bytes"), Retention { bytes: Some(100), ..Retention::FOREVER });
    let hour = Retention { age: Some(Duration::from_secs(3600)), ..Retention::FOREVER };
    policies.named.insert(stream("age"), hour);
    let log = subject.open(policies, Arc::clone(&clock) as Arc<dyn Clock>).await;

    append(&*log, &stream("bytes"), (0..15).map(|_| draft("0123456789")).collect()).await;
    log.trim().await.expect("trims");
    let status = log.status(&stream("bytes")).await.expect("status");
    assert_eq!((status.floor.seq.get(), status.bytes), (5, 100));

    // Older than an hour by more than any index is coarse.
    let name = stream("age");
    append_n(&*log, &name, 5).await;
    clock.set(UnixMillis::new(1_700_000_000_000 + 2 * 3_600_000));
    let last = append_n(&*log, &name, 5).await;
    log.trim().await.expect("trims");
    let status = log.status(&name).await.expect("status");
    assert_eq!((status.floor, status.tail), (at(last, 5), last));

    // An idle stream ages to nothing, and its position is kept all the same.
    clock.set(UnixMillis::new(1_700_000_000_000 + 9 * 3_600_000));
    log.trim().await.expect("trims");
    let status = log.status(&name).await.expect("status");
    assert_eq!((status.floor, status.tail, status.bytes), (last, last, 0));
    let told = gap(&*log, &name, at(last, 7)).await;
    assert_eq!((told.cursor, told.resumed_at, told.lost), (last, at(last, 11), Some(3)));
    assert_eq!(append_n(&*log, &name, 1).await, at(last, 11));
}

pub(crate) async fn positions_off_the_history_are_told(subject: &dyn Subject) {
    let log = subject.open(forever(), clock()).await;
    let name = stream("off");
    let last = append_n(&*log, &name, 5).await;

    let ahead = gap(&*log, &name, at(last, 999_999)).await;
    assert_eq!((ahead.reason, ahead.lost), (GapReason::LostTail, None));
    assert_eq!((ahead.cursor, ahead.resumed_at), (last, at(last, 6)));

    let foreign: Offset = "77-3".parse().expect("valid");
    let unknown = gap(&*log, &name, foreign).await;
    assert_eq!((unknown.reason, unknown.lost, unknown.first_missing), (GapReason::Unknown, None, None));
    assert_eq!((unknown.cursor, unknown.resumed_at), (at(last, 0), at(last, 1)));
    assert_eq!(seqs(&events(&*log, &name, unknown.cursor).await), [1, 2, 3, 4, 5]);

    // A stream nobody ever published to is empty, not unknown.
    let empty = log.locate(&stream("never"), Start::Latest).await.expect("locates");
    assert_eq!(empty, at(last, 0));
    assert_eq!(events(&*log, &stream("never"), empty).await.len(), 0);
}

pub(crate) async fn every_start_is_located(subject: &dyn Subject) {
    let clock = clock();
    let keep = Retention { events: Some(50_000), ..Retention::FOREVER };
    let log = subject.open(StreamPolicies::open(keep), Arc::clone(&clock) as Arc<dyn Clock>).await;
    let name = stream("starts");
    // Ten batches, a minute apart.
    let start = 1_700_000_000_000;
    let mut last = Offset::BEGINNING;
    for minute in 0..10 {
        clock.set(UnixMillis::new(start + minute * 60_000));
        last = append_n(&*log, &name, 100).await;
    }
    let find = |start| {
        let (log, name) = (Arc::clone(&log), name.clone());
        async move { log.locate(&name, start).await.expect("locates") }
    };
    assert_eq!(find(Start::Latest).await, last);
    assert_eq!(find(Start::Earliest).await, at(last, 0));
    assert_eq!(find(Start::Last(3)).await, at(last, 997));
    assert_eq!(find(Start::Last(NUMBER_MAX)).await, at(last, 0));
    let foreign: Offset = "5-5".parse().expect("valid");
    assert_eq!(find(Start::After(foreign)).await, foreign);
    for (time, seq) in [
        (0, 0),
        (start, 0),
        (start + 1, 100),
        (start + 60_000, 100),
        (start + 9 * 60_000, 900),
        (start + 9 * 60_000 + 1, 1000),
    ] {
        assert_eq!(find(Start::Time(UnixMillis::new(time))).await, at(last, seq), "at {time}");
    }
}

pub(crate) async fn time_never_goes_back(subject: &dyn Subject) {
    let clock = clock();
    let log = subject.open(forever(), Arc::clone(&clock) as Arc<dyn Clock>).await;
    let name = stream("time");
    append_n(&*log, &name, 1).await;
    clock.set(UnixMillis::new(1_000));
    append_n(&*log, &name, 1).await;
    let read = events(&*log, &name, Offset::BEGINNING).await;
    assert_eq!(read[0].time, read[1].time);
}

/// The heart of the promise: a reader that only follows cursors and gap notices, while the log
/// grows and is cut behind it, can account for every single sequence.
pub(crate) async fn a_reader_among_appends_and_trims_misses_nothing_unsignalled(subject: &dyn Subject) {
    const TOTAL: u64 = 3_000;
    let keep = Retention { events: Some(40), ..Retention::FOREVER };
    let log = subject.open(StreamPolicies::open(keep), clock()).await;
    let name = stream("race");
    let mut cursor = log.locate(&name, Start::Latest).await.expect("locates");
    let writer = tokio::spawn({
        let (log, name) = (Arc::clone(&log), name.clone());
        async move {
            for _ in 0..TOTAL / 10 {
                append_n(&*log, &name, 10).await;
                tokio::task::yield_now().await;
            }
        }
    });
    let (mut seen, mut told) = (0, 0);
    while cursor.seq.get() < TOTAL {
        match log.read(&name, cursor, ReadLimit { events: 7, bytes: u64::MAX }).await.expect("reads") {
            Page::Events { events, .. } => {
                for event in events {
                    assert_eq!(event.offset.seq, cursor.seq.plus(1), "a silent hole");
                    cursor = event.offset;
                    seen += 1;
                }
            }
            Page::Gap(gap) => {
                assert_eq!(gap.lost, Some(gap.cursor.seq.get() - cursor.seq.get()));
                assert_eq!(gap.requested, cursor);
                told += gap.cursor.seq.get() - cursor.seq.get();
                cursor = gap.cursor;
            }
            Page::Hold { .. } => panic!("nothing to wait for"),
        }
        tokio::task::yield_now().await;
    }
    writer.await.expect("no panic");
    assert_eq!(seen + told, TOTAL);
    assert!(seen > 0);
}

pub(crate) async fn a_closed_log_says_so(subject: &dyn Subject) {
    let log = subject.open(forever(), clock()).await;
    let name = stream("closing");
    append_n(&*log, &name, 1).await;
    let mut tail = log.follow(&name).await.expect("follows");
    log.close().await;
    assert!(matches!(tail.next().await, TailItem::Closed));
    assert!(matches!(log.append(&name, vec![draft("x")]).await, Err(AppendError::Closed)));
    assert!(matches!(log.read(&name, Offset::BEGINNING, ALL).await, Err(ReadError::Closed)));
}

/// Random appends, retries, trims and reads against the obvious model: a vector.
pub(crate) async fn random_histories_match_the_model(subject: &dyn Subject) {
    let seed = std::env::var("EVERGATE_SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("repeat with EVERGATE_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let keep = Retention { events: Some(30), ..Retention::FOREVER };
    let mut log = subject.open(StreamPolicies::open(keep), clock()).await;
    let name = stream("model");
    let mut model: Vec<(Offset, String)> = Vec::new();
    let mut published: Vec<(u64, Offset)> = Vec::new();
    for step in 0..400 {
        match random.u32(0..10) {
            0..=4 => {
                let next = published.last().map_or(1, |(seq, _)| seq + random.u64(1..4));
                let batch: Vec<_> =
                    (0..random.u64(1..6)).map(|i| produced("p", next + i, &format!("{step}/{i}"))).collect();
                let placed = append(&*log, &name, batch.clone()).await;
                for (placed, draft) in placed.iter().zip(batch) {
                    assert!(!placed.duplicate);
                    let before = model.last().map_or(0, |(offset, _)| offset.seq.get());
                    assert_eq!(placed.offset.seq.get(), before + 1);
                    model.push((placed.offset, draft.data));
                    published.push((draft.producer.expect("made with one").seq.get(), placed.offset));
                }
            }
            5 if !published.is_empty() => {
                let recent = published.len().saturating_sub(200);
                let (seq, offset) = published[random.usize(recent..published.len())];
                let placed = append(&*log, &name, vec![produced("p", seq, "retried")]).await;
                assert_eq!(placed, [Placed { offset, duplicate: true }]);
            }
            6 => log.trim().await.expect("trims"),
            7 if random.u32(0..4) == 0 => {
                if subject.durable() {
                    log = reopen(subject, &log, keep).await;
                }
            }
            _ => {
                let Some(&(cursor, _)) = random.choice(&model) else { continue };
                let floor = log.status(&name).await.expect("status").floor.seq;
                match log.read(&name, cursor, ALL).await.expect("reads") {
                    Page::Events { events, at_end } => {
                        assert!(at_end && cursor.seq >= floor);
                        let read: Vec<_> = events.iter().map(|e| (e.offset, e.data.clone())).collect();
                        assert_eq!(read, model[usize::try_from(cursor.seq.get()).expect("small")..]);
                    }
                    Page::Gap(gap) => {
                        assert_eq!((gap.reason, gap.cursor.seq), (GapReason::Trimmed, floor));
                        assert_eq!(gap.lost, Some(floor.get() - cursor.seq.get()));
                    }
                    Page::Hold { .. } => panic!("nothing to wait for"),
                }
            }
        }
    }
}

async fn reopen(subject: &dyn Subject, log: &Arc<dyn EventLog>, keep: Retention) -> Arc<dyn EventLog> {
    log.close().await;
    subject.reopen(StreamPolicies::open(keep), clock()).await
}

pub(crate) async fn everything_survives_a_restart(subject: &dyn Subject) {
    if !subject.durable() {
        return;
    }
    let keep = Retention { events: Some(10), ..Retention::FOREVER };
    let log = subject.open(StreamPolicies::open(keep), clock()).await;
    let name = stream("restart");
    let empty = log.locate(&stream("empty"), Start::Latest).await.expect("locates");
    let batch: Vec<_> = (1..=15).map(|seq| produced("p", seq, &format!("event {seq}"))).collect();
    let placed = append(&*log, &name, batch.clone()).await;
    log.trim().await.expect("trims");
    let before = log.status(&name).await.expect("status");
    let last = before.tail;

    let log = reopen(subject, &log, keep).await;
    assert_eq!(log.status(&name).await.expect("status"), before);
    assert_eq!(seqs(&events(&*log, &name, at(last, 5)).await), (6..=15).collect::<Vec<_>>());
    assert_eq!(gap(&*log, &name, at(last, 2)).await.lost, Some(3));
    for (again, first) in append(&*log, &name, batch).await.iter().zip(&placed) {
        assert_eq!((again.offset, again.duplicate), (first.offset, true));
    }
    // The right to append changed hands, so the epoch rose; the sequence goes on.
    let next = append_n(&*log, &name, 1).await;
    assert!(next.epoch > last.epoch);
    assert_eq!(next.seq.get(), 16);
    assert_eq!(seqs(&events(&*log, &name, last).await), [16]);
    assert_eq!(events(&*log, &stream("empty"), empty).await.len(), 0);
    let ahead = gap(&*log, &name, at(last, 16)).await;
    assert_eq!((ahead.reason, ahead.cursor, ahead.resumed_at), (GapReason::LostTail, last, next));
}
