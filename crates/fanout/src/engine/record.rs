//! A parked connection, and what is done with its socket.

use std::io::{self, IoSlice, Write};
use std::net::TcpStream as StdStream;

use bytes::Bytes;
use evergate_domain::STREAMS_MAX;
use evergate_tls::Session;
use rustix::net::{RecvFlags, SendFlags};

use crate::engine::SURPLUS_MAX;
use crate::engine::attended::wrapped;
use crate::engine::handle::Guard;
use crate::figures::Figures;
use crate::retries::Round;

/// A parked connection. Nothing here grows with how far it lies behind.
pub(super) struct Record {
    pub(super) socket: StdStream,
    pub(super) guard: Box<dyn Guard>,
    pub(super) group: u32,
    /// Its place in the group, where its position is kept too.
    pub(super) place: u32,
    /// Events passed over since the client was last sent an id.
    pub(super) unseen: u32,
    /// The tick of the last write.
    pub(super) written: u32,
    /// Bytes the system has taken so far; wraps.
    pub(super) sent: u32,
    pub(super) surplus: u16,
    /// The streams in which it is to be moved on by their policy before it is sent anything else: a bit
    /// for each.
    pub(super) skips: u16,
    /// The stream whose turn it is.
    pub(super) turn: u8,
    /// Whether the socket takes no more until it says so.
    pub(super) blocked: bool,
    /// Whether it has not been at the head of everything since it came, or since the socket last took
    /// no more.
    pub(super) behind: bool,
    /// What it was told last about coming back.
    pub(super) told: Told,
}

/// What a connection was told last about coming back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Told {
    /// When, in case it is cut.
    Retry(Round),
    /// That the hub ends its streams.
    End,
}

const _: () = assert!(STREAMS_MAX <= u16::BITS as usize, "one bit for each stream");

pub(super) enum Sent {
    All,
    /// The socket took a part, or nothing; the rest waits until it says so.
    Part(Bytes),
    Broken,
}

pub(super) fn send(record: &mut Record, mut bytes: Bytes, tick: u32, figures: &Figures) -> Sent {
    use bytes::Buf as _;
    record.written = tick;
    loop {
        match rustix::net::send(&record.socket, &bytes, SendFlags::NOSIGNAL | SendFlags::DONTWAIT) {
            Ok(n) => {
                figures.sent(n);
                record.sent = record.sent.wrapping_add(wrapped(n));
                if n == bytes.len() {
                    return Sent::All;
                }
                bytes.advance(n);
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => {
                figures.sent(0);
                record.blocked = true;
                record.behind = true;
                return Sent::Part(bytes);
            }
            Err(_) => return Sent::Broken,
        }
    }
}

/// The same through a session, which keeps what the socket has not taken of a record; then there is a part
/// left to send even if it is empty.
pub(super) fn send_secured(
    record: &mut Record,
    session: &mut Session,
    mut bytes: Bytes,
    tick: u32,
    figures: &Figures,
) -> Sent {
    use bytes::Buf as _;
    record.written = tick;
    let Ok(wrote) = session.write(&bytes, &mut Counted { socket: &record.socket, figures }) else {
        return Sent::Broken;
    };
    record.sent = record.sent.wrapping_add(wrapped(wrote.sent));
    if !wrote.blocked {
        return Sent::All;
    }
    record.blocked = true;
    record.behind = true;
    bytes.advance(wrote.taken);
    Sent::Part(bytes)
}

/// A socket whose writes are counted.
struct Counted<'a> {
    socket: &'a StdStream,
    figures: &'a Figures,
}

impl Counted<'_> {
    fn note(&self, written: io::Result<usize>) -> io::Result<usize> {
        self.figures.sent(*written.as_ref().unwrap_or(&0));
        written
    }
}

impl Write for Counted<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.socket.write(bytes);
        self.note(written)
    }

    fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let written = self.socket.write_vectored(slices);
        self.note(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The same through a session, which has its own use for some of it.
pub(super) fn hear(record: &mut Record, session: &mut Session) -> bool {
    match session.hear(&mut &record.socket, usize::from(SURPLUS_MAX - record.surplus.min(SURPLUS_MAX))) {
        Ok(heard) => {
            record.surplus = record.surplus.saturating_add(u16::try_from(heard.bytes).unwrap_or(u16::MAX));
            heard.open && record.surplus <= SURPLUS_MAX
        }
        Err(_) => {
            // Why, if the client listens.
            let _ = session.write(&[], &mut &record.socket);
            false
        }
    }
}

/// Reads and drops what a client sends after its request. False if it sends too much or is gone.
pub(super) fn drain(record: &mut Record) -> bool {
    let mut rest = [0; 512];
    loop {
        match rustix::net::recv(&record.socket, &mut rest, RecvFlags::DONTWAIT) {
            Ok((_, 0)) => return false,
            Ok((_, n)) => {
                record.surplus = record.surplus.saturating_add(u16::try_from(n).unwrap_or(u16::MAX));
                if record.surplus > SURPLUS_MAX {
                    return false;
                }
            }
            Err(rustix::io::Errno::INTR) => {}
            Err(rustix::io::Errno::AGAIN) => return true,
            Err(_) => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use evergate_domain::Offset;

    use super::*;

    /// There are as many of them as subscribers.
    #[test]
    fn a_record_and_its_position_stay_small() {
        assert!(size_of::<Record>() + size_of::<Offset>() <= 64, "{}", size_of::<Record>());
    }
}
