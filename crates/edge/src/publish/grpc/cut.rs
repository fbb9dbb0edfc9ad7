//! Connections that can be cut from outside, and are for what their peers do or leave out.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use evergate_domain::FrameMeter;
use evergate_tls::ServerStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, Sleep, sleep};
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::door::Held;
use crate::remote_end::RemoteEnd;

const ENDED: &str = "evergate_grpc_connections_ended_total";

/// A connection that fails once its token is cancelled, if its peer says nothing at its beginning, and if it says
/// too much that means nothing.
///
/// The server drives each connection in a task of its own that nobody can reach; a failing read is
/// what ends it in bounded time, whatever its client does. Writes need no check: an HTTP/2
/// connection is always also reading. A peer that falls silent later is found by the server's pings, which begin
/// when the preface has come.
pub(super) struct Cuttable {
    wire: Wire,
    caller: RemoteEnd,
    _held: Held,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    meter: FrameMeter,
    accepted: Instant,
    /// When it has to have begun; `None` once it has.
    due: Option<Pin<Box<Sleep>>>,
}

/// What its bytes go through.
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(ServerStream<TcpStream>),
}

impl Cuttable {
    pub(super) fn new(
        wire: Wire,
        caller: RemoteEnd,
        held: Held,
        first_word_timeout: Duration,
        cut: CancellationToken,
    ) -> Self {
        Self {
            wire,
            caller,
            _held: held,
            cut: Box::pin(cut.cancelled_owned()),
            meter: FrameMeter::of_calls(),
            accepted: Instant::now(),
            due: Some(Box::pin(sleep(first_word_timeout))),
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
    tracing::debug!(reason, "a gRPC connection was ended");
    io::Error::new(io::ErrorKind::ConnectionAborted, reason)
}

impl Connected for Cuttable {
    type ConnectInfo = RemoteEnd;

    fn connect_info(&self) -> RemoteEnd {
        self.caller.clone()
    }
}

/// Has whatever the bytes go through do it.
macro_rules! pass_on {
    ($self:ident, $method:ident($($argument:expr),*)) => {
        match &mut $self.wire {
            Wire::Plain(socket) => Pin::new(socket).$method($($argument),*),
            Wire::Tls(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Cuttable {
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
        let read = pass_on!(self, poll_read(context, buffer));
        match self.hear(&buffer.filled()[before..]) {
            Ok(()) => read,
            Err(error) => Poll::Ready(Err(error)),
        }
    }
}

impl AsyncWrite for Cuttable {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        pass_on!(self, poll_write(context, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        pass_on!(self, poll_write_vectored(context, slices))
    }

    fn is_write_vectored(&self) -> bool {
        match &self.wire {
            Wire::Plain(socket) => socket.is_write_vectored(),
            Wire::Tls(stream) => stream.is_write_vectored(),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        pass_on!(self, poll_flush(context))
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        pass_on!(self, poll_shutdown(context))
    }
}
