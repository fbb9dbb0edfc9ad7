//! A connection's cryptography without its socket, for whoever writes to sockets without a runtime.

use std::fmt;
use std::io::{self, BufRead as _, ErrorKind, Read, Write};

use rustls::{IoState, ServerConnection};

use crate::early::Early;
use crate::stream::ServerStream;

/// What a session holds back of what was given to it, at the most, in bytes: one record.
const HELD_BACK_MAX: usize = 16 << 10;

/// The state of a server's connection. What it holds that the socket has not taken yet is bounded by a
/// record, and the little that the protocol says by itself.
pub struct Session {
    connection: Box<ServerConnection>,
    /// Until the handshake is over.
    early: Option<Early>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("holds_back", &self.holds_back()).finish_non_exhaustive()
    }
}

/// What a look at a socket has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// Bytes that were taken from the socket.
    pub bytes: usize,
    /// Whether the client may still be there.
    pub open: bool,
}

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
    pub fn take<S>(stream: ServerStream<S>) -> (S, Self) {
        let (socket, mut connection, early) = stream.into_parts();
        connection.set_buffer_limit(Some(HELD_BACK_MAX));
        (socket, Self { connection, early })
    }

    /// Writes what the session still holds and then as much of the plaintext as the socket takes.
    /// Nothing of it is taken before what was taken earlier has gone.
    pub fn write(&mut self, plain: &[u8], socket: &mut impl Write) -> io::Result<Wrote> {
        let mut wrote = Wrote { taken: 0, sent: 0, blocked: false };
        loop {
            while self.connection.wants_write() {
                match self.connection.write_tls(socket) {
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
            wrote.taken += self.connection.writer().write(&plain[wrote.taken..])?;
        }
    }

    /// Whether there is something that the socket has not taken yet.
    #[must_use]
    pub fn holds_back(&self) -> bool {
        self.connection.wants_write()
    }

    /// Reads what has come, a little more than so many bytes at the most, and drops what the client said
    /// inside. What has to be answered is written by the next [`Session::write`], also after an error.
    pub fn hear(&mut self, socket: &mut impl Read, bytes_max: usize) -> io::Result<Heard> {
        let mut heard = Heard { bytes: 0, open: true };
        while heard.bytes <= bytes_max {
            match self.connection.read_tls(socket) {
                Ok(0) => return Ok(Heard { open: false, ..heard }),
                Ok(read) => {
                    heard.bytes += read;
                    let state = self.connection.process_new_packets().map_err(io::Error::other)?;
                    self.drop_early()?;
                    self.drop_plaintext(&state)?;
                    if state.peer_has_closed() {
                        return Ok(Heard { open: false, ..heard });
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(heard)
    }

    /// Whether the client has still to end its handshake, which it is heard for. Whoever only writes never
    /// learns that it did.
    #[must_use]
    pub fn is_early(&self) -> bool {
        self.early.is_some()
    }

    /// Says that nothing follows; to be written like anything else.
    pub fn say_end(&mut self) {
        self.connection.send_close_notify();
    }

    fn drop_early(&mut self) -> io::Result<()> {
        let Some(early) = &self.early else { return Ok(()) };
        if let Some(mut said) = self.connection.early_data() {
            io::copy(&mut said, &mut io::sink())?;
        }
        if early.look(&self.connection) {
            self.early = None;
        }
        Ok(())
    }

    fn drop_plaintext(&mut self, state: &IoState) -> io::Result<()> {
        let mut left = state.plaintext_bytes_to_read();
        while left > 0 {
            let mut reader = self.connection.reader();
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
