//! The answer that does not end: an event stream.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use evergate_domain::{
    ClientAddress, ClientId, Cursor, KeyFilter, PackedCursor, ResumeKind, RetryRange, sse,
};
use evergate_eventlog::CursorStoreError;
use evergate_fanout::{
    Begin, Encoding, End, Farewell, Guard, Next, Retries, SubscribeError, SubscribeRequest, Subscriber,
};
use futures_util::stream;
use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};
use http_body::Frame;
use http_body_util::{BodyExt as _, Full, StreamBody};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::access::{Asked, Caller, Denied, Shown, Watched};
use crate::cursors::Reason;
use crate::http::accept_encoding;
use crate::http::answer::{Aborted, Answer, Body, empty, full};
use crate::http::carrier::Carrier;
use crate::http::context::Context;
use crate::http::kept::{Bonds, Kept, Named, Way, named};
use crate::http::limits::{Admitted, Asking, Refusal};
use crate::http::looks::Looks;
use crate::http::query::Query;
use crate::http::registry::Entry;
use crate::http::trace::{Life, RequestTrace};
use crate::http::wanted::{self, Wanted};
use crate::problem::Problem;

/// How much later a client comes back whose place another of its connections has taken. A browser
/// comes back by itself, and two pages under one name would throw each other out all the time.
const REPLACED_PAUSE_MS: u64 = 30_000;

/// How much later, at least, a client comes back that was let go for want of memory, and as much again by
/// chance: what it held is given back only after some seconds.
const OVERLOAD_PAUSE_MS: u64 = 20_000;

/// A request for an event stream.
pub(crate) struct StreamRequest<'a> {
    pub(crate) path_stream: Option<&'a str>,
    pub(crate) query: &'a Query,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) version: Version,
    pub(crate) head_only: bool,
    pub(crate) trace: &'a RequestTrace,
    pub(crate) client: ClientAddress,
    pub(crate) carrier: Carrier,
    /// Whether the page that caused it, if one did, may bring its cookies along.
    pub(crate) cookies: bool,
}

/// Answers with an event stream, or says why not.
pub(crate) async fn open(context: &Arc<Context>, request: StreamRequest<'_>) -> Result<Answer, Problem> {
    let arrived = Instant::now();
    accepts(request.headers)?;
    let sse_config = &context.config.sse;
    let wanted = wanted::read(request.path_stream, request.query, request.headers, sse_config)
        .map_err(Problem::bad_request)?;
    let asked = Asked { headers: request.headers, query: Some(request.query), cookies: request.cookies };
    let caller = match context.identify(&asked).await {
        Ok(caller) => caller,
        Err(denied @ Denied::KeysAway) if !request.head_only => {
            let busy = Busy(denied.title());
            return busy.answer(&wanted, sse_config.busy_retry, request.version);
        }
        Err(denied) => return Err(denied.into_problem()),
    };
    describe(context, &request, &wanted, caller.principal().is_some());
    // Before it is looked whether there are such streams: who may not see them learns nothing.
    let shown = may_see(&caller, &wanted).map_err(Denied::into_problem)?;
    if wanted.streams.names().iter().any(|name| !context.config.policies.exists(name)) {
        return Err(Problem::new(
            StatusCode::NOT_FOUND,
            "no-such-stream",
            "There is no such stream",
            "no stream of this name exists here",
        ));
    }
    // How far a client has come is told from the bytes its system took, which must be those of events.
    // One that acknowledges tells it itself.
    let followed = wanted.client.is_some() && !wanted.acknowledges && sse_config.cursor_overlap.is_none();
    let encoding = if sse_config.gzip && !followed {
        accept_encoding::preferred(request.headers)
    } else {
        Encoding::Identity
    };
    if request.head_only {
        return Ok(event_stream(crate::http::answer::no_body(), request.version, encoding));
    }
    request.trace.says("evergate.encoding", || match encoding {
        Encoding::Identity => "identity",
        Encoding::Gzip => "gzip",
    });
    let asking = Asking {
        from: request.client,
        principal: caller.principal().map(AsRef::as_ref),
        client_id: wanted.client.as_ref().map(ClientId::as_str),
        streams: &wanted.streams,
    };
    let opened = match context.limits.enter(&asking) {
        Ok(admitted) => subscribe(context, &wanted, &caller, shown, encoding, &request, admitted).await,
        Err(refusal) => Err(Busy(refusal.reason())),
    };
    match opened {
        Ok(body) => {
            metrics::histogram!("evergate_first_frame_seconds").record(arrived.elapsed().as_secs_f64());
            Ok(event_stream(body, request.version, encoding))
        }
        Err(busy) => {
            request.trace.says("evergate.refused", || busy.0);
            busy.answer(&wanted, sse_config.busy_retry, request.version)
        }
    }
}

/// Says what is wanted, for its trace: nothing by which a person or a secret could be told.
fn describe(context: &Context, request: &StreamRequest<'_>, wanted: &Wanted, by_token: bool) {
    let trace = request.trace;
    if trace.kept().is_none() {
        return;
    }
    let names: Vec<_> = wanted.streams.names().iter().map(ToString::to_string).collect();
    trace.says("evergate.streams", || names.join(","));
    trace.says("evergate.filtered", || wanted.filters.iter().any(|filter| !filter.is_all()));
    trace.says("network.protocol.version", || match request.version {
        Version::HTTP_10 => "1.0",
        Version::HTTP_2 => "2",
        _ => "1.1",
    });
    trace.says("url.scheme", || if context.config.http_tls.is_some() { "https" } else { "http" });
    trace.says("evergate.client.proxied", || request.client.is_proxied());
    if let Some(belongs) = context.affinity.route(request.client) {
        trace.says("evergate.client.region", || belongs.region);
        trace.says("evergate.client.edge", || belongs.edge.edge);
    }
    trace.says("evergate.client.named", || wanted.client.is_some());
    trace.says("evergate.client.acknowledges", || wanted.acknowledges);
    trace.says("evergate.client.leased", || wanted.leased);
    trace.says("evergate.client.token", || by_token);
}

/// What of the subscription its caller is shown.
fn may_see(caller: &Caller, wanted: &Wanted) -> Result<Arc<[KeyFilter]>, Denied> {
    if let Some(client) = &wanted.client {
        caller.is_client(client)?;
    }
    caller.narrow(&wanted.streams, &wanted.filters)
}

async fn subscribe(
    context: &Arc<Context>,
    wanted: &Wanted,
    caller: &Caller,
    shown: Arc<[KeyFilter]>,
    encoding: Encoding,
    asked: &StreamRequest<'_>,
    admitted: Admitted,
) -> Result<Body, Busy> {
    let carrier = asked.carrier.clone();
    if context.is_stopping() {
        return Err(Busy("shutting down"));
    }
    if context.shortage.refuses_streams() {
        return Err(Busy("short of memory"));
    }
    let (entry, connection) = context.streams.enter(carrier.cut.clone()).ok_or(Busy("full"))?;
    // Chunked framing is the engine's only one; HTTP/1.0 ends a body by closing.
    let handover = carrier.handover.filter(|_| asked.version != Version::HTTP_10);
    let own_socket = handover.is_some() && asked.version == Version::HTTP_11;
    let by_token = caller.principal().is_some();
    let kept = Kept::of(context, wanted, asked.client, carrier.cut, own_socket, by_token).await?;
    let Kept { begin, stored, cut, mut bonds } = kept;
    entry.ends_by(cut.clone());
    if let Some(named) = named(&bonds) {
        entry.hold(Arc::clone(&named.place));
    }
    let request = SubscribeRequest {
        streams: wanted.streams.clone(),
        filters: Arc::clone(&shown),
        begin,
        framing: wanted.framing,
        encoding,
        heartbeat: (context.config.sse.heartbeat, wanted.heartbeat),
    };
    let (subscriber, mut opening) = context.hub.subscribe(request).await.map_err(|error| match error {
        SubscribeError::Log(source) => {
            tracing::warn!(error = %source, "a subscriber was turned away: the log cannot be read");
            Busy("the event log cannot be read")
        }
        SubscribeError::Held => Busy("the cursor is ahead of this region"),
        SubscribeError::Stopping => Busy("shutting down"),
    })?;
    if stored && opening.kind == ResumeKind::Exact {
        opening.kind = ResumeKind::Stored;
    }
    if let Some(named) = bonds.as_mut().and_then(|bonds| bonds.named.as_mut()) {
        let direct = own_socket && !asked.client.is_proxied() && encoding == Encoding::Identity;
        let way = if direct { Way::Direct } else { Way::Indirect };
        named.begin(way, context.config.sse.cursor_overlap, subscriber.cursor());
        named.place.begins(subscriber.cursor().pack(), opening.kind, &shown);
    }
    if let Some(named) = named(&bonds).filter(|named| named.fresh) {
        // Before the client hears where it is: it may go away right after.
        let begun = context.cursors.begin(&named.place, subscriber.cursor().pack()).await;
        if !begun.map_err(|error| Busy::no_cursors(&error))? {
            return Err(Busy("replaced"));
        }
    }
    asked.trace.says("evergate.resume", || opening.kind.as_str());
    metrics::counter!("evergate_streams_total", "resume" => opening.kind.as_str()).increment(1);
    let leased = bonds.as_ref().filter(|_| wanted.leased);
    if let Some(bonds) = leased {
        // Not before: what went before may have taken its time.
        entry.lease(bonds.dismissal.clone());
    }
    if let (Some((gate, principal)), Some(bonds)) = (caller.known(), &bonds) {
        entry.watch(Watched {
            connection: connection.clone(),
            principal: Arc::clone(principal),
            term: gate.term(principal),
            shown: Shown { streams: wanted.streams.clone(), filters: shown, client: wanted.client.clone() },
            word: Arc::clone(&bonds.word),
            dismissal: bonds.dismissal.clone(),
        });
        // It may have been called back while the stream was being opened.
        if gate.stands(principal).is_err() {
            bonds.dismissal.dismiss(Reason::Revoked);
        }
    }
    let ping_interval = context.config.sse.ping_interval.as_millis();
    if let Some(key) = context.affinity.count(asked.client) {
        entry.stands_at(key);
    }
    let retry = context.size_retries();
    let mut first = Vec::with_capacity(256);
    sse::Open {
        connection: &connection,
        resume: opening.kind,
        cursor: &opening.cursor,
        trace_id: &asked.trace.id(),
        ping_ms: leased.map(|_| u64::try_from(ping_interval).unwrap_or(u64::MAX)),
        retry_ms: retry.pick_ms(fastrand::u64(..)),
    }
    .write_to(&mut first);
    let life = asked.trace.lives();
    let keep = Keep {
        retries: context.hub.retries(),
        abort: wanted.end_abort,
        cut,
        bonds,
        life,
        counted: AtomicBool::new(false),
        entry,
        _admitted: admitted,
    };
    let live = Live { subscriber, keep };
    Ok(match handover {
        Some(handover) => handover.leave((first.into(), live)).boxed_unsync(),
        None => live.body(&first, context.config.hub.trail_interval),
    })
}

/// An open stream.
pub(crate) struct Live {
    pub(crate) subscriber: Subscriber,
    pub(crate) keep: Keep,
}

/// What an open stream holds, and how it ends.
pub(crate) struct Keep {
    /// When clients are to come back.
    retries: Arc<Retries>,
    abort: bool,
    cut: CancellationToken,
    bonds: Option<Box<Bonds>>,
    /// What is told of it at its end, if it is traced.
    life: Option<Box<Life>>,
    /// Whether it was counted how it ended.
    counted: AtomicBool,
    entry: Entry,
    _admitted: Admitted,
}

enum State {
    First(Bytes, Live, Option<Looks>),
    Running(Live, Option<Looks>),
    Ending { abort: bool },
}

impl Live {
    /// What comes next, of its streams or beside them. Not cancel-safe.
    async fn next(&mut self) -> Next {
        let Some(bell) = self.keep.bell() else { return self.subscriber.next().await };
        loop {
            match self.subscriber.next_unless(&bell).await {
                Some(next) => return next,
                None => {
                    if let Some(word) = self.keep.word() {
                        return Next::Bytes(self.subscriber.say(&word));
                    }
                }
            }
        }
    }

    /// The stream as a body, where no socket can be taken: HTTP/1.0.
    fn body(mut self, first: &[u8], look_every: Duration) -> Body {
        let first = self.subscriber.begin(first);
        let looks = self.keep.follows().then(|| Looks::new(look_every));
        let frames = stream::unfold(State::First(first, self, looks), |state| async move {
            match state {
                State::First(first, live, looks) => {
                    Some((Ok(Frame::data(first)), State::Running(live, looks)))
                }
                State::Running(mut live, mut looks) => {
                    if let Some(looks) = &mut looks
                        && let Some(position) = looks.look(live.subscriber.cursor())
                    {
                        live.keep.passed(position);
                    }
                    // A stream that is dismissed may lose what it was about to be sent: its client has
                    // the id of what it got.
                    let cut = live.keep.cut.clone();
                    match cut.run_until_cancelled(live.next()).await {
                        Some(Next::Bytes(bytes)) => {
                            Some((Ok(Frame::data(bytes)), State::Running(live, looks)))
                        }
                        ended => {
                            let end = match ended {
                                Some(Next::End(end)) => end,
                                Some(Next::Bytes(_)) | None => End::Dismissed,
                            };
                            // Who was told why is not told something else at the end.
                            let told = live.subscriber.was_told();
                            let end = if told && end == End::Dismissed { End::Stopped } else { end };
                            let Farewell { bytes, abort } = live.keep.farewell(end, live.subscriber.cursor());
                            let last = live.subscriber.finish(&bytes, abort);
                            Some((Ok(Frame::data(last)), State::Ending { abort }))
                        }
                    }
                }
                State::Ending { abort: true } => {
                    // An error discards what is not written yet. Being pending once writes it.
                    tokio::task::yield_now().await;
                    Some((Err(Aborted), State::Ending { abort: false }))
                }
                State::Ending { abort: false } => None,
            }
        });
        StreamBody::new(frames).boxed_unsync()
    }
}

impl Keep {
    fn count_end(&self, reason: &'static str) {
        if !self.counted.swap(true, Ordering::Relaxed) {
            metrics::counter!("evergate_streams_ended_total", "reason" => reason).increment(1);
        }
    }

    /// Why somebody else ended the stream, if so.
    fn dismissed_for(&self) -> Option<Reason> {
        let reason = self.bonds.as_ref().and_then(|bonds| bonds.dismissal.reason());
        reason.or_else(|| self.entry.sent_away_for())
    }
}

impl Drop for Keep {
    fn drop(&mut self) {
        // Whoever ended it said so before; otherwise its connection has gone.
        self.count_end("client-gone");
    }
}

impl Guard for Keep {
    /// The last frame: why it ends, and when to come back.
    fn farewell(&self, end: End, cursor: &Cursor) -> Farewell {
        let reason = match end {
            End::Stopped | End::LogClosed => "shutdown",
            End::Damaged => "damaged-log",
            End::Dismissed => self.dismissed_for().map_or("closed", Reason::as_str),
        };
        self.count_end(reason);
        if let Some(life) = &self.life {
            life.ends(reason);
        }
        if end == End::Stopped {
            // It was told before.
            return Farewell { bytes: Bytes::new(), abort: self.abort };
        }
        if end == End::Damaged {
            tracing::error!(%cursor, "a stream ends: the log is damaged behind its cursor");
        }
        let mut retry_ms = self.retries.draw_ms();
        if end == End::Dismissed {
            retry_ms += match self.dismissed_for() {
                Some(Reason::Replaced) => REPLACED_PAUSE_MS,
                Some(Reason::Overload) => OVERLOAD_PAUSE_MS + fastrand::u64(..OVERLOAD_PAUSE_MS),
                Some(Reason::LeaseExpired | Reason::TokenExpired | Reason::Revoked | Reason::Rebalance)
                | None => 0,
            };
        }
        let mut frame = Vec::new();
        sse::Goaway { reason, retry_ms }.write_to(&mut frame);
        Farewell { bytes: frame.into(), abort: self.abort }
    }

    fn cut(&self) -> &CancellationToken {
        &self.cut
    }

    fn dismissed(&self) -> bool {
        self.dismissed_for().is_some()
    }

    fn has_own_cut(&self) -> bool {
        self.bonds.is_some()
    }

    fn follows(&self) -> bool {
        named(&self.bonds).is_some_and(Named::follows)
    }

    fn passed(&self, position: PackedCursor) {
        if let Some(named) = named(&self.bonds) {
            named.passed(position);
        }
    }

    fn word(&self) -> Option<Bytes> {
        self.bonds.as_ref()?.word.take()
    }

    fn bell(&self) -> Option<Arc<Notify>> {
        Some(self.bonds.as_ref()?.word.bell())
    }
}

/// A transient refusal, and why.
pub(super) struct Busy(pub(super) &'static str);

impl Busy {
    /// The client brings no position of its own, and the one that is kept cannot be had. To begin
    /// anywhere else would be a guess.
    pub(super) fn no_cursors(error: &CursorStoreError) -> Self {
        tracing::warn!(%error, "a subscriber was turned away: its stored cursor cannot be had");
        Self("the stored cursor cannot be read")
    }

    /// Any status but 200 kills a browser's `EventSource` for ever, so it gets a very short stream
    /// instead. Clients that understand statuses ask for them.
    fn answer(self, wanted: &Wanted, retry: RetryRange, version: Version) -> Result<Answer, Problem> {
        metrics::counter!("evergate_busy_total", "reason" => self.0).increment(1);
        let retry_ms = retry.pick_ms(fastrand::u64(..));
        if wanted.errors_http {
            let busy = Problem::new(Refusal::status(self.0), "busy", "Try again later", self.0);
            return Err(busy.retry_after(Duration::from_millis(retry_ms)));
        }
        let cursor = match &wanted.begin {
            Begin::Resume(cursor) => Some(cursor.to_string()),
            Begin::Start(_) => None,
        };
        let mut frame = Vec::new();
        sse::Busy { reason: self.0, cursor: cursor.as_deref(), retry_ms }.write_to(&mut frame);
        let (_, body) = full(Response::new(Full::new(frame.into()))).into_parts();
        // Too short to gain anything.
        Ok(event_stream(body, version, Encoding::Identity))
    }
}

/// 406 unless the client takes an event stream. One that does not say takes anything.
fn accepts(headers: &HeaderMap) -> Result<(), Problem> {
    let mut ranges =
        headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok()).peekable();
    if ranges.peek().is_none() {
        return Ok(());
    }
    let fits = |range: &str| {
        let mut parts = range.split(';').map(str::trim);
        let kind = parts.next().unwrap_or_default().to_ascii_lowercase();
        let refused = parts.any(|part| matches!(part, "q=0" | "q=0.0" | "q=0.00" | "q=0.000"));
        !refused && matches!(kind.as_str(), "text/event-stream" | "text/*" | "*/*" | "")
    };
    if ranges.flat_map(|value| value.split(',')).any(fits) {
        return Ok(());
    }
    Err(Problem::new(
        StatusCode::NOT_ACCEPTABLE,
        "not-acceptable",
        "Only an event stream can be had here",
        "the Accept header leaves out text/event-stream",
    ))
}

/// The head of every answer that is an event stream, `busy` included.
fn event_stream(body: Body, version: Version, encoding: Encoding) -> Answer {
    let mut answer = empty(StatusCode::OK).map(|_| body);
    let headers = answer.headers_mut();
    let constant = HeaderValue::from_static;
    headers.insert(header::CONTENT_TYPE, constant("text/event-stream"));
    headers.insert(header::CACHE_CONTROL, constant("no-cache, no-store, no-transform"));
    headers.insert("x-accel-buffering", constant("no"));
    // Also where this one is not compressed: another client's would be. CORS adds what it depends on.
    headers.append(header::VARY, constant("Accept-Encoding"));
    match encoding {
        Encoding::Identity => {}
        Encoding::Gzip => drop(headers.insert(header::CONTENT_ENCODING, constant("gzip"))),
    }
    if version <= Version::HTTP_11 {
        // A client must not put its next request behind a stream that may end at any time.
        headers.insert(header::CONNECTION, constant("close"));
    }
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accept_is_read_as_browsers_and_tools_send_it() {
        let accepts = |value: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(value));
            accepts(&headers).is_ok()
        };
        for good in [
            "text/event-stream",
            "*/*",
            "text/html, */*;q=0.8",
            "text/*",
            "Text/Event-Stream; charset=utf-8",
            "",
        ] {
            assert!(accepts(good), "{good}");
        }
        for bad in ["application/json", "text/html", "text/event-stream;q=0"] {
            assert!(!accepts(bad), "{bad}");
        }
    }
}
