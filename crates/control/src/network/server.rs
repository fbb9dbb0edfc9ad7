//! The listener of a node: what it bounds, and how it stops.

use std::future::{Future as _, pending};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use evergate_tls::Server as Tls;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use super::PEER_TIMEOUT;
use super::connect::{Stream, watch};

/// Connections at a time. More wait in the listener's queue.
const CONNECTIONS_MAX: usize = 1024;
/// Calls that one connection may have open.
const CALLS_MAX: u32 = 256;
/// What a call, and a connection, may have sent that was not read yet.
const CALL_WINDOW_BYTES: u32 = 1 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 4 << 20;
/// A connection that does not answer a PING, sent this often, within `PEER_TIMEOUT` is dead.
const KEEP_ALIVE: Duration = Duration::from_secs(2);
/// From the wish to stop until the connections that are still open are cut.
const GRACE: Duration = Duration::from_secs(1);
/// Time before the next accept after one failed for want of something (descriptors, memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Serves until `stop`, then until every connection has ended, which takes a second at the most.
pub(crate) async fn serve(
    listener: TcpListener,
    tls: Option<Tls>,
    routes: Routes,
    stop: CancellationToken,
) -> Result<(), tonic::transport::Error> {
    let cut = CancellationToken::new();
    let _cut_when_dropped = cut.clone().drop_guard();
    let (accepted, incoming) = mpsc::channel(1);
    let accepting = accept(listener, tls, cut.clone(), accepted);
    let serving = Server::builder()
        .http2_keepalive_interval(Some(KEEP_ALIVE))
        .http2_keepalive_timeout(Some(PEER_TIMEOUT))
        .initial_stream_window_size(CALL_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(CALLS_MAX)
        .add_routes(routes)
        .serve_with_incoming_shutdown(ReceiverStream::new(incoming), stop.cancelled());
    let stopping = async {
        // With it goes the listener: nobody is accepted any more.
        stop.run_until_cancelled(accepting).await;
        tokio::time::sleep(GRACE).await;
        cut.cancel();
        pending::<()>().await;
    };
    tokio::select! {
        served = serving => served,
        () = stopping => unreachable!("it never ends"),
    }
}

/// Accepts for ever. Handshakes go on beside each other; whoever is slow holds up nobody.
async fn accept(
    listener: TcpListener,
    tls: Option<Tls>,
    cut: CancellationToken,
    accepted: mpsc::Sender<io::Result<Connection>>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let mut handshakes = JoinSet::new();
    loop {
        let place = Arc::clone(&places).acquire_owned().await.expect("it is never closed");
        while handshakes.try_join_next().is_some() {}
        match listener.accept().await {
            Ok((socket, _)) => {
                let (tls, cut, accepted) = (tls.clone(), cut.clone(), accepted.clone());
                handshakes.spawn(async move {
                    if let Some(io) = shake(socket, tls).await {
                        let cut = Box::pin(cut.cancelled_owned());
                        // Nobody takes it any more while the server ends.
                        let _ = accepted.send(Ok(Connection { io, cut, _place: place })).await;
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection of a node");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn shake(socket: TcpStream, tls: Option<Tls>) -> Option<Box<dyn Stream>> {
    if let Err(error) = watch(&SockRef::from(&socket)) {
        tracing::debug!(%error, "a connection was gone before it was served");
        return None;
    }
    let Some(tls) = tls else { return Some(Box::new(socket)) };
    match tls.accept(socket).await {
        Ok(accepted) => Some(Box::new(accepted.stream)),
        Err(error) => {
            tracing::debug!(%error, "a node's TLS handshake failed");
            None
        }
    }
}

/// A connection that fails once its token is cancelled: the server drives each in a task of its own that
/// nobody can reach.
struct Connection {
    io: Box<dyn Stream>,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    _place: OwnedSemaphorePermit,
}

impl Connected for Connection {
    type ConnectInfo = ();

    fn connect_info(&self) {}
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.cut.as_mut().poll(context).is_ready() {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        Pin::new(&mut self.io).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(context, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(context, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(context)
    }
}
