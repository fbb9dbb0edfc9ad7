//! Whether a connection takes more.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use evergate_domain::FrameMeter;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

/// What is known of a connection's socket: h2 keeps it to itself, and queues what it does not take.
#[derive(Debug, Default)]
pub(super) struct Gate {
    shut: AtomicBool,
    opened: AtomicBool,
    heard: AtomicBool,
    flooded: AtomicBool,
}

/// A connection's bytes under h2, which notes what becomes of them.
pub(super) struct Gated<W> {
    wire: W,
    gate: Arc<Gate>,
    meter: FrameMeter,
    begun: Instant,
}

impl Gate {
    /// Whether everything handed to h2 has been written.
    pub(super) fn is_open(&self) -> bool {
        !self.shut.load(Ordering::Acquire)
    }

    /// Whether it was opened since this was last asked.
    pub(super) fn take_opened(&self) -> bool {
        self.opened.swap(false, Ordering::AcqRel)
    }

    /// Whether the peer sent anything since this was last asked.
    pub(super) fn take_heard(&self) -> bool {
        self.heard.swap(false, Ordering::AcqRel)
    }

    /// Whether the peer has sent more that does nothing than is borne. Nothing more is read of it.
    pub(super) fn is_flooded(&self) -> bool {
        self.flooded.load(Ordering::Acquire)
    }

    fn wrote<T>(&self, written: Poll<T>, all: bool) -> Poll<T> {
        if written.is_pending() {
            self.shut.store(true, Ordering::Release);
        } else if all && self.shut.swap(false, Ordering::AcqRel) {
            self.opened.store(true, Ordering::Release);
        }
        written
    }
}

impl<W> Gated<W> {
    pub(super) fn new(wire: W, gate: Arc<Gate>) -> Self {
        Self { wire, gate, meter: FrameMeter::new(), begun: Instant::now() }
    }
}

impl<W: AsyncRead + Unpin> AsyncRead for Gated<W> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.gate.is_flooded() {
            // Whoever drives the connection is about to end it.
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut this.wire).poll_read(cx, buf);
        let came = &buf.filled()[before..];
        if !came.is_empty() {
            this.gate.heard.store(true, Ordering::Release);
            let now = u64::try_from(this.begun.elapsed().as_nanos()).unwrap_or(u64::MAX);
            if !this.meter.takes(came, now) {
                this.gate.flooded.store(true, Ordering::Release);
            }
        }
        read
    }
}

impl<W: AsyncWrite + Unpin> AsyncWrite for Gated<W> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.wire).poll_write(cx, buf);
        self.gate.wrote(written, false)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.wire).poll_write_vectored(cx, bufs);
        self.gate.wrote(written, false)
    }

    fn is_write_vectored(&self) -> bool {
        self.wire.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // h2 flushes only after it has written all it holds.
        let flushed = Pin::new(&mut self.wire).poll_flush(cx);
        self.gate.wrote(flushed, true)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.wire).poll_shutdown(cx)
    }
}
