//! The TLS handshakes of the edge's listeners, counted.

use std::time::Instant;

use evergate_tls::{Accepted, HandshakeError, Server};
use tokio::io::{AsyncRead, AsyncWrite};

const HANDSHAKES: &str = "evergate_tls_handshakes_total";
const SECONDS: &str = "evergate_tls_handshake_seconds";

/// Shakes hands with whoever came to a listener, within the server's time for it.
pub(crate) async fn accept<S>(
    server: &Server,
    listener: &'static str,
    socket: S,
) -> Result<Accepted<S>, HandshakeError>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let began = Instant::now();
    let result = server.accept(socket).await;
    let outcome = match &result {
        // The client has still to end it.
        Ok(accepted) if accepted.early.is_some() => "early",
        Ok(accepted) => {
            metrics::histogram!(SECONDS, "listener" => listener).record(began.elapsed());
            if accepted.resumed { "resumed" } else { "full" }
        }
        Err(error) => error.reason(),
    };
    metrics::counter!(HANDSHAKES, "listener" => listener, "outcome" => outcome).increment(1);
    result
}
