//! A connection's cryptography without its socket, for whoever writes to sockets without a runtime.

use std::io::{self, BufRead as _, ErrorKind, Read, Write};

use rustls::{IoState, ServerConnection};
use tokio_rustls::server::TlsStream;

/// The state of a server's connection after its handshake. What it holds that the socket has not taken
/// yet is bounded by one piece that was given to it, and the little that the protocol says by itself.
pub struct Session(Box<ServerConnection>);

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Wrote {
    /// Bytes of the plaintext that are the session's from here on.
    pub taken: usize,
    /// Bytes that the socket has taken, which are those on the wire.
    pub sent: usize,
    /// Whether the socket takes no more now.
    pub blocked: bool,
}

impl Session {
    /// Takes a connection apart.
    #[must_use]
    pub fn take<S>(stream: TlsStream<S>) -> (S, Self) {
        let (socket, connection) = stream.into_inner();
        (socket, Self(Box::new(connection)))
    }

    /// Writes what the session still holds and then as much of the plaintext as the socket takes.
    /// Nothing of it is taken before what was taken earlier has gone.
    pub fn write(&mut self, plain: &[u8], socket: &mut impl Write) -> io::Result<Wrote> {
        let mut wrote = Wrote { taken: 0, sent: 0, blocked: false };
        loop {
            while self.0.wants_write() {
                match self.0.write_tls(socket) {
                    Ok(0) => return Err(ErrorKind::WriteZero.into()),
                    Ok(sent) => wrote.sent += sent,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {
                        wrote.blocked = true;
                        return Ok(wrote);
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(error),
                }
            }
            if wrote.taken == plain.len() {
                return Ok(wrote);
            }
            wrote.taken += self.0.writer().write(&plain[wrote.taken..])?;
        }
    }

    /// Whether there is something that the socket has not taken yet.
    #[must_use]
    pub fn holds_back(&self) -> bool {
        self.0.wants_write()
    }

    /// Reads what has come, and drops what the client said inside. Tells whether the client may still
    /// be there; what has to be answered is written by the next [`Session::write`].
    pub fn hear(&mut self, socket: &mut impl Read) -> io::Result<bool> {
        loop {
            match self.0.read_tls(socket) {
                Ok(0) => return Ok(false),
                Ok(_) => {
                    let state = self.0.process_new_packets().map_err(io::Error::other)?;
                    self.drop_plaintext(&state)?;
                    if state.peer_has_closed() {
                        return Ok(false);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Says that nothing follows; to be written like anything else.
    pub fn say_end(&mut self) {
        self.0.send_close_notify();
    }

    fn drop_plaintext(&mut self, state: &IoState) -> io::Result<()> {
        let mut left = state.plaintext_bytes_to_read();
        while left > 0 {
            let mut reader = self.0.reader();
            let n = reader.fill_buf()?.len();
            if n == 0 {
                break;
            }
            reader.consume(n);
            left -= n.min(left);
        }
        Ok(())
    }
}
