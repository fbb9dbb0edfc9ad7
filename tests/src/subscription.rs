//! A subscription: the head of the answer, then frames, over HTTP/1.x or HTTP/2.

use std::net::SocketAddr;
use std::time::Duration;

use crate::PATIENCE;
use crate::frame::{Frame, FrameParser, Item};
use crate::gunzip::Gunzip;
use crate::http1::{Body, BodyError, Connection, Head, Request};
use crate::http2;
use crate::offset::{Offset, offset};

/// A stream of events being read.
#[derive(Debug)]
pub struct Subscription {
    head: Head,
    source: Source,
    parser: FrameParser,
    /// Where the body is compressed.
    gunzip: Option<Gunzip>,
    /// Every byte of the body so far, uncompressed.
    raw: Vec<u8>,
    end: Option<End>,
}

#[derive(Debug)]
enum Source {
    Http1 { connection: Connection, body: Body },
    Http2(http2::Incoming),
}

/// How a stream ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// As a whole answer does: the last chunk, or the end of an HTTP/1.0 connection.
    Clean,
    /// In the middle of things.
    Cut,
}

/// What came next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// A frame or a comment.
    Item(Item),
    /// The end of the stream.
    End(End),
}

/// What the first frame says.
#[derive(Debug, Clone)]
pub struct Opened {
    /// The whole frame.
    pub frame: Frame,
    /// Names the connection, for instance to cut it.
    pub connection: String,
    /// `live`, `exact`, `stored` or `gap`.
    pub resume: String,
    /// Where the subscription begins.
    pub cursor: String,
    /// The same as the header `X-Trace-ID`.
    pub trace_id: String,
}

impl Opened {
    /// The cursor as the offset of one stream.
    #[must_use]
    pub fn offset(&self) -> Offset {
        offset(&self.cursor)
    }
}

impl Subscription {
    /// Subscribes with a plain `GET` of `target`.
    pub async fn open(address: SocketAddr, target: &str) -> Self {
        Self::request(address, &Request::get(target)).await
    }

    /// Subscribes, resuming after `last_event_id`.
    pub async fn resume(address: SocketAddr, target: &str, last_event_id: &str) -> Self {
        Self::request(address, &Request::get(target).header("Last-Event-ID", last_event_id)).await
    }

    /// Subscribes with a request of any kind, which must be answered by a stream.
    pub async fn request(address: SocketAddr, request: &Request) -> Self {
        Self::try_request(address, request).await.expect("the subscription is answered")
    }

    /// Subscribes at a server that may be gone or going.
    ///
    /// # Errors
    /// There is no connection, or it breaks before the answer.
    pub async fn try_request(address: SocketAddr, request: &Request) -> std::io::Result<Self> {
        let stream = tokio::net::TcpStream::connect(address).await?;
        let mut connection = Connection::over(stream);
        connection.try_send_bytes(&request.encode()).await?;
        Self::over(connection).await
    }

    /// Reads the answer on a connection where a subscription has been asked for.
    ///
    /// # Errors
    /// The connection breaks before the answer.
    pub async fn over(mut connection: Connection) -> std::io::Result<Self> {
        let head = connection.try_read_head().await?;
        let body = Body::new(head.framing(false));
        Ok(Self::new(head, Source::Http1 { connection, body }))
    }

    /// Subscribes over an HTTP/2 connection.
    pub async fn over_http2(client: &mut http2::Client, target: &str, fields: &[(&str, &str)]) -> Self {
        let (head, incoming) = client.get(target, fields).await;
        Self::new(head, Source::Http2(incoming))
    }

    fn new(head: Head, source: Source) -> Self {
        assert_eq!(head.status, 200, "no stream but {head:?}");
        assert_eq!(head.must("content-type"), "text/event-stream");
        let gunzip = head.header("content-encoding").map(|coding| {
            assert_eq!(coding, "gzip");
            Gunzip::default()
        });
        Self { head, source, parser: FrameParser::new(), gunzip, raw: Vec::new(), end: None }
    }

    /// The head of the answer.
    #[must_use]
    pub fn head(&self) -> &Head {
        &self.head
    }

    /// Whether a compressed body has come to its end.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.gunzip.as_ref().is_none_or(Gunzip::is_whole)
    }

    /// Every byte of the body so far, uncompressed.
    #[must_use]
    pub fn raw(&self) -> &[u8] {
        &self.raw
    }

    /// The end of what has come, for messages.
    fn so_far(&self) -> String {
        const SHOWN: usize = 2_000;
        let from = self.raw.len().saturating_sub(SHOWN);
        let before = if from > 0 { format!("({from} bytes) … ") } else { String::new() };
        before + &String::from_utf8_lossy(&self.raw[from..])
    }

    /// What comes next; `None` if nothing does within `within`.
    pub async fn next_within(&mut self, within: Duration) -> Option<Next> {
        loop {
            match self.parser.item() {
                Ok(Some(item)) => return Some(Next::Item(item)),
                Ok(None) => {}
                Err(wrong) => panic!("{wrong}\nthe stream so far: {:?}", self.so_far()),
            }
            if let Some(end) = self.end {
                return Some(Next::End(end));
            }
            let before = self.raw.len();
            let mut packed = Vec::new();
            let into = if self.gunzip.is_some() { &mut packed } else { &mut self.raw };
            let more = match &mut self.source {
                Source::Http1 { connection, body } => body.read(connection, into, within).await,
                Source::Http2(incoming) => incoming.read(into, within).await,
            };
            if let Some(gunzip) = &mut self.gunzip {
                gunzip.feed(&packed, &mut self.raw);
            }
            self.parser.feed(&self.raw[before..]);
            match more {
                Ok(true) => {}
                Ok(false) => {
                    let rest = self.parser.rest();
                    assert!(
                        rest.is_empty(),
                        "a clean end within a frame: {:?}",
                        String::from_utf8_lossy(&rest)
                    );
                    assert!(self.is_whole(), "a clean end without the trailer: {:?}", self.gunzip);
                    self.end = Some(End::Clean);
                }
                Err(BodyError::Cut) => self.end = Some(End::Cut),
                Err(BodyError::Silence) => return None,
            }
        }
    }

    /// What comes next.
    pub async fn next(&mut self) -> Next {
        let next = self.next_within(PATIENCE).await;
        next.unwrap_or_else(|| panic!("nothing came; the stream so far: {:?}", self.so_far()))
    }

    /// The next frame. Comments are passed over.
    pub async fn frame(&mut self) -> Frame {
        loop {
            match self.next().await {
                Next::Item(Item::Frame(frame)) => return frame,
                Next::Item(Item::Comment(_) | Item::Retry(_)) => {}
                Next::End(end) => {
                    panic!("the stream ended ({end:?}); so far: {:?}", self.so_far())
                }
            }
        }
    }

    /// The first frame.
    pub async fn opened(&mut self) -> Opened {
        let frame = self.frame().await;
        assert_eq!(frame.event.as_deref(), Some("evergate.open"), "{frame:?}");
        let told = frame.json();
        let text = |name: &str| {
            told[name].as_str().unwrap_or_else(|| panic!("{name} is missing: {told}")).to_owned()
        };
        Opened {
            connection: text("connection"),
            resume: text("resume"),
            cursor: text("cursor"),
            trace_id: text("trace_id"),
            frame,
        }
    }

    /// The next frame, which must be a control frame of this name.
    pub async fn control(&mut self, name: &str) -> Frame {
        let frame = self.frame().await;
        assert_eq!(frame.event.as_deref(), Some(name), "{frame:?}");
        frame
    }

    /// The next frame, which must be an event of the stream.
    pub async fn event(&mut self) -> Frame {
        let frame = self.frame().await;
        assert!(frame.is_event(), "an event was expected, not {frame:?}");
        frame
    }

    /// The next `n` frames, all events of the stream.
    pub async fn events(&mut self, n: usize) -> Vec<Frame> {
        let mut events = Vec::with_capacity(n);
        while events.len() < n {
            events.push(self.event().await);
        }
        events
    }

    /// The data of the next `n` frames, all events of the stream.
    pub async fn data(&mut self, n: usize) -> Vec<String> {
        self.events(n).await.into_iter().map(|frame| frame.data).collect()
    }

    /// Reads to the end; returns the frames before it.
    pub async fn end(&mut self) -> (Vec<Frame>, End) {
        let mut frames = Vec::new();
        loop {
            match self.next().await {
                Next::Item(Item::Frame(frame)) => frames.push(frame),
                Next::Item(Item::Comment(_) | Item::Retry(_)) => {}
                Next::End(end) => return (frames, end),
            }
        }
    }
}
