//! Sockets between nodes.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use evergate_tls::{Client, HandshakeError};
use http::Uri;
use hyper_util::rt::TokioIo;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tower_service::Service;

use super::PEER_TIMEOUT;

/// Until a connection stands, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// No connection was made, so nothing was sent. Found in the sources of a failed call.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("cannot connect")]
    Socket(#[source] io::Error),
    #[error("cannot connect by TLS")]
    Handshake(#[source] HandshakeError),
    #[error("no connection within {0:?}")]
    Late(Duration),
}

/// What a connection is made of, plain or by TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Connects to other nodes, by TLS if there is a client for it.
#[derive(Clone)]
pub(crate) struct Connector {
    tls: Option<Client>,
    /// What the other side has to prove to be, if that is not in the address.
    host: Option<String>,
}

impl Connector {
    pub(crate) fn new(tls: Option<Client>) -> Self {
        Self { tls, host: None }
    }

    /// The same, for those who prove to be `host` wherever they are.
    pub(super) fn to(&self, host: Option<String>) -> Self {
        Self { tls: self.tls.clone(), host }
    }

    async fn connect(self, host: &str, port: u16) -> Result<Box<dyn Stream>, ConnectError> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let socket = TcpStream::connect((bare, port)).await.map_err(ConnectError::Socket)?;
        watch(&SockRef::from(&socket)).map_err(ConnectError::Socket)?;
        match self.tls {
            None => Ok(Box::new(socket)),
            Some(client) => match client.connect(self.host.as_deref().unwrap_or(host), socket).await {
                Ok(connected) => Ok(Box::new(connected.stream)),
                Err(error) => Err(ConnectError::Handshake(error)),
            },
        }
    }
}

/// Small messages go at once, and a peer that is gone is noticed.
pub(super) fn watch(socket: &SockRef<'_>) -> io::Result<()> {
    let probes =
        TcpKeepalive::new().with_time(PEER_TIMEOUT).with_interval(Duration::from_secs(1)).with_retries(5);
    socket.set_tcp_nodelay(true)?;
    socket.set_tcp_keepalive(&probes)?;
    socket.set_tcp_user_timeout(Some(PEER_TIMEOUT))
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let (host, port) =
                (uri.host().unwrap_or_default().to_owned(), uri.port_u16().unwrap_or_default());
            let connecting = connector.connect(&host, port);
            match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
                Ok(connected) => connected.map(TokioIo::new),
                Err(_) => Err(ConnectError::Late(CONNECT_TIMEOUT)),
            }
        })
    }
}
