//! Every request belongs to a trace, its own if the client brought one.

use evergate_domain::TraceParent;
use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(crate) const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");

/// The client's trace continued, or a new one. Not sampled unless the client's is.
pub(crate) fn of_request(headers: &HeaderMap) -> TraceParent {
    let span = nonzero(fastrand::u64(..)).to_be_bytes();
    let given = headers.get(TRACEPARENT).and_then(|value| value.to_str().ok()).and_then(TraceParent::parse);
    match given {
        Some(parent) => parent.child(span),
        None => {
            let id = u128::from(nonzero(fastrand::u64(..))) << 64 | u128::from(fastrand::u64(..));
            TraceParent::new(id.to_be_bytes(), span, 0).expect("neither id is zero")
        }
    }
}

/// Tells the client its trace.
pub(crate) fn tell(headers: &mut HeaderMap, trace: &TraceParent) {
    let ascii = |text: String| HeaderValue::try_from(text).expect("hexadecimal and dashes");
    headers.insert(TRACE_ID, ascii(trace.trace_id()));
    headers.insert(TRACEPARENT, ascii(trace.to_string()));
}

fn nonzero(n: u64) -> u64 {
    n.max(1)
}
