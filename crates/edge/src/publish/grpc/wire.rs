//! Between the messages of `evergate.publish.v1` and what the road to the log speaks.

use evergate_domain::{Level, StreamName, TraceParent};
use evergate_eventlog::Placed;
use evergate_proto::publish::v1 as proto;

use crate::publish::{Faults, Part, RawEvent, RawProducer, Submission};

/// A message with one event. `trace` is the call's, for an event that has none.
pub(super) fn single(
    stream: &str,
    event: Option<proto::Event>,
    level: i32,
    trace: Option<&TraceParent>,
) -> Submission {
    let mut submission = batch(stream, Vec::new(), level, trace);
    match event {
        Some(event) => submission.events.push(raw(event, trace)),
        None => submission.faults.malformed(0, Part::Event, "is missing"),
    }
    submission
}

/// A message with several events.
pub(in crate::publish) fn batch(
    stream: &str,
    events: Vec<proto::Event>,
    level: i32,
    trace: Option<&TraceParent>,
) -> Submission {
    let mut faults = Faults::default();
    let level = match proto::Level::try_from(level) {
        Ok(proto::Level::Unspecified) => None,
        Ok(proto::Level::Home) => Some(Level::Home),
        Ok(proto::Level::Replicated) => Some(Level::Replicated),
        Ok(proto::Level::Quorum) => Some(Level::Quorum),
        Err(_) => {
            faults.malformed(0, Part::Level, format!("{level} is no level"));
            None
        }
    };
    Submission {
        stream: StreamName::new(stream),
        events: events.into_iter().map(|event| raw(event, trace)).collect(),
        level,
        faults,
    }
}

/// Where an event stands now.
pub(super) fn published(placed: Placed) -> proto::PublishResponse {
    proto::PublishResponse { offset: placed.offset.to_string(), duplicate: placed.duplicate }
}

fn raw(event: proto::Event, trace: Option<&TraceParent>) -> RawEvent {
    let proto::Event { data, r#type, key, producer, traceparent } = event;
    let given = |text: String| (!text.is_empty()).then_some(text);
    RawEvent {
        data: Some(data),
        kind: given(r#type),
        key: given(key),
        producer: producer.map(|proto::Producer { id, seq }| RawProducer { id: Some(id), seq: Some(seq) }),
        // A malformed one is as good as none, says the standard.
        trace: TraceParent::parse(&traceparent).or_else(|| trace.cloned()),
    }
}
