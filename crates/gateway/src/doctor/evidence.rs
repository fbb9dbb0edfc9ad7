//! What an examination saw: plain data, from which the diagnosis is made.

use std::time::Duration;

use http::{HeaderMap, Version};

/// Everything that was seen.
#[derive(Debug, Default)]
pub(crate) struct Evidence {
    /// Status and target of each redirect on the way.
    pub redirects: Vec<(u16, String)>,
    /// Why there is no answer at all.
    pub unreachable: Option<String>,
    /// The stream was not answered at all, but a short answer came at once, with this head.
    pub silent_but: Option<HeaderMap>,
    /// The answer to a request that allows every compression, as browsers do.
    pub compressible: Option<Look>,
    /// The answer to a request that allows none.
    pub plain: Option<Look>,
    pub published: Published,
    pub idle: Option<Idle>,
    /// The answer to a request that resumes after the cursor of `plain`.
    pub resumed: Option<Look>,
    pub http2: Http2,
    pub cors: Option<Cors>,
    /// Two answers that must differ were the same one.
    pub stored_copy: bool,
}

/// One answer.
#[derive(Debug, Clone)]
pub(crate) struct Look {
    pub version: Version,
    pub status: u16,
    pub headers: HeaderMap,
    /// What an answer that is no stream explains.
    pub explanation: Option<String>,
    pub first: First,
    /// From the head of the answer to the first frame, or to the first byte where it is compressed.
    pub first_after: Duration,
}

/// What a stream begins with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum First {
    /// The answer is no stream.
    NoStream,
    /// Nothing came in time.
    Nothing,
    /// The stream ended first.
    Ended,
    /// Bytes that somebody in between has compressed, or that are no event stream.
    Bytes,
    /// The gateway's own compression, untouched.
    OwnCompression,
    Open {
        resume: String,
        cursor: String,
    },
    /// The gateway, or a proxy for it, says "not now".
    Busy {
        reason: String,
    },
    /// An event that is not the gateway's.
    Stranger,
}

/// What became of the test events.
#[derive(Debug, Default)]
pub(crate) enum Published {
    /// None were published.
    #[default]
    NotAsked,
    /// They were not taken, and why.
    Refused(String),
    Done(Delivery),
}

/// How test events came through.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Delivery {
    /// From the moment before each publish to its receipt, published one by one.
    pub delays: Vec<Duration>,
    /// From the moment before each publish to its acknowledgement.
    pub acknowledged: Vec<Duration>,
    /// An event that was acknowledged and did not come in time.
    pub missing: bool,
    /// How far apart the first and the last of several were published, and received.
    pub train: Option<(Duration, Duration)>,
}

/// What became of the stream while nothing was published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Idle {
    /// How long it was left idle, at the most.
    pub waited: Duration,
    /// How old the stream was in the end.
    pub age: Duration,
    pub heartbeats: usize,
    pub end: Option<End>,
}

/// How a stream ended that should not have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct End {
    /// After the last byte that came.
    pub silent: Duration,
    /// Why it broke off; `None` for a clean end.
    pub cut: Option<String>,
    /// The gateway said itself that it ends.
    pub goaway: bool,
}

/// Whether browsers get HTTP/2.
#[derive(Debug, Default)]
pub(crate) enum Http2 {
    /// Without TLS no browser speaks it.
    #[default]
    NotAsked,
    NotOffered,
    Failed(String),
    Answered(Look),
}

/// What a browser would think of the answer to a page of another origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cors {
    pub origin: String,
    /// Every `Access-Control-Allow-Origin` of the stream.
    pub allowed: Vec<String>,
    /// The status of a preflight, and whether it allows `Last-Event-ID`; `None` if there was no answer.
    pub preflight: Option<(u16, bool)>,
}

impl Look {
    pub(crate) fn is_stream(&self) -> bool {
        self.first != First::NoStream
    }
}
