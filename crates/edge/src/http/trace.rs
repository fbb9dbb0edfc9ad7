//! Every request belongs to a trace, its own if the client brought one.
//!
//! A request whose trace is kept has a span: from its head to its answer's. An event stream has a second one,
//! made at its end, for as long as it was open. While it is open it keeps a few words for that, and only if
//! its trace is kept.

use std::sync::OnceLock;
use std::time::SystemTime;

use evergate_domain::TraceParent;
use evergate_telemetry::{Attribute, Attributes, Parent, Side, Span, Tracer};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use parking_lot::Mutex;

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");

/// A request's place in its trace.
pub(crate) struct RequestTrace {
    own: TraceParent,
    /// Only if the trace is kept.
    kept: Option<Box<Kept>>,
}

struct Kept {
    tracer: Tracer,
    given: Option<TraceParent>,
    begun: SystemTime,
    said: Mutex<Said>,
}

struct Said {
    name: &'static str,
    attributes: Attributes,
}

/// An open event stream whose trace is kept. Dropped with it.
pub(crate) struct Life {
    tracer: Tracer,
    of: TraceParent,
    begun: SystemTime,
    attributes: Attributes,
    reason: OnceLock<&'static str>,
}

impl RequestTrace {
    /// The client's trace continued, or a new one.
    pub(crate) fn of(tracer: &Tracer, headers: &HeaderMap) -> Self {
        let given =
            headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()).and_then(TraceParent::parse);
        let own = tracer.arrive(given.as_ref());
        let kept = (tracer.is_on() && own.is_sampled()).then(|| {
            let said = Mutex::new(Said { name: "evergate.request", attributes: Vec::new() });
            Box::new(Kept { tracer: tracer.clone(), given, begun: SystemTime::now(), said })
        });
        Self { own, kept }
    }

    /// The trace's id.
    pub(crate) fn id(&self) -> String {
        self.own.trace_id()
    }

    /// What the request causes is a part of this, if its trace is kept.
    pub(crate) fn kept(&self) -> Option<&TraceParent> {
        self.kept.as_ref().map(|_| &self.own)
    }

    /// Says what kind of request it is.
    pub(crate) fn is(&self, name: &'static str) {
        if let Some(kept) = &self.kept {
            kept.said.lock().name = name;
        }
    }

    /// Says something about it, which is made up only if anybody will read it.
    pub(crate) fn says<A: Into<Attribute>>(&self, name: &'static str, value: impl FnOnce() -> A) {
        if let Some(kept) = &self.kept {
            kept.said.lock().attributes.push((name, value().into()));
        }
    }

    /// The stream that is opened by it, with all that was said so far.
    pub(crate) fn lives(&self) -> Option<Box<Life>> {
        let kept = self.kept.as_ref()?;
        Some(Box::new(Life {
            tracer: kept.tracer.clone(),
            of: self.own.clone(),
            begun: SystemTime::now(),
            attributes: kept.said.lock().attributes.clone(),
            reason: OnceLock::new(),
        }))
    }

    /// Tells the client its trace, and the tracer of the answer.
    pub(crate) fn answered(self, headers: &mut HeaderMap, status: StatusCode) {
        let ascii = |text: String| HeaderValue::try_from(text).expect("hexadecimal and dashes");
        headers.insert(TRACE_ID, ascii(self.own.trace_id()));
        headers.insert(TRACEPARENT, ascii(self.own.to_string()));
        let Some(kept) = self.kept else { return };
        let Kept { tracer, given, begun, said } = *kept;
        let Said { name, mut attributes } = said.into_inner();
        attributes.push(("http.response.status_code", u64::from(status.as_u16()).into()));
        tracer.record(Span {
            name,
            side: Side::Server,
            own: self.own,
            parent: given.as_ref().map(Parent::remote),
            begun,
            ended: SystemTime::now(),
            attributes,
            failure: status.is_server_error().then(|| status.to_string()),
        });
    }
}

impl Life {
    /// Why it ends, said by whoever ends it; otherwise it is its client who does.
    pub(crate) fn ends(&self, reason: &'static str) {
        let _ = self.reason.set(reason);
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let ended = SystemTime::now();
        let lasted = ended.duration_since(self.begun).unwrap_or_default();
        let mut attributes = std::mem::take(&mut self.attributes);
        let millis = u64::try_from(lasted.as_millis()).unwrap_or(u64::MAX);
        attributes.push(("evergate.connection.duration_ms", millis.into()));
        attributes.push(("evergate.reason", (*self.reason.get().unwrap_or(&"client-gone")).into()));
        self.tracer.record(Span {
            name: "evergate.close",
            side: Side::Internal,
            own: self.tracer.part_of(&self.of),
            parent: Some(Parent::here(&self.of)),
            begun: self.begun,
            ended,
            attributes,
            failure: None,
        });
    }
}
