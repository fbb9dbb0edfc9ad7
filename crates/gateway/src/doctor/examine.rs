//! The examination: asks as a browser would, publishes, listens, and writes down what it saw. It
//! judges nothing.

use std::time::{Duration, Instant};

use bytes::Bytes;
use evergate_tls::Protocol;
use http::header::{
    ACCEPT, ACCEPT_ENCODING, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, CONTENT_ENCODING, CONTENT_TYPE, LOCATION,
    ORIGIN,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Deserialize;
use url::Url;

use super::args::Plan;
use super::client::{AskError, Asked, Piece, ask, text};
use super::evidence::{Cors, Delivery, End, Evidence, First, Http2, Idle, Look, Published};
use super::listening::{Heard, Listening};

/// How long the first frame, or an event, may take before it counts as held back for good.
const ARRIVAL_MAX: Duration = Duration::from_secs(5);
/// Events published one by one, each after the one before has come.
const SINGLES: usize = 3;
/// Events published in a row, and the time between two.
const TRAIN: u32 = 4;
const TRAIN_STEP: Duration = Duration::from_millis(150);
/// As browsers do, give or take a few: enough for a detour, too few for a circle.
const REDIRECTS_MAX: usize = 5;
/// On every answer of the gateway, and never twice the same.
const TRACE: &str = "x-trace-id";
const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");

/// What `evergate.open` and `evergate.busy` say.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Control {
    resume: String,
    cursor: String,
    reason: String,
}

/// Two answers to requests that are refused.
struct Refusals {
    head: HeaderMap,
    /// They were one answer, given twice.
    is_one: bool,
}

struct Examiner<'a> {
    plan: &'a Plan,
    url: Url,
}

/// Examines the way to a stream. Takes as long as the plan says, and some seconds more.
pub(crate) async fn examine(plan: &Plan) -> Evidence {
    let mut examiner = Examiner { plan, url: plan.url.clone() };
    let mut evidence = Evidence::default();
    if let Err(why) = examiner.walk(&mut evidence).await {
        // A gateway that is there refuses at once what is nonsense; then only the stream is held back.
        let refusals = match why {
            AskError::Silent => examiner.refusals().await,
            AskError::NotOffered | AskError::Failed(_) => None,
        };
        match refusals {
            Some(refusals) => {
                evidence.stored_copy = refusals.is_one;
                evidence.silent_but = Some(refusals.head);
            }
            None => evidence.unreachable = Some(why.to_string()),
        }
    }
    evidence
}

impl Examiner<'_> {
    /// Writes down what it sees; an error means that there was no answer where there had to be one.
    async fn walk(&mut self, evidence: &mut Evidence) -> Result<(), AskError> {
        let compressible = self.arrive(evidence).await?;
        let is_stream = compressible.is_stream();
        evidence.compressible = Some(compressible);
        if !is_stream {
            return Ok(());
        }
        let asked = self.get(Protocol::Http1, &[]).await?;
        let (plain, listening) = look(asked).await;
        let cursor = match &plain.first {
            First::Open { cursor, .. } => Some(cursor.clone()),
            First::NoStream
            | First::Nothing
            | First::Ended
            | First::Bytes
            | First::OwnCompression
            | First::Busy { .. }
            | First::Stranger => None,
        };
        evidence.plain = Some(plain);
        if let (Some(mut listening), Some(cursor)) = (listening, cursor) {
            evidence.published = self.publish(&mut listening).await;
            evidence.idle = Some(idle(&mut listening, self.plan.idle).await);
            drop(listening);
            evidence.resumed = self.resume(&cursor).await;
        }
        evidence.http2 = self.http2().await;
        evidence.cors = self.cors(evidence.plain.as_ref()).await;
        evidence.stored_copy = self.is_stored(evidence).await;
        Ok(())
    }

    /// Asks as a browser does, and goes where it is sent.
    async fn arrive(&mut self, evidence: &mut Evidence) -> Result<Look, AskError> {
        let all = [(ACCEPT_ENCODING, HeaderValue::from_static("gzip, deflate, br, zstd"))];
        loop {
            let asked = self.get(Protocol::Http1, &all).await?;
            let status = asked.head.status().as_u16();
            let location = asked.head.headers().get(LOCATION).and_then(|to| to.to_str().ok());
            let target = location.and_then(|to| self.url.join(to).ok());
            match target {
                Some(target) if asked.head.status().is_redirection() => {
                    evidence.redirects.push((status, target.to_string()));
                    if evidence.redirects.len() > REDIRECTS_MAX {
                        return Err(AskError::Failed(format!("more than {REDIRECTS_MAX} redirects")));
                    }
                    self.url = target;
                }
                Some(_) | None => return Ok(look(asked).await.0),
            }
        }
    }

    async fn get(&self, protocol: Protocol, fields: &[(HeaderName, HeaderValue)]) -> Result<Asked, AskError> {
        let mut all = vec![(ACCEPT, HeaderValue::from_static("text/event-stream"))];
        all.extend(self.plan.origin.iter().map(|origin| (ORIGIN, origin.clone())));
        all.extend_from_slice(fields);
        ask(&self.url, protocol, Method::GET, &all, Bytes::new(), &self.plan.dialers).await
    }

    /// Publishes test events and waits for them on the stream.
    async fn publish(&self, listening: &mut Listening) -> Published {
        let Some(target) = &self.plan.publish else { return Published::NotAsked };
        // Where the subscriber was sent, the publisher must go too.
        let target = if *target == self.plan.url { &self.url } else { target };
        let mut delivery = Delivery::default();
        let nonce = format!("evergate doctor {:016x}", fastrand::u64(..));
        for n in 1..=SINGLES {
            let (data, begun) = (format!("{nonce} {n}"), Instant::now());
            if let Err(why) = self.post(target, &data).await {
                return Published::Refused(why);
            }
            delivery.acknowledged.push(begun.elapsed());
            match listening.event(&data, Instant::now() + ARRIVAL_MAX).await {
                Some(came) => delivery.delays.push(came - begun),
                None => {
                    delivery.missing = true;
                    return Published::Done(delivery);
                }
            }
        }
        let train: Vec<String> = (0..TRAIN).map(|n| format!("{nonce} in a row {n}")).collect();
        let sending = async {
            let begun = Instant::now();
            for (n, data) in (0..).zip(&train) {
                tokio::time::sleep_until((begun + TRAIN_STEP * n).into()).await;
                self.post(target, data).await?;
            }
            Ok(begun.elapsed())
        };
        let deadline = Instant::now() + TRAIN_STEP * TRAIN + ARRIVAL_MAX;
        let hearing = async {
            let first = listening.event(&train[0], deadline).await?;
            for data in &train[1..] {
                listening.event(data, deadline).await?;
            }
            Some(first.elapsed())
        };
        match tokio::join!(sending, hearing) {
            (Err(why), _) => return Published::Refused(why),
            (Ok(sent), Some(heard)) => delivery.train = Some((sent, heard)),
            (Ok(_), None) => delivery.missing = true,
        }
        Published::Done(delivery)
    }

    async fn post(&self, target: &Url, data: &str) -> Result<(), String> {
        let fields = [(CONTENT_TYPE, HeaderValue::from_static("text/plain"))];
        let body = Bytes::copy_from_slice(data.as_bytes());
        let asked = ask(target, Protocol::Http1, Method::POST, &fields, body, &self.plan.dialers).await;
        let asked = asked.map_err(|error| error.to_string())?;
        let status = asked.head.status();
        if status.is_success() {
            return Ok(());
        }
        match problem(&asked.whole().await) {
            Some(detail) => Err(format!("{status}: {detail}")),
            None => Err(status.to_string()),
        }
    }

    async fn resume(&self, cursor: &str) -> Option<Look> {
        let cursor = HeaderValue::from_str(cursor).ok()?;
        let asked = self.get(Protocol::Http1, &[(LAST_EVENT_ID, cursor)]).await.ok()?;
        Some(look(asked).await.0)
    }

    async fn http2(&self) -> Http2 {
        if self.url.scheme() != "https" {
            return Http2::NotAsked;
        }
        match self.get(Protocol::Http2, &[]).await {
            Ok(asked) => Http2::Answered(look(asked).await.0),
            Err(AskError::NotOffered) => Http2::NotOffered,
            Err(why @ (AskError::Silent | AskError::Failed(_))) => Http2::Failed(why.to_string()),
        }
    }

    async fn cors(&self, plain: Option<&Look>) -> Option<Cors> {
        let origin = self.plan.origin.as_ref()?;
        let allowed = plain?.headers.get_all(ACCESS_CONTROL_ALLOW_ORIGIN).iter();
        let fields = [
            (ORIGIN, origin.clone()),
            (ACCESS_CONTROL_REQUEST_METHOD, HeaderValue::from_static("GET")),
            (ACCESS_CONTROL_REQUEST_HEADERS, HeaderValue::from_static("last-event-id")),
        ];
        let dialers = &self.plan.dialers;
        let preflight =
            ask(&self.url, Protocol::Http1, Method::OPTIONS, &fields, Bytes::new(), dialers).await;
        let preflight = preflight.ok().map(|asked| {
            let headers =
                text(asked.head.headers(), ACCESS_CONTROL_ALLOW_HEADERS.as_str()).to_ascii_lowercase();
            let allows = headers.split(',').any(|name| matches!(name.trim(), "*" | "last-event-id"));
            (asked.head.status().as_u16(), allows)
        });
        Some(Cors {
            origin: String::from_utf8_lossy(origin.as_bytes()).into_owned(),
            allowed: allowed.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()).collect(),
            preflight,
        })
    }

    /// Whether a cache answers: every answer of the gateway has a trace id of its own. Streams do not
    /// end, so that many caches never store one.
    async fn is_stored(&self, evidence: &Evidence) -> bool {
        let trace = |look: &Option<Look>| {
            look.as_ref().map(|look| text(&look.headers, TRACE).to_owned()).unwrap_or_default()
        };
        is_same(&trace(&evidence.compressible), &trace(&evidence.plain))
            || self.refusals().await.is_some_and(|refusals| refusals.is_one)
    }

    /// Asks twice for what is refused, and ends. `None` if there is no answer of the gateway.
    async fn refusals(&self) -> Option<Refusals> {
        let mut refused = self.url.clone();
        refused.set_query(Some(&format!("from=doctor-{:08x}", fastrand::u32(..))));
        let fields = [(ACCEPT, HeaderValue::from_static("text/event-stream"))];
        let mut heads = Vec::new();
        for _ in 0..2 {
            let asked =
                ask(&refused, Protocol::Http1, Method::GET, &fields, Bytes::new(), &self.plan.dialers);
            let asked = asked.await.ok()?;
            // That is a proxy's word, not the gateway's.
            if asked.head.status().is_server_error() {
                return None;
            }
            heads.push(asked.head.headers().clone());
            // Read to its end, or it is not worth keeping.
            asked.whole().await;
        }
        let is_one = is_same(text(&heads[0], TRACE), text(&heads[1], TRACE));
        Some(Refusals { head: heads.swap_remove(0), is_one })
    }
}

fn is_same(one: &str, other: &str) -> bool {
    !one.is_empty() && one == other
}

/// Looks at an answer as far as its first frame.
async fn look(asked: Asked) -> (Look, Option<Listening>) {
    let (head, after) = (asked.head.clone(), asked.after);
    let mut look = Look {
        version: head.version(),
        status: head.status().as_u16(),
        headers: head.headers().clone(),
        explanation: None,
        first: First::NoStream,
        first_after: Duration::ZERO,
    };
    let essence = text(head.headers(), CONTENT_TYPE.as_str()).split(';').next().unwrap_or_default().trim();
    if head.status() != 200 || !essence.eq_ignore_ascii_case("text/event-stream") {
        look.explanation = problem(&asked.whole().await);
        return (look, None);
    }
    let begun = Instant::now();
    let deadline = begun + ARRIVAL_MAX;
    if head.headers().contains_key(CONTENT_ENCODING) {
        look.first = first_bytes(asked, deadline).await;
        look.first_after = begun.elapsed();
        return (look, None);
    }
    let mut listening = Listening::new(asked);
    look.first = first_frame(&mut listening, deadline).await;
    // A proxy that waits for the body's beginning holds back the head as well.
    look.first_after = after + begun.elapsed();
    (look, Some(listening))
}

async fn first_bytes(mut asked: Asked, deadline: Instant) -> First {
    match tokio::time::timeout_at(deadline.into(), asked.next()).await {
        Ok(Piece::Bytes(bytes)) if is_own_compression(&bytes) => First::OwnCompression,
        Ok(Piece::Bytes(_)) => First::Bytes,
        Ok(Piece::End | Piece::Cut(_)) => First::Ended,
        Err(_) => First::Nothing,
    }
}

/// The gateway's gzip begins with its own header and then a stored block, in which the first frame is
/// legible; a proxy's deflates it. Read as RFC 1952 and RFC 1951, section 3.2.4, have it.
fn is_own_compression(bytes: &[u8]) -> bool {
    const HEADER: [u8; 10] = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 0xff];
    const STORED: u8 = 0;
    let block = bytes.strip_prefix(&HEADER).and_then(|block| block.split_first());
    block.is_some_and(|(&kind, rest)| {
        kind == STORED && rest.get(4..).is_some_and(|frame| frame.starts_with(b"retry: "))
    })
}

async fn first_frame(listening: &mut Listening, deadline: Instant) -> First {
    loop {
        match listening.next(deadline).await {
            None => return First::Nothing,
            Some(Heard::Heartbeat) => {}
            Some(Heard::Nonsense) => return First::Bytes,
            Some(Heard::End | Heard::Cut(_)) => return First::Ended,
            Some(Heard::Message(message)) => {
                let told: Control = serde_json::from_str(&message.data).unwrap_or_default();
                return match message.kind.as_str() {
                    "evergate.open" => First::Open { resume: told.resume, cursor: told.cursor },
                    "evergate.busy" => First::Busy { reason: told.reason },
                    _ => First::Stranger,
                };
            }
        }
    }
}

/// Leaves the stream alone and sees whether somebody cuts it.
async fn idle(listening: &mut Listening, wait: Duration) -> Idle {
    let deadline = Instant::now() + wait;
    let (mut heartbeats, mut goaway) = (0, false);
    let end = loop {
        let cut = match listening.next(deadline).await {
            None => break None,
            Some(Heard::Heartbeat) => {
                heartbeats += 1;
                continue;
            }
            Some(Heard::Message(message)) => {
                goaway |= message.kind == "evergate.goaway";
                continue;
            }
            Some(Heard::End) => None,
            Some(Heard::Nonsense) => Some("it turned into something else".to_owned()),
            Some(Heard::Cut(why)) => Some(why),
        };
        break Some(End { silent: listening.silent(), cut, goaway });
    };
    Idle { waited: wait, age: listening.age(), heartbeats, end }
}

/// The explanation in an RFC 9457 problem: its detail, or else its title.
fn problem(body: &[u8]) -> Option<String> {
    let problem: serde_json::Value = serde_json::from_slice(body).ok()?;
    ["detail", "title"].iter().find_map(|field| problem.get(field)?.as_str()).map(str::to_owned)
}
