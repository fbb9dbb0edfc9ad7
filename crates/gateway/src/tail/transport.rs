//! One connection to an event stream over HTTP/1.1, by TLS where its URL says so.
//!
//! It carries out what the [`session`](super::session) decides and reports what happened; it
//! decides nothing itself, and holds one connection at the most.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CACHE_CONTROL, CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER, USER_AGENT};
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

use super::session::{Answer, Cut, Input};
use crate::dial::Dialer;

/// As browsers do, give or take a few: enough for a detour, too few for a circle.
const REDIRECTS_MAX: usize = 5;
/// An explanation is short; what is longer is none.
const PROBLEM_BYTES_MAX: usize = 64 * 1024;
const LAST_EVENT_ID: &str = "last-event-id";

/// Where to connect to.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    url: Url,
    dialer: Dialer,
}

/// The one connection there may be.
pub(crate) enum Line {
    Idle,
    Opening(Pin<Box<dyn Future<Output = Result<Opened, String>> + Send>>),
    Open(Connection),
}

/// An answer, and the body that follows an event stream's.
pub(crate) struct Opened {
    answer: Answer,
    connection: Option<Connection>,
}

/// A response that is being read. Dropping it closes the socket.
pub(crate) struct Connection {
    body: Incoming,
    _driver: AbortOnDropHandle<()>,
}

impl Target {
    /// `url` is `http` or `https` and has a host, as the arguments were checked for.
    pub(crate) fn new(url: Url, dialer: Dialer) -> Self {
        Self { url, dialer }
    }

    /// Asks, follows redirects, and reads the explanation of a refusal.
    async fn open(self, last_event_id: Option<String>) -> Result<Opened, String> {
        let mut url = self.url;
        for _ in 0..=REDIRECTS_MAX {
            let (response, driver) = ask(&url, &self.dialer, last_event_id.as_deref()).await?;
            match redirect(&url, &response) {
                Some(next) => url = next?,
                None => return opened(response, driver).await,
            }
        }
        Err(format!("more than {REDIRECTS_MAX} redirects, the last to {url}"))
    }
}

impl Line {
    pub(crate) fn idle() -> Self {
        Self::Idle
    }

    /// Begins to connect. Nothing is sent before the line is asked for what comes next.
    pub(crate) fn open(target: Target, last_event_id: Option<String>) -> Self {
        Self::Opening(Box::pin(target.open(last_event_id)))
    }

    /// The next thing that happens on the line; never, on an idle one. Cancel-safe: dropping this
    /// future loses nothing, the line keeps what has been begun.
    pub(crate) async fn next(&mut self) -> Input {
        match self {
            Self::Idle => std::future::pending().await,
            Self::Opening(opening) => match opening.await {
                Ok(Opened { answer, connection }) => {
                    *self = connection.map_or(Self::Idle, Self::Open);
                    Input::Answered(answer)
                }
                Err(why) => {
                    *self = Self::Idle;
                    Input::Cut(Cut::Failed(why))
                }
            },
            Self::Open(connection) => {
                let input = connection.next().await;
                if matches!(input, Input::Cut(_)) {
                    *self = Self::Idle;
                }
                input
            }
        }
    }
}

impl Connection {
    async fn next(&mut self) -> Input {
        loop {
            match self.body.frame().await {
                // A frame without data is trailers, which say nothing here.
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Input::Bytes(bytes);
                    }
                }
                Some(Err(error)) => return Input::Cut(Cut::Failed(told("the stream broke off", &error))),
                None => return Input::Cut(Cut::Ended),
            }
        }
    }
}

async fn ask(
    url: &Url,
    dialer: &Dialer,
    last_event_id: Option<&str>,
) -> Result<(Response<Incoming>, AbortOnDropHandle<()>), String> {
    let (wire, _) = dialer.connect(url).await?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(wire))
        .await
        .map_err(|error| told("no HTTP", &error))?;
    // What the driver has to say about a fault, the body or the answer says too.
    let driver = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
    let request = request(url, last_event_id)?;
    let response = sender.send_request(request).await.map_err(|error| told("no answer", &error))?;
    Ok((response, driver))
}

fn request(url: &Url, last_event_id: Option<&str>) -> Result<Request<Empty<Bytes>>, String> {
    let host = match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    };
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let mut request = Request::get(path)
        .header(HOST, host)
        .header(ACCEPT, "text/event-stream")
        .header(CACHE_CONTROL, "no-cache")
        .header(USER_AGENT, concat!("evergate-tail/", env!("CARGO_PKG_VERSION")));
    if let Some(id) = last_event_id {
        let id = HeaderValue::from_bytes(id.as_bytes())
            .map_err(|_| format!("the server's id {id:?} cannot stand in a header"))?;
        request = request.header(LAST_EVENT_ID, id);
    }
    request.body(Empty::new()).map_err(|error| format!("no valid request: {error}"))
}

/// Where a redirect leads; `None` if the response is none.
fn redirect<B>(from: &Url, response: &Response<B>) -> Option<Result<Url, String>> {
    if !matches!(response.status().as_u16(), 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let location = response.headers().get(LOCATION)?;
    let to = location
        .to_str()
        .ok()
        .and_then(|location| from.join(location).ok())
        .ok_or_else(|| "the server redirects to what is no URL".to_owned());
    Some(to.and_then(|to| match to.scheme() {
        // What was asked for in secret is not asked for in the open.
        "https" => Ok(to),
        "http" if from.scheme() == "http" => Ok(to),
        _ => Err(format!("the server redirects to {to}, where nobody is followed")),
    }))
}

async fn opened(response: Response<Incoming>, driver: AbortOnDropHandle<()>) -> Result<Opened, String> {
    let status = response.status().as_u16();
    let content_type = text(response.headers(), CONTENT_TYPE.as_str()).unwrap_or_default();
    let essence = content_type.split(';').next().unwrap_or_default().trim();
    if status == 200 && essence.eq_ignore_ascii_case("text/event-stream") {
        let connection = Connection { body: response.into_body(), _driver: driver };
        return Ok(Opened { answer: Answer::Stream, connection: Some(connection) });
    }
    let retry_after = text(response.headers(), RETRY_AFTER.as_str())
        .and_then(|seconds| seconds.parse().ok())
        .map(Duration::from_secs);
    // A body that breaks off or is too long explains nothing; the status still counts.
    let body = Limited::new(response.into_body(), PROBLEM_BYTES_MAX).collect().await;
    let detail = body.ok().and_then(|body| problem(&body.to_bytes()));
    Ok(Opened { answer: Answer::Other { status, content_type, detail, retry_after }, connection: None })
}

/// The explanation in an RFC 9457 problem: its detail, or else its title.
fn problem(body: &[u8]) -> Option<String> {
    let problem: serde_json::Value = serde_json::from_slice(body).ok()?;
    ["detail", "title"].iter().find_map(|field| problem.get(field)?.as_str()).map(str::to_owned)
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

/// An error of hyper with its cause, which hyper's own words leave out.
fn told(what: &str, error: &hyper::Error) -> String {
    match std::error::Error::source(error) {
        Some(source) => format!("{what}: {error}: {source}"),
        None => format!("{what}: {error}"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use evergate_tls::Protocol;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;
    use crate::dial::TlsArgs;

    fn target(url: &str) -> Target {
        let dialer = TlsArgs::default().dialer(&[Protocol::Http1]).unwrap();
        Target::new(Url::parse(url).unwrap(), dialer)
    }

    /// Answers one request for each of `answers`, then closes; gives back the requests.
    async fn serve(answers: Vec<String>) -> (Target, tokio::task::JoinHandle<Vec<String>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/v1/streams/s/events?key=a", listener.local_addr().unwrap());
        let server = tokio::spawn(async move {
            let mut requests = Vec::new();
            for answer in answers {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut request = Vec::new();
                while !request.ends_with(b"\r\n\r\n") {
                    request.push(socket.read_u8().await.unwrap());
                }
                socket.write_all(answer.as_bytes()).await.unwrap();
                requests.push(String::from_utf8(request).unwrap());
            }
            requests
        });
        (target(&url), server)
    }

    #[tokio::test]
    async fn a_stream_is_asked_for_and_read_to_its_end() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n0\r\n\r\n";
        let (target, server) = serve(vec![answer.to_owned()]).await;
        let mut line = Line::open(target, Some("1-42".to_owned()));
        assert!(matches!(line.next().await, Input::Answered(Answer::Stream)));
        assert!(matches!(line.next().await, Input::Bytes(bytes) if bytes == "data: a\n\n"));
        assert!(matches!(line.next().await, Input::Cut(Cut::Ended)));
        let request = server.await.unwrap().remove(0).to_ascii_lowercase();
        assert!(
            request.starts_with("get /v1/streams/s/events?key=a http/1.1\r\nhost: 127.0.0.1:"),
            "{request}"
        );
        assert!(request.contains("\r\naccept: text/event-stream\r\n"), "{request}");
        assert!(request.contains("\r\nlast-event-id: 1-42\r\n"), "{request}");
    }

    #[tokio::test]
    async fn a_stream_that_breaks_off_is_no_clean_end() {
        let answer = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n9\r\ndata: a\n\n\r\n";
        let (target, _server) = serve(vec![answer.to_owned()]).await;
        let mut line = Line::open(target, None);
        line.next().await;
        line.next().await;
        assert!(
            matches!(line.next().await, Input::Cut(Cut::Failed(why)) if why.starts_with("the stream broke off: "))
        );
    }

    #[tokio::test]
    async fn a_refusal_comes_with_its_explanation() {
        let body = "{\"title\":\"Not Found\",\"detail\":\"no such stream\"}";
        let answer = format!(
            "HTTP/1.1 503 X\r\ncontent-type: application/problem+json\r\nretry-after: 7\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let (target, _server) = serve(vec![answer]).await;
        let Input::Answered(answer) = Line::open(target, None).next().await else { panic!("no answer") };
        let expected = Answer::Other {
            status: 503,
            content_type: "application/problem+json".to_owned(),
            detail: Some("no such stream".to_owned()),
            retry_after: Some(Duration::from_secs(7)),
        };
        assert_eq!(answer, expected);
    }

    #[tokio::test]
    async fn redirects_are_followed_but_not_in_circles() {
        let moved = "HTTP/1.1 307 X\r\nlocation: /elsewhere\r\ncontent-length: 0\r\n\r\n".to_owned();
        let found = "HTTP/1.1 204 X\r\n\r\n".to_owned();
        let (target, server) = serve(vec![moved.clone(), found]).await;
        let input = Line::open(target, None).next().await;
        assert!(matches!(input, Input::Answered(Answer::Other { status: 204, .. })), "{input:?}");
        assert!(server.await.unwrap()[1].starts_with("GET /elsewhere HTTP/1.1\r\n"));

        let (target, _server) = serve(vec![moved; REDIRECTS_MAX + 1]).await;
        let input = Line::open(target, None).next().await;
        assert!(
            matches!(&input, Input::Cut(Cut::Failed(why)) if why.starts_with("more than 5 redirects")),
            "{input:?}"
        );
    }

    #[tokio::test]
    async fn a_server_that_is_not_there_is_a_cut() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let target = target(&format!("http://{address}/"));
        let input = Line::open(target, None).next().await;
        let expected = format!("cannot connect to {address}: ");
        assert!(matches!(&input, Input::Cut(Cut::Failed(why)) if why.starts_with(&expected)), "{input:?}");
    }
}
