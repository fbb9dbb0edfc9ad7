//! An accepted connection as a stream of bytes.
//!
//! ```text
//!             ┌─▶ early data ─┐
//!   socket ───┤               ├─▶ read            written ──▶ records ──▶ socket
//!             └─▶ the rest ───┘
//! ```
//! It is ours, and not tokio-rustls's, because that hands out nothing of what a client says before its
//! handshake is over. Here it is read first, and can be answered at once: a connection with early data is
//! accepted as soon as both ends have the keys for it, and its handshake goes on beneath whoever reads.

use std::fmt;
use std::future::poll_fn;
use std::io::{self, BufRead as _, ErrorKind, IoSlice, Read, Write};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustls::{ServerConfig, ServerConnection, Writer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::early::Early;

/// An accepted connection. What is read has been said by the client, under [`Early`] possibly to somebody
/// else or at another time.
pub struct ServerStream<S> {
    socket: S,
    /// In a box, as it is large and is handed on.
    connection: Box<ServerConnection>,
    /// Until the handshake is over and what came before has been read.
    early: Option<Early>,
    /// Whether our end has been said.
    ended: bool,
    /// Whether the socket takes nothing any more.
    deaf: bool,
}

impl<S> fmt::Debug for ServerStream<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ServerStream").field("early", &self.early).finish_non_exhaustive()
    }
}

impl<S> ServerStream<S> {
    /// What its bytes go through.
    pub fn socket(&self) -> &S {
        &self.socket
    }

    pub(crate) fn connection(&self) -> &ServerConnection {
        &self.connection
    }

    pub(crate) fn early(&self) -> Option<&Early> {
        self.early.as_ref()
    }

    pub(crate) fn into_parts(self) -> (S, Box<ServerConnection>, Option<Early>) {
        (self.socket, self.connection, self.early)
    }

    /// Hands on what the client has said. False if there is nothing and its end has not come either.
    fn give(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<bool> {
        if self.give_early(buffer)? {
            return Ok(true);
        }
        let before = buffer.filled().len();
        let mut reader = self.connection.reader();
        while buffer.remaining() > 0 {
            match reader.fill_buf() {
                // It has said its end.
                Ok([]) => return Ok(true),
                Ok(said) => {
                    let n = said.len().min(buffer.remaining());
                    buffer.put_slice(&said[..n]);
                    reader.consume(n);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                // It is told again when what came before has been taken.
                Err(_) if buffer.filled().len() > before => break,
                Err(error) => return Err(error),
            }
        }
        Ok(buffer.filled().len() > before || buffer.remaining() == 0)
    }

    /// What was said before the handshake was over comes before what was said after it.
    fn give_early(&mut self, buffer: &mut ReadBuf<'_>) -> io::Result<bool> {
        let Some(early) = &self.early else { return Ok(false) };
        if let Some(mut said) = self.connection.early_data() {
            let n = said.read(buffer.initialize_unfilled())?;
            buffer.advance(n);
            if n > 0 {
                return Ok(true);
            }
        }
        if early.is_over() {
            self.early = None;
        }
        Ok(false)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> ServerStream<S> {
    /// Shakes hands, or begins to where the client sends early data, which has to be done by `due` then.
    /// Dropped in the middle, the connection is lost.
    pub(crate) async fn accept(config: Arc<ServerConfig>, socket: S, due: Instant) -> io::Result<Self> {
        let connection = ServerConnection::new(config).map_err(io::Error::other)?;
        let mut stream =
            Self { socket, connection: Box::new(connection), early: None, ended: false, deaf: false };
        poll_fn(|cx| stream.poll_accept(due, cx)).await?;
        Ok(stream)
    }

    fn poll_accept(&mut self, due: Instant, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        loop {
            // What is not taken now, such as tickets at the end, goes when somebody reads or writes.
            let _: Poll<()> = self.poll_send(cx)?;
            if !self.connection.is_handshaking() {
                return Poll::Ready(Ok(()));
            }
            if self.connection.early_data().is_some() {
                self.early = Some(Early::new(due));
                return Poll::Ready(Ok(()));
            }
            // Also while the client takes nothing: it may wait for us to take something first.
            if ready!(self.poll_take_in(cx))? == 0 {
                return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
            }
        }
    }

    /// Takes in what has come. Gives the number of bytes: none, where nothing follows.
    fn poll_take_in(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        self.answer(cx);
        let read = match self.connection.read_tls(&mut Polled { socket: &mut self.socket, cx }) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Poll::Pending,
            read => read?,
        };
        let processed = self.connection.process_new_packets();
        if let Some(early) = &self.early {
            early.look(&self.connection);
        }
        self.answer(cx);
        processed.map_err(|error| io::Error::new(ErrorKind::InvalidData, error))?;
        Poll::Ready(Ok(read))
    }

    /// Sends what the protocol says by itself, such as why it ends here, as far as the socket takes it now.
    /// The rest is tried again whenever somebody reads or writes. That the socket takes nothing any more is
    /// told to whoever writes: there may still be something to read.
    fn answer(&mut self, cx: &mut Context<'_>) {
        if !self.ended && !self.deaf {
            self.deaf = matches!(self.poll_drain(cx), Poll::Ready(Err(_)));
        }
    }

    /// Hands the socket what is to be sent, and has it send it.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_drain(cx))?;
        Pin::new(&mut self.socket).poll_flush(cx)
    }

    /// Hands the socket what is to be sent.
    fn poll_drain(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.connection.wants_write() {
            match self.connection.write_tls(&mut Polled { socket: &mut self.socket, cx }) {
                Ok(0) => return Poll::Ready(Err(ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Poll::Pending,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Takes so much to be sent as there is room for. What is taken is on its way, or follows with a flush.
    fn poll_say(
        &mut self,
        cx: &mut Context<'_>,
        mut take: impl FnMut(&mut Writer<'_>) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        if self.ended {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        loop {
            let taken = take(&mut self.connection.writer())?;
            match self.poll_drain(cx) {
                Poll::Ready(drained) => drained?,
                Poll::Pending if taken == 0 => return Poll::Pending,
                Poll::Pending => {}
            }
            // Nothing is taken where earlier words fill the room, which they do no longer.
            if taken > 0 {
                return Poll::Ready(Ok(taken));
            }
        }
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for ServerStream<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        while !self.give(buffer)? {
            ready!(self.poll_take_in(cx))?;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for ServerStream<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if bytes.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.poll_say(cx, |writer| writer.write(bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if slices.iter().all(|slice| slice.is_empty()) {
            return Poll::Ready(Ok(0));
        }
        self.poll_say(cx, |writer| writer.write_vectored(slices))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_send(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.ended {
            self.connection.send_close_notify();
            self.ended = true;
        }
        ready!(self.poll_drain(cx))?;
        match ready!(Pin::new(&mut self.socket).poll_shutdown(cx)) {
            // The client was quicker.
            Err(error) if error.kind() == ErrorKind::NotConnected => Poll::Ready(Ok(())),
            shut => Poll::Ready(shut),
        }
    }
}

/// A socket as rustls wants it: what cannot be done at once is an error, and somebody is woken when it can.
struct Polled<'s, 'c, 'w, S> {
    socket: &'s mut S,
    cx: &'c mut Context<'w>,
}

impl<S: AsyncRead + Unpin> Read for Polled<'_, '_, '_, S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        let read = Pin::new(&mut *self.socket).poll_read(self.cx, &mut buffer);
        at_once(read)?;
        Ok(buffer.filled().len())
    }
}

impl<S: AsyncWrite + Unpin> Write for Polled<'_, '_, '_, S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        at_once(Pin::new(&mut *self.socket).poll_write(self.cx, bytes))
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        at_once(Pin::new(&mut *self.socket).poll_write_vectored(self.cx, slices))
    }

    fn flush(&mut self) -> io::Result<()> {
        at_once(Pin::new(&mut *self.socket).poll_flush(self.cx))
    }
}

fn at_once<T>(polled: Poll<io::Result<T>>) -> io::Result<T> {
    match polled {
        Poll::Ready(result) => result,
        Poll::Pending => Err(ErrorKind::WouldBlock.into()),
    }
}
