//! The keys that an issuer publishes.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use evergate_access::{KEY_SET_BYTES_MAX, Origin};
use evergate_edge::{KeySource, KeySourceError};
use evergate_tls::{Client, ClientSettings, Protocol, Roots};
use http::header::{ACCEPT, HOST, USER_AGENT};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1::handshake;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;
use url::Url;

/// Of the five seconds that a source may take.
const HANDSHAKE: Duration = Duration::from_secs(3);

/// A JSON Web Key Set at an address. Redirects are not followed: whoever could answer with one would
/// choose the keys.
pub(super) struct Fetched {
    url: Url,
    /// For `https`, by the system's roots.
    tls: Option<Client>,
}

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

impl Fetched {
    pub(super) fn new(url: Url) -> anyhow::Result<Self> {
        let settings = ClientSettings {
            roots: Roots::System,
            identity: None,
            protocols: vec![Protocol::Http1],
            handshake_timeout: HANDSHAKE,
        };
        let tls = (url.scheme() == "https").then(|| Client::load(settings)).transpose();
        let tls = tls.with_context(|| format!("cannot ask for {url}"))?;
        Ok(Self { url, tls })
    }

    async fn fetch(&self) -> anyhow::Result<Vec<u8>> {
        let host = self.url.host_str().context("the address has no host")?;
        let port = self.url.port_or_known_default().context("the address has no port")?;
        let resolvable = host.trim_start_matches('[').trim_end_matches(']');
        let socket = TcpStream::connect((resolvable, port)).await.context("cannot connect")?;
        let wire: Box<dyn Wire> = match &self.tls {
            Some(tls) => Box::new(tls.connect(host, socket).await?.stream),
            None => Box::new(socket),
        };
        let (mut sender, connection) = handshake(TokioIo::new(wire)).await.context("no HTTP")?;
        // What the driver has to say about a fault, the answer says too.
        let _driver = AbortOnDropHandle::new(tokio::spawn(async move { drop(connection.await) }));
        let authority = self.url.port().map_or_else(|| host.to_owned(), |port| format!("{host}:{port}"));
        let path = match self.url.query() {
            Some(query) => format!("{}?{query}", self.url.path()),
            None => self.url.path().to_owned(),
        };
        let request = Request::get(path)
            .header(HOST, authority)
            .header(ACCEPT, "application/jwk-set+json, application/json")
            .header(USER_AGENT, concat!("evergate/", env!("CARGO_PKG_VERSION")))
            .body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await.context("no answer")?;
        if response.status() != StatusCode::OK {
            anyhow::bail!("it answers {}", response.status());
        }
        let body = Limited::new(response.into_body(), KEY_SET_BYTES_MAX).collect().await;
        let body = body.map_err(|_| anyhow::anyhow!("the answer breaks off or is too long"))?;
        Ok(body.to_bytes().into())
    }
}

impl std::fmt::Debug for Fetched {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Fetched").field(&self.url.as_str()).finish()
    }
}

#[tonic::async_trait]
impl KeySource for Fetched {
    fn name(&self) -> String {
        self.url.to_string()
    }

    fn origin(&self) -> Origin {
        Origin::Public
    }

    async fn read(&self) -> Result<Vec<u8>, KeySourceError> {
        self.fetch().await.map_err(|error| KeySourceError(format!("{error:#}")))
    }
}
