//! The library against the pure rules that every log shares: random operations on both, shrunk to
//! the shortest history on which they differ.

use std::collections::HashMap;

use evergate_domain::{
    Epoch, EventDraft, Gap, GapReason, Key, ProducerId, ProducerSeq, Retention, Seq, UnixMillis,
};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use redis::Value;
use redis::aio::MultiplexedConnection;

use super::super::call::{TooOld, Verdict, verdict};
use super::super::library::tests::versioned;
use super::super::{library, reply, wire};
use super::*;
use crate::{Epochs, PRODUCERS_MAX, Standing, StreamHead};

/// Entries of one node of a stream, as Redis has it unless it is told otherwise: what is trimmed at a guess
/// keeps fewer than that too many.
const NODE_ENTRIES: u64 = 100;
/// How far apart rows of the index are, at the most.
const ROW_EVENTS: u64 = 256;
const ROW_MILLIS: u64 = 10_000;

/// One batch: per event a producer (0 is this test's own, as for events without one), a choice of
/// its sequence, and a length.
type Events = Vec<(u8, i64, u8)>;

#[derive(Debug, Clone)]
enum Step {
    /// Batches in one call, the milliseconds that passed, whether appending may trim, and whether another
    /// level is asked for than that of most calls.
    Append(Vec<Events>, u64, Option<u64>, bool),
    /// Replicas confirmed everything up to here.
    Commit(u64),
    /// A cursor: an epoch from the end, and a sequence.
    Resume(u8, u64),
    Locate(u8, u64),
    Trim(Retention),
    /// The right to append changes hands, some numbers further on.
    Open(u64),
    /// It is taken away first, by so much, and somebody opens it above that.
    Fence(u64),
    /// Another node loads the library anew.
    Replace,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let sequence = prop_oneof![
        6 => Just(1i64),
        1 => 2i64..5,
        1 => Just(700i64),
        1 => Just(1100i64),
        2 => -20i64..=0,
        1 => -1500i64..=0,
    ];
    let events = prop::collection::vec((0u8..4, sequence, 0u8..40), 0..8);
    let keep = (prop::option::of(0u64..60), prop::option::of(0u64..1500), prop::option::of(0u64..60));
    let keep = keep.prop_map(|(events, bytes, age)| Retention {
        events,
        bytes,
        age: age.map(std::time::Duration::from_secs),
    });
    let append = (
        prop::collection::vec(events, 0..4),
        prop_oneof![3 => Just(0u64), 1 => 0u64..30_000],
        prop::option::weighted(0.2, 0u64..100),
        prop::bool::weighted(0.1),
    );
    let step = prop_oneof![
        8 => append.prop_map(|(batches, millis, keep, other)| Step::Append(batches, millis, keep, other)),
        4 => (0u64..400).prop_map(Step::Commit),
        6 => (0u8..6, 0u64..400).prop_map(|(epoch, seq)| Step::Resume(epoch, seq)),
        3 => (0u8..4, 0u64..400_000).prop_map(|(kind, n)| Step::Locate(kind, n)),
        2 => keep.prop_map(Step::Trim),
        1 => (1u64..5).prop_map(Step::Open),
        1 => (1u64..5).prop_map(Step::Fence),
        1 => Just(Step::Replace),
    ];
    prop::collection::vec(step, 1..80)
}

/// What the rules say, and the connection to what Redis says.
struct Both {
    redis: MultiplexedConnection,
    keys: Keys,
    epochs: Epochs,
    token: String,
    head: StreamHead,
    /// The level of most calls, and the one that the stream was made at.
    level: u8,
    made: Option<u8>,
    /// The newest event that may be shown.
    hwm: u64,
    /// Time and bytes of every event there ever was.
    events: Vec<(UnixMillis, u64)>,
    /// Sequence and time of the events that have a row in the index.
    rows: Vec<(u64, u64)>,
    newest: HashMap<u8, i64>,
    now: u64,
}

fn seq(n: u64) -> Seq {
    Seq::new(n).expect("fits")
}

/// How many events lie between two rows of the index.
fn spacing(keep: Option<u64>) -> u64 {
    keep.map_or(ROW_EVENTS, |keep| (keep / 8).clamp(16, ROW_EVENTS))
}

fn epochs_at(before: &[Epoch], number: u64) -> Epochs {
    Epochs::open(before.to_vec(), UnixMillis::new(number))
}

impl Both {
    async fn new(mut redis: MultiplexedConnection) -> Self {
        let _: () = redis::cmd("FLUSHALL").query_async(&mut redis).await.expect("flushes");
        let mut both = Self {
            redis,
            keys: Keys::of(&StreamName::new("model").expect("valid")),
            epochs: epochs_at(&[], 7),
            token: String::new(),
            head: StreamHead::default(),
            level: 0,
            made: None,
            hwm: 0,
            events: vec![],
            rows: vec![],
            newest: HashMap::new(),
            now: 1_000_000,
        };
        both.open(0).await;
        both
    }

    async fn call(&mut self, name: &str, keys: &[String], arguments: &[Vec<u8>]) -> Vec<String> {
        let mut call = redis::cmd("FCALL");
        call.arg(format!("evergate_1_{name}")).arg(keys.len()).arg(keys).arg(arguments);
        let answer: Value = call.query_async(&mut self.redis).await.expect("no error");
        reply::words(answer).expect("an array of texts")
    }

    fn stream(&self) -> [String; 2] {
        [self.keys.slot.record(), self.keys.meta()]
    }

    /// Opens the model's current epoch in Redis, where `fence` was open before.
    async fn open(&mut self, fence: u64) {
        let epoch = self.epochs.current().get();
        self.token = format!("token-{epoch}");
        let arguments = [text(fence), text(epoch), text(&self.token)];
        let answer = self.call("open", &[self.keys.slot.record()], &arguments).await;
        assert_eq!(answer[..3], ["OPEN".to_owned(), epoch.to_string(), self.token.clone()]);
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Append(batches, millis, keep, other) => {
                self.now += millis;
                let level = if *other { 1 - self.level } else { self.level };
                self.append(level, batches, *keep).await;
            }
            Step::Commit(mark) => self.commit(*mark).await,
            Step::Resume(epoch, at) => {
                let known = self.epochs.all();
                let epoch = match usize::from(*epoch) {
                    0 => Epoch::new(4).expect("fits"),
                    n => known[known.len().saturating_sub(n)],
                };
                let near = self.head.lineage.tail_seq().get() + 3;
                self.resume(Offset::new(epoch, seq(at % near))).await;
                self.resume(Offset::new(Epoch::default(), seq(at % 3))).await;
            }
            Step::Locate(kind, n) => self.locate(*kind, *n).await,
            Step::Trim(keep) => self.trim(*keep).await,
            Step::Open(further) => {
                let (fence, former) = (self.epochs.current().get(), self.token.clone());
                self.epochs = epochs_at(self.epochs.all(), fence + further);
                self.open(fence).await;
                let refused = self.call_commit(&former, 1).await;
                let expected = [self.epochs.current().to_string(), self.token.clone()];
                assert_eq!(refused, ["FENCED", &expected[0], &expected[1]]);
            }
            Step::Fence(further) => {
                let fence = self.epochs.current().get() + further;
                let record = [self.keys.slot.record()];
                // And a lower one changes nothing.
                for asked in [fence, fence - 1] {
                    assert_eq!(self.call("fence", &record, &[text(asked)]).await, ["OK", &fence.to_string()]);
                }
                self.shut(fence).await;
                // Who reads goes on. Nothing stands under the fence, and nothing ever will.
                self.status().await;
                self.resume(Offset::new(Epoch::new(fence).expect("fits"), seq(0))).await;
                self.resume(self.head.tail(self.epochs.current())).await;
                self.epochs = epochs_at(self.epochs.all(), fence + 1);
                self.open(fence).await;
            }
            Step::Replace => {
                let version = *library::VERSION + fastrand::i64(1..1000);
                let load =
                    redis::cmd("FUNCTION").arg("LOAD").arg("REPLACE").arg(versioned(version)).to_owned();
                let _: String = load.query_async(&mut self.redis).await.expect("loads");
                let there = redis::cmd("FCALL_RO").arg("evergate_1_version").arg(0).to_owned();
                let there: i64 = there.query_async(&mut self.redis).await.expect("answers");
                assert_eq!(there, version, "it is another one");
                let fence = self.epochs.current().get();
                self.shut(fence).await;
                self.epochs = epochs_at(self.epochs.all(), fence + 1);
                self.open(fence).await;
            }
        }
    }

    /// Nothing is written any more.
    async fn shut(&mut self, fence: u64) {
        let shut = ["SHUT".to_owned(), fence.to_string(), fence.to_string()];
        assert_eq!(self.call_append(&[], None).await, shut);
        assert_eq!(self.call_commit(&self.token.clone(), 1).await, shut);
        // What is ahead goes on under an epoch that has no number yet.
        let tail = self.head.tail(self.epochs.current());
        let ahead = [text(tail.epoch), text(tail.seq.plus(1)), text(0)];
        let stream = self.stream();
        assert_eq!(self.call("resume", &stream, &ahead).await, shut);
    }

    async fn call_commit(&mut self, token: &str, mark: u64) -> Vec<String> {
        let epoch = token.trim_start_matches("token-");
        let arguments = [text(epoch), text(token), text(mark), text(self.keys.channel(0))];
        let stream = self.stream();
        self.call("commit", &stream, &arguments).await
    }

    async fn commit(&mut self, mark: u64) {
        let tail = self.head.lineage.tail_seq().get();
        let mark = mark % (tail + 3);
        let answer = self.call_commit(&self.token.clone(), mark).await;
        self.hwm = self.hwm.max(mark.min(tail));
        assert_eq!(answer, ["OK", &self.hwm.to_string()]);
        self.status().await;
    }

    async fn append(&mut self, level: u8, batches: &[Events], keep: Option<u64>) {
        let batches: Vec<Vec<EventDraft>> =
            batches.iter().map(|events| events.iter().map(|event| self.draft(*event)).collect()).collect();
        let answer = self.call_append_at(level, &batches, keep).await;
        if let Some(made) = self.made.filter(|&made| made < level) {
            assert_eq!(answer, ["LEVEL", &made.to_string()]);
            self.status().await;
            return;
        }
        let before = self.events.len();
        let expected: Vec<Verdict> = batches.iter().map(|batch| self.plan(batch.clone())).collect();
        let answered: Vec<Verdict> = answer[4..]
            .iter()
            .zip(&batches)
            .map(|(word, batch)| verdict(word, batch.len()).expect("known"))
            .collect();
        assert_eq!(answered, expected);
        let new = self.events.len() > before;
        if new {
            self.made.get_or_insert(level);
        }
        let level = self.made.unwrap_or(level);
        let tail = self.head.lineage.tail_seq().get();
        if level == 0 {
            self.hwm = tail;
        }
        let stands = if tail == 0 { Offset::BEGINNING } else { self.head.tail(self.epochs.current()) };
        let expected = [stands.to_string(), self.hwm.to_string(), level.to_string()];
        assert_eq!((answer[0].as_str(), &answer[1..4]), ("OK", &expected[..]));
        if new {
            self.index(before, keep);
            self.let_go(keep);
        }
        self.status().await;
    }

    /// Notes which of the new events have a row in the index.
    fn index(&mut self, before: usize, keep: Option<u64>) {
        for (seq, (time, _)) in (1..).zip(&self.events).skip(before) {
            let apart = |&(row, at): &(u64, u64)| seq - row >= spacing(keep) || time.get() - at >= ROW_MILLIS;
            if self.rows.last().is_none_or(apart) {
                self.rows.push((seq, time.get()));
            }
        }
    }

    /// Appending lets go of whole stretches of the index, of nothing that is to be kept, and of nothing that
    /// is not shown yet.
    fn let_go(&mut self, keep: Option<u64>) {
        let Some(keep) = keep else { return };
        let (tail, floor) = (self.head.lineage.tail_seq().get(), self.head.floor.get());
        if tail - floor < keep + spacing(Some(keep)) {
            return;
        }
        let cut = self.rows.iter().rev().map(|row| row.0 - 1).find(|&cut| cut <= tail - keep);
        if let Some(cut) = cut.filter(|&cut| cut > floor && cut <= self.hwm) {
            self.head.floor = seq(cut);
        }
    }

    fn draft(&mut self, (producer, step, length): (u8, i64, u8)) -> EventDraft {
        let newest = self.newest.entry(producer).or_insert(0);
        let sequence = (*newest + step).max(1);
        *newest = sequence.max(*newest);
        EventDraft {
            key: Key::new(&"k".repeat(usize::from(length % 3))).ok(),
            producer: Some(ProducerSeq {
                id: ProducerId::new(&format!("p{producer}")).expect("valid"),
                seq: seq(sequence.unsigned_abs()),
            }),
            ..EventDraft::new("x\n".repeat(usize::from(length)))
        }
    }

    fn numbered(producer: u8, sequence: u64) -> EventDraft {
        let id = ProducerId::new(&format!("p{producer}")).expect("valid");
        EventDraft { producer: Some(ProducerSeq { id, seq: seq(sequence) }), ..EventDraft::new("x") }
    }

    fn plan(&mut self, batch: Vec<EventDraft>) -> Verdict {
        match self.head.plan(self.epochs.current(), UnixMillis::new(self.now), batch) {
            Ok(plan) => {
                self.head.commit(&plan, |_| {});
                self.events.extend(plan.events.iter().map(|event| (event.time, event.bytes())));
                Ok(plan.answer)
            }
            Err(AppendError::SequenceTooOld { index, newest, .. }) => Err(TooOld { index, newest }),
            Err(error) => panic!("{error}"),
        }
    }

    async fn call_append(&mut self, batches: &[Vec<EventDraft>], keep: Option<u64>) -> Vec<String> {
        self.call_append_at(0, batches, keep).await
    }

    async fn call_append_at(
        &mut self,
        level: u8,
        batches: &[Vec<EventDraft>],
        keep: Option<u64>,
    ) -> Vec<String> {
        let keys = &self.keys;
        let all = [
            keys.slot.record(),
            keys.slot.streams(),
            keys.meta(),
            keys.log(),
            keys.index(),
            keys.producers(),
            keys.recent(),
        ];
        // What was open before a replaced library, too.
        let epoch = self.token.trim_start_matches("token-").to_owned();
        let keep = keep.map(|keep| keep.to_string()).unwrap_or_default();
        let mut arguments =
            vec![text(epoch), text(&self.token), text(level), text(self.now), text(keep), vec![]];
        arguments.extend([text(keys.channel(0)), text("model")]);
        for batch in batches {
            arguments.push(text(batch.len()));
            for draft in batch {
                let producer = draft.producer.as_ref().expect("made with one");
                let mut event = vec![];
                wire::encode(draft, &mut event);
                arguments.extend([text(&producer.id), text(producer.seq), text(1), event]);
            }
        }
        self.call("append", &all, &arguments).await
    }

    async fn status(&mut self) {
        let answer = self.call("status", &self.stream(), &[]).await;
        let current = self.epochs.current();
        let bytes: u64 = self.events[self.floor()..].iter().map(|event| event.1).sum();
        let expected = [
            "OK".to_owned(),
            self.head.lineage.cursor_at(seq(self.hwm), current).to_string(),
            self.head.floor(current).to_string(),
            bytes.to_string(),
            self.head.tail(current).to_string(),
            self.made.unwrap_or(0).to_string(),
        ];
        assert_eq!(answer, expected);
        let kept = (self.events.len() - self.floor()) as u64;
        let stored = self.stored().await;
        assert!((kept..kept + NODE_ENTRIES).contains(&stored), "{stored} are stored of {kept}");
    }

    /// How many events really lie there.
    async fn stored(&mut self) -> u64 {
        redis::cmd("XLEN").arg(self.keys.log()).query_async(&mut self.redis).await.expect("counts")
    }

    fn floor(&self) -> usize {
        usize::try_from(self.head.floor.get()).expect("small")
    }

    async fn resume(&mut self, cursor: Offset) {
        let arguments = [text(cursor.epoch), text(cursor.seq), text(0)];
        let answer = self.call("resume", &self.stream(), &arguments).await;
        let answer: Vec<&str> = answer.iter().map(String::as_str).collect();
        let at = |word: &str| reply::offset(word).expect("an offset");
        let gap = |first_missing, cursor_at: &str, resumed_at: &str, reason, lost| {
            Standing::Gap(Gap {
                requested: cursor,
                first_missing,
                cursor: at(cursor_at),
                resumed_at: at(resumed_at),
                reason,
                lost,
            })
        };
        let standing = match *answer.as_slice() {
            ["OK", hwm, up_to, "0"] => {
                let mark = self.hwm.to_string();
                assert_eq!((hwm, up_to), (mark.as_str(), mark.as_str()));
                assert!(cursor.seq.get() <= self.hwm, "it is not shown yet");
                Standing::After(cursor.seq)
            }
            ["HOLD", committed] => {
                let shown = self.head.lineage.cursor_at(seq(self.hwm), self.epochs.current());
                assert_eq!(at(committed), shown);
                assert!(cursor.seq.get() > self.hwm, "it may be shown");
                Standing::After(cursor.seq)
            }
            ["GAP", missing, cursor_at, resumed_at, lost] => {
                let lost = lost.parse().expect("a number");
                gap(Some(at(missing)), cursor_at, resumed_at, GapReason::Trimmed, Some(lost))
            }
            ["FORK", "lost-tail", cursor_at, resumed_at] => {
                gap(None, cursor_at, resumed_at, GapReason::LostTail, None)
            }
            ["FORK", "unknown", cursor_at, resumed_at] => {
                gap(None, cursor_at, resumed_at, GapReason::Unknown, None)
            }
            ref other => panic!("{other:?}"),
        };
        assert_eq!(standing, self.head.judge(cursor, &self.epochs), "after {cursor}");
    }

    async fn locate(&mut self, kind: u8, n: u64) {
        let floor = self.head.floor.get();
        let hwm = self.hwm;
        let (word, n, expected) = match kind {
            0 => ("latest", n, hwm),
            1 => ("earliest", n, floor),
            2 => ("last", n % 500, hwm.saturating_sub(n % 500).max(floor)),
            _ => {
                let time = 1_000_000 + n;
                let shown = usize::try_from(hwm).expect("small");
                let kept = &self.events[self.floor()..shown];
                ("time", time, floor + kept.partition_point(|event| event.0.get() < time) as u64)
            }
        };
        let [slot, meta] = self.stream();
        let keys = [slot, meta, self.keys.log(), self.keys.index()];
        let answer = self.call("locate", &keys, &[text(word), text(n)]).await;
        let expected = self.head.lineage.cursor_at(seq(expected), self.epochs.current());
        assert_eq!(answer, ["OK".to_owned(), expected.to_string()], "{word} {n}");
    }

    async fn trim(&mut self, keep: Retention) {
        let oldest =
            keep.age.map(|age| self.now.saturating_sub(u64::try_from(age.as_millis()).expect("small")));
        let bound = |n: Option<u64>| n.map(|n| n.to_string().into_bytes()).unwrap_or_default();
        let keys = [self.keys.meta(), self.keys.log(), self.keys.index()];
        let before = self.stored().await;
        let answer = self.call("trim", &keys, &[bound(keep.events), bound(keep.bytes), bound(oldest)]).await;
        let kept = &self.events[self.floor()..];
        let mut bytes: u64 = kept.iter().map(|event| event.1).sum();
        let mut floor = self.floor();
        for (at, event) in kept.iter().enumerate() {
            let many = keep.events.is_some_and(|max| (kept.len() - at) as u64 > max);
            let large = keep.bytes.is_some_and(|max| bytes > max);
            let old = oldest.is_some_and(|oldest| event.0.get() < oldest);
            // What is not shown yet is not due, however much there is of it.
            if floor as u64 == self.hwm || !(many || large || old) {
                break;
            }
            bytes -= event.1;
            floor += 1;
        }
        let moved = floor > self.floor();
        self.head.floor = seq(floor as u64);
        assert_eq!(answer, ["OK".to_owned(), floor.to_string()]);
        // And it is really gone, no more and no less.
        let expected = if moved { (self.events.len() - floor) as u64 } else { before };
        assert_eq!(self.stored().await, expected);
        self.status().await;
    }
}

#[expect(clippy::needless_pass_by_value, reason = "so that numbers and texts can be written alike")]
fn text(value: impl ToString) -> Vec<u8> {
    value.to_string().into_bytes()
}

#[test]
fn random_histories_agree_with_the_pure_rules() {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let server = runtime.block_on(Server::start());
    let mut connection = runtime.block_on(server.connect()).expect("connects");
    runtime
        .block_on(super::super::library::ensure(&mut connection, super::super::library::LOADED_KEY))
        .expect("loads");
    let cases = std::env::var("EVERGATE_CASES").ok().and_then(|n| n.parse().ok()).unwrap_or(200);
    let config = Config { cases, failure_persistence: None, ..Config::default() };
    let mut runner = TestRunner::new(config);
    let result = runner.run(&(0u8..2, steps()), |(level, steps)| {
        runtime.block_on(async {
            let mut both = Both::new(connection.clone()).await;
            both.level = level;
            for step in &steps {
                both.step(step).await;
            }
        });
        Ok(())
    });
    if let Err(error) = result {
        panic!("{error}\nmore cases: EVERGATE_CASES=2000");
    }
}

#[tokio::test]
async fn the_producer_that_appended_least_recently_is_forgotten_first() {
    let server = Server::start().await;
    let mut connection = server.connect().await.expect("connects");
    super::super::library::ensure(&mut connection, super::super::library::LOADED_KEY).await.expect("loads");
    let mut both = Both::new(connection).await;
    let draft = |n: usize| EventDraft {
        producer: Some(ProducerSeq { id: ProducerId::new(&format!("p{n}")).expect("valid"), seq: seq(1) }),
        ..EventDraft::new("x")
    };
    for hundred in 0..PRODUCERS_MAX / 100 {
        let batch: Vec<_> = (0..100).map(|n| draft(hundred * 100 + n)).collect();
        assert!(both.call_append(&[batch], None).await[4].starts_with('+'));
    }
    let known = both.call_append(&[vec![draft(0)], vec![draft(1)]], None).await;
    assert_eq!(known[4..], ["=7-1*".to_owned(), "=7-2*".to_owned()]);
    // Asking is not appending: the oldest is still the first.
    let one_more = both.call_append(&[vec![draft(PRODUCERS_MAX)]], None).await;
    assert_eq!(one_more[4], format!("+7-{}", PRODUCERS_MAX + 1));
    let after = both.call_append(&[vec![draft(1)], vec![draft(0)]], None).await;
    assert_eq!(after[4..], ["=7-2*".to_owned(), format!("+7-{}", PRODUCERS_MAX + 2)]);
    let fields: usize =
        redis::cmd("HLEN").arg(both.keys.producers()).query_async(&mut both.redis).await.expect("counts");
    assert_eq!(fields, PRODUCERS_MAX);
}

#[tokio::test]
async fn the_window_ends_where_the_pure_rules_end_it() {
    let server = Server::start().await;
    let mut connection = server.connect().await.expect("connects");
    super::super::library::ensure(&mut connection, super::super::library::LOADED_KEY).await.expect("loads");
    let mut both = Both::new(connection).await;
    let window = i64::try_from(crate::WINDOW).expect("small");
    // Three runs of one event each, another producer between them.
    both.append(0, &[vec![(1, 1, 1), (2, 1, 1)]], None).await;
    both.append(0, &[vec![(1, window - 1, 1), (2, 1, 1)]], None).await;
    let ask = vec![Both::numbered(1, 1)];
    assert_eq!(both.call_append(std::slice::from_ref(&ask), None).await[4], "=7-1*");
    both.append(0, &[vec![(1, 1, 1)]], None).await;
    assert_eq!(both.call_append(&[ask], None).await[4], format!("!0 {}", crate::WINDOW + 1));
}

/// A WAIT covers what its connection wrote. A duplicate writes nothing by itself.
#[tokio::test]
async fn a_duplicate_that_is_not_committed_writes_something_to_wait_for() {
    let server = Server::start().await;
    let mut connection = server.connect().await.expect("connects");
    super::super::library::ensure(&mut connection, super::super::library::LOADED_KEY).await.expect("loads");
    let mut both = Both::new(connection).await;
    let batch = [vec![Both::numbered(1, 1)]];
    let keys = both.keys.clone();
    let mut redis = both.redis.clone();
    let mut asked = async || -> Option<u64> {
        redis::cmd("HGET").arg(keys.meta()).arg("asked").query_async(&mut redis).await.expect("asks")
    };
    let first = both.call_append_at(1, &batch, None).await;
    assert_eq!((first[2].as_str(), asked().await), ("0", None), "not committed, and written anyway");
    both.now += 1;
    let again = both.call_append_at(1, &batch, None).await;
    assert_eq!((again[4].as_str(), asked().await), ("=7-1*", Some(both.now)));
    // Committed, there is nothing to wait for.
    let channel = text(both.keys.channel(0));
    let (stream, commit) = (both.stream(), [text(7), text("token-7"), text(1), channel]);
    assert_eq!(both.call("commit", &stream, &commit).await, ["OK", "1"]);
    both.now += 1;
    let last = both.call_append_at(1, &batch, None).await;
    assert_eq!((last[2].as_str(), asked().await), ("1", Some(both.now - 1)));
    // And under another epoch, or another word for it, nothing is committed.
    let commit = [text(7), text("other"), text(1), text("channel")];
    assert_eq!(both.call("commit", &stream, &commit).await, ["FENCED", "7", "token-7"]);
}

#[tokio::test]
async fn numbers_are_exact_up_to_two_to_the_53() {
    let server = Server::start().await;
    let mut connection = server.connect().await.expect("connects");
    super::super::library::ensure(&mut connection, super::super::library::LOADED_KEY).await.expect("loads");
    let mut both = Both::new(connection).await;
    let largest = evergate_domain::NUMBER_MAX;
    both.epochs = epochs_at(&[], 253_402_207_200_000);
    both.open(7).await;
    let draft = |n: u64| EventDraft {
        producer: Some(ProducerSeq { id: ProducerId::new("p").expect("valid"), seq: seq(n) }),
        ..EventDraft::new("x")
    };
    let answer = both.call_append(&[vec![draft(largest - 1), draft(largest)]], None).await;
    assert_eq!(answer[4], "+253402207200000-1");
    let again = both.call_append(&[vec![draft(largest)], vec![draft(largest - 1)]], None).await;
    assert_eq!(again[4..], ["=253402207200000-2*".to_owned(), "=253402207200000-1*".to_owned()]);
    for hostile in ["9007199254740992", "1.5", "-1", "1e300", "nan", "", "x"] {
        let open = redis::cmd("FCALL")
            .arg(("evergate_1_open", 1, both.keys.slot.record(), hostile, hostile, "token"))
            .to_owned();
        let refused: redis::RedisResult<Value> = open.query_async(&mut both.redis).await;
        assert!(refused.expect_err(hostile).to_string().contains("whole number"), "{hostile}");
    }
}

#[tokio::test]
async fn the_loser_of_a_race_reads_the_winners_epoch() {
    let server = Server::start().await;
    let mut connection = server.connect().await.expect("connects");
    super::super::library::ensure(&mut connection, super::super::library::LOADED_KEY).await.expect("loads");
    let mut both = Both::new(connection).await;
    let record = [both.keys.slot.record()];
    let lost = both.call("open", &record, &[text(0), text(9), text("other")]).await;
    assert_eq!(lost, ["FENCED", "7", "token-7"]);
    let fenced = both.call("fence", &record, &[text(20)]).await;
    assert_eq!(fenced, ["OK", "20"]);
    assert_eq!(both.call_append(&[], None).await, ["SHUT", "20", "20"]);
    assert_eq!(both.call("open", &record, &[text(7), text(30), text("other")]).await, ["SHUT", "20", "20"]);
    assert_eq!(both.call("open", &record, &[text(20), text(21), text("other")]).await[0], "OPEN");
    assert_eq!(both.call_append(&[], None).await, ["FENCED", "21", "other"]);
    // The number alone proves nothing: two histories may have come to the same.
    both.token = "token-21".to_owned();
    assert_eq!(both.call_append(&[], None).await, ["FENCED", "21", "other"]);
}

/// At HOME a crash may have cut a tail that nobody knows of; whoever crosses it is told, once.
#[tokio::test]
async fn an_epoch_that_a_crash_ended_is_announced_once() {
    let server = Server::start_durable().await;
    let mut connection = server.connect().await.expect("connects");
    super::super::library::ensure(&mut connection, super::super::library::LOADED_KEY).await.expect("loads");
    let mut both = Both::new(connection).await;
    let draft = || vec![EventDraft::new("x")];
    let numbered = |n: u64| {
        let producer = ProducerSeq { id: ProducerId::new("p").expect("valid"), seq: seq(n) };
        draft()
            .into_iter()
            .map(|draft| EventDraft { producer: Some(producer.clone()), ..draft })
            .collect::<Vec<_>>()
    };
    for n in 1..=3 {
        both.call_append(&[numbered(n)], None).await;
    }
    server.kill();
    server.run().await;
    both.redis = server.connect().await.expect("connects");
    both.epochs = epochs_at(both.epochs.all(), 9);
    let ahead = [text(7), text(5), text(0)];
    assert_eq!(both.call("resume", &both.stream(), &ahead).await, ["SHUT", "7", "7"]);
    both.open(7).await;
    let resume = |cursor: &str| {
        let cursor: Offset = cursor.parse().expect("valid");
        [text(cursor.epoch), text(cursor.seq), text(0)]
    };
    let stream = both.stream();
    // Before anything is appended, and after.
    for up_to in ["3", "4"] {
        assert_eq!(both.call("resume", &stream, &resume("7-2")).await, ["OK", up_to, "3", "1"]);
        assert_eq!(both.call("resume", &stream, &resume("7-3")).await, ["FORK", "lost-tail", "9-3", "9-4"]);
        assert_eq!(both.call("resume", &stream, &resume("7-5")).await, ["FORK", "lost-tail", "9-3", "9-4"]);
        assert_eq!(both.call("resume", &stream, &resume("9-3")).await, ["OK", up_to, up_to, "0"]);
        // Whoever begins now was not there.
        if up_to == "3" {
            assert_eq!(both.call("status", &stream, &[]).await[1], "9-3");
            both.call_append(&[numbered(4)], None).await;
        }
    }
}
