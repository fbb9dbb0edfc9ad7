//! Connections that can be cut from outside.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use evergate_tls::ServerStream;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};
use tonic::transport::server::Connected;

use super::door::Held;
use crate::remote_end::RemoteEnd;

/// A connection that fails once its token is cancelled.
///
/// The server drives each connection in a task of its own that nobody can reach; a failing read is
/// what ends it in bounded time, whatever its client does. Writes need no check: an HTTP/2
/// connection is always also reading.
pub(super) struct Cuttable {
    wire: Wire,
    caller: RemoteEnd,
    _held: Held,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
}

/// What its bytes go through.
pub(super) enum Wire {
    Plain(TcpStream),
    Tls(ServerStream<TcpStream>),
}

impl Cuttable {
    pub(super) fn new(wire: Wire, caller: RemoteEnd, held: Held, cut: CancellationToken) -> Self {
        Self { wire, caller, _held: held, cut: Box::pin(cut.cancelled_owned()) }
    }
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
        pass_on!(self, poll_read(context, buffer))
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
