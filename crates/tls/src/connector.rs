//! Connects to where a URI leads, for clients that want a connection made for them.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

use crate::client::Client;
use crate::error::HandshakeError;

/// Makes connections by TLS, each to the host and port of a URI; the host has to prove its name.
#[derive(Debug, Clone)]
pub struct Connector(Client);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The URI leads nowhere; a retry does neither.
    #[error("{0} names no host")]
    Nowhere(Uri),
    /// There is nobody, or nobody answers. A retry may find somebody.
    #[error("cannot connect to {host}:{port}")]
    Unreachable {
        /// As in the URI.
        host: String,
        /// As in the URI, or 443.
        port: u16,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// The two did not agree.
    #[error(transparent)]
    Handshake(#[from] HandshakeError),
}

impl Connector {
    /// With what this client believes and proves to be, also after it was renewed.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self(client)
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<tokio_rustls::client::TlsStream<TcpStream>>;
    type Error = ConnectError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, ConnectError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ConnectError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let client = self.0.clone();
        Box::pin(async move {
            let host = uri.host().ok_or_else(|| ConnectError::Nowhere(uri.clone()))?;
            let port = uri.port_u16().unwrap_or(443);
            // An IPv6 address stands in brackets in a URI, and without in the system's resolver.
            let bare = host.trim_start_matches('[').trim_end_matches(']');
            let unreachable = |source| ConnectError::Unreachable { host: host.to_owned(), port, source };
            let socket = TcpStream::connect((bare, port)).await.map_err(unreachable)?;
            socket.set_nodelay(true).map_err(unreachable)?;
            Ok(TokioIo::new(client.connect(host, socket).await?.stream))
        })
    }
}
