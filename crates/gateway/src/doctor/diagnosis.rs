//! What is wrong, judged from the evidence alone. Pure: no socket, no clock.

use std::time::Duration;

use super::evidence::{Cors, Delivery, End, Evidence, First, Http2, Idle, Look, Published};
use super::product::{Product, recognise};
use super::{client::text, evidence};

/// Later than this after its publish was acknowledged, an event was held back by somebody. A busy
/// machine on the other side of the earth is quicker.
const HELD_BACK: Duration = Duration::from_millis(500);
/// What was sent over a time and received within less than this share of it came in one piece.
const COALESCED_SHARE: u32 = 4;
/// A gateway's heartbeat comes every 25 s at the latest.
const HEARTBEAT_MAX: Duration = Duration::from_secs(25);

/// What can be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ailment {
    Unreachable,
    ServerError,
    Refused,
    NotAStream,
    Redirected,
    NoEdge,
    Busy,
    Stranger,
    Buffered,
    HeldBack,
    Coalesced,
    Compressed,
    CacheControlRewritten,
    StoredCopy,
    AccelLost,
    LengthTold,
    CloseDelimited,
    CutWhenIdle,
    CutByAge,
    Goaway,
    NoHeartbeat,
    LastEventIdLost,
    NoHttp2,
    Http2Broken,
    OriginRefused,
    OriginTwice,
    PreflightFails,
    PublishRefused,
    NotPublished,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    /// Subscribers suffer.
    Fault,
    /// Some do, or will.
    Warning,
    /// Something could not be examined.
    Note,
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    pub ailment: Ailment,
    pub what: String,
    /// Who stands in between, as far as they say so.
    pub products: Vec<Product>,
}

impl Finding {
    pub(crate) fn is_fault(&self) -> bool {
        self.ailment.severity() == Severity::Fault
    }
}

impl Ailment {
    pub(crate) fn severity(self) -> Severity {
        match self {
            Self::Unreachable
            | Self::ServerError
            | Self::Refused
            | Self::NotAStream
            | Self::NoEdge
            | Self::Stranger
            | Self::Buffered
            | Self::HeldBack
            | Self::StoredCopy
            | Self::LengthTold
            | Self::CutWhenIdle
            | Self::CutByAge
            | Self::LastEventIdLost
            | Self::Http2Broken
            | Self::OriginRefused
            | Self::OriginTwice => Severity::Fault,
            Self::Redirected
            | Self::Busy
            | Self::Coalesced
            | Self::Compressed
            | Self::CacheControlRewritten
            | Self::AccelLost
            | Self::CloseDelimited
            | Self::Goaway
            | Self::NoHeartbeat
            | Self::NoHttp2
            | Self::PreflightFails => Severity::Warning,
            Self::PublishRefused | Self::NotPublished => Severity::Note,
        }
    }

    /// Its name for programs.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Unreachable => "unreachable",
            Self::ServerError => "server-error",
            Self::Refused => "refused",
            Self::NotAStream => "not-a-stream",
            Self::Redirected => "redirected",
            Self::NoEdge => "no-edge",
            Self::Busy => "busy",
            Self::Stranger => "stranger",
            Self::Buffered => "buffered",
            Self::HeldBack => "held-back",
            Self::Coalesced => "coalesced",
            Self::Compressed => "compressed",
            Self::CacheControlRewritten => "cache-control-rewritten",
            Self::StoredCopy => "stored-copy",
            Self::AccelLost => "x-accel-buffering-lost",
            Self::LengthTold => "length-told",
            Self::CloseDelimited => "close-delimited",
            Self::CutWhenIdle => "cut-when-idle",
            Self::CutByAge => "cut-by-age",
            Self::Goaway => "goaway",
            Self::NoHeartbeat => "no-heartbeat",
            Self::LastEventIdLost => "last-event-id-lost",
            Self::NoHttp2 => "no-http2",
            Self::Http2Broken => "http2-broken",
            Self::OriginRefused => "origin-refused",
            Self::OriginTwice => "origin-twice",
            Self::PreflightFails => "preflight-fails",
            Self::PublishRefused => "publish-refused",
            Self::NotPublished => "not-published",
        }
    }
}

/// Everything that is wrong, the worst for a subscriber first where one thing leads to another.
pub(crate) fn diagnose(evidence: &Evidence) -> Vec<Finding> {
    let mut found = Findings { list: Vec::new(), products: products(evidence) };
    if let Some((status, to)) = evidence.redirects.last() {
        found.add(Ailment::Redirected, format!("the request is redirected ({status}) to {to}"));
    }
    if let Some(why) = &evidence.unreachable {
        found.add(Ailment::Unreachable, why.clone());
    }
    if evidence.silent_but.is_some() {
        let what = "a short answer comes at once, and of a stream not even the head: it is held back";
        found.add(Ailment::Buffered, what.to_owned());
    }
    if let Some(look) = &evidence.compressible {
        found.answer(look);
        found.head(look);
    }
    if let Some(look) = &evidence.plain {
        // The first frame tells most. Where even it is held back, the rest was not examined.
        found.first(look);
    }
    found.published(&evidence.published, evidence.idle.is_some());
    if let Some(idle) = &evidence.idle {
        found.idle(idle);
    }
    if let Some(resumed) = &evidence.resumed {
        found.resumed(resumed);
    }
    if evidence.stored_copy {
        let what = "two requests were given the same answer: a stored copy, and not the gateway's own";
        found.add(Ailment::StoredCopy, what.to_owned());
    }
    // Where there is no stream, nothing was asked.
    if let Some(plain) = &evidence.plain {
        found.http2(&evidence.http2, plain);
    }
    if let Some(cors) = &evidence.cors {
        found.cors(cors);
    }
    found.list
}

/// Who stands in between, by whichever answer gives it away.
pub(crate) fn products(evidence: &Evidence) -> Vec<Product> {
    let look = evidence.plain.as_ref().or(evidence.compressible.as_ref());
    let headers = look.map(|look| &look.headers).or(evidence.silent_but.as_ref());
    headers.map(recognise).unwrap_or_default()
}

struct Findings {
    list: Vec<Finding>,
    products: Vec<Product>,
}

impl Findings {
    fn add(&mut self, ailment: Ailment, what: String) {
        self.list.push(Finding { ailment, what, products: self.products.clone() });
    }

    /// Status and type of the answer.
    fn answer(&mut self, look: &Look) {
        if look.is_stream() {
            return;
        }
        let kind = text(&look.headers, "content-type");
        let because = look.explanation.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        match look.status {
            200 => self.add(Ailment::NotAStream, format!("the answer is {kind:?}, no event stream")),
            500.. => self.add(Ailment::ServerError, format!("the answer is {}{because}", look.status)),
            _ => self.add(Ailment::Refused, format!("the answer is {}{because}", look.status)),
        }
    }

    /// What somebody did to the head of a stream.
    fn head(&mut self, look: &Look) {
        if !look.is_stream() {
            return;
        }
        let headers = &look.headers;
        let coding = text(headers, "content-encoding");
        if !coding.is_empty() && look.first != First::OwnCompression {
            self.add(Ailment::Compressed, format!("somebody compresses the stream ({coding})"));
            if look.first == First::Nothing {
                let what = "compressed, nothing came at all: the compressor waits for more";
                self.add(Ailment::Buffered, what.to_owned());
            }
        }
        // What a proxy answers in the place of the gateway is its own.
        if let First::Busy { .. } = look.first {
            return;
        }
        let cache_control = text(headers, "cache-control").to_ascii_lowercase();
        let missing: Vec<&str> =
            ["no-store", "no-transform"].into_iter().filter(|word| !cache_control.contains(word)).collect();
        if !missing.is_empty() {
            let what =
                format!("Cache-Control arrives as {cache_control:?}, without {}", missing.join(" and "));
            self.add(Ailment::CacheControlRewritten, what);
        }
        let age = text(headers, "age").parse().unwrap_or(0u64);
        if age > 0 {
            self.add(Ailment::StoredCopy, format!("the answer has been in a cache for {age} s (Age)"));
        }
        let hit = ["x-cache", "x-cache-status", "cf-cache-status"]
            .into_iter()
            .find(|name| text(headers, name).to_ascii_lowercase().starts_with("hit"));
        if let Some(name) = hit {
            self.add(
                Ailment::StoredCopy,
                format!("a cache says that it answered ({name}: {})", text(headers, name)),
            );
        }
        if text(headers, "x-accel-buffering") != "no" {
            let what =
                "X-Accel-Buffering: no has been lost on the way, so a proxy further out cannot heed it";
            self.add(Ailment::AccelLost, what.to_owned());
        }
        if let Some(length) = headers.get("content-length") {
            self.add(Ailment::LengthTold, format!("a stream without end has Content-Length {length:?}"));
        } else if look.version <= http::Version::HTTP_11 && !headers.contains_key("transfer-encoding") {
            let what = "the stream is not chunked: its end and a cut look the same, and some clients stall";
            self.add(Ailment::CloseDelimited, what.to_owned());
        }
    }

    /// How a stream begins.
    fn first(&mut self, look: &Look) {
        let waited = seconds(look.first_after);
        match &look.first {
            First::NoStream => self.answer(look),
            First::Open { .. } if look.first_after > HELD_BACK * 2 => {
                self.add(Ailment::HeldBack, format!("the first frame takes {waited}"));
            }
            First::Open { .. } => {}
            First::Nothing => {
                let what =
                    format!("the head comes, and then nothing for {waited}: the first frame is held back");
                self.add(Ailment::Buffered, what);
            }
            First::Ended => {
                let what = format!("the stream ends before its first frame, after {waited}");
                self.add(Ailment::CutByAge, what);
            }
            First::Busy { reason } if reason == "no-edge" => {
                self.add(Ailment::NoEdge, "a proxy answers that no edge is there".to_owned());
            }
            First::Busy { reason } => {
                self.add(Ailment::Busy, format!("the gateway answers that it is busy ({reason})"));
            }
            First::Bytes if text(&look.headers, "content-encoding").is_empty() => {
                self.add(Ailment::Stranger, "what comes is no well-formed event stream".to_owned());
            }
            First::Bytes | First::OwnCompression => {
                let what = "the stream is compressed although the request allows no compression";
                self.add(Ailment::Compressed, what.to_owned());
            }
            First::Stranger => {
                let what = "the stream does not begin with evergate.open: whose is it?";
                self.add(Ailment::Stranger, what.to_owned());
            }
        }
    }

    fn published(&mut self, published: &Published, listened: bool) {
        match published {
            Published::NotAsked if listened => {
                let what = "nothing was published, so only the first frame and heartbeats were timed";
                self.add(Ailment::NotPublished, what.to_owned());
            }
            Published::NotAsked => {}
            Published::Refused(why) => {
                self.add(Ailment::PublishRefused, format!("a test event was not taken: {why}"));
            }
            Published::Done(delivery) => self.delivery(delivery),
        }
    }

    fn delivery(&mut self, delivery: &Delivery) {
        if delivery.missing {
            let what = "a test event was acknowledged and never came: something holds it back";
            self.add(Ailment::Buffered, what.to_owned());
            return;
        }
        if let Some(delay) = delivery.held_back()
            && delay > HELD_BACK
        {
            let what = format!("events arrive {} after they were acknowledged", seconds(delay));
            self.add(Ailment::HeldBack, what);
        }
        if let Some((sent, received)) = delivery.train
            && received * COALESCED_SHARE < sent
        {
            let what = format!(
                "events published over {} arrive within {}: somebody collects them",
                seconds(sent),
                seconds(received)
            );
            self.add(Ailment::Coalesced, what);
        }
    }

    fn idle(&mut self, idle: &Idle) {
        match &idle.end {
            None if idle.heartbeats == 0 && idle.waited > HEARTBEAT_MAX => {
                let what = format!("no heartbeat came within {}", seconds(idle.waited));
                self.add(Ailment::NoHeartbeat, what);
            }
            None => {}
            Some(End { goaway: true, .. }) => {
                self.add(Ailment::Goaway, "the gateway ended the stream itself; examine again".to_owned());
            }
            // With heartbeats it was not idleness that somebody ran out of patience with.
            Some(end) if idle.heartbeats > 0 && end.silent * 2 < idle.age => {
                let what =
                    format!("the stream was {} after {}, heartbeats and all", how(end), seconds(idle.age));
                self.add(Ailment::CutByAge, what);
            }
            Some(end) => {
                let what = format!("the stream was {} after {} of silence", how(end), seconds(end.silent));
                self.add(Ailment::CutWhenIdle, what);
            }
        }
    }

    fn resumed(&mut self, look: &Look) {
        match &look.first {
            First::Open { resume, .. } if resume == "live" => {
                let what = "Last-Event-ID does not reach the gateway: after every cut events are missed";
                self.add(Ailment::LastEventIdLost, what.to_owned());
            }
            First::Open { .. } | First::Busy { .. } => {}
            First::NoStream
            | First::Nothing
            | First::Ended
            | First::Bytes
            | First::OwnCompression
            | First::Stranger => {
                let what = format!("a request with Last-Event-ID is answered otherwise ({})", look.status);
                self.add(Ailment::LastEventIdLost, what);
            }
        }
    }

    fn http2(&mut self, http2: &Http2, plain: &Look) {
        match http2 {
            Http2::NotAsked => {
                let what = "without TLS no browser speaks HTTP/2: a seventh stream of one browser hangs";
                self.add(Ailment::NoHttp2, what.to_owned());
            }
            Http2::NotOffered => {
                let what = "HTTP/2 is not offered: a seventh stream of one browser hangs";
                self.add(Ailment::NoHttp2, what.to_owned());
            }
            Http2::Failed(why) => {
                self.add(Ailment::Http2Broken, format!("HTTP/2 is offered and fails: {why}"));
            }
            // What is wrong over HTTP/1.1 too has been told.
            Http2::Answered(look) => {
                if begins(plain) && !begins(look) {
                    let what = "over HTTP/2 the stream does not begin as over HTTP/1.1";
                    self.add(Ailment::Http2Broken, what.to_owned());
                }
            }
        }
    }

    fn cors(&mut self, cors: &evidence::Cors) {
        let Cors { origin, allowed, preflight } = cors;
        match &allowed[..] {
            [one] if one == "*" || one == origin => {}
            [] => self.add(Ailment::OriginRefused, format!("pages of {origin} may not read the stream")),
            [other] => {
                let what = format!("pages of {origin} may not read the stream, only those of {other}");
                self.add(Ailment::OriginRefused, what);
            }
            several => {
                let what = format!(
                    "Access-Control-Allow-Origin comes {} times; browsers refuse that",
                    several.len()
                );
                self.add(Ailment::OriginTwice, what);
            }
        }
        match preflight {
            Some((200..=299, true)) => {}
            Some((status, _)) => {
                let what = format!("a preflight is answered by {status} and does not allow Last-Event-ID");
                self.add(Ailment::PreflightFails, what);
            }
            None => self.add(Ailment::PreflightFails, "a preflight is not answered".to_owned()),
        }
    }
}

impl Delivery {
    /// The middle one of the times from acknowledgement to receipt.
    pub(crate) fn held_back(&self) -> Option<Duration> {
        let mut delays: Vec<Duration> = self
            .delays
            .iter()
            .zip(&self.acknowledged)
            .map(|(came, acked)| came.saturating_sub(*acked))
            .collect();
        delays.sort();
        delays.get(delays.len() / 2).copied()
    }
}

/// Whether a stream begins as the gateway's do.
fn begins(look: &Look) -> bool {
    matches!(look.first, First::Open { .. } | First::Busy { .. })
}

fn how(end: &End) -> &'static str {
    match end.cut {
        Some(_) => "cut",
        None => "ended",
    }
}

pub(crate) fn seconds(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        format!("{} ms", duration.as_millis())
    } else {
        format!("{:.1} s", duration.as_secs_f64())
    }
}

#[cfg(test)]
mod tests;
