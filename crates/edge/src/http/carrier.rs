//! What carries a request, and how its socket is taken back from the HTTP/1.1 parser.
//!
//! hyper parses the request and writes the answer's head; from there on the engine writes to the
//! socket itself. The moment for it: the body has been asked for, so the head is encoded, and the
//! connection has been flushed since, so the head is written. hyper keeps nothing then, and
//! `Connection::into_parts` gives the socket back.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context as Poller, Poll};

use bytes::Bytes;
use evergate_tls::{Early, Identity};
use http_body::{Body as HttpBody, Frame};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::server::conn::http1;
use hyper::service::HttpService;
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

use crate::http::answer::{Aborted, Body};
use crate::http::peer::Peer;
use crate::http::stream::Live;

/// The connection under a request.
#[derive(Clone)]
pub(crate) struct Carrier {
    /// Who is at its other end.
    pub(crate) peer: Peer,
    /// Whom its client proved to be, where it did.
    pub(crate) identity: Option<Arc<Identity>>,
    /// Whether its client had still to end its handshake when it was heard first.
    pub(crate) early: Option<Early>,
    /// Ends the whole connection at once.
    pub(crate) cut: CancellationToken,
    /// Where an event stream is left for whoever takes the socket; `None` if nobody will.
    pub(crate) handover: Option<Arc<Handover>>,
}

impl Carrier {
    /// Whether what comes now may only repeat what was recorded of somebody else.
    pub(crate) fn is_early(&self) -> bool {
        self.early.as_ref().is_some_and(|early| !early.is_over())
    }
}

/// An event stream on its way from the handler to the engine: its first frames, and the rest.
pub(crate) struct Handover<T = (Bytes, Live)> {
    live: Mutex<Option<T>>,
    asked: AtomicBool,
    flushed: AtomicBool,
}

impl<T> Default for Handover<T> {
    fn default() -> Self {
        Self { live: Mutex::default(), asked: AtomicBool::new(false), flushed: AtomicBool::new(false) }
    }
}

impl<T> Handover<T> {
    /// Leaves a stream, and gives the body that stands for it.
    pub(crate) fn leave(self: &Arc<Self>, live: T) -> Placeholder<T> {
        *self.live.lock() = Some(live);
        Placeholder(Arc::clone(self))
    }

    /// The stream, where nobody takes its socket.
    pub(crate) fn left(&self) -> Option<T> {
        self.live.lock().take()
    }

    /// The stream, once the head of its answer is provably on the wire.
    fn take(&self) -> Option<T> {
        if !self.flushed.load(Ordering::Acquire) {
            return None;
        }
        self.live.lock().take()
    }
}

/// What became of a connection.
pub(crate) enum Step<T> {
    Over(hyper::Result<()>),
    /// It carries an event stream from here on.
    Streams(T),
}

/// Serves a connection, until it is over or its socket can be taken.
pub(crate) fn poll_step<S, T, H>(
    connection: &mut http1::Connection<Watched<S, T>, H>,
    handover: &Handover<T>,
    cx: &mut Poller<'_>,
) -> Poll<Step<T>>
where
    S: AsyncRead + AsyncWrite + Unpin,
    H: HttpService<Incoming, ResBody = Body> + Unpin,
    H::Future: Unpin,
    H::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    match connection.poll_without_shutdown(cx) {
        Poll::Ready(result) => Poll::Ready(Step::Over(result)),
        Poll::Pending => handover.take().map_or(Poll::Pending, |live| Poll::Ready(Step::Streams(live))),
    }
}

/// A body that never yields anything, but notes that it was asked to.
pub(crate) struct Placeholder<T>(Arc<Handover<T>>);

impl<T> HttpBody for Placeholder<T> {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Poller<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        // hyper asks for a body only after it encoded the head.
        self.0.asked.store(true, Ordering::Release);
        Poll::Pending
    }
}

/// The socket under hyper, which notes when everything encoded was written.
pub(crate) struct Watched<S, T> {
    socket: TokioIo<S>,
    handover: Arc<Handover<T>>,
}

impl<S, T> Watched<S, T> {
    pub(crate) fn new(socket: S, handover: Arc<Handover<T>>) -> Self {
        Self { socket: TokioIo::new(socket), handover }
    }

    pub(crate) fn into_inner(self) -> S {
        self.socket.into_inner()
    }
}

impl<S: AsyncRead + Unpin, T> Read for Watched<S, T> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Poller<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin, T> Write for Watched<S, T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Poller<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.socket).poll_flush(cx);
        // hyper flushes the socket only after it has written all it holds.
        if matches!(flushed, Poll::Ready(Ok(()))) && self.handover.asked.load(Ordering::Acquire) {
            self.handover.flushed.store(true, Ordering::Release);
        }
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Poller<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.socket.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Poller<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.socket).poll_write_vectored(cx, bufs)
    }
}

#[cfg(test)]
mod tests;
