//! `POST /v1/streams/{stream}/events`: publishing for whoever has an HTTP client.
//!
//! | `Content-Type`         | body                                             | answer   |
//! |------------------------|--------------------------------------------------|----------|
//! | `application/json`     | one event as an object, see [`json`]             | an object |
//! | `application/x-ndjson` | such an object on each line, blank lines skipped | a list   |
//! | `text/*`               | the payload, exactly; the rest in header fields, see [`text`] | an object |
//!
//! An answer is `{"offset": "1-42", "duplicate": false}`, or a list of those in the order of the
//! lines: a batch is stored whole or not at all. `Evergate-Level` demands a level for any of them;
//! `traceparent` becomes the trace of every event.

mod body;
mod header;
mod json;
mod media;
mod text;

#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::time::Instant;

use ::http::request::Parts;
use ::http::{HeaderValue, Response, StatusCode, header as field};
use bytes::Bytes;
use evergate_domain::{Allowance, Level, Offset, StreamName, TraceParent};
use evergate_eventlog::Placed;
use http_body::Body;
use http_body_util::Full;
use serde::Serialize;
use tokio::sync::OwnedSemaphorePermit;

use super::publisher::Refusal;
use super::{Faults, Naming, Part, Publisher, RawEvent, Sender, Submission, Transport};
use crate::meter;
use crate::problem::{FieldError, Problem};
use body::Whole;
use media::Media;

/// Demands a level.
const LEVEL: &str = "Evergate-Level";

/// Publishes what the request holds, and answers when it is in the log. The events are a part of the trace
/// that is `continued`, or else of the one that the request names.
pub(crate) async fn publish<B>(
    publisher: &Publisher,
    sender: &Sender,
    stream: &StreamName,
    parts: &Parts,
    continued: Option<&TraceParent>,
    body: B,
) -> Result<Response<Full<Bytes>>, Problem>
where
    B: Body,
    B::Error: Display,
{
    let arrived = Instant::now();
    let (events, result) = match receive(publisher, parts, continued, body).await {
        Ok(received) => {
            let events = received.events.len();
            (events, store(publisher, sender, stream, received).await)
        }
        Err(problem) => (0, Err(problem)),
    };
    let counted = match &result {
        Ok(stored) => Ok(stored.placed.as_slice()),
        Err(problem) => Err(Refusal { events, word: problem.code() }),
    };
    publisher.count(Transport::Http, arrived, counted);
    result.map(|stored| answer(&stored))
}

/// A request that was read, well-formed or not.
struct Received {
    media: Media,
    events: Vec<RawEvent>,
    /// On which line each event was, from 1.
    lines: Vec<usize>,
    level: Option<Level>,
    faults: Faults,
    /// Among the large ones, until its events are in the log.
    _place: Option<OwnedSemaphorePermit>,
}

/// Reads the request; only what makes its body unreadable is a problem yet.
async fn receive<B>(
    publisher: &Publisher,
    parts: &Parts,
    continued: Option<&TraceParent>,
    body: B,
) -> Result<Received, Problem>
where
    B: Body,
    B::Error: Display,
{
    // Before there is more of it.
    publisher.has_room().map_err(|error| error.into_problem(Naming::Json))?;
    let limits = publisher.limits();
    let media = Media::of(&parts.headers)?;
    let large = publisher.large_bodies();
    let whole = body::read(&parts.headers, body, media.body_bytes_max(limits), large).await?;
    let Whole { bytes, _place: place } = whole;
    let mut received = Received {
        media,
        events: Vec::new(),
        lines: Vec::new(),
        level: None,
        faults: Faults::default(),
        _place: place,
    };
    received.level = demanded(parts, &mut received.faults);
    match (media, String::from_utf8(bytes)) {
        (Media::Text, text) => received.text(parts, text.map_err(|error| not_utf8(&error))),
        (Media::Json | Media::Lines, Err(error)) => {
            return Err(Problem::bad_request(vec![FieldError::new("body", not_utf8(&error))]));
        }
        (Media::Json, Ok(body)) => {
            text::refuse_headers(&parts.headers, &mut received.faults);
            received.object(&body);
        }
        (Media::Lines, Ok(body)) => {
            text::refuse_headers(&parts.headers, &mut received.faults);
            received.lines(&body, limits.batch_events_max);
        }
    }
    let trace = continued.cloned().or_else(|| trace(parts));
    for event in &mut received.events {
        event.trace.clone_from(&trace);
    }
    Ok(received)
}

impl Received {
    fn text(&mut self, parts: &Parts, data: Result<String, String>) {
        let data = data.map_err(|detail| self.faults.malformed(0, Part::Data, detail)).ok();
        self.events.push(text::event(&parts.headers, data, &mut self.faults));
    }

    fn object(&mut self, object: &str) {
        let (event, level) = json::event(object, self.events.len(), &mut self.faults);
        self.events.push(event);
        // A batch is one append, so the strictest demand holds for all of it.
        self.level = self.level.max(level);
    }

    fn lines(&mut self, body: &str, events_max: usize) {
        let lines = || body.split('\n').enumerate().filter(|(_, line)| !line.trim_ascii().is_empty());
        let events = lines().count();
        if events > events_max {
            // Nobody wants to be told about every one of a million lines.
            let detail = format!("{events} events, at most {events_max} are allowed");
            self.faults.oversized(0, Part::Events, detail);
            return;
        }
        for (index, line) in lines() {
            self.lines.push(index + 1);
            self.object(line);
        }
    }
}

/// What a body of JSON holds, an object or one on each line.
#[cfg(feature = "fuzzing")]
pub(super) fn events_in(
    body: &str,
    lines: bool,
    events_max: usize,
) -> (Vec<RawEvent>, Option<Level>, Faults) {
    let mut received = Received {
        media: if lines { Media::Lines } else { Media::Json },
        events: Vec::new(),
        lines: Vec::new(),
        level: None,
        faults: Faults::default(),
        _place: None,
    };
    if lines {
        received.lines(body, events_max);
    } else {
        received.object(body);
    }
    (received.events, received.level, received.faults)
}

/// Sends what was received to the log, unless something is wrong with it.
async fn store(
    publisher: &Publisher,
    sender: &Sender,
    stream: &StreamName,
    received: Received,
) -> Result<Stored, Problem> {
    let Received { media, events, lines, level, faults, _place } = received;
    let naming = match media {
        Media::Json => Naming::Json,
        Media::Lines => Naming::Lines(&lines),
        Media::Text => Naming::Text,
    };
    let allowance = publisher.charge(sender, events.len()).map_err(|error| error.into_problem(naming))?;
    let submission = Submission { stream: Ok(stream.clone()), events, level, faults };
    let (placed, allowance) = publisher
        .publish(sender, submission, allowance)
        .await
        .map_err(|error| error.into_problem(naming).with_allowance(allowance))?;
    Ok(Stored { media, placed, allowance })
}

/// What was stored, and what its sender may send beyond it.
struct Stored {
    media: Media,
    placed: Vec<Placed>,
    allowance: Option<Allowance>,
}

fn answer(stored: &Stored) -> Response<Full<Bytes>> {
    let Stored { media, placed, allowance } = stored;
    #[derive(Serialize)]
    struct Answer {
        offset: Offset,
        duplicate: bool,
    }
    let answers: Vec<_> =
        placed.iter().map(|placed| Answer { offset: placed.offset, duplicate: placed.duplicate }).collect();
    let body = match media {
        Media::Json | Media::Text => serde_json::to_vec(&answers[0]),
        Media::Lines => serde_json::to_vec(&answers),
    };
    let body = body.expect("strings and booleans always serialise");
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::OK;
    let headers = response.headers_mut();
    headers.insert(field::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(field::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(allowance) = allowance {
        meter::tell(headers, allowance);
    }
    response
}

/// The level that the header demands.
fn demanded(parts: &Parts, faults: &mut Faults) -> Option<Level> {
    let name = header::one(&parts.headers, LEVEL, faults)?;
    let level = level_named(&name);
    if level.is_none() {
        faults.malformed(0, Part::Header(LEVEL), NO_LEVEL);
    }
    level
}

const NO_LEVEL: &str = "is not HOME, REPLICATED or QUORUM";

fn level_named(name: &str) -> Option<Level> {
    [Level::Home, Level::Replicated, Level::Quorum]
        .into_iter()
        .find(|level| name.eq_ignore_ascii_case(level.as_str()))
}

/// The request's trace. One that is malformed or not alone is as good as none, says the standard.
fn trace(parts: &Parts) -> Option<TraceParent> {
    let mut values = parts.headers.get_all("traceparent").iter();
    let value = values.next().filter(|_| values.next().is_none())?;
    TraceParent::parse(value.to_str().ok()?)
}

fn not_utf8(error: &std::string::FromUtf8Error) -> String {
    format!("is not UTF-8 from byte {} on", error.utf8_error().valid_up_to())
}
