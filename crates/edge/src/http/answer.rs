//! Answers and their bodies.

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Empty, Full};

use crate::problem::Problem;

/// Ends a body in a way that the client can tell from a clean end.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the stream was ended without its last chunk, as asked for")]
pub(crate) struct Aborted;

/// Any body that is sent.
pub(crate) type Body = UnsyncBoxBody<Bytes, Aborted>;

/// Any answer.
pub(crate) type Answer = Response<Body>;

/// An answer with all of its bytes at hand.
pub(crate) fn full(response: Response<Full<Bytes>>) -> Answer {
    response.map(|body| body.map_err(|never| match never {}).boxed_unsync())
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Answer {
    let mut answer = Response::new(no_body());
    *answer.status_mut() = status;
    answer
}

/// Nothing.
pub(crate) fn no_body() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// Static content.
pub(crate) fn content(kind: &'static str, bytes: &'static [u8]) -> Answer {
    let mut answer = full(Response::new(Full::new(Bytes::from_static(bytes))));
    set(&mut answer, http::header::CONTENT_TYPE, kind);
    set(&mut answer, http::header::CACHE_CONTROL, "no-cache");
    answer
}

/// Sets a header to a constant.
pub(crate) fn set(answer: &mut Answer, name: HeaderName, value: &'static str) {
    answer.headers_mut().insert(name, HeaderValue::from_static(value));
}

impl From<Problem> for Answer {
    fn from(problem: Problem) -> Self {
        full(problem.into_response())
    }
}
