//! Reading: the range after a cursor, and then the judgement of the cursor, in one round trip.
//!
//! The range comes as Redis' own reply, so it is not converted to Lua's values and back. The order
//! of the two is what makes them one answer: what is judged to be on the history after it was read
//! was so when it was read, and what became committed in between may be shown. (A transaction would
//! do as well, but Redis refuses those when it is full, when reads must go on.)

use std::sync::Arc;

use evergate_domain::{Event, Gap, GapReason, Offset, Seq, Start, StreamName, UnixMillis};
use redis::{Cmd, Pipeline, RedisError, Value, cmd};
use tokio::time::Instant;

use super::error::{self, Fate, fate};
use super::gates::NotOpened;
use super::hash_slot::HashSlot;
use super::keys::{Keys, Slot};
use super::link::Connected;
use super::node::Purpose;
use super::reply::Refusal;
use super::{Shared, reply, wire};
use crate::{BackendError, Page, ReadError, ReadLimit, StreamStatus};

/// Entries that one round trip reads at first, and at the most. In between, what was read says how
/// many fit the bytes that are wanted.
const RANGE_FIRST: u64 = 64;
const RANGE_MAX: u64 = 512;
const RANGE_BYTES: u64 = 1 << 20;

/// Asks whoever holds these keys. Asking is harmless, so it is repeated on a new connection.
pub(super) async fn ask(shared: &Shared, at: HashSlot, command: &Cmd) -> Result<Value, BackendError> {
    let mut pipe = Pipeline::new();
    pipe.add_command(command.clone());
    let mut answers = ask_all(shared, at, &pipe, 1).await?;
    answers.pop().ok_or_else(|| error::odd("nothing"))
}

/// Asks several things at once about keys of one hash slot.
pub(super) async fn ask_all(
    shared: &Shared,
    at: HashSlot,
    pipe: &Pipeline,
    answers: usize,
) -> Result<Vec<Value>, BackendError> {
    let deadline = Instant::now() + shared.options.response_timeout;
    let mut route = shared.topology.route(at, Purpose::Read);
    let mut last = None;
    loop {
        let connected = tokio::time::timeout_at(deadline, route.connected()).await;
        let Ok(Some(on)) = connected else { return Err(last.unwrap_or_else(|| route.unreachable())) };
        match send(&on, pipe, answers).await {
            Ok(values) => return Ok(values),
            Err(error) => {
                route.failed(&on, &error);
                let again = match fate(&error) {
                    Fate::NotExecuted | Fate::NoLibrary => true,
                    Fate::Unknown => !error.is_timeout() || on.place.is_retired(),
                    Fate::Full | Fate::Hopeless => false,
                };
                let error = on.blamed(&error);
                if !again || Instant::now() >= deadline {
                    return Err(error);
                }
                last = Some(error);
                tokio::time::sleep(super::link::jittered(std::time::Duration::from_millis(10))).await;
            }
        }
    }
}

async fn send(on: &Connected, pipe: &Pipeline, answers: usize) -> Result<Vec<Value>, RedisError> {
    let mut values = on.send_all(pipe, answers).await?;
    for value in &mut values {
        if let Value::ServerError(error) = value {
            return Err(std::mem::replace(error, error.clone()).into());
        }
    }
    Ok(values)
}

/// Asks a function that may find the slot never opened; then it is opened first.
async fn ask_opened(shared: &Shared, keys: &Keys, command: &Cmd) -> Result<Vec<String>, ReadError> {
    for _ in 0..3 {
        let answer = ask(shared, keys.slot.hash_slot(), command).await.map_err(ReadError::Unavailable)?;
        let words = reply::words(answer).ok_or_else(|| ReadError::Unavailable(error::odd("a question")))?;
        if words.first().is_none_or(|word| word != "NEW") {
            return Ok(words);
        }
        open_new(shared, keys).await?;
    }
    Err(ReadError::Unavailable(BackendError::message("the slot is never found open")))
}

/// Opens a slot that has no record.
async fn open_new(shared: &Shared, keys: &Keys) -> Result<(), ReadError> {
    open(shared, keys.slot, evergate_domain::Epoch::default()).await.map_err(ReadError::Unavailable)
}

/// Opens a new epoch in a slot that has one.
pub(super) async fn take_over(shared: &Shared, slot: Slot) -> Result<(), BackendError> {
    let mut tails = cmd("FCALL_RO");
    tails.arg("evergate_1_tails").arg(1).arg(slot.record());
    let words = ask(shared, slot.hash_slot(), &tails).await?;
    let words = reply::words(words).ok_or_else(|| error::odd("tails"))?;
    let fence = words.get(1).and_then(|fence| reply::epoch(fence)).ok_or_else(|| error::odd("tails"))?;
    if fence.get() == 0 { Ok(()) } else { open(shared, slot, fence).await }
}

/// Opens a slot above a fence.
pub(super) async fn open(
    shared: &Shared,
    slot: Slot,
    fence: evergate_domain::Epoch,
) -> Result<(), BackendError> {
    let mut route = shared.topology.route(slot.hash_slot(), Purpose::Write);
    let connected = tokio::time::timeout(shared.options.response_timeout, route.connected()).await;
    let Ok(Some(on)) = connected else { return Err(route.unreachable()) };
    let known = shared.gates.get(slot);
    match shared.gates.open(&on, slot, &known, fence, fence, shared).await {
        Ok(()) => Ok(()),
        Err(NotOpened::Redis(error)) => {
            route.failed(&on, &error);
            Err(on.blamed(&error))
        }
        Err(NotOpened::Odd(error)) => Err(error),
    }
}

/// How long whoever trims a slot has it for itself. Others take over when it is silent for so long.
const TRIMMER_MILLIS: u64 = 75_000;

/// Whether this process is the one that trims the slot now, so that a hundred need not do the same.
/// Nothing depends on it: two that trim do no harm.
pub(super) async fn is_trimmer(shared: &Shared, slot: Slot) -> Result<bool, BackendError> {
    let mut claim = cmd("SET");
    claim.arg(slot.trimmer()).arg(&shared.incarnation).arg("NX").arg("GET").arg("PX").arg(TRIMMER_MILLIS);
    match claimed(shared, slot, &claim).await? {
        None => Ok(true),
        Some(other) if other != shared.incarnation => Ok(false),
        Some(_) => {
            let mut renew = cmd("SET");
            renew
                .arg(slot.trimmer())
                .arg(&shared.incarnation)
                .arg("XX")
                .arg("GET")
                .arg("PX")
                .arg(TRIMMER_MILLIS);
            claimed(shared, slot, &renew).await.map(|_| true)
        }
    }
}

/// Who had the slot. When Redis is full nobody can be noted, and then everybody makes room.
async fn claimed(shared: &Shared, slot: Slot, claim: &Cmd) -> Result<Option<String>, BackendError> {
    let mut route = shared.topology.route(slot.hash_slot(), Purpose::Read);
    let Some(on) = route.now() else { return Err(route.unreachable()) };
    match on.send(claim).await {
        Ok(Value::Nil) => Ok(None),
        Ok(value) => Ok(reply::text(value)),
        Err(error) if fate(&error) == Fate::Full => Ok(None),
        Err(error) => {
            route.failed(&on, &error);
            Err(on.blamed(&error))
        }
    }
}

/// Where a stream stands.
pub(super) async fn status(shared: &Shared, keys: &Keys) -> Result<StreamStatus, ReadError> {
    let mut status = cmd("FCALL_RO");
    status.arg("evergate_1_status").arg(2).arg(keys.slot.record()).arg(keys.meta());
    let words = ask_opened(shared, keys, &status).await?;
    let read = || match words.as_slice() {
        [ok, tail, floor, bytes, appended, ..] if ok == "OK" => Some(StreamStatus {
            tail: reply::offset(tail)?,
            appended: reply::offset(appended)?,
            floor: reply::offset(floor)?,
            bytes: bytes.parse().ok()?,
        }),
        _ => None,
    };
    read().ok_or_else(|| ReadError::Unavailable(error::odd("status")))
}

/// The cursor at which to begin.
pub(super) async fn locate(shared: &Shared, keys: &Keys, start: Start) -> Result<Offset, ReadError> {
    let (kind, number) = match start {
        Start::After(offset) => return Ok(offset),
        Start::Latest => ("latest", 0),
        Start::Earliest => ("earliest", 0),
        Start::Last(n) => ("last", n.min(evergate_domain::NUMBER_MAX)),
        Start::Time(time) => ("time", time.get()),
    };
    let mut locate = cmd("FCALL_RO");
    locate.arg("evergate_1_locate").arg(4).arg(keys.slot.record()).arg(keys.meta());
    locate.arg(keys.log()).arg(keys.index()).arg(kind).arg(number);
    let words = ask_opened(shared, keys, &locate).await?;
    let read = || match words.as_slice() {
        [ok, cursor] if ok == "OK" => reply::offset(cursor),
        _ => None,
    };
    read().ok_or_else(|| ReadError::Unavailable(error::odd("locate")))
}

/// Reads on from a cursor, or says why that cannot be done.
pub(super) async fn page(
    shared: &Shared,
    stream: &StreamName,
    after: Offset,
    limit: ReadLimit,
) -> Result<Page, ReadError> {
    let keys = Keys::of(stream);
    let (events_max, bytes_max) = (limit.events.max(1), limit.bytes.max(1));
    let mut events: Vec<Arc<Event>> = Vec::new();
    let mut bytes = 0;
    let mut cursor = after;
    let mut found = Seq::ZERO;
    let mut promised = None;
    let mut count = RANGE_FIRST;
    loop {
        let wanted = count.min((events_max - events.len()) as u64).max(1);
        let (entries, judged) = read_and_judge(shared, &keys, cursor, wanted, found).await?;
        let (hwm, up_to, more) = match judged {
            Judged::After { hwm, up_to, more } => (hwm, up_to, more),
            // What was read is right all the same; the next read tells the rest.
            Judged::Page(_) if !events.is_empty() => return Ok(Page::Events { events, at_end: false }),
            Judged::Page(page) => return Ok(page),
        };
        if cursor.seq >= up_to {
            return Ok(Page::Events { events, at_end: !more && cursor.seq >= hwm });
        }
        let first = match entries.first() {
            Some(entry) => seq_of(entry).ok_or_else(|| odd_entry(stream, cursor))?,
            None => match promised.replace(up_to) {
                // It was appended between the two.
                None => continue,
                // It should have been there, and was not.
                Some(promised) => promised.plus(1),
            },
        };
        if first != cursor.seq.plus(1) {
            // Less survives than the log says: it was trimmed by hand, or is damaged.
            if found > Seq::ZERO {
                return Err(odd_entry(stream, cursor));
            }
            found = first;
            continue;
        }
        promised = None;
        for entry in entries {
            let event = event(entry).ok_or_else(|| odd_entry(stream, cursor))?;
            if event.offset.seq > up_to {
                break;
            }
            if event.offset.seq != cursor.seq.plus(1) {
                return Err(odd_entry(stream, cursor));
            }
            bytes += event.bytes();
            cursor = event.offset;
            events.push(Arc::new(event));
            if events.len() >= events_max || bytes >= bytes_max {
                return Ok(Page::Events { events, at_end: !more && cursor.seq >= hwm });
            }
        }
        let each = bytes / events.len().max(1) as u64 + wire::OVERHEAD_BYTES;
        count = ((bytes_max - bytes).min(RANGE_BYTES) / each).clamp(1, RANGE_MAX);
    }
}

/// What `resume` says.
pub(super) enum Judged {
    After { hwm: Seq, up_to: Seq, more: bool },
    Page(Page),
}

async fn read_and_judge(
    shared: &Shared,
    keys: &Keys,
    cursor: Offset,
    count: u64,
    found: Seq,
) -> Result<(Vec<Value>, Judged), ReadError> {
    let mut pipe = redis::pipe();
    pipe.cmd("XRANGE").arg(keys.log()).arg(format!("({cursor}")).arg("+").arg("COUNT").arg(count);
    pipe.cmd("FCALL_RO")
        .arg("evergate_1_resume")
        .arg(3)
        .arg(keys.slot.record())
        .arg(keys.meta())
        .arg(keys.log());
    pipe.arg(cursor.epoch.get()).arg(cursor.seq.get()).arg(found.get());
    for _ in 0..3 {
        let answers =
            ask_all(shared, keys.slot.hash_slot(), &pipe, 2).await.map_err(ReadError::Unavailable)?;
        let odd = || ReadError::Unavailable(error::odd("resume"));
        let [entries, judged] = <[Value; 2]>::try_from(answers).map_err(|_| odd())?;
        let words = reply::words(judged).ok_or_else(odd)?;
        if words.first().is_some_and(|word| word == "NEW") {
            open_new(shared, keys).await?;
            continue;
        }
        if let Some(Refusal::Shut { fence, .. }) = Refusal::read(&words) {
            open(shared, keys.slot, fence).await.map_err(ReadError::Unavailable)?;
            continue;
        }
        let entries = match entries {
            Value::Array(entries) => entries,
            Value::Nil => vec![],
            _ => return Err(odd()),
        };
        return Ok((entries, judged_of(&words, cursor).ok_or_else(odd)?));
    }
    Err(ReadError::Unavailable(BackendError::message("the slot is never found open")))
}

pub(super) fn judged_of(words: &[String], requested: Offset) -> Option<Judged> {
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let gap = match *words.as_slice() {
        ["OK", hwm, up_to, more] => {
            return Some(Judged::After {
                hwm: reply::seq(hwm)?,
                up_to: reply::seq(up_to)?,
                more: more == "1",
            });
        }
        ["HOLD", committed] => {
            return Some(Judged::Page(Page::Hold { committed: reply::offset(committed)? }));
        }
        ["GAP", first_missing, cursor, resumed_at, lost] => Gap {
            requested,
            first_missing: Some(reply::offset(first_missing)?),
            cursor: reply::offset(cursor)?,
            resumed_at: reply::offset(resumed_at)?,
            reason: GapReason::Trimmed,
            lost: Some(lost.parse().ok()?),
        },
        ["FORK", reason, cursor, resumed_at] => Gap {
            requested,
            first_missing: None,
            cursor: reply::offset(cursor)?,
            resumed_at: reply::offset(resumed_at)?,
            reason: match reason {
                "lost-tail" => GapReason::LostTail,
                "unknown" => GapReason::Unknown,
                _ => return None,
            },
            lost: None,
        },
        _ => return None,
    };
    Some(Judged::Page(Page::Gap(gap)))
}

fn id_of(entry: &Value) -> Option<&[u8]> {
    match entry {
        Value::Array(parts) => match parts.first()? {
            Value::BulkString(id) => Some(id),
            _ => None,
        },
        _ => None,
    }
}

fn seq_of(entry: &Value) -> Option<Seq> {
    let id: Offset = std::str::from_utf8(id_of(entry)?).ok()?.parse().ok()?;
    Some(id.seq)
}

pub(super) fn event(entry: Value) -> Option<Event> {
    let offset = std::str::from_utf8(id_of(&entry)?).ok()?.parse().ok()?;
    let Value::Array(parts) = entry else { return None };
    let Some(Value::Array(fields)) = parts.into_iter().nth(1) else { return None };
    match fields.as_slice() {
        [_, Value::BulkString(time), _, Value::BulkString(event)] => {
            let time = std::str::from_utf8(time).ok()?.parse().ok()?;
            wire::decode(offset, UnixMillis::new(time), event)
        }
        _ => None,
    }
}

fn odd_entry(stream: &StreamName, after: Offset) -> ReadError {
    ReadError::Damaged { stream: stream.as_str().to_owned(), seq: after.seq.plus(1) }
}
