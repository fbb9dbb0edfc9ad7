//! What a connection's bytes go through: the socket itself, or TLS over it.

use evergate_tls::{ServerStream, Session};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use crate::http::patient::Patient;

/// A connection, whatever lies over its socket.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    /// The socket at the bottom.
    fn socket(&self) -> &TcpStream;

    /// The socket and what lies over it, for whoever goes on without a task. What was written must have been
    /// flushed.
    fn take_apart(self) -> (TcpStream, Option<Session>);
}

impl Wire for Patient {
    fn socket(&self) -> &TcpStream {
        Self::socket(self)
    }

    fn take_apart(self) -> (TcpStream, Option<Session>) {
        (self.into_inner(), None)
    }
}

impl Wire for ServerStream<Patient> {
    fn socket(&self) -> &TcpStream {
        ServerStream::socket(self).socket()
    }

    fn take_apart(self) -> (TcpStream, Option<Session>) {
        let (patient, session) = Session::take(self);
        (patient.into_inner(), Some(session))
    }
}
