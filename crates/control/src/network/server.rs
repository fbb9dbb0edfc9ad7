//! The listener of a node: what it bounds, and how it stops.

use std::future::{Future as _, pending};
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use evergate_domain::FrameMeter;
use evergate_tls::Server as Tls;
use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{Instant, Sleep, sleep};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::service::Routes;
use tonic::transport::Server;
use tonic::transport::server::Connected;

use super::PEER_TIMEOUT;
use super::admission::Caller;
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
/// How long a connection may take to say its first word, after its TLS handshake.
const FIRST_WORD: Duration = Duration::from_secs(5);
/// From the wish to stop until the connections that are still open are cut.
const GRACE: Duration = Duration::from_secs(1);
/// Time before the next accept after one failed for want of something (descriptors, memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const ENDED: &str = "evergate_control_connections_ended_total";

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
                    if let Some((io, caller)) = shake(socket, tls).await {
                        let connection = Connection::new(io, caller, cut, place);
                        // Nobody takes it any more while the server ends.
                        let _ = accepted.send(Ok(connection)).await;
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

async fn shake(socket: TcpStream, tls: Option<Tls>) -> Option<(Box<dyn Stream>, Caller)> {
    if let Err(error) = watch(&SockRef::from(&socket)) {
        tracing::debug!(%error, "a connection was gone before it was served");
        return None;
    }
    let Some(tls) = tls else { return Some((Box::new(socket), Caller::Unproven)) };
    match tls.accept(socket).await {
        Ok(accepted) => {
            let caller = Caller::Proven(accepted.identity.map(Arc::new));
            Some((Box::new(accepted.stream), caller))
        }
        Err(error) => {
            tracing::debug!(%error, "a node's TLS handshake failed");
            None
        }
    }
}

/// A connection that fails once its token is cancelled, if its peer says nothing at its beginning, and if it says
/// too much that means nothing: the server drives each in a task of its own that nobody can reach. A peer that
/// falls silent later is found by the server's pings.
struct Connection {
    io: Box<dyn Stream>,
    caller: Caller,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    meter: FrameMeter,
    accepted: Instant,
    /// When it has to have begun; `None` once it has.
    due: Option<Pin<Box<Sleep>>>,
    _place: OwnedSemaphorePermit,
}

impl Connection {
    fn new(io: Box<dyn Stream>, caller: Caller, cut: CancellationToken, place: OwnedSemaphorePermit) -> Self {
        Self {
            io,
            caller,
            cut: Box::pin(cut.cancelled_owned()),
            meter: FrameMeter::of_calls(),
            accepted: Instant::now(),
            due: Some(Box::pin(sleep(FIRST_WORD))),
            _place: place,
        }
    }

    /// Judges what has just come.
    fn hear(&mut self, came: &[u8]) -> io::Result<()> {
        let now = u64::try_from(self.accepted.elapsed().as_nanos()).unwrap_or(u64::MAX);
        if !self.meter.takes(came, now) {
            return Err(ended("flood"));
        }
        if self.meter.has_begun() {
            self.due = None;
        }
        Ok(())
    }
}

/// Counts a connection that its peer is to blame for losing.
fn ended(reason: &'static str) -> io::Error {
    metrics::counter!(ENDED, "reason" => reason).increment(1);
    tracing::debug!(reason, "a connection of a node was ended");
    io::Error::new(io::ErrorKind::ConnectionAborted, reason)
}

impl Connected for Connection {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
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
        if self.due.as_mut().is_some_and(|due| due.as_mut().poll(context).is_ready()) {
            self.due = None;
            return Poll::Ready(Err(ended("silent")));
        }
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.io).poll_read(context, buffer);
        match self.hear(&buffer.filled()[before..]) {
            Ok(()) => read,
            Err(error) => Poll::Ready(Err(error)),
        }
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
