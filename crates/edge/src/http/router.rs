//! From a request to its handler.

use std::sync::Arc;

use bytes::Bytes;
use evergate_domain::{ClientAddress, StreamName};
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::Full;
use percent_encoding::percent_decode_str;

use crate::access::{Asked, Denied};
use crate::http::answer::{Answer, empty, full};
use crate::http::carrier::Carrier;
use crate::http::context::Context;
use crate::http::query::Query;
use crate::http::stream::{self, StreamRequest};
use crate::http::trace::RequestTrace;
use crate::http::{acks, cors, demo, early, ping, tokens};
use crate::problem::{FieldError, Problem};
use crate::publish::{self, Sender};

/// Answers a request.
pub(crate) async fn answer<B>(context: Arc<Context>, request: Request<B>, carrier: Carrier) -> Answer
where
    B: http_body::Body<Data = Bytes> + Send + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let (parts, body) = request.into_parts();
    let trace = RequestTrace::of(&context.config.tracer, &parts.headers);
    trace.says("http.request.method", || parts.method.to_string());
    // Before anything else: a page that may not ask must not cause anything either.
    let origin = cors::judge(&context.config.cors, &parts.headers, &parts.uri);
    let answer = if origin == cors::Verdict::Refused {
        Err(cors::refusal())
    } else if let Err(problem) =
        head_fits(&context, &parts).and_then(|()| early::judge(&parts, carrier.is_early()))
    {
        Err(problem)
    } else if cors::is_preflight(&parts.method, &parts.headers) {
        Ok(cors::preflight(&origin, &parts.headers))
    } else {
        let cookies = cors::brings_cookies(&origin, &parts.method, &parts.headers);
        route(&context, &parts, body, &trace, carrier, cookies).await
    };
    let mut answer = answer.unwrap_or_else(|problem| {
        tracing::debug!(status = problem.status().as_u16(), code = problem.code(), "refused");
        Answer::from(problem)
    });
    cors::mark(&mut answer, &origin);
    let status = answer.status();
    trace.answered(answer.headers_mut(), status);
    answer
}

async fn route<B>(
    context: &Arc<Context>,
    parts: &http::request::Parts,
    body: B,
    trace: &RequestTrace,
    carrier: Carrier,
    cookies: bool,
) -> Result<Answer, Problem>
where
    B: http_body::Body<Data = Bytes> + Send + Unpin,
    B::Error: std::error::Error + Send + Sync + 'static,
{
    let client = context.config.proxies.client(carrier.peer, &parts.headers);
    let path = parts.uri.path();
    let method = &parts.method;
    if let Some(answer) = demo::answer(context, method, path).await {
        return answer;
    }
    if path == "/v1/route" {
        return match *method {
            Method::GET | Method::HEAD => Ok(placement(context, client)),
            _ => other_method(method, "GET, HEAD, OPTIONS"),
        };
    }
    if path == "/v1/acks" {
        return match *method {
            Method::POST => {
                context.limits.call(client)?;
                acks::take(context, parts, body).await
            }
            _ => other_method(method, "POST, OPTIONS"),
        };
    }
    if let Some(connection) = tokens::connection_of(path) {
        return match *method {
            Method::POST => {
                context.limits.call(client)?;
                tokens::renew(context, connection, &Asked { headers: &parts.headers, query: None, cookies })
                    .await
            }
            _ => other_method(method, "POST, OPTIONS"),
        };
    }
    if path == "/v1/tickets" {
        return match *method {
            Method::POST => {
                context.limits.call(client)?;
                tokens::give_ticket(context, &Asked { headers: &parts.headers, query: None, cookies }).await
            }
            _ => other_method(method, "POST, OPTIONS"),
        };
    }
    if let Some(connection) = ping::connection_of(path) {
        return match *method {
            Method::POST => {
                context.limits.call(client)?;
                ping::take(context, connection).await
            }
            _ => other_method(method, "POST, OPTIONS"),
        };
    }
    let stream = match path {
        "/v1/events" => None,
        _ => Some(stream_of(path)?),
    };
    match *method {
        Method::GET | Method::HEAD => {
            let query = Query::parse(parts.uri.query().unwrap_or_default()).map_err(Problem::bad_request)?;
            trace.is("evergate.connect");
            let request = StreamRequest {
                path_stream: stream.as_deref(),
                query: &query,
                headers: &parts.headers,
                version: parts.version,
                head_only: *method == Method::HEAD,
                trace,
                client,
                carrier,
                cookies,
            };
            stream::open(context, request).await
        }
        Method::POST if let Some(stream) = stream => {
            let name = StreamName::new(&stream)
                .map_err(|error| Problem::bad_request(vec![FieldError::new("path.stream", error)]))?;
            let asked = Asked { headers: &parts.headers, query: None, cookies };
            let caller = context.identify(&asked).await.map_err(Denied::into_problem)?;
            // Before its body is read.
            caller.publishes_to(&name).map_err(Denied::into_problem)?;
            let sender = Sender { from: client, caller, identity: carrier.identity };
            publish::publish_http(&context.publisher, &sender, &name, parts, trace.kept(), body)
                .await
                .map(full)
        }
        _ => other_method(
            method,
            if stream.is_some() { "GET, HEAD, POST, OPTIONS" } else { "GET, HEAD, OPTIONS" },
        ),
    }
}

/// The stream in `/v1/streams/{stream}/events`, decoded but not checked.
fn stream_of(path: &str) -> Result<String, Problem> {
    let inner = path.strip_prefix("/v1/streams/").and_then(|rest| rest.strip_suffix("/events"));
    let Some(encoded) = inner.filter(|stream| !stream.contains('/')) else {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "no-such-path",
            "There is nothing at this path",
            "known: /v1/streams/{stream}/events, /v1/events, /v1/acks, /v1/connections/{id}/ping, /v1/connections/{id}/token, /v1/tickets, /v1/route",
        ));
    };
    let decoded = percent_decode_str(encoded).decode_utf8();
    decoded
        .map(std::borrow::Cow::into_owned)
        .map_err(|_| Problem::bad_request(vec![FieldError::new("path.stream", "is not UTF-8")]))
}

/// `OPTIONS` that is no preflight tells the methods; anything else is refused.
fn other_method(method: &Method, allow: &'static str) -> Result<Answer, Problem> {
    if method != Method::OPTIONS {
        return Err(Problem::method_not_allowed(allow));
    }
    let mut answer = empty(StatusCode::NO_CONTENT);
    answer.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    Ok(answer)
}

/// Which region and edge the client belongs to (the ones it reached, where nothing is agreed on), where
/// else it may go, and where it is taken to be.
fn placement(context: &Context, client: ClientAddress) -> Answer {
    let address = serde_json::json!({ "address": client.address(), "proxied": client.is_proxied() });
    let body = match context.affinity.route(client) {
        Some(belongs) => serde_json::json!({
            "region": belongs.region,
            "host": belongs.host,
            "edge": belongs.edge.edge,
            "http": belongs.edge.http,
            "alternatives": belongs.alternatives,
            "reached": context.config.node,
            "view": belongs.version,
            "client": address,
        }),
        None => serde_json::json!({
            "region": context.config.region,
            "edge": context.config.node,
            "alternatives": [],
            "reached": context.config.node,
            "client": address,
        }),
    };
    let mut answer = full(Response::new(Full::new(Bytes::from(body.to_string()))));
    let headers = answer.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}

/// 400 if the target names a user; 431 with an explanation. The parser below has a bound of its own, a few times as wide, at which
/// it answers without one.
fn head_fits(context: &Context, parts: &http::request::Parts) -> Result<(), Problem> {
    // Two readers may take different parts of such a target for the host (RFC 9110, section 4.2.4).
    if parts.uri.authority().is_some_and(|authority| authority.as_str().contains('@')) {
        return Err(Problem::bad_request(vec![FieldError::new("target", "names a user")]));
    }
    let line = parts.uri.path_and_query().map_or(0, |target| target.as_str().len());
    let fields: usize = parts.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    let max = context.config.connections.head_bytes_max;
    if line + fields <= max {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
        "head-too-large",
        "The request's head is too large",
        format!("{} bytes, at most {max} are allowed", line + fields),
    ))
}
