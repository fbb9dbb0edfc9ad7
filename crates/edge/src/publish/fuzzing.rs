//! What publishers might send, read and checked as it would be; for fuzzers.

use evergate_domain::{EventDraft, StreamName};
use evergate_proto::publish::v1 as proto;
use prost::Message as _;

use super::{Submission, grpc, http};
use crate::config::{PublishLimits, Rates};

/// Those of an edge that was told nothing else.
fn limits() -> PublishLimits {
    PublishLimits {
        payload_bytes_max: 256 << 10,
        batch_events_max: 1_000,
        batch_bytes_max: 1 << 20,
        stream_window: 1_000,
        rates: Rates::default(),
    }
}

/// The body of a publish by HTTP: an object, or one on each line. The events, if nothing is wrong with it.
#[must_use]
pub fn body(text: &str, lines: bool) -> Option<Vec<EventDraft>> {
    let (events, level, faults) = http::events_in(text, lines, limits().batch_events_max);
    let stream = StreamName::new("s");
    admitted(Submission { stream, events, level, faults })
}

/// A message of a publish by gRPC.
#[must_use]
pub fn message(bytes: &[u8]) -> Option<Vec<EventDraft>> {
    let proto::PublishBatchRequest { stream, events, level } =
        proto::PublishBatchRequest::decode(bytes).ok()?;
    admitted(grpc::batch(&stream, events, level, None))
}

fn admitted(submission: Submission) -> Option<Vec<EventDraft>> {
    let (admitted, _) = submission.check(limits()).ok()?;
    Some(admitted.events)
}
