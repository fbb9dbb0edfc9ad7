//! A request and its answer.

use std::future::poll_fn;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use evergate_fanout::Entrant;
use h2::server::SendResponse;
use h2::{Reason, SendStream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, header};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::time::timeout;

use crate::http::answer::{Answer, Body};
use crate::http::carrier::{Carrier, Handover};
use crate::http::context::Context;
use crate::http::http2::outlet::Stream;
use crate::http::http2::upload::Upload;
use crate::http::router;
use crate::http::stream::Live;

/// Answers a request. Gives the event stream, if that is what is answered with.
pub(super) async fn exchange(
    context: Arc<Context>,
    request: Request<Upload>,
    mut respond: SendResponse<Bytes>,
    carrier: Carrier,
) -> Option<Entrant<Stream>> {
    let head_only = *request.method() == Method::HEAD;
    let handover = Arc::<Handover>::default();
    let carrier = Carrier { handover: Some(Arc::clone(&handover)), ..carrier };
    let answer = tokio::select! {
        biased;
        // Nobody waits for the answer any more.
        _ = poll_fn(|cx| respond.poll_reset(cx)) => return None,
        answer = router::answer(Arc::clone(&context), request, carrier) => answer,
    };
    let sent = match handover.left() {
        Some((first, live)) => return streams(&mut respond, answer, first, live),
        None => send(&context, &mut respond, answer, head_only).await,
    };
    if let Err(error) = sent {
        tracing::debug!(%error, "an answer was not taken");
    }
    None
}

fn streams(
    respond: &mut SendResponse<Bytes>,
    answer: Answer,
    first: Bytes,
    Live { subscriber, keep }: Live,
) -> Option<Entrant<Stream>> {
    let (mut head, _) = answer.into_parts();
    date(&mut head.headers);
    match respond.send_response(Response::from_parts(head, ()), false) {
        Ok(stream) => Some(Entrant { outlet: Stream(stream), first, subscriber, guard: Box::new(keep) }),
        Err(error) => {
            tracing::debug!(%error, "a client was gone before its stream began");
            None
        }
    }
}

async fn send(
    context: &Context,
    respond: &mut SendResponse<Bytes>,
    answer: Answer,
    head_only: bool,
) -> Result<(), h2::Error> {
    let (mut head, body) = answer.into_parts();
    date(&mut head.headers);
    let nothing = body.is_end_stream();
    if let Some(bytes) = body.size_hint().exact().filter(|_| !nothing) {
        head.headers.entry(header::CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(bytes));
    }
    let whole = head_only || nothing;
    let stream = respond.send_response(Response::from_parts(head, ()), whole)?;
    if whole { Ok(()) } else { send_body(context, stream, body).await }
}

async fn send_body(
    context: &Context,
    mut stream: SendStream<Bytes>,
    mut body: Body,
) -> Result<(), h2::Error> {
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else {
            stream.send_reset(Reason::INTERNAL_ERROR);
            return Ok(());
        };
        let mut data = frame.into_data().unwrap_or_default();
        while !data.is_empty() {
            stream.reserve_capacity(data.len());
            let room = poll_fn(|cx| stream.poll_capacity(cx));
            let Ok(room) = timeout(context.config.connections.stall_timeout, room).await else {
                metrics::counter!("evergate_connections_ended_total", "reason" => "stalled").increment(1);
                stream.send_reset(Reason::CANCEL);
                return Ok(());
            };
            // The client has gone.
            let Some(room) = room else { return Ok(()) };
            let part = data.split_to(room?.min(data.len()));
            stream.send_data(part, false)?;
        }
    }
    stream.send_data(Bytes::new(), true)
}

/// RFC 9110, section 6.6.1: whoever has a clock tells the time.
fn date(headers: &mut HeaderMap) {
    let now = httpdate::fmt_http_date(SystemTime::now());
    if let Ok(now) = HeaderValue::try_from(now) {
        headers.insert(header::DATE, now);
    }
}
