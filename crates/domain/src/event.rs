//! The event, before and after it has its place in the log.

use std::fmt;

use crate::{EventType, Key, Offset, ProducerId, Seq, UnixMillis};

/// An event as a publisher hands it in: checked, but without a place in the log yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventDraft {
    /// A label inside the stream, by which subscribers filter.
    pub key: Option<Key>,
    /// The SSE `event:` field.
    pub kind: Option<EventType>,
    /// The payload: any UTF-8 text, empty included.
    pub data: String,
    /// Makes a retry of the same publish find the first one.
    pub producer: Option<ProducerSeq>,
    /// The publisher's trace, carried along.
    pub trace: Option<TraceParent>,
}

impl EventDraft {
    /// An event with nothing but a payload.
    #[must_use]
    pub fn new(data: impl Into<String>) -> Self {
        Self { key: None, kind: None, data: data.into(), producer: None, trace: None }
    }

    /// What the event counts towards byte limits and retention: payload, key and type, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        bytes_of(self.key.as_ref(), self.kind.as_ref(), &self.data)
    }

    /// The event, once it has its place.
    #[must_use]
    pub fn placed(self, offset: Offset, time: UnixMillis) -> Event {
        Event {
            offset,
            time,
            key: self.key,
            kind: self.kind,
            data: self.data,
            producer: self.producer,
            trace: self.trace,
        }
    }
}

/// An event in the log. Never changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Its place in the stream.
    pub offset: Offset,
    /// When the log accepted it. For people; offsets decide order.
    pub time: UnixMillis,
    /// A label inside the stream.
    pub key: Option<Key>,
    /// The SSE `event:` field.
    pub kind: Option<EventType>,
    /// The payload.
    pub data: String,
    /// Who published it, and as which of its events.
    pub producer: Option<ProducerSeq>,
    /// The publisher's trace.
    pub trace: Option<TraceParent>,
}

impl Event {
    /// What the event counts towards byte limits and retention: payload, key and type, in bytes.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        bytes_of(self.key.as_ref(), self.kind.as_ref(), &self.data)
    }
}

fn bytes_of(key: Option<&Key>, kind: Option<&EventType>, data: &str) -> u64 {
    let names = key.map_or(0, |k| k.as_str().len()) + kind.map_or(0, |k| k.as_str().len());
    (names + data.len()) as u64
}

/// A producer's own number for an event. The pair is unique, so a retry can be recognised.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ProducerSeq {
    /// Who publishes.
    pub id: ProducerId,
    /// Rises with every new event of this producer in this stream; holes are allowed. From 1.
    pub seq: Seq,
}

/// How safe an event is when its publish is acknowledged: the policy of its stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Level {
    /// In the home's log; on disk, for the embedded durable log.
    #[default]
    Home,
    /// And on one replica of it.
    Replicated,
    /// And in a majority of the regions.
    Quorum,
}

impl Level {
    /// The level's name on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Home => "HOME",
            Self::Replicated => "REPLICATED",
            Self::Quorum => "QUORUM",
        }
    }
}

/// The flag of a trace that is kept.
const SAMPLED: u8 = 1;

/// A W3C `traceparent` (Trace Context level 1, version 00): 55 bytes,
/// `00-<32 hex trace id>-<16 hex parent id>-<2 hex flags>`.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct TraceParent {
    trace_id: [u8; 16],
    parent_id: [u8; 8],
    flags: u8,
}

impl TraceParent {
    /// Joins the parts; `None` if an id is all zeros, which the standard forbids.
    #[must_use]
    pub fn new(trace_id: [u8; 16], parent_id: [u8; 8], flags: u8) -> Option<Self> {
        let zero = trace_id == [0; 16] || parent_id == [0; 8];
        (!zero).then_some(Self { trace_id, parent_id, flags })
    }

    /// Reads the header's value. `None` if it is malformed: the standard says to start a new trace
    /// then, not to refuse the request.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let mut parts = text.split('-');
        let (version, trace, parent, flags) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        // A later version may append fields, but never changes these four.
        let known = version == "00" && parts.next().is_none();
        let later = hex::<1>(version).is_some_and(|v| v != [0] && v != [0xff]);
        if !known && !later {
            return None;
        }
        Self::new(hex(trace)?, hex(parent)?, hex::<1>(flags)?[0])
    }

    /// The trace id as 32 lower-case hexadecimal digits.
    #[must_use]
    pub fn trace_id(&self) -> String {
        self.trace_id.iter().map(|b| format!("{b:02x}")).collect()
    }

    /// The trace id.
    #[must_use]
    pub fn trace_id_bytes(&self) -> [u8; 16] {
        self.trace_id
    }

    /// The id of the span that it was seen from.
    #[must_use]
    pub fn span_id(&self) -> [u8; 8] {
        self.parent_id
    }

    /// Whether whoever passed it on keeps the trace.
    #[must_use]
    pub fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// The same span, with another decision whether its trace is kept.
    #[must_use]
    pub fn with_sampled(mut self, kept: bool) -> Self {
        self.flags = if kept { self.flags | SAMPLED } else { self.flags & !SAMPLED };
        self
    }

    /// The same trace, seen from another span.
    #[must_use]
    pub fn child(&self, parent_id: [u8; 8]) -> Self {
        Self::new(self.trace_id, parent_id, self.flags).unwrap_or_else(|| self.clone())
    }
}

impl fmt::Display for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{}-", self.trace_id())?;
        for byte in self.parent_id {
            write!(f, "{byte:02x}")?;
        }
        write!(f, "-{:02x}", self.flags)
    }
}

impl fmt::Debug for TraceParent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Exactly `N` bytes of lower-case hexadecimal, as the standard demands.
fn hex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let text = text.as_bytes();
    if text.len() != 2 * N {
        return None;
    }
    let mut out = [0; N];
    for (byte, pair) in out.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_survives_the_round_trip() {
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        assert_eq!(TraceParent::parse(text).expect("valid").to_string(), text);
    }

    #[test]
    fn a_malformed_traceparent_is_ignored() {
        for bad in [
            "",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ] {
            assert_eq!(TraceParent::parse(bad), None, "{bad}");
        }
        assert!(
            TraceParent::parse("01-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-extra").is_some()
        );
    }
}
