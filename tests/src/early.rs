//! A TLS client that comes again, says its first words before its handshake is over, and ends the handshake
//! when the test wants it to, or never.

use std::io::{self, ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection};

use crate::authority::Authority;
use crate::http1::{Connection, Request};

/// A client that has been there before.
#[derive(Debug, Clone)]
pub struct Returning(Arc<ClientConfig>);

impl Returning {
    /// One that believes this authority and speaks this protocol. It has been nowhere yet.
    #[must_use]
    pub fn new(authority: &Authority, protocol: &str) -> Self {
        let mut config = authority.client(&[protocol], None);
        config.enable_early_data = true;
        Self(Arc::new(config))
    }

    /// Is there once, by HTTP/1.1, and brings home how to come again.
    pub async fn visit(&self, address: SocketAddr) {
        let mut wire = self.come(address).await;
        wire.shake().await;
        wire.hold().release();
        let mut connection = Connection::over(wire);
        // Behind the answer, and so behind what it brings home.
        assert_eq!(connection.call(&Request::get("/v1/route")).await.status(), 200);
    }

    /// Connects, and says nothing yet. What is written before anything is read is early data, where the
    /// server has offered to take it the last time. The handshake is held back at its last word.
    pub async fn come(&self, address: SocketAddr) -> EarlyWire {
        let socket = TcpStream::connect(address).await.expect("the server accepts");
        self.over(socket)
    }

    /// The same over a socket that is connected already.
    ///
    /// # Panics
    /// Never.
    #[must_use]
    pub fn over(&self, socket: TcpStream) -> EarlyWire {
        socket.set_nodelay(true).expect("a fresh socket takes options");
        EarlyWire { socket, tls: self.begin(), hold: Hold::default() }
    }

    /// The first words of such a connection with this early data in it, for whoever sends again what it has
    /// recorded.
    ///
    /// # Panics
    /// If the server has not offered to take it.
    #[must_use]
    pub fn recorded(&self, early: &[u8]) -> Vec<u8> {
        let mut tls = self.begin();
        tls.early_data().expect("offered").write_all(early).expect("there is room");
        let mut bytes = Vec::new();
        while tls.wants_write() {
            tls.write_tls(&mut bytes).expect("into memory");
        }
        bytes
    }

    fn begin(&self) -> ClientConnection {
        let name = ServerName::try_from("localhost").expect("a name");
        ClientConnection::new(Arc::clone(&self.0), name).expect("it can be had")
    }
}

/// A connection whose first words are early data.
#[derive(Debug)]
pub struct EarlyWire {
    socket: TcpStream,
    tls: ClientConnection,
    hold: Hold,
}

/// Holds the end of a handshake back. Clones hold the same.
#[derive(Debug, Clone, Default)]
pub struct Hold(Arc<Held>);

#[derive(Debug, Default)]
struct Held {
    released: AtomicBool,
    reader: Mutex<Option<Waker>>,
}

impl Hold {
    /// Lets it go on, by whoever reads.
    ///
    /// # Panics
    /// Never.
    pub fn release(&self) {
        self.0.released.store(true, Ordering::SeqCst);
        if let Some(reader) = self.0.reader.lock().expect("nobody panics with it").take() {
            reader.wake();
        }
    }
}

impl EarlyWire {
    /// What holds its handshake back.
    #[must_use]
    pub fn hold(&self) -> Hold {
        self.hold.clone()
    }

    /// Goes on until only its last word is missing. Gives whether the early data was taken.
    ///
    /// # Panics
    /// If the server does not agree.
    pub async fn shake(&mut self) -> bool {
        let shaken = std::future::poll_fn(|cx| {
            while self.tls.is_handshaking() {
                ready!(self.poll_push(cx))?;
                if ready!(self.poll_take_in(cx))? == 0 {
                    return Poll::Ready(Err(ErrorKind::UnexpectedEof.into()));
                }
            }
            Poll::Ready(Ok::<_, io::Error>(()))
        });
        tokio::time::timeout(crate::PATIENCE, shaken).await.expect("in time").expect("they agree");
        self.tls.is_early_data_accepted()
    }

    fn poll_take_in(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        match self.tls.read_tls(&mut AtOnce(&mut self.socket, cx)) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => Poll::Pending,
            Ok(read) => {
                self.tls.process_new_packets().map_err(io::Error::other)?;
                Poll::Ready(Ok(read))
            }
            Err(error) => Poll::Ready(Err(error)),
        }
    }

    fn poll_push(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if !self.tls.is_handshaking() && !self.hold.0.released.load(Ordering::SeqCst) {
            return Poll::Ready(Ok(()));
        }
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut AtOnce(&mut self.socket, cx)) {
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Poll::Pending,
                written => written?,
            };
        }
        Poll::Ready(Ok(()))
    }
}

impl AsyncRead for EarlyWire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        *self.hold.0.reader.lock().expect("nobody panics with it") = Some(cx.waker().clone());
        loop {
            // What cannot go now goes later; there is still something to read.
            if let Poll::Ready(Err(error)) = self.poll_push(cx) {
                return Poll::Ready(Err(error));
            }
            match self.tls.reader().read(buffer.initialize_unfilled()) {
                Ok(n) => {
                    buffer.advance(n);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
            ready!(self.poll_take_in(cx))?;
        }
    }
}

impl AsyncWrite for EarlyWire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let early = match self.tls.early_data() {
            Some(mut early) => early.write(bytes)?,
            None => 0,
        };
        let n = if early > 0 { early } else { self.tls.writer().write(bytes)? };
        if let Poll::Ready(Err(error)) = self.poll_push(cx) {
            return Poll::Ready(Err(error));
        }
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_push(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.socket).poll_shutdown(cx)
    }
}

/// A socket without waiting.
struct AtOnce<'s, 'c, 'w>(&'s mut TcpStream, &'c mut Context<'w>);

impl Read for AtOnce<'_, '_, '_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut buffer = ReadBuf::new(buffer);
        match Pin::new(&mut *self.0).poll_read(self.1, &mut buffer) {
            Poll::Ready(read) => read.map(|()| buffer.filled().len()),
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for AtOnce<'_, '_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match Pin::new(&mut *self.0).poll_write(self.1, bytes) {
            Poll::Ready(written) => written,
            Poll::Pending => Err(ErrorKind::WouldBlock.into()),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Sends recorded bytes over a connection of its own, and reads until the server hangs up. Gives how many
/// bytes came.
///
/// # Panics
/// If the server never hangs up.
pub async fn replay(address: SocketAddr, recorded: &[u8]) -> usize {
    let mut socket = TcpStream::connect(address).await.expect("the server accepts");
    socket.write_all(recorded).await.expect("the server takes it");
    let mut came = Vec::new();
    let read = tokio::time::timeout(crate::PATIENCE, socket.read_to_end(&mut came)).await;
    // A reset ends it as well.
    let _ = read.expect("the server hangs up");
    came.len()
}
