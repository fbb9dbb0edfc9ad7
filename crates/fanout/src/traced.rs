//! What of an event's way through a node is traced: that it arrived, and each shard's sweep that sent it.
//!
//! Only of events whose traces are kept, and never of a single delivery: a sweep is one span, however many it
//! serves. Events that came together in one trace have their spans together.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use evergate_domain::{Event, Offset, StreamName, TraceParent};
use evergate_telemetry::{Parent, Side, Span, Tracer};

use crate::engine::Listener;

/// News that are on their way to the shards.
#[derive(Debug, Clone)]
pub(crate) struct Traced {
    /// The arrival's place in the trace.
    arrival: TraceParent,
    last: Offset,
    events: u64,
}

/// Events that are being taken into a ring.
pub(crate) struct Arrival {
    begun: SystemTime,
    runs: Vec<Run>,
}

/// Those of one trace, one after the other.
struct Run {
    trace: TraceParent,
    first: Offset,
    last: Offset,
    events: u64,
    /// When the log accepted the first.
    accepted: SystemTime,
}

/// A sweep that sends something that is traced.
pub(crate) struct Sweep {
    begun: SystemTime,
    traced: Vec<Traced>,
}

impl Arrival {
    /// `None` while nothing is traced.
    pub(crate) fn begin(tracer: &Tracer) -> Option<Self> {
        tracer.is_on().then(|| Self { begun: SystemTime::now(), runs: Vec::new() })
    }

    /// An event goes into the ring.
    pub(crate) fn add(&mut self, event: &Event) {
        let Some(trace) = event.trace.as_ref().filter(|trace| trace.is_sampled()) else { return };
        match self.runs.last_mut() {
            Some(run) if run.trace == *trace => {
                run.last = event.offset;
                run.events += 1;
            }
            Some(_) | None => self.runs.push(Run {
                trace: trace.clone(),
                first: event.offset,
                last: event.offset,
                events: 1,
                accepted: UNIX_EPOCH + Duration::from_millis(event.time.get()),
            }),
        }
    }

    /// They are in it. Says what the shards are to know of them.
    pub(crate) fn end(self, tracer: &Tracer, stream: &StreamName) -> Vec<Traced> {
        let Self { begun, runs } = self;
        let ended = SystemTime::now();
        let told = runs.into_iter().map(|Run { trace, first, last, events, accepted }| {
            let own = tracer.part_of(&trace);
            let waited = begun.duration_since(accepted).unwrap_or_default();
            tracer.record(Span {
                name: "evergate.fanout",
                side: Side::Consumer,
                own: own.clone(),
                parent: Some(Parent::remote(&trace)),
                begun,
                ended,
                attributes: vec![
                    ("evergate.stream", stream.to_string().into()),
                    ("evergate.offset", first.to_string().into()),
                    ("messaging.batch.message_count", events.into()),
                    ("evergate.log_ms", u64::try_from(waited.as_millis()).unwrap_or(u64::MAX).into()),
                ],
                failure: None,
            });
            Traced { arrival: own, last, events }
        });
        told.collect()
    }
}

impl Sweep {
    /// `None` if nothing of it is traced.
    pub(crate) fn begin(tracer: &Tracer, listener: &Listener) -> Option<Self> {
        if !tracer.is_on() {
            return None;
        }
        let traced = listener.take_traced();
        (!traced.is_empty()).then(|| Self { begun: SystemTime::now(), traced })
    }

    /// It looked at so many connections.
    pub(crate) fn end(self, tracer: &Tracer, stream: &StreamName, connections: usize) {
        let ended = SystemTime::now();
        for Traced { arrival, last, events } in self.traced {
            tracer.record(Span {
                name: "evergate.sweep",
                side: Side::Internal,
                own: tracer.part_of(&arrival),
                parent: Some(Parent::here(&arrival)),
                begun: self.begun,
                ended,
                attributes: vec![
                    ("evergate.stream", stream.to_string().into()),
                    ("evergate.offset", last.to_string().into()),
                    ("messaging.batch.message_count", events.into()),
                    ("evergate.connections", connections.into()),
                ],
                failure: None,
            });
        }
    }
}
