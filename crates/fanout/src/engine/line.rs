//! A connection under a task: its socket, and TLS over it where there is some.

use std::io::{self, IoSlice, Read, Write};
use std::net::TcpStream as StdStream;

use evergate_tls::{Heard, Session};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::TcpStream;

/// What is heard at once, in bytes.
const AT_ONCE: usize = 512;

/// A connection that is written to as it is, or through a session.
pub(super) struct Line {
    socket: TcpStream,
    session: Option<Session>,
}

/// What became of bytes.
pub(super) struct Pushed {
    /// How many of them are the line's from here on.
    pub(super) taken: usize,
    /// How many the system has taken, which are those on the wire.
    pub(super) sent: usize,
}

impl Line {
    pub(super) fn new(socket: TcpStream, session: Option<Session>) -> Self {
        Self { socket, session }
    }

    /// One that was parked.
    pub(super) fn of_std(socket: StdStream, session: Option<Session>) -> io::Result<Self> {
        Ok(Self { socket: TcpStream::from_std(socket)?, session })
    }

    /// Whether its client has still to end its handshake.
    pub(super) fn is_early(&self) -> bool {
        self.session.as_ref().is_some_and(Session::is_early)
    }

    /// For parking. Nothing may be held back.
    pub(super) fn into_std(self) -> io::Result<(StdStream, Option<Session>)> {
        debug_assert!(!self.holds_back() && !self.is_early());
        Ok((self.socket.into_std()?, self.session))
    }

    pub(super) fn socket(&self) -> &TcpStream {
        &self.socket
    }

    /// Whether something that was taken has not gone to the system yet.
    pub(super) fn holds_back(&self) -> bool {
        self.session.as_ref().is_some_and(Session::holds_back)
    }

    /// Waits until some of the bytes, or of what is held back, has gone on. Cancel-safe: what was not told of
    /// was not taken.
    pub(super) async fn push(&mut self, bytes: &[u8]) -> io::Result<Pushed> {
        let Some(session) = &mut self.session else {
            let taken = self.socket.write(bytes).await?;
            if taken == 0 && !bytes.is_empty() {
                return Err(io::ErrorKind::WriteZero.into());
            }
            return Ok(Pushed { taken, sent: taken });
        };
        loop {
            let mut waits_for = Interest::WRITABLE;
            if session.is_early() {
                // A long replay is all writing, and the client's part of the handshake has its time.
                if !hear_at_once(session, &self.socket)?.open {
                    return Err(io::ErrorKind::ConnectionAborted.into());
                }
                waits_for = waits_for.add(Interest::READABLE);
            }
            let wrote = session.write(bytes, &mut AsItIs(&self.socket))?;
            if !wrote.blocked || wrote.taken > 0 || wrote.sent > 0 {
                return Ok(Pushed { taken: wrote.taken, sent: wrote.sent });
            }
            self.socket.ready(waits_for).await?;
        }
    }

    /// Hands all of it to the system.
    pub(super) async fn write_all(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() || self.holds_back() {
            bytes = &bytes[self.push(bytes).await?.taken..];
        }
        Ok(())
    }

    /// Says that nothing follows. Left unsaid over TLS, the end looks like a cut.
    pub(super) async fn finish(&mut self, unsaid: bool) -> io::Result<()> {
        if let Some(session) = self.session.as_mut().filter(|_| !unsaid) {
            session.say_end();
            self.write_all(&[]).await?;
        }
        self.socket.shutdown().await
    }

    /// Waits for what the client sends, and drops it. Gives the number of bytes; 0 if it is gone.
    /// Cancel-safe.
    pub(super) async fn hear(&mut self) -> io::Result<usize> {
        let Some(session) = &mut self.session else {
            return self.socket.read(&mut [0; AT_ONCE]).await;
        };
        loop {
            self.socket.readable().await?;
            match hear_at_once(session, &self.socket)? {
                heard if !heard.open => return Ok(0),
                heard if heard.bytes > 0 => return Ok(heard.bytes),
                _ => {}
            }
        }
    }
}

/// What a client has said to a session by now, or some of it.
fn hear_at_once(session: &mut Session, socket: &TcpStream) -> io::Result<Heard> {
    session.hear(&mut AsItIs(socket), AT_ONCE).inspect_err(|_| {
        // Why, if the client listens.
        let _ = session.write(&[], &mut AsItIs(socket));
    })
}

/// A socket as a session wants it: what cannot be done at once is not waited for.
struct AsItIs<'a>(&'a TcpStream);

impl Read for AsItIs<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.try_read(buffer)
    }
}

impl Write for AsItIs<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
