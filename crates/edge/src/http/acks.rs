//! `POST /v1/acks`: a client says how far it has worked through its stream.
//!
//! `{"connection": "…", "cursor": "1-42"}`: the connection's name as `evergate.open` told it, and the
//! id of the last event that is done. From the first one on, only these move the client's kept
//! position, so what it has not acknowledged is sent again. Answered at once and written with the
//! next flush; a lost one costs a repetition.

use bytes::Bytes;
use evergate_proto::edge::v1::AcknowledgeRequest;
use http::{StatusCode, header};
use http_body_util::{BodyExt as _, Limited};
use serde::Deserialize;

use crate::calls::{Call, CallError};
use crate::http::answer::{Answer, empty};
use crate::http::context::Context;
use crate::problem::{FieldError, Problem};

/// Two short texts.
const BODY_MAX: usize = 4 << 10;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Acknowledgement {
    connection: String,
    cursor: String,
}

/// Answers 204 when the position is noted.
pub(super) async fn take<B>(
    context: &Context,
    parts: &http::request::Parts,
    body: B,
) -> Result<Answer, Problem>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let json = parts.headers.get(header::CONTENT_TYPE).is_some_and(|kind| {
        let kind = kind.to_str().unwrap_or_default().split(';').next().unwrap_or_default();
        kind.trim().eq_ignore_ascii_case("application/json")
    });
    if !json {
        return Err(Problem::unsupported_media_type(
            "application/json",
            "an acknowledgement is a JSON object",
        ));
    }
    let read = Limited::new(body, BODY_MAX).collect();
    let within = context.config.connections.head_timeout;
    let bytes = match tokio::time::timeout(within, read).await {
        Ok(Ok(body)) => body.to_bytes(),
        Ok(Err(_)) => {
            let why = format!("the body cannot be read, or has more than {BODY_MAX} bytes");
            return Err(Problem::bad_request(vec![FieldError::new("body", why)]));
        }
        Err(_) => return Err(Problem::bad_request(vec![FieldError::new("body", "did not come in time")])),
    };
    let Acknowledgement { connection, cursor } = serde_json::from_slice(&bytes)
        .map_err(|error| Problem::bad_request(vec![FieldError::new("body", error)]))?;
    let call = Call::Acknowledge(AcknowledgeRequest { connection, cursor });
    context.calls.make(call).await.map_err(CallError::into_problem)?;
    Ok(empty(StatusCode::NO_CONTENT))
}
