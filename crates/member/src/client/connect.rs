//! Connections to control nodes.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use evergate_domain::cluster::NodeAddress;
use evergate_proto::control::v1::control_client::ControlClient;
use evergate_tls::Client;
use http::Uri;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

/// Until a connection stands, TLS included.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A control node that does not answer a PING, sent so often, for as long is gone.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// A view of the largest cluster.
const MESSAGE_BYTES_MAX: usize = 16 << 20;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Connects by TLS if there is a client for it.
#[derive(Clone)]
struct Connector(Option<Client>);

/// A connection to a control node, by TLS if there is a client for it.
pub async fn channel(
    address: &NodeAddress,
    tls: Option<&Client>,
) -> Result<Channel, tonic::transport::Error> {
    let endpoint = Endpoint::from_shared(format!("http://{address}"))?
        .connect_timeout(CONNECT_TIMEOUT)
        .http2_keep_alive_interval(KEEP_ALIVE)
        .keep_alive_timeout(KEEP_ALIVE);
    endpoint.connect_with_connector(Connector(tls.cloned())).await
}

/// The same, for what nodes ask.
pub(super) async fn connect(
    address: &NodeAddress,
    tls: Option<&Client>,
) -> Result<ControlClient<Channel>, tonic::transport::Error> {
    let channel = channel(address, tls).await?;
    Ok(ControlClient::new(channel).max_decoding_message_size(MESSAGE_BYTES_MAX))
}

impl Connector {
    async fn connect(self, host: &str, port: u16) -> io::Result<Box<dyn Stream>> {
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let socket = TcpStream::connect((bare, port)).await?;
        socket.set_nodelay(true)?;
        match self.0 {
            None => Ok(Box::new(socket)),
            Some(client) => match client.connect(host, socket).await {
                Ok(connected) => Ok(Box::new(connected.stream)),
                Err(error) => Err(io::Error::other(error)),
            },
        }
    }
}

impl Service<Uri> for Connector {
    type Response = TokioIo<Box<dyn Stream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            let (host, port) =
                (uri.host().unwrap_or_default().to_owned(), uri.port_u16().unwrap_or_default());
            let connected = tokio::time::timeout(CONNECT_TIMEOUT, connector.connect(&host, port)).await;
            connected.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())).map(TokioIo::new)
        })
    }
}
