//! What a transport hands in, and what it is once it was admitted.

use evergate_domain::{
    Allowance, EventDraft, EventType, Key, Level, NUMBER_MAX, NameError, ProducerId, ProducerSeq, Seq,
    StreamName, TraceParent,
};

use super::{Faults, Part, PublishError};
use crate::config::PublishLimits;

/// Events for one stream as they arrived: nothing of it is proven.
#[derive(Debug)]
pub(crate) struct Submission {
    pub(crate) stream: Result<StreamName, NameError>,
    /// To be stored all together or not at all.
    pub(crate) events: Vec<RawEvent>,
    /// How safe the publisher wants them, if it says so.
    pub(crate) level: Option<Level>,
    /// What the transport found wrong already.
    pub(crate) faults: Faults,
}

/// An event as it arrived. A `None` where something must be stands for what the transport could
/// not read and has put among the faults.
#[derive(Debug, Default)]
pub(crate) struct RawEvent {
    pub(crate) data: Option<String>,
    pub(crate) kind: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) producer: Option<RawProducer>,
    pub(crate) trace: Option<TraceParent>,
}

/// A producer sequence as it arrived.
#[derive(Debug, Default)]
pub(crate) struct RawProducer {
    pub(crate) id: Option<String>,
    pub(crate) seq: Option<u64>,
}

/// Events that may go to the log: well-formed, within the limits, for a stream that may be used.
/// Only [`Publisher::admit`](super::Publisher::admit) makes one.
#[derive(Debug)]
pub(crate) struct Admitted {
    pub(super) stream: StreamName,
    pub(super) events: Vec<EventDraft>,
    /// What is left of the stream's budget, if it has one.
    pub(super) allowance: Option<Allowance>,
}

impl Submission {
    /// Checks everything that can be said without knowing the streams, and names all that is wrong.
    pub(super) fn check(self, limits: PublishLimits) -> Result<(Admitted, Option<Level>), PublishError> {
        let Self { stream, events, level, mut faults } = self;
        if events.len() > limits.batch_events_max {
            let detail = format!("{} events, at most {} are allowed", events.len(), limits.batch_events_max);
            faults.oversized(0, Part::Events, detail);
            // Whoever sends a thousand times too much need not be told a million faults.
            return Err(PublishError::faulty(faults));
        }
        let stream = stream.map_err(|error| faults.malformed(0, Part::Stream, error)).ok();
        if events.is_empty() && faults.is_empty() {
            faults.malformed(0, Part::Events, "holds no event");
        }
        let batch = events.len() > 1;
        let events: Vec<_> = events
            .into_iter()
            .enumerate()
            .filter_map(|(index, event)| event.check(index, limits.payload_bytes_max, &mut faults).ok())
            .collect();
        let bytes: u64 = events.iter().map(EventDraft::bytes).sum();
        if batch && bytes > limits.batch_bytes_max as u64 {
            let max = limits.batch_bytes_max;
            faults.oversized(
                0,
                Part::Events,
                format!("{bytes} bytes of payload, keys and types, at most {max} are allowed"),
            );
        }
        match stream {
            Some(stream) if faults.is_empty() => Ok((Admitted { stream, events, allowance: None }, level)),
            _ => Err(PublishError::faulty(faults)),
        }
    }
}

/// Marks what is not there because a fault was found, which is among the faults.
struct Faulty;

impl RawEvent {
    fn check(
        self,
        index: usize,
        payload_bytes_max: usize,
        faults: &mut Faults,
    ) -> Result<EventDraft, Faulty> {
        if let Some(data) = self.data.as_ref().filter(|data| data.len() > payload_bytes_max) {
            let detail = format!("{} bytes, at most {payload_bytes_max} are allowed", data.len());
            faults.oversized(index, Part::Data, detail);
        }
        let kind = check_name(self.kind, EventType::new, index, Part::Type, faults);
        let key = check_name(self.key, Key::new, index, Part::Key, faults);
        let producer = self.producer.map(|producer| producer.check(index, faults)).transpose();
        // Only now, so that every fault was found.
        Ok(EventDraft {
            key: key?,
            kind: kind?,
            data: self.data.ok_or(Faulty)?,
            producer: producer?,
            trace: self.trace,
        })
    }
}

impl RawProducer {
    fn check(self, index: usize, faults: &mut Faults) -> Result<ProducerSeq, Faulty> {
        let id = check_name(self.id, ProducerId::new, index, Part::ProducerId, faults);
        let seq = self.seq.and_then(|number| {
            let seq = Seq::new(number).filter(|seq| *seq > Seq::ZERO);
            if seq.is_none() {
                let detail = format!("{number} is not from 1 to {NUMBER_MAX}");
                faults.malformed(index, Part::ProducerSeq, detail);
            }
            seq
        });
        Ok(ProducerSeq { id: id?.ok_or(Faulty)?, seq: seq.ok_or(Faulty)? })
    }
}

fn check_name<T>(
    text: Option<String>,
    new: impl FnOnce(&str) -> Result<T, NameError>,
    index: usize,
    part: Part,
    faults: &mut Faults,
) -> Result<Option<T>, Faulty> {
    text.map(|text| new(&text)).transpose().map_err(|error| {
        faults.malformed(index, part, error);
        Faulty
    })
}

#[cfg(test)]
mod tests {
    #![expect(clippy::panic, reason = "a test may")]

    use super::*;
    use crate::publish::Naming;

    const LIMITS: PublishLimits = PublishLimits {
        payload_bytes_max: 10,
        batch_events_max: 3,
        batch_bytes_max: 16,
        stream_window: 4,
        rates: crate::config::Rates::UNBOUNDED,
    };

    fn event(data: &str) -> RawEvent {
        RawEvent { data: Some(data.to_owned()), ..RawEvent::default() }
    }

    fn check(events: Vec<RawEvent>) -> Result<Admitted, PublishError> {
        let stream = StreamName::new("quote");
        let submission = Submission { stream, events, level: None, faults: Faults::default() };
        submission.check(LIMITS).map(|(admitted, _)| admitted)
    }

    fn fields(result: Result<Admitted, PublishError>) -> Vec<String> {
        match result {
            Ok(admitted) => panic!("admitted {admitted:?}"),
            Err(error) => error.fields(Naming::Events).into_iter().map(|error| error.field).collect(),
        }
    }

    #[test]
    fn limits_are_inclusive() {
        assert!(check(vec![event("0123456789")]).is_ok());
        assert!(check(vec![event("01234567"), event("01234567")]).is_ok());
        assert!(check(vec![event(""), event(""), event("")]).is_ok());

        assert_eq!(fields(check(vec![event("0123456789a")])), ["events[0].data"]);
        assert_eq!(fields(check(vec![event("01234567"), event("012345678")])), ["events"]);
        assert_eq!(fields(check((0..4).map(|_| event("")).collect())), ["events"]);
        assert_eq!(fields(check(Vec::new())), ["events"]);
    }

    #[test]
    fn too_large_is_a_class_of_its_own_only_if_size_is_all_that_is_wrong() {
        let large = check(vec![event("0123456789a")]);
        assert!(matches!(large, Err(PublishError::TooLarge(_))), "{large:?}");
        let both = check(vec![RawEvent { key: Some("*".to_owned()), ..event("0123456789a") }]);
        assert!(matches!(both, Err(PublishError::Invalid(_))), "{both:?}");
    }

    #[test]
    fn every_fault_of_every_event_is_named_at_once() {
        let bad = RawEvent {
            kind: Some("evergate.gap".to_owned()),
            key: Some(String::new()),
            producer: Some(RawProducer { id: Some("a b".to_owned()), seq: Some(0) }),
            ..event("")
        };
        let late = RawEvent {
            producer: Some(RawProducer { id: Some("p".to_owned()), seq: Some(NUMBER_MAX + 1) }),
            ..event("")
        };
        assert_eq!(
            fields(check(vec![event("fine"), bad, late])),
            [
                "events[1].type",
                "events[1].key",
                "events[1].producer.id",
                "events[1].producer.seq",
                "events[2].producer.seq"
            ]
        );
    }
}
