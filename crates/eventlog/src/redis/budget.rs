//! Whether what may be kept fits the memory that Redis may take.
//!
//! Streams are not known beforehand, so what counts are those that are there and those that are
//! configured by their full names. It is looked at when the log is opened, and only told: a log that
//! is too small refuses events when it is full, and loses none.

use evergate_domain::{Retention, StreamName, StreamPolicies};
use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult, Value, cmd};

use super::checks::field;
use super::keys::Slot;
use super::node::Place;
use super::{link, reply};

/// What Redis takes for an event beyond its key, type and data: its id, time, producer, trace, and its
/// share of a node and of the index. Measured, see docs/redis.md.
const EVENT_BYTES: u64 = 64;
/// What it takes for a stream however little is in it: the first node and the keys beside it.
const STREAM_BYTES: u64 = 6 << 10;
/// The smallest event there is reason to expect, where only the bytes are bounded.
const SMALL_BYTES: u64 = 100;
/// The largest event there may be, where only their number is bounded.
const LARGE_BYTES: u64 = 1 << 20;
/// Slots whose streams are asked for in one round trip.
const SLOTS: usize = 16;

/// What streams may grow to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Budget {
    streams: u64,
    bytes: u64,
    /// Streams of which nothing bounds the bytes.
    unbounded: u64,
}

impl Budget {
    fn add(&mut self, keep: Retention) {
        self.streams += 1;
        match bytes_max(keep) {
            Some(bytes) => self.bytes = self.bytes.saturating_add(bytes),
            None => self.unbounded += 1,
        }
    }

    /// What is to be said about it, if anything is.
    fn advice(self, at: &str, maxmemory: u64) -> Option<String> {
        let Self { streams, bytes, unbounded } = self;
        if maxmemory == 0 {
            return None;
        }
        let limit = in_words(maxmemory);
        if unbounded > 0 {
            return Some(format!(
                "of the {streams} streams that Redis at {at} holds or is to hold, {unbounded} may grow without end, and its maxmemory is {limit}: when that is full no event is taken; set retention.bytes"
            ));
        }
        (bytes > maxmemory).then(|| {
            format!(
                "the {streams} streams that Redis at {at} holds or is to hold may grow to {} by their retention, and its maxmemory is {limit}: when that is full no event is taken; lower retention.bytes, give some streams less, or raise maxmemory",
                in_words(bytes)
            )
        })
    }
}

/// The most that a stream may take, if anything bounds it. Appending lets an eighth more lie than is
/// to be kept, until it is trimmed.
fn bytes_max(keep: Retention) -> Option<u64> {
    let by_events = keep.events.map(|events| events.saturating_mul(LARGE_BYTES));
    let bytes = match (keep.bytes, by_events) {
        (Some(bytes), Some(by_events)) => bytes.min(by_events),
        (Some(bytes), None) | (None, Some(bytes)) => bytes,
        (None, None) => return None,
    };
    let events = keep.events.unwrap_or(u64::MAX).min(bytes / SMALL_BYTES + 1);
    let kept = bytes.saturating_add(events.saturating_mul(EVENT_BYTES));
    Some(kept.saturating_add(kept / 8).saturating_add(STREAM_BYTES))
}

fn in_words(bytes: u64) -> String {
    if bytes < 10 << 30 { format!("{} MiB", bytes >> 20) } else { format!("{} GiB", bytes >> 30) }
}

/// Looks at one primary, and says what should be said.
pub(super) async fn advice(
    policies: &StreamPolicies,
    place: &Place,
    connection: &mut MultiplexedConnection,
) -> RedisResult<Option<String>> {
    let info = link::send(connection, cmd("INFO").arg("memory")).await?;
    let info = reply::text(info).unwrap_or_default();
    let maxmemory = field(&info, "maxmemory").and_then(|bytes| bytes.parse().ok()).unwrap_or(0);
    let slots = place.slots.lock().clone();
    let mut budget = Budget::default();
    for (name, &keep) in policies.named.exact().filter(|(name, _)| slots.contains(&Slot::of(name))) {
        debug_assert_eq!(keep, policies.retention(name));
        budget.add(keep);
    }
    for slots in slots.chunks(SLOTS) {
        let mut pipe = redis::pipe();
        for slot in slots {
            pipe.cmd("SMEMBERS").arg(slot.streams());
        }
        for names in connection.send_packed_commands(&pipe, 0, slots.len()).await? {
            if let Value::ServerError(error) = names {
                return Err(RedisError::from(error));
            }
            let names = reply::words(names).unwrap_or_default();
            for name in names.iter().filter_map(|name| StreamName::new(name).ok()) {
                if !policies.named.is_exact(&name) {
                    budget.add(policies.retention(&name));
                }
            }
        }
    }
    Ok(budget.advice(&place.address.to_string(), maxmemory))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn keep(events: Option<u64>, bytes: Option<u64>) -> Retention {
        Retention { events, bytes, age: None }
    }

    #[test]
    fn whichever_bound_is_narrower_counts() {
        let of = |events, bytes| bytes_max(keep(events, bytes)).expect("bounded") / MIB;
        assert_eq!(of(Some(1_000_000), Some(100 * MIB)), 181, "events as small as there is reason to expect");
        assert_eq!(of(None, Some(100 * MIB)), 184);
        assert_eq!(of(Some(1000), Some(100 * MIB)), 112, "few, so large ones");
        assert_eq!(of(Some(10), None), 11, "as large as they may be");
        assert_eq!(bytes_max(keep(None, None)), None);
        assert_eq!(bytes_max(keep(Some(u64::MAX), Some(u64::MAX))), Some(u64::MAX));
    }

    #[test]
    fn what_fits_is_not_told() {
        let mut budget = Budget::default();
        (0..3).for_each(|_| budget.add(keep(Some(1000), Some(100 * MIB))));
        assert_eq!(budget.advice("h:1", 400 * MIB), None);
        assert_eq!(budget.advice("h:1", 0), None, "there is advice about that elsewhere");
        let told = budget.advice("h:1", 300 * MIB).expect("told");
        assert!(
            told.starts_with(
                "the 3 streams that Redis at h:1 holds or is to hold may grow to 337 MiB by their retention, and its maxmemory is 300 MiB"
            ),
            "{told}"
        );
        budget.add(Retention::FOREVER);
        let told = budget.advice("h:1", 1 << 40).expect("told");
        assert!(told.contains("of the 4 streams") && told.contains("1 may grow without end"), "{told}");
    }
}
