//! Where spans are handed in.

use std::sync::Arc;

use evergate_domain::TraceParent;
use tokio::sync::mpsc;

use crate::sampling::Sampling;
use crate::span::Span;

pub(crate) const SPANS: &str = "evergate_spans_total";

/// Decides about traces and takes spans. Cheap to clone; it never waits.
#[derive(Debug, Clone, Default)]
pub struct Tracer(Option<Arc<On>>);

#[derive(Debug)]
struct On {
    sampling: Sampling,
    /// When it is full, what comes is dropped and counted.
    queue: mpsc::Sender<Span>,
}

impl Tracer {
    /// One that keeps nothing.
    #[must_use]
    pub fn off() -> Self {
        Self(None)
    }

    pub(crate) fn new(sampling: Sampling, queue: mpsc::Sender<Span>) -> Self {
        Self(Some(Arc::new(On { sampling, queue })))
    }

    /// Whether anything is traced at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.0.is_some()
    }

    /// A span's place in the trace that was `given`, or in a new one, with the decision whether it is kept.
    /// While nothing is traced here, what somebody else decided is passed on.
    #[must_use]
    pub fn arrive(&self, given: Option<&TraceParent>) -> TraceParent {
        let span = random(fastrand::u64(..));
        let own = match given {
            Some(given) => given.child(span),
            None => {
                let id = u128::from(fastrand::u64(1..)) << 64 | u128::from(fastrand::u64(..));
                TraceParent::new(id.to_be_bytes(), span, 0).expect("neither id is zero")
            }
        };
        match &self.0 {
            Some(on) => {
                let kept = on.sampling.keeps(given, &own);
                own.with_sampled(kept)
            }
            None => own,
        }
    }

    /// The place of a part of a span.
    #[must_use]
    pub fn part_of(&self, span: &TraceParent) -> TraceParent {
        span.child(random(fastrand::u64(..)))
    }

    /// Takes a span, or drops it if too many are waiting.
    pub fn record(&self, span: Span) {
        let Some(on) = &self.0 else { return };
        if on.queue.try_send(span).is_err() {
            self.dropped();
        }
    }

    /// A span was given up before it was one.
    pub fn dropped(&self) {
        metrics::counter!(SPANS, "result" => "dropped").increment(1);
    }
}

fn random(bits: u64) -> [u8; 8] {
    bits.max(1).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::Brought;
    use crate::span::{Parent, Side};

    const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    fn span(own: TraceParent) -> Span {
        let now = std::time::SystemTime::now();
        Span {
            name: "evergate.test",
            side: Side::Internal,
            parent: Some(Parent::here(&own)),
            own,
            begun: now,
            ended: now,
            attributes: Vec::new(),
            failure: None,
        }
    }

    #[test]
    fn without_a_collector_a_trace_is_passed_on_as_it_was_decided() {
        let given = TraceParent::parse(TRACE).expect("valid");
        let own = Tracer::off().arrive(Some(&given));
        assert_eq!(own.trace_id(), given.trace_id());
        assert!(own.is_sampled() && own.span_id() != given.span_id());
        assert!(!Tracer::off().arrive(None).is_sampled());
    }

    #[test]
    fn a_full_queue_drops_and_never_waits() {
        let (queue, mut taken) = mpsc::channel(2);
        let tracer = Tracer::new(Sampling { one_in: 1, brought: Brought::Follow }, queue);
        for _ in 0..5 {
            let own = tracer.arrive(None);
            assert!(own.is_sampled());
            tracer.record(span(own));
        }
        assert!(taken.try_recv().is_ok() && taken.try_recv().is_ok() && taken.try_recv().is_err());
        drop(taken);
        tracer.record(span(tracer.arrive(None)));
    }
}
