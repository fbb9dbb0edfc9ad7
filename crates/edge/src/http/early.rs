//! Requests out of TLS 1.3's early data, taken here or by a proxy in front that tells of it (RFC 8470).
//!
//! Whoever recorded such a request can send it again, and before the handshake is over nobody can tell. So only what changes
//! nothing is answered; for anything else the client is told to ask again when its handshake is done, which browsers do by
//! themselves. A request that has come whole when the handshake is over is nobody else's, however early its first bytes were:
//! a recording never gets there.

use http::request::Parts;
use http::{Method, StatusCode};

use crate::http::query::Query;
use crate::problem::Problem;

const REQUESTS: &str = "evergate_early_requests_total";

const FIELD: &str = "early-data";

/// Parameters by which even a GET changes something: whose place it is, and what is good only once.
const CHANGING: [&str; 2] = ["client_id", "ticket"];

/// Refuses a request that may have been sent by somebody else, if that would matter. `early` says whether its client had still
/// to end its handshake with us.
pub(crate) fn judge(parts: &Parts, early: bool) -> Result<(), Problem> {
    // The standard has any value stand for 1. Whoever lies about it has itself told to come again.
    let taken_by = match (early, parts.headers.contains_key(FIELD)) {
        (true, _) => "edge",
        (false, true) => "proxy",
        (false, false) => return Ok(()),
    };
    let answered = is_idempotent(parts);
    let outcome = if answered { "answered" } else { "refused" };
    metrics::counter!(REQUESTS, "taken_by" => taken_by, "outcome" => outcome).increment(1);
    if answered {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::TOO_EARLY,
        "too-early",
        "The request came in early data and would change something",
        "whoever recorded it could send it again; send it again yourself once the TLS handshake is done",
    ))
}

fn is_idempotent(parts: &Parts) -> bool {
    if !matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS) {
        return false;
    }
    // One that cannot be read is refused by whoever reads it.
    Query::parse(parts.uri.query().unwrap_or_default())
        .is_ok_and(|query| CHANGING.iter().all(|name| query.first(name).is_none()))
}

#[cfg(test)]
mod tests {
    use http::Request;

    use super::*;

    fn refused(method: &str, target: &str, field: Option<&str>, early: bool) -> bool {
        let mut request = Request::builder().method(method).uri(target);
        if let Some(value) = field {
            request = request.header("Early-Data", value);
        }
        let (parts, ()) = request.body(()).expect("a request").into_parts();
        judge(&parts, early).is_err()
    }

    #[test]
    fn only_what_changes_nothing_may_come_early() {
        let events = "/v1/streams/s/events";
        for (method, target, changes) in [
            ("GET", events, false),
            ("HEAD", events, false),
            ("OPTIONS", events, false),
            ("GET", "/v1/events?stream=s&key=s/client_id", false),
            ("GET", "/v1/streams/s/events?client_id=a", true),
            ("GET", "/v1/streams/s/events?client%5fid=a", true),
            ("GET", "/v1/streams/s/events?ticket=a", true),
            ("GET", "/v1/streams/s/events?x=%ff", true),
            ("POST", events, true),
            ("POST", "/v1/acks", true),
            ("DELETE", events, true),
        ] {
            assert_eq!(refused(method, target, Some("1"), false), changes, "{method} {target}");
            assert_eq!(refused(method, target, Some("0"), false), changes, "any value is a 1");
            assert_eq!(refused(method, target, None, true), changes, "{method} {target}, taken here");
            assert!(!refused(method, target, None, false), "{method} {target}");
        }
    }
}
