//! The spans of events that go into the log.
//!
//! A span is for the events of one call that are in one trace: one each where every event brings its own, one
//! for all where the call's is all there is. The log carries the span's place on, so that what becomes of the
//! events anywhere is a part of it.

use std::time::SystemTime;

use evergate_domain::{EventDraft, EventType, Level, StreamName, TraceParent};
use evergate_eventlog::{AppendError, Placed};
use evergate_telemetry::{Parent, Side, Span, Tracer};

/// Events that are being appended.
pub(super) struct Ingest<'a> {
    tracer: &'a Tracer,
    begun: SystemTime,
    runs: Vec<Run>,
}

/// Those of one trace, one after the other.
struct Run {
    own: TraceParent,
    given: Option<TraceParent>,
    first: usize,
    events: usize,
    bytes: u64,
    kind: Option<EventType>,
}

impl<'a> Ingest<'a> {
    /// Decides about the events' traces, and puts those that are kept into the events. `None` while nothing is
    /// traced.
    pub(super) fn begin(tracer: &'a Tracer, events: &mut [EventDraft]) -> Option<Self> {
        if !tracer.is_on() {
            return None;
        }
        let begun = SystemTime::now();
        let mut runs: Vec<Run> = Vec::new();
        // What the run before came with, and what was decided.
        let mut before: Option<(Option<TraceParent>, TraceParent)> = None;
        for (index, event) in events.iter_mut().enumerate() {
            let goes_on = before.as_ref().is_some_and(|(given, _)| *given == event.trace);
            if !goes_on {
                let own = tracer.arrive(event.trace.as_ref());
                before = Some((event.trace.clone(), own));
            }
            let (given, own) = before.as_ref().expect("set above");
            if !own.is_sampled() {
                // Nobody behind the log is to trace what is not kept here.
                event.trace = event.trace.take().map(|trace| trace.with_sampled(false));
                continue;
            }
            let bytes = event.bytes();
            match runs.last_mut().filter(|_| goes_on) {
                Some(run) => {
                    run.events += 1;
                    run.bytes += bytes;
                }
                None => runs.push(Run {
                    own: own.clone(),
                    given: given.clone(),
                    first: index,
                    events: 1,
                    bytes,
                    kind: event.kind.clone(),
                }),
            }
            event.trace = Some(own.clone());
        }
        Some(Self { tracer, begun, runs })
    }

    /// The log has answered.
    pub(super) fn end(self, stream: &StreamName, level: Level, answer: Result<&[Placed], &AppendError>) {
        let ended = SystemTime::now();
        for Run { own, given, first, events, bytes, kind } in self.runs {
            let mut attributes = vec![
                ("evergate.stream", stream.to_string().into()),
                ("evergate.level", level.as_str().into()),
                ("messaging.batch.message_count", events.into()),
                ("messaging.message.body.size", bytes.into()),
            ];
            if let Some(kind) = kind {
                attributes.push(("evergate.event.type", kind.to_string().into()));
            }
            if let Ok(placed) = answer
                && let Some(of_run) = placed.get(first..first + events)
            {
                let offset = of_run.first().map_or_else(String::new, |placed| placed.offset.to_string());
                attributes.push(("evergate.offset", offset.into()));
                let duplicates = of_run.iter().filter(|placed| placed.duplicate).count();
                attributes.push(("evergate.duplicates", duplicates.into()));
            }
            self.tracer.record(Span {
                name: "evergate.publish",
                side: Side::Producer,
                own,
                parent: given.as_ref().map(Parent::remote),
                begun: self.begun,
                ended,
                attributes,
                failure: answer.err().map(ToString::to_string),
            });
        }
    }
}
