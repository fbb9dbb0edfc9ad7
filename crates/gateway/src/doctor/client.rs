//! Requests over HTTP/1.1 or HTTP/2, with or without TLS: one connection each, nothing decoded,
//! nothing followed.

use std::time::{Duration, Instant};

use bytes::Bytes;
use evergate_tls::Protocol;
use http::header::{HOST, USER_AGENT};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use crate::dial::{Dialer, TlsArgs, Wire};

/// How long a connection and the head of an answer may take.
const ANSWER_MAX: Duration = Duration::from_secs(6);
/// What is read of an answer that is no stream.
const BODY_BYTES_MAX: usize = 64 * 1024;

/// How connections are made for either protocol.
pub(crate) struct Dialers {
    http1: Dialer,
    /// HTTP/2 is asked for, and HTTP/1.1 taken, which tells who has only that.
    http2: Dialer,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum AskError {
    /// The server would not speak HTTP/2.
    #[error("HTTP/2 is not offered")]
    NotOffered,
    /// The connection stands, and nothing comes.
    #[error("no answer within {} s", ANSWER_MAX.as_secs())]
    Silent,
    #[error("{0}")]
    Failed(String),
}

/// The head of an answer, and its body, which is still to come.
pub(crate) struct Asked {
    pub head: Response<()>,
    /// From the request to the head.
    pub after: Duration,
    body: Incoming,
    _driver: AbortOnDropHandle<()>,
}

/// What a body brought next.
pub(crate) enum Piece {
    Bytes(Bytes),
    /// As a whole answer ends.
    End,
    /// In the middle of things.
    Cut(String),
}

impl Dialers {
    /// The error is a sentence for the user.
    pub(crate) fn new(tls: &TlsArgs) -> Result<Self, String> {
        let http1 = tls.dialer(&[Protocol::Http1])?;
        Ok(Self { http1, http2: tls.dialer(&[Protocol::Http2, Protocol::Http1])? })
    }
}

impl Asked {
    /// What comes next. Cancel-safe: dropping this future loses nothing.
    pub(crate) async fn next(&mut self) -> Piece {
        loop {
            match self.body.frame().await {
                // A frame without data is trailers, which say nothing here.
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Piece::Bytes(bytes);
                    }
                }
                Some(Err(error)) => return Piece::Cut(told(&error)),
                None => return Piece::End,
            }
        }
    }

    /// The body of an answer that ends; empty if it is long or breaks off.
    pub(crate) async fn whole(self) -> Bytes {
        let body = Limited::new(self.body, BODY_BYTES_MAX).collect();
        match tokio::time::timeout(ANSWER_MAX, body).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(_)) | Err(_) => Bytes::new(),
        }
    }
}

/// Sends one request and waits for the head of its answer.
pub(crate) async fn ask(
    url: &Url,
    protocol: Protocol,
    method: Method,
    fields: &[(HeaderName, HeaderValue)],
    body: Bytes,
    dialers: &Dialers,
) -> Result<Asked, AskError> {
    let asking = send(url, protocol, method, fields, body, dialers);
    match tokio::time::timeout(ANSWER_MAX, asking).await {
        Ok(answer) => answer,
        Err(_) => Err(AskError::Silent),
    }
}

async fn send(
    url: &Url,
    protocol: Protocol,
    method: Method,
    fields: &[(HeaderName, HeaderValue)],
    body: Bytes,
    dialers: &Dialers,
) -> Result<Asked, AskError> {
    let wire = TokioIo::new(connect(url, protocol, dialers).await?);
    let failed = |what: &str, error: &hyper::Error| AskError::Failed(format!("{what}: {}", told(error)));
    let request = request(url, protocol, method, fields, body)?;
    // What a driver has to say about a fault, the body or the answer says too.
    let (begun, response, driver) = match protocol {
        Protocol::Http1 => {
            let handshake = hyper::client::conn::http1::handshake(wire).await;
            let (mut sender, connection) = handshake.map_err(|error| failed("no HTTP", &error))?;
            let driver = tokio::spawn(async move { drop(connection.await) });
            (Instant::now(), sender.send_request(request).await, driver)
        }
        Protocol::Http2 => {
            let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), wire).await;
            let (mut sender, connection) = handshake.map_err(|error| failed("no HTTP/2", &error))?;
            let driver = tokio::spawn(async move { drop(connection.await) });
            (Instant::now(), sender.send_request(request).await, driver)
        }
    };
    let driver = AbortOnDropHandle::new(driver);
    let (parts, body) = response.map_err(|error| failed("no answer", &error))?.into_parts();
    Ok(Asked { head: Response::from_parts(parts, ()), after: begun.elapsed(), body, _driver: driver })
}

async fn connect(url: &Url, protocol: Protocol, dialers: &Dialers) -> Result<Box<dyn Wire>, AskError> {
    let dialer = match protocol {
        Protocol::Http1 => &dialers.http1,
        Protocol::Http2 => &dialers.http2,
    };
    let (wire, agreed) = dialer.connect(url).await.map_err(AskError::Failed)?;
    if agreed.is_some_and(|agreed| agreed != protocol) {
        return Err(AskError::NotOffered);
    }
    Ok(wire)
}

fn request(
    url: &Url,
    protocol: Protocol,
    method: Method,
    fields: &[(HeaderName, HeaderValue)],
    body: Bytes,
) -> Result<Request<Full<Bytes>>, AskError> {
    let authority = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    };
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let mut request = match protocol {
        Protocol::Http1 => Request::builder().uri(path).header(HOST, authority),
        Protocol::Http2 => Request::builder().uri(format!("{}://{authority}{path}", url.scheme())),
    };
    request =
        request.method(method).header(USER_AGENT, concat!("evergate-doctor/", env!("CARGO_PKG_VERSION")));
    for (name, value) in fields {
        request = request.header(name, value);
    }
    request.body(Full::new(body)).map_err(|error| AskError::Failed(format!("no valid request: {error}")))
}

/// A field as text; empty if it is absent or no text.
pub(crate) fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// An error of hyper with its cause, which hyper's own words leave out.
fn told(error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    }
}
