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
use http_body::{Body as HttpBody, Frame};
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use crate::http::answer::Aborted;
use crate::http::patient::Patient;
use crate::http::peer::Peer;
use crate::http::stream::Live;

/// The connection under a request.
#[derive(Clone)]
pub(crate) struct Carrier {
    /// Who is at its other end.
    pub(crate) peer: Peer,
    /// Ends the whole connection at once.
    pub(crate) cut: CancellationToken,
    /// Where an event stream is left for whoever takes the socket; `None` if nobody will.
    pub(crate) handover: Option<Arc<Handover>>,
}

/// An event stream on its way from the handler to the engine.
#[derive(Default)]
pub(crate) struct Handover {
    live: Mutex<Option<(Bytes, Live)>>,
    asked: AtomicBool,
    flushed: AtomicBool,
}

impl Handover {
    /// Leaves a stream, and gives the body that stands for it.
    pub(crate) fn leave(self: &Arc<Self>, first: Bytes, live: Live) -> Placeholder {
        *self.live.lock() = Some((first, live));
        Placeholder(Arc::clone(self))
    }

    /// The stream, once the head of its answer is provably on the wire.
    pub(crate) fn take(&self) -> Option<(Bytes, Live)> {
        if !self.flushed.load(Ordering::Acquire) {
            return None;
        }
        self.live.lock().take()
    }
}

/// A body that never yields anything, but notes that it was asked to.
pub(crate) struct Placeholder(Arc<Handover>);

impl HttpBody for Placeholder {
    type Data = Bytes;
    type Error = Aborted;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Poller<'_>) -> Poll<Option<Result<Frame<Bytes>, Aborted>>> {
        // hyper asks for a body only after it encoded the head.
        self.0.asked.store(true, Ordering::Release);
        Poll::Pending
    }
}

/// The socket under hyper, which notes when everything encoded was written.
pub(crate) struct Watched {
    socket: TokioIo<Patient>,
    handover: Arc<Handover>,
}

impl Watched {
    pub(crate) fn new(socket: Patient, handover: Arc<Handover>) -> Self {
        Self { socket: TokioIo::new(socket), handover }
    }

    pub(crate) fn into_inner(self) -> TcpStream {
        self.socket.into_inner().into_inner()
    }
}

impl Read for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Poller<'_>,
        buf: ReadBufCursor<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_read(cx, buf)
    }
}

impl Write for Watched {
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
