//! A small, strict HTTP/1.x client that sees every byte.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::PATIENCE;

/// What carries a connection: a socket, or TLS over one.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send + Sync + std::fmt::Debug {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + Sync + std::fmt::Debug> Wire for T {}

/// A head larger than this from the server is a mistake.
const HEAD_MAX: usize = 64 * 1024;

/// A request, sent byte for byte as given: nothing is checked, so that wrong ones can be sent too.
#[derive(Debug, Clone)]
pub struct Request {
    method: String,
    target: String,
    version: &'static str,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

/// Status line and header fields of an answer.
#[derive(Debug, Clone)]
pub struct Head {
    /// As in `HTTP/1.1`; `HTTP/2.0` where the answer came over HTTP/2.
    pub version: String,
    /// The status.
    pub status: u16,
    /// The fields in the order they came, names in lower case.
    pub headers: Vec<(String, String)>,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Response {
    /// Status and fields.
    pub head: Head,
    /// The content, transfer coding removed.
    pub body: Vec<u8>,
}

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// There is none.
    Empty,
    /// By `Content-Length`.
    Length(usize),
    /// By chunks.
    Chunked,
    /// By the end of the connection.
    UntilClose,
}

/// A connection that may carry several requests.
#[derive(Debug)]
pub struct Connection {
    stream: Box<dyn Wire>,
    /// Read from the socket and not yet used.
    pub(crate) unread: Vec<u8>,
}

impl Request {
    /// Any method.
    #[must_use]
    pub fn new(method: &str, target: &str) -> Self {
        Self {
            method: method.to_owned(),
            target: target.to_owned(),
            version: "HTTP/1.1",
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// `GET target`.
    #[must_use]
    pub fn get(target: &str) -> Self {
        Self::new("GET", target)
    }

    /// `POST target` with a body and its type.
    #[must_use]
    pub fn post(target: &str, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self::new("POST", target).header("Content-Type", content_type).body(body)
    }

    /// Adds a field.
    #[must_use]
    pub fn header(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers.push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Sets the body; its length is told by `Content-Length`.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// As an HTTP/1.0 client would send it.
    #[must_use]
    pub fn http10(mut self) -> Self {
        self.version = "HTTP/1.0";
        self
    }

    /// The bytes on the wire.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut wire = format!("{} {} {}\r\nHost: evergate.test\r\n", self.method, self.target, self.version)
            .into_bytes();
        for (name, value) in &self.headers {
            wire.extend_from_slice(name.as_bytes());
            wire.extend_from_slice(b": ");
            wire.extend_from_slice(value);
            wire.extend_from_slice(b"\r\n");
        }
        let told = self.headers.iter().any(|(name, _)| {
            name.eq_ignore_ascii_case("content-length") || name.eq_ignore_ascii_case("transfer-encoding")
        });
        if !told && (!self.body.is_empty() || self.method == "POST") {
            wire.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        wire.extend_from_slice(b"\r\n");
        wire.extend_from_slice(&self.body);
        wire
    }

    pub(crate) fn is_head(&self) -> bool {
        self.method == "HEAD"
    }
}

impl Head {
    /// The one value of a field; `None` if it is absent.
    ///
    /// # Panics
    /// If it came twice: nobody can tell which one another client would believe.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(had, _)| had == name);
        let first = values.next();
        assert!(values.next().is_none(), "{name} came twice: {self:?}");
        first.map(|(_, value)| value.as_str())
    }

    /// The value of a field that must be there.
    #[must_use]
    pub fn must(&self, name: &str) -> &str {
        self.header(name).unwrap_or_else(|| panic!("{name} is missing: {self:?}"))
    }

    /// Whether a list field (`Vary`, `Allow`, …) names `item`, in any of its lines.
    #[must_use]
    pub fn lists(&self, name: &str, item: &str) -> bool {
        self.headers
            .iter()
            .filter(|(had, _)| had == name)
            .flat_map(|(_, value)| value.split(','))
            .any(|had| had.trim().eq_ignore_ascii_case(item))
    }

    /// How the body that follows is delimited.
    #[must_use]
    pub fn framing(&self, request_was_head: bool) -> Framing {
        let length = self.header("content-length");
        let coding = self.header("transfer-encoding");
        assert!(length.is_none() || coding.is_none(), "length and transfer coding both told: {self:?}");
        if request_was_head || matches!(self.status, 100..=199 | 204 | 304) {
            return Framing::Empty;
        }
        if let Some(coding) = coding {
            assert_eq!(coding, "chunked", "an unknown transfer coding: {self:?}");
            assert_eq!(self.version, "HTTP/1.1", "HTTP/1.0 knows no chunks: {self:?}");
            return Framing::Chunked;
        }
        match length {
            Some(length) => Framing::Length(length.parse().expect("a length is a number")),
            None => Framing::UntilClose,
        }
    }

    fn parse(bytes: &[u8]) -> Self {
        let text = std::str::from_utf8(bytes).expect("a head is ASCII");
        let mut lines = text.strip_suffix("\r\n\r\n").expect("whole").split("\r\n");
        let status_line = lines.next().expect("split gives one at least");
        let mut words = status_line.splitn(3, ' ');
        let version = words.next().unwrap_or_default();
        let status = words.next().and_then(|word| word.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no status line: {status_line:?}"));
        assert!(matches!(version, "HTTP/1.1" | "HTTP/1.0"), "an unknown version: {status_line:?}");
        let headers = lines
            .map(|line| {
                let (name, value) =
                    line.split_once(':').unwrap_or_else(|| panic!("no header field: {line:?}"));
                let clean = |c: char| c.is_ascii_graphic() && c != ':';
                assert!(!name.is_empty() && name.chars().all(clean), "no field name: {line:?}");
                assert!(!value.contains(['\r', '\n', '\0']), "an injected line: {line:?}");
                (name.to_ascii_lowercase(), value.trim().to_owned())
            })
            .collect();
        Self { version: version.to_owned(), status, headers }
    }
}

impl Response {
    /// The status.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.head.status
    }

    /// The content as text.
    #[must_use]
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("the body is UTF-8")
    }

    /// The content as JSON, which it must say it is.
    #[must_use]
    pub fn json(&self) -> Value {
        let media_type = self.head.must("content-type");
        assert!(
            matches!(media_type, "application/json" | "application/problem+json"),
            "not JSON but {media_type}: {self:?}"
        );
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The answer as a problem of RFC 9457 with this status.
    pub fn problem(&self, status: u16) -> Value {
        assert_eq!(self.status(), status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.head.must("content-type"), "application/problem+json");
        let problem = self.json();
        assert_eq!(problem["status"], status, "{problem}");
        for member in ["type", "title", "detail"] {
            let text = problem[member].as_str().unwrap_or_else(|| panic!("{member} is missing: {problem}"));
            assert!(!text.is_empty(), "{member} is empty: {problem}");
        }
        problem
    }

    /// The answer as a problem that blames a part of the request. Returns the entry about it.
    ///
    /// `part` is enough of the field's name to know it by: a header is `header.Evergate-Key`, a query
    /// parameter `query.from`, a member of a body `key` or `events[3].key`.
    pub fn problem_with(&self, status: u16, part: &str) -> Value {
        let problem = self.problem(status);
        let errors = problem["errors"].as_array().unwrap_or_else(|| panic!("no errors: {problem}"));
        let about = errors.iter().find(|error| {
            let field = error["field"].as_str().unwrap_or_else(|| panic!("no field: {problem}"));
            field.to_ascii_lowercase().contains(&part.to_ascii_lowercase())
        });
        let about = about.unwrap_or_else(|| panic!("{part} is not blamed: {problem}"));
        assert!(about["detail"].as_str().is_some_and(|text| !text.is_empty()), "{problem}");
        about.clone()
    }
}

impl Connection {
    /// Connects.
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address)
            .await
            .unwrap_or_else(|error| panic!("no connection to {address}: {error}"));
        stream.set_nodelay(true).expect("a fresh socket takes options");
        Self::over(stream)
    }

    /// Over a socket that is connected already, or TLS over one.
    #[must_use]
    pub fn over(stream: impl Wire + 'static) -> Self {
        Self { stream: Box::new(stream), unread: Vec::new() }
    }

    /// Sends bytes as they are.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        self.try_send_bytes(bytes).await.expect("the server takes what is sent");
    }

    /// Sends bytes; the server may have closed the connection on what it saw before.
    pub async fn try_send_bytes(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends a request.
    pub async fn send(&mut self, request: &Request) {
        self.send_bytes(&request.encode()).await;
    }

    /// Reads more bytes from the socket. `Ok(0)` at its end.
    ///
    /// # Errors
    /// A reset, or nothing within `within`.
    pub async fn read_more(&mut self, within: Duration) -> std::io::Result<usize> {
        match tokio::time::timeout(within, self.stream.read_buf(&mut self.unread)).await {
            Ok(result) => result,
            Err(_) => Err(std::io::Error::new(
                std::io::ErrorKind::TimedOut,
                format!("nothing came within {within:?}"),
            )),
        }
    }

    /// Reads the head of an answer.
    pub async fn read_head(&mut self) -> Head {
        self.try_read_head().await.expect("an answer comes")
    }

    /// Reads the head of an answer, if one comes.
    ///
    /// # Errors
    /// The connection ended or was reset first.
    pub async fn try_read_head(&mut self) -> std::io::Result<Head> {
        loop {
            if let Some(at) = find(&self.unread, b"\r\n\r\n") {
                let head: Vec<u8> = self.unread.drain(..at + 4).collect();
                return Ok(Head::parse(&head));
            }
            assert!(self.unread.len() < HEAD_MAX, "a head without end");
            if self.read_more(PATIENCE).await? == 0 {
                let had = String::from_utf8_lossy(&self.unread).into_owned();
                return Err(std::io::Error::new(
                    std::io::ErrorKind::UnexpectedEof,
                    format!("the connection ended within a head: {had:?}"),
                ));
            }
        }
    }

    /// Reads a whole answer.
    pub async fn read_response(&mut self, request_was_head: bool) -> Response {
        let head = loop {
            let head = self.read_head().await;
            // 100 Continue is a word in between, not the answer.
            if head.status != 100 {
                break head;
            }
        };
        let mut body = Body::new(head.framing(request_was_head));
        let mut content = Vec::new();
        while body.read(self, &mut content, PATIENCE).await.expect("the body comes whole") {}
        Response { head, body: content }
    }

    /// Sends a request and reads the whole answer.
    pub async fn call(&mut self, request: &Request) -> Response {
        self.send(request).await;
        self.read_response(request.is_head()).await
    }

    /// Sends a request and reads the whole answer, if it comes whole.
    ///
    /// # Errors
    /// The connection ended or was reset first.
    pub async fn try_call(&mut self, request: &Request) -> std::io::Result<Response> {
        self.try_send_bytes(&request.encode()).await?;
        let head = self.try_read_head().await?;
        let mut body = Body::new(head.framing(request.is_head()));
        let mut content = Vec::new();
        while body
            .read(self, &mut content, PATIENCE)
            .await
            .map_err(|error| std::io::Error::other(format!("{error:?}")))?
        {}
        Ok(Response { head, body: content })
    }

    /// Waits for the server's end of the connection; `true` if it was orderly and not a reset.
    pub async fn closed(&mut self) -> bool {
        loop {
            match self.read_more(PATIENCE).await {
                Ok(0) => return true,
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return false,
                Err(error) => panic!("the server keeps the connection open: {error}"),
            }
        }
    }

    /// What was read from the socket and belongs to no answer yet.
    #[must_use]
    pub fn take_unread(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.unread)
    }

    /// Says that nothing more will be sent.
    pub async fn finish_sending(&mut self) {
        self.stream.shutdown().await.expect("a connected socket can be shut down");
    }
}

/// One request on a connection of its own.
pub async fn call(address: SocketAddr, request: Request) -> Response {
    Connection::open(address).await.call(&request).await
}

/// A body as it comes: removes the transfer coding, strictly.
#[derive(Debug)]
pub struct Body {
    framing: Framing,
    /// Bytes left of the length, or of the chunk at hand.
    left: usize,
    in_chunk: bool,
    done: bool,
}

/// How a body ended that did not end well.
#[derive(Debug)]
pub enum BodyError {
    /// The connection ended or was reset before the body's own end.
    Cut,
    /// Nothing came in time.
    Silence,
}

impl Body {
    /// At the start of a body.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        let (left, done) = match framing {
            Framing::Empty => (0, true),
            Framing::Length(length) => (length, length == 0),
            Framing::Chunked | Framing::UntilClose => (0, false),
        };
        Self { framing, left, in_chunk: false, done }
    }

    /// Reads some content and appends it to `content`; `false` at the body's own end.
    ///
    /// # Errors
    /// See [`BodyError`].
    pub async fn read(
        &mut self,
        connection: &mut Connection,
        content: &mut Vec<u8>,
        within: Duration,
    ) -> Result<bool, BodyError> {
        loop {
            if self.done {
                return Ok(false);
            }
            if self.take(&mut connection.unread, content) {
                return Ok(true);
            }
            if self.done {
                return Ok(false);
            }
            match connection.read_more(within).await {
                Ok(0) if self.framing == Framing::UntilClose => {
                    self.done = true;
                    return Ok(false);
                }
                Ok(0) => return Err(BodyError::Cut),
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::TimedOut => return Err(BodyError::Silence),
                Err(_) => return Err(BodyError::Cut),
            }
        }
    }

    /// Moves what is content from `unread` to `content`; `true` if there was any.
    fn take(&mut self, unread: &mut Vec<u8>, content: &mut Vec<u8>) -> bool {
        let before = content.len();
        match self.framing {
            Framing::Empty => {}
            Framing::UntilClose => content.append(unread),
            Framing::Length(_) => {
                let n = self.left.min(unread.len());
                content.extend(unread.drain(..n));
                self.left -= n;
                self.done = self.left == 0;
            }
            Framing::Chunked => while !self.done && self.take_chunk(unread, content) {},
        }
        content.len() > before
    }

    /// One step through the chunks; `false` if more bytes are needed first.
    fn take_chunk(&mut self, unread: &mut Vec<u8>, content: &mut Vec<u8>) -> bool {
        if self.left > 0 {
            let n = self.left.min(unread.len());
            content.extend(unread.drain(..n));
            self.left -= n;
            return n > 0;
        }
        if self.in_chunk {
            if unread.len() < 2 {
                return false;
            }
            assert_eq!(&unread[..2], b"\r\n", "a chunk ends with CRLF");
            unread.drain(..2);
            self.in_chunk = false;
            return true;
        }
        let Some(at) = find(unread, b"\r\n") else {
            assert!(unread.len() < 32, "a chunk size without end: {:?}", String::from_utf8_lossy(unread));
            return false;
        };
        let line = std::str::from_utf8(&unread[..at]).expect("a chunk size is ASCII").to_owned();
        let digits = !line.is_empty() && line.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(digits, "no chunk size: {line:?}");
        let size = usize::from_str_radix(&line, 16).expect("hexadecimal digits");
        if size > 0 {
            unread.drain(..at + 2);
            self.left = size;
            self.in_chunk = true;
            return true;
        }
        if unread.len() < at + 4 {
            return false;
        }
        assert_eq!(&unread[at..at + 4], b"\r\n\r\n", "no trailers are promised");
        unread.drain(..at + 4);
        self.done = true;
        true
    }
}

impl std::fmt::Display for BodyError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cut => "the connection ended before the body did",
            Self::Silence => "nothing came in time",
        })
    }
}

pub(crate) fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack.windows(needle.len()).position(|window| window == needle)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Feeds a chunked body in pieces of every size.
    fn decode(wire: &[u8], piece: usize) -> (Vec<u8>, bool) {
        let mut body = Body::new(Framing::Chunked);
        let (mut unread, mut content) = (Vec::new(), Vec::new());
        for bytes in wire.chunks(piece) {
            unread.extend_from_slice(bytes);
            body.take(&mut unread, &mut content);
        }
        (content, body.done)
    }

    #[test]
    fn chunks_are_joined_wherever_they_are_split() {
        let wire = b"5\r\nhello\r\n1\r\n \r\nA\r\n0123456789\r\n0\r\n\r\n";
        for piece in 1..wire.len() {
            assert_eq!(decode(wire, piece), (b"hello 0123456789".to_vec(), true));
        }
        let (content, done) = decode(&wire[..wire.len() - 1], 3);
        assert_eq!((content.as_slice(), done), (&b"hello 0123456789"[..], false));
    }

    #[test]
    #[should_panic(expected = "a chunk ends with CRLF")]
    fn a_wrong_chunk_size_is_noticed() {
        decode(b"4\r\nhello\r\n0\r\n\r\n", 64);
    }
}
