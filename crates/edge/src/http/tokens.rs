//! `POST /v1/connections/{id}/token` and `POST /v1/tickets`: what clients do with their tokens.
//!
//! A fresh token keeps a stream that would end with the old one. A ticket stands for a token for a minute,
//! once: an `EventSource` sends no header, and a token has no place in an address.

use bytes::Bytes;
use evergate_proto::edge::v1::RenewRequest;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use percent_encoding::percent_decode_str;

use crate::access::{Asked, Denied};
use crate::calls::{Call, CallError};
use crate::http::answer::{Answer, empty, full};
use crate::http::context::Context;
use crate::problem::{FieldError, Problem};

/// The connection that the path names, not decoded; `None` if it is another path.
pub(super) fn connection_of(path: &str) -> Option<&str> {
    let connection = path.strip_prefix("/v1/connections/")?.strip_suffix("/token")?;
    (!connection.contains('/')).then_some(connection)
}

/// Answers 204 if the stream lasts as long as the token of this request.
pub(super) async fn renew(context: &Context, connection: &str, asked: &Asked<'_>) -> Result<Answer, Problem> {
    let connection = percent_decode_str(connection)
        .decode_utf8()
        .map_err(|_| Problem::bad_request(vec![FieldError::new("path.connection", "is not UTF-8")]))?;
    let token = bearer(context, asked)?;
    let call = Call::Renew(RenewRequest { connection: connection.into_owned(), token });
    context.calls.make(call).await.map_err(CallError::into_problem)?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// Answers 201 with a ticket for the token of this request.
pub(super) async fn give_ticket(context: &Context, asked: &Asked<'_>) -> Result<Answer, Problem> {
    let token = bearer(context, asked)?;
    let gate = context.gate.as_ref().ok_or_else(no_tokens)?;
    let Some((ticket, expires_in)) = gate.give_ticket(&token).await.map_err(Denied::into_problem)? else {
        let why = "there are too many tickets that nobody has used yet";
        let problem = Problem::new(StatusCode::TOO_MANY_REQUESTS, "too-many-tickets", "Try again later", why);
        return Err(problem.retry_after(std::time::Duration::from_secs(10)));
    };
    let body = serde_json::json!({ "ticket": ticket, "expires_in": expires_in });
    let mut answer = full(Response::new(Full::new(Bytes::from(body.to_string()))));
    *answer.status_mut() = StatusCode::CREATED;
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(answer)
}

fn bearer(context: &Context, asked: &Asked<'_>) -> Result<String, Problem> {
    let gate = context.gate.as_ref().ok_or_else(no_tokens)?;
    gate.bearer(asked).map_err(Denied::into_problem)
}

fn no_tokens() -> Problem {
    Problem::new(
        StatusCode::NOT_FOUND,
        "no-tokens",
        "Nobody is asked for a token here",
        "this server lets everybody in; open the stream without a token",
    )
}
