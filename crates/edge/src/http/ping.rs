//! `POST /v1/connections/{id}/ping`: a client says that it lives.
//!
//! A stream that was opened with `lease=1` ends without these. For any other a ping only tells whether
//! the stream is still there.

use evergate_proto::edge::v1::PingRequest;
use http::StatusCode;
use percent_encoding::percent_decode_str;

use crate::calls::{Call, CallError};
use crate::http::answer::{Answer, empty};
use crate::http::context::Context;
use crate::problem::{FieldError, Problem};

/// The connection that the path names, not decoded; `None` if it is another path.
pub(super) fn connection_of(path: &str) -> Option<&str> {
    let connection = path.strip_prefix("/v1/connections/")?.strip_suffix("/ping")?;
    (!connection.contains('/')).then_some(connection)
}

/// Answers 204 if the connection is there.
pub(super) async fn take(context: &Context, connection: &str) -> Result<Answer, Problem> {
    let connection = percent_decode_str(connection)
        .decode_utf8()
        .map_err(|_| Problem::bad_request(vec![FieldError::new("path.connection", "is not UTF-8")]))?;
    let call = Call::Ping(PingRequest { connection: connection.into_owned() });
    context.calls.make(call).await.map_err(CallError::into_problem)?;
    Ok(empty(StatusCode::NO_CONTENT))
}
