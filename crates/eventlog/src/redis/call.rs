//! One append call: several batches of one stream, sent, judged, confirmed, and answered.
//!
//! A call whose fate is unknown is repeated under the same producer sequences until it is known or
//! time is up, so it takes effect once at the most. Events without a producer are numbered under
//! this process' own name before the first attempt.

use std::sync::Arc;
use std::time::Duration;

use evergate_domain::{EventDraft, Level, NUMBER_MAX, Offset, ProducerId, Seq, StreamName};
use redis::{Cmd, RedisError, cmd};
use tokio::sync::oneshot;
use tokio::time::Instant;

use super::error::{self, Fate, fate};
use super::gates::{Gate, NotOpened};
use super::keys::Keys;
use super::link::{Connected, jittered};
use super::node::Purpose;
use super::reply::{self, Refusal};
use super::topology::Route;
use super::{Shared, levels, wire};
use crate::{AppendError, BackendError, Placed};

const PAUSE_MIN: Duration = Duration::from_millis(5);
const PAUSE_MAX: Duration = Duration::from_millis(250);
/// How long the end of a slot's move is waited for. Before it nobody can say that all of it arrived, and
/// opening the gate earlier would have everybody told of a loss that did not happen.
const MOVE_MAX: Duration = Duration::from_secs(2);

/// A caller's batch.
pub(super) struct Batch {
    pub(super) events: Vec<EventDraft>,
    pub(super) answer: oneshot::Sender<Result<Vec<Placed>, AppendError>>,
    /// Gives the batch's room in the queue back when it is answered.
    pub(super) _room: tokio::sync::OwnedSemaphorePermit,
}

/// Batches of one stream. None at all asks that what is written be committed.
pub(super) struct Call {
    pub(super) stream: StreamName,
    pub(super) batches: Vec<Batch>,
    /// The first of the numbers set aside for events without a producer.
    pub(super) first_own: u64,
}

/// What one attempt came to.
enum Attempt {
    Done(Vec<Verdict>),
    /// Not executed: again at once, with what was learnt.
    Again,
    /// Not executed, for a reason that takes time.
    Later(BackendError),
    Unknown(BackendError),
    Full(String),
    /// The stream was made at a lower level than is configured.
    Level(Level),
    Hopeless(BackendError),
}

/// What became of a batch.
pub(super) type Verdict = Result<Vec<Placed>, TooOld>;

/// The event at `index` is below its producer's window, whose newest is this.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooOld {
    pub(super) index: usize,
    pub(super) newest: Seq,
}

impl Call {
    /// Carries it out and answers every batch. Returns the stream, whose next call may follow.
    pub(super) async fn run(self, shared: Arc<Shared>) -> StreamName {
        let outcome = self.carry_out(&shared).await;
        let Self { stream, batches, .. } = self;
        match outcome {
            Ok(verdicts) => {
                for (batch, verdict) in batches.into_iter().zip(verdicts) {
                    let answer = match verdict {
                        Ok(placed) => Ok(without_our_own(placed, &batch.events)),
                        Err(TooOld { index, newest }) => Err(too_old(&batch.events, index, newest)),
                    };
                    // A caller that is gone does not want to know.
                    let _ = batch.answer.send(answer);
                }
            }
            Err(error) => {
                for batch in batches {
                    let _ = batch.answer.send(Err(error.clone()));
                }
            }
        }
        stream
    }

    async fn carry_out(&self, shared: &Shared) -> Result<Vec<Verdict>, AppendError> {
        let begun = Instant::now();
        let deadline = begun + shared.options.append_timeout;
        let keys = Keys::of(&self.stream);
        let mut pause = PAUSE_MIN;
        let mut last = None;
        let mut purpose = self.purpose(shared);
        let mut route = shared.topology.route(keys.slot.hash_slot(), purpose);
        loop {
            // What was learnt of the stream's level counts from the next attempt.
            let now = self.purpose(shared);
            if std::mem::replace(&mut purpose, now) != now {
                route = shared.topology.route(keys.slot.hash_slot(), now);
            }
            let connected = tokio::time::timeout_at(deadline, route.connected()).await;
            let Ok(Some(connected)) = connected else {
                return Err(AppendError::Unavailable(last.unwrap_or_else(|| route.unreachable())));
            };
            match self.attempt(shared, &keys, &mut route, &connected, begun.elapsed() < MOVE_MAX).await {
                Attempt::Done(verdicts) => return Ok(verdicts),
                Attempt::Full(why) => return Err(AppendError::Full(why)),
                Attempt::Hopeless(error) => return Err(AppendError::Unavailable(error)),
                Attempt::Level(made) => {
                    shared.levels.found(&self.stream, made);
                    let configured = shared.levels.configured(&self.stream);
                    return Err(AppendError::OtherLevel { stream: self.stream.clone(), made, configured });
                }
                Attempt::Again => {}
                Attempt::Later(error) | Attempt::Unknown(error) => {
                    metrics::counter!("evergate_redis_append_retries_total").increment(1);
                    last = Some(error);
                    tokio::time::sleep(jittered(pause)).await;
                    pause = (pause * 2).min(PAUSE_MAX);
                }
            }
            if Instant::now() >= deadline {
                return Err(AppendError::Unavailable(last.unwrap_or_else(|| route.unreachable())));
            }
        }
    }

    /// Over which link: a `WAIT` holds up whatever comes behind it.
    fn purpose(&self, shared: &Shared) -> Purpose {
        match shared.levels.of(&self.stream) {
            Level::Home => Purpose::Write,
            Level::Replicated | Level::Quorum => Purpose::Confirm,
        }
    }

    async fn attempt(
        &self,
        shared: &Shared,
        keys: &Keys,
        route: &mut Route<'_>,
        on: &Connected,
        may_move: bool,
    ) -> Attempt {
        let gate = shared.gates.get(keys.slot);
        let answer = match on.send(&self.command(shared, keys, &gate)).await {
            Ok(answer) => answer,
            Err(error) => return failed(route, on, &error),
        };
        let odd = || Attempt::Hopeless(error::odd("append"));
        let Some(words) = reply::words(answer) else { return odd() };
        if let Some(refusal) = Refusal::read(&words) {
            if may_move && on.asking && matches!(refusal, Refusal::Shut { .. }) {
                return Attempt::Later(BackendError::message("the stream is on its way to another primary"));
            }
            return refused(shared, keys, route, on, &gate, refusal).await;
        }
        let Some(Appended { tail, hwm, level, verdicts }) = self.read(&words) else { return odd() };
        shared.levels.found(&self.stream, level);
        let asked = verdicts.iter().flatten().flatten().map(|placed| placed.offset.seq).max();
        if level == Level::Home || asked.unwrap_or(tail.seq) <= hwm {
            return Attempt::Done(verdicts);
        }
        match on.confirm(&shared.options).await {
            Ok(true) => {}
            Ok(false) => {
                return Attempt::Unknown(BackendError::message("too few replicas confirmed it in time"));
            }
            Err(error) => return failed(route, on, &error),
        }
        let mut commit = cmd("FCALL");
        commit.arg("evergate_1_commit").arg(2).arg(keys.slot.record()).arg(keys.meta());
        commit.arg(gate.epoch.get()).arg(&gate.token).arg(tail.seq.get()).arg(keys.channel(shared.database));
        match on.send(&commit).await {
            Ok(answer) => match reply::words(answer).as_deref() {
                Some([ok, _]) if ok == "OK" => Attempt::Done(verdicts),
                // The gate moved on in between. Under the next one it is a duplicate, if it is there.
                Some(_) => Attempt::Unknown(BackendError::message("the epoch ended before the commit")),
                None => odd(),
            },
            Err(error) => failed(route, on, &error),
        }
    }

    fn command(&self, shared: &Shared, keys: &Keys, gate: &Gate) -> Cmd {
        let retention = shared.policies.retention(&self.stream);
        let bound =
            |bound: Option<u64>| bound.map(|bound| bound.min(NUMBER_MAX).to_string()).unwrap_or_default();
        let level = levels::number(shared.levels.configured(&self.stream));
        let mut append = cmd("FCALL");
        append.arg("evergate_1_append").arg(7);
        append.arg(keys.slot.record()).arg(keys.slot.streams()).arg(keys.meta()).arg(keys.log());
        append.arg(keys.index()).arg(keys.producers()).arg(keys.recent());
        append.arg(gate.epoch.get()).arg(&gate.token).arg(level).arg(shared.clock.now().get());
        append.arg(bound(retention.events)).arg(bound(retention.bytes));
        append.arg(keys.channel(shared.database)).arg(self.stream.as_str());
        let mut own = self.first_own;
        let mut text = Vec::new();
        for batch in &self.batches {
            let spans = spans(&batch.events, &shared.incarnation, &mut own);
            append.arg(spans.len());
            let mut events = batch.events.iter();
            for span in spans {
                append.arg(span.producer).arg(span.first).arg(span.count);
                for event in events.by_ref().take(span.count) {
                    text.clear();
                    wire::encode(event, &mut text);
                    append.arg(&text[..]);
                }
            }
        }
        append
    }

    fn read(&self, words: &[String]) -> Option<Appended> {
        let [ok, tail, hwm, level, batches @ ..] = words else { return None };
        if ok != "OK" || batches.len() != self.batches.len() {
            return None;
        }
        let verdicts =
            batches.iter().zip(&self.batches).map(|(word, batch)| verdict(word, batch.events.len()));
        Some(Appended {
            tail: reply::offset(tail)?,
            hwm: reply::seq(hwm)?,
            level: levels::level(level)?,
            verdicts: verdicts.collect::<Option<_>>()?,
        })
    }
}

struct Appended {
    tail: Offset,
    hwm: Seq,
    level: Level,
    verdicts: Vec<Verdict>,
}

/// Events of one producer whose sequences follow each other.
struct Span<'a> {
    producer: &'a str,
    first: u64,
    count: usize,
}

fn spans<'a>(events: &'a [EventDraft], incarnation: &'a str, own: &mut u64) -> Vec<Span<'a>> {
    let mut spans: Vec<Span<'a>> = Vec::new();
    for event in events {
        let (producer, seq) = match &event.producer {
            Some(producer) => (producer.id.as_str(), producer.seq.get()),
            None => {
                *own += 1;
                (incarnation, *own - 1)
            }
        };
        match spans.last_mut() {
            Some(span) if span.producer == producer && span.first + span.count as u64 == seq => {
                span.count += 1;
            }
            Some(_) | None => spans.push(Span { producer, first: seq, count: 1 }),
        }
    }
    spans
}

pub(super) fn verdict(word: &str, count: usize) -> Option<Verdict> {
    let (kind, rest) = word.split_at_checked(1)?;
    let placed = match kind {
        "+" => {
            let first = reply::offset(rest)?;
            let at = |n| Offset::new(first.epoch, first.seq.plus(n));
            (0..count as u64).map(|n| Placed { offset: at(n), duplicate: false }).collect()
        }
        "=" => {
            let placed = rest.split(',').map(|word| {
                let (offset, duplicate) =
                    word.strip_suffix('*').map_or((word, false), |offset| (offset, true));
                Some(Placed { offset: reply::offset(offset)?, duplicate })
            });
            placed.collect::<Option<Vec<_>>>()?
        }
        "!" => {
            let (index, newest) = rest.split_once(' ')?;
            return Some(Err(TooOld { index: index.parse().ok()?, newest: reply::seq(newest)? }));
        }
        _ => return None,
    };
    (placed.len() == count).then_some(Ok(placed))
}

/// Only we retry an event that has no producer, and that is nobody's business.
fn without_our_own(mut placed: Vec<Placed>, events: &[EventDraft]) -> Vec<Placed> {
    for (placed, event) in placed.iter_mut().zip(events) {
        placed.duplicate &= event.producer.is_some();
    }
    placed
}

fn too_old(events: &[EventDraft], index: usize, newest: Seq) -> AppendError {
    match events.get(index).and_then(|event| event.producer.clone()) {
        Some(producer) => {
            AppendError::SequenceTooOld { index, producer: producer.id, seq: producer.seq, newest }
        }
        // Our own numbers only rise, but a call may have been overtaken after its time was up.
        None => AppendError::Unavailable(BackendError::message("a later append was faster")),
    }
}

fn failed(route: &mut Route<'_>, on: &Connected, error: &RedisError) -> Attempt {
    route.failed(on, error);
    match fate(error) {
        Fate::Unknown => Attempt::Unknown(on.blamed(error)),
        Fate::NotExecuted | Fate::NoLibrary => Attempt::Later(on.blamed(error)),
        Fate::Full => Attempt::Full(format!("Redis refuses to store more: {error}")),
        Fate::Hopeless => Attempt::Hopeless(on.blamed(error)),
    }
}

async fn refused(
    shared: &Shared,
    keys: &Keys,
    route: &mut Route<'_>,
    on: &Connected,
    gate: &Gate,
    refusal: Refusal,
) -> Attempt {
    match refusal {
        Refusal::Fenced { epoch, token } => {
            shared.gates.adopt(keys.slot, Gate { epoch, token });
            Attempt::Again
        }
        Refusal::Shut { fence, least } => {
            match shared.gates.open(on, keys.slot, gate, fence, least, shared).await {
                Ok(()) => Attempt::Again,
                Err(NotOpened::Redis(error)) => failed(route, on, &error),
                Err(NotOpened::Odd(error)) => Attempt::Hopeless(error),
            }
        }
        Refusal::Level(made) => Attempt::Level(made),
        Refusal::Foreign => Attempt::Hopeless(BackendError::message(format!(
            "Redis holds keys of the stream {} but not its meta; was {} deleted by hand, or does something else use these names?",
            keys.log(),
            keys.meta(),
        ))),
    }
}

/// The name under which this process numbers events that have no producer: none that a publisher
/// could have.
pub(super) fn incarnation() -> String {
    let name = format!("~{:016x}", fastrand::u64(..));
    debug_assert!(ProducerId::new(&name).is_err());
    name
}
