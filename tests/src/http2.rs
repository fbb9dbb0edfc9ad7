//! An HTTP/2 client with prior knowledge, as a proxy in front of the server would be one.

mod frames;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

pub use frames::{END_HEADERS, END_STREAM, Frame, Frames, Kind};

use crate::PATIENCE;
use crate::http1::{BodyError, Head, Response, Wire};

/// One connection. Dropping it closes it.
#[derive(Debug)]
pub struct Client {
    sender: h2::client::SendRequest<Bytes>,
    driver: JoinHandle<()>,
    authority: String,
}

/// A body as it comes.
#[derive(Debug)]
pub struct Incoming(h2::RecvStream);

impl Client {
    /// Connects, speaking HTTP/2 from the first byte.
    pub async fn open(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.expect("the server accepts");
        Self::over(stream, &address.to_string()).await
    }

    /// The same, with so much room for what it is sent and has not read: on each stream, and in all.
    pub async fn with_windows(address: SocketAddr, stream: u32, connection: u32) -> Self {
        let wire = TcpStream::connect(address).await.expect("the server accepts");
        let mut builder = h2::client::Builder::new();
        builder.initial_window_size(stream).initial_connection_window_size(connection);
        Self::begin(&builder, wire, &address.to_string()).await
    }

    /// Over a socket that is connected already, or TLS over one.
    pub async fn over(wire: impl Wire + 'static, authority: &str) -> Self {
        Self::begin(&h2::client::Builder::new(), wire, authority).await
    }

    async fn begin(builder: &h2::client::Builder, wire: impl Wire + 'static, authority: &str) -> Self {
        let (sender, connection) = builder.handshake(wire).await.expect("an HTTP/2 handshake");
        let driver = tokio::spawn(async move {
            // Its end shows in the requests under way.
            let _ = connection.await;
        });
        Self { sender, driver, authority: authority.to_owned() }
    }

    /// Waits until the server has ended the connection.
    pub async fn closed(&mut self, within: Duration) {
        tokio::time::timeout(within, &mut self.driver).await.expect("an end in time").expect("it ends");
    }

    /// `GET target`: the head, and the body as it comes.
    pub async fn get(&mut self, target: &str, fields: &[(&str, &str)]) -> (Head, Incoming) {
        self.send("GET", target, fields, Bytes::new()).await
    }

    /// Begins a `POST` whose body comes in pieces.
    pub async fn begin_upload(&mut self, target: &str, fields: &[(&str, &str)]) -> Upload {
        let request = self.request("POST", target, fields);
        poll_fn(|context| self.sender.poll_ready(context)).await.expect("the connection takes requests");
        let (answer, stream) = self.sender.send_request(request, false).expect("the request is sent");
        Upload { stream, _answer: answer }
    }

    /// Sends a request and reads the whole answer.
    pub async fn call(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Response {
        let (head, mut incoming) = self.send(method, target, fields, body.into()).await;
        let mut content = Vec::new();
        while incoming.read(&mut content, PATIENCE).await.expect("the body comes whole") {}
        Response { head, body: content }
    }

    /// Sends a request and reads the whole answer for what it says about itself, at its beginning
    /// and at its end.
    pub async fn call_with_trailers(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> (Head, BTreeMap<String, String>) {
        let (head, mut incoming) = self.send(method, target, fields, body.into()).await;
        while incoming.read(&mut Vec::new(), PATIENCE).await.expect("the body comes whole") {}
        let trailers = incoming.0.trailers().await.expect("the end comes").unwrap_or_default();
        let text = |value: &http::HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
        let trailers = trailers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value)));
        (head, trailers.collect())
    }

    fn request(&self, method: &str, target: &str, fields: &[(&str, &str)]) -> http::Request<()> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("http://{}{target}", self.authority))
            .version(http::Version::HTTP_2);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        request.body(()).expect("the test's own request is well formed")
    }

    async fn send(
        &mut self,
        method: &str,
        target: &str,
        fields: &[(&str, &str)],
        body: Bytes,
    ) -> (Head, Incoming) {
        let request = self.request(method, target, fields);
        poll_fn(|context| self.sender.poll_ready(context)).await.expect("the connection takes requests");
        let (response, mut stream) =
            self.sender.send_request(request, body.is_empty()).expect("the request is sent");
        if !body.is_empty() {
            stream.send_data(body, true).expect("the body is sent");
        }
        let response =
            tokio::time::timeout(PATIENCE, response).await.expect("an answer in time").expect("an answer");
        let (parts, body) = response.into_parts();
        let headers = parts.headers.iter();
        let head = Head {
            version: format!("{:?}", parts.version),
            status: parts.status.as_u16(),
            headers: headers
                .map(|(name, value)| {
                    let value = value.to_str().expect("a field of ASCII");
                    (name.as_str().to_owned(), value.to_owned())
                })
                .collect(),
        };
        (head, Incoming(body))
    }
}

/// A body under way.
#[derive(Debug)]
pub struct Upload {
    stream: h2::SendStream<Bytes>,
    _answer: h2::client::ResponseFuture,
}

impl Upload {
    /// Sends a piece if there is room for it now, or soon.
    pub async fn offer(&mut self, piece: &Bytes) {
        self.stream.reserve_capacity(piece.len());
        let room = poll_fn(|context| self.stream.poll_capacity(context));
        let soon = tokio::time::timeout(Duration::from_millis(1), room).await;
        if let Ok(Some(Ok(room))) = soon {
            // The server may have ended it meanwhile.
            let _ = self.stream.send_data(piece.slice(..room.min(piece.len())), false);
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

impl Incoming {
    /// Reads some content and appends it; `false` at the end.
    ///
    /// # Errors
    /// The stream was reset, or nothing came in time.
    pub async fn read(&mut self, content: &mut Vec<u8>, within: Duration) -> Result<bool, BodyError> {
        let Ok(data) = tokio::time::timeout(within, self.0.data()).await else {
            return Err(BodyError::Silence);
        };
        match data {
            Some(Ok(data)) => {
                content.extend_from_slice(&data);
                self.0
                    .flow_control()
                    .release_capacity(data.len())
                    .expect("what was received can be released");
                Ok(true)
            }
            Some(Err(_)) => Err(BodyError::Cut),
            None => Ok(false),
        }
    }
}
