//! One connection: which protocol it speaks, and how it ends.

use std::convert::Infallible;
use std::future::{pending, poll_fn};
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use evergate_domain::{Cursor, PackedCursor};
use evergate_fanout::{End, Farewell, Guard, Handover as Handed};
use evergate_tls::{Accepted, Early, Identity, Protocol};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioTimer;
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use crate::config::SocketOptions;
use crate::handshake;
use crate::http::carrier::{self, Carrier, Handover, Step, Watched};
use crate::http::context::Context;
use crate::http::door::{Entry, FirstHead, Held, REFUSED};
use crate::http::http2;
use crate::http::patient::Patient;
use crate::http::peer::{NotAdmitted, Peer};
use crate::http::router;
use crate::http::stream::{Keep, Live};
use crate::http::wire::Wire;
use crate::liveness;

/// Bytes that may wait unsent in the kernel, per connection. Without a bound it takes 4 MB for every
/// client that stalls, before we even notice that it does.
const UNSENT_MAX: u32 = 16 << 10;

/// How long a closed connection is read on for the peer's own end.
pub(super) const LINGER: Duration = Duration::from_secs(1);

/// The parser's bound is this many times the one that is answered with an explanation.
pub(super) const PARSER_SLACK: usize = 4;

/// What every HTTP/2 connection begins with; no HTTP/1 method does.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

const ENDED: &str = "evergate_connections_ended_total";

/// What ends a connection from outside.
#[derive(Clone)]
pub(crate) struct Ends {
    /// Finish what is under way, begin nothing new.
    pub(crate) drain: CancellationToken,
    /// Let go of everything now.
    pub(crate) kill: CancellationToken,
}

/// Who is at the other end, as far as the connection tells.
struct Who {
    peer: Peer,
    identity: Option<Arc<Identity>>,
    early: Option<Early>,
}

/// Serves a connection to its end.
pub(crate) async fn serve(
    mut stream: TcpStream,
    from: SocketAddr,
    context: Arc<Context>,
    ends: Ends,
    entry: Entry,
) {
    let limits = &context.config.connections;
    if let Err(error) = set_options(&stream, limits.peer_timeout, context.config.sockets) {
        tracing::debug!(%error, "a connection was gone before it was served");
        return;
    }
    let cut = CancellationToken::new();
    let served = async {
        let begun = async {
            let peer = context.config.proxies.admit(&mut stream, from).await?;
            // Over TLS it is agreed on in the handshake.
            let http2 = context.config.http_tls.is_none() && speaks_http2(&stream).await?;
            Ok::<_, NotAdmitted>((peer, http2))
        };
        let (peer, http2) = match timeout(limits.head_timeout, begun).await {
            Ok(Ok(begun)) => begun,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a connection is not served");
                return refused(error.reason());
            }
            Err(_) => return refused("head-timeout"),
        };
        let wire = Patient::new(stream, limits.stall_timeout);
        let Some(tls) = &context.config.http_tls else {
            if http2 {
                let who = Who { peer, identity: None, early: None };
                let carrier = who.carrier(&cut, None);
                // In a box, so that connections over HTTP/1.1 take no room for it.
                Box::pin(http2::serve(wire, &context, &ends, carrier, entry)).await;
            } else {
                let who = Who { peer, identity: None, early: None };
                serve_http1(wire, who, &context, &ends, &cut, entry).await;
            }
            return;
        };
        // In boxes, so that connections without TLS take no room for it.
        let Accepted { stream, protocol, identity, early, .. } =
            match Box::pin(handshake::accept(tls, "http", wire)).await {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::debug!(%error, "a connection is not served");
                    return refused(error.reason());
                }
            };
        let overdue = overdue(early.clone());
        let who = Who { peer, identity: identity.map(Arc::new), early };
        let served = async {
            match protocol {
                Protocol::Http2 => {
                    let carrier = who.carrier(&cut, None);
                    Box::pin(http2::serve(stream, &context, &ends, carrier, entry)).await;
                }
                Protocol::Http1 => Box::pin(serve_http1(stream, who, &context, &ends, &cut, entry)).await,
            }
        };
        tokio::select! {
            biased;
            () = served => {}
            () = overdue => metrics::counter!(ENDED, "reason" => "tls-timeout").increment(1),
        }
    };
    tokio::select! {
        biased;
        () = ends.kill.cancelled() => {}
        () = served => {}
    }
}

impl Who {
    fn carrier(&self, cut: &CancellationToken, handover: Option<Arc<Handover>>) -> Carrier {
        let Self { peer, identity, early } = self;
        let (identity, early) = (identity.clone(), early.clone());
        Carrier { peer: *peer, identity, early, cut: cut.clone(), handover }
    }
}

/// Ends when a client that was heard before it had ended its handshake has not ended it in time.
async fn overdue(early: Option<Early>) {
    match early {
        // In a box, so that the others take no room for it.
        Some(early) => Box::pin(async move { early.overdue().await }).await,
        None => pending().await,
    }
}

/// Counts a connection that is closed before it was answered.
pub(super) fn refused(reason: &'static str) {
    metrics::counter!(REFUSED, "reason" => reason).increment(1);
}

async fn serve_http1<W: Wire>(
    wire: W,
    who: Who,
    context: &Arc<Context>,
    ends: &Ends,
    cut: &CancellationToken,
    entry: Entry,
) {
    let limits = context.config.connections;
    let Entry { held, first_head } = entry;
    let handover = Arc::<Handover>::default();
    let service = service_fn(|request| {
        first_head.arrived();
        let carrier = who.carrier(cut, Some(Arc::clone(&handover)));
        let context = Arc::clone(context);
        // Made where it stays: it is large, and would be copied on its way into the box.
        Box::pin(async move { Ok::<_, Infallible>(router::answer(context, request, carrier).await) })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(limits.head_bytes_max * PARSER_SLACK)
        .serve_connection(Watched::new(wire, Arc::clone(&handover)), service);
    let mut head_due = pin!(sleep(limits.head_timeout));
    let mut waiting = true;
    let mut draining = false;
    loop {
        let mut step = poll_fn(|cx| carrier::poll_step(&mut connection, &handover, cx));
        tokio::select! {
            biased;
            () = cut.cancelled() => {
                reset(connection.into_parts().io.into_inner().socket());
                return;
            }
            () = drained(ends, &first_head), if !draining => {
                draining = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
            () = &mut head_due, if waiting => {
                waiting = false;
                if first_head.is_awaited() {
                    refused("head-timeout");
                    return;
                }
            }
            step = &mut step => {
                match step {
                    Step::Over(Ok(())) => Box::pin(linger(connection.into_parts().io.into_inner())).await,
                    Step::Over(Err(error)) => tracing::debug!(%error, "a connection ended early"),
                    Step::Streams((first, Live { subscriber, keep })) => {
                        // What came behind the request is dropped: the answer to it would never come.
                        let guard = Box::new(Placed { keep, _held: held });
                        let (socket, session) = connection.into_parts().io.into_inner().take_apart();
                        let handed = Handed { socket, session, first, subscriber, guard };
                        // In a box of its own, as the parser's time is over.
                        Box::pin(context.engine.serve(handed)).await;
                    }
                }
                return;
            }
        }
    }
}

/// Waits until a connection is to end that was heard. One that was let in is answered, however late its
/// request comes: told to end before, hyper would close over what is on its way.
async fn drained(ends: &Ends, first_head: &FirstHead) {
    ends.drain.cancelled().await;
    first_head.came().await;
}

/// A stream's keep, with the connection's places among all connections.
struct Placed {
    keep: Keep,
    _held: Held,
}

impl Guard for Placed {
    fn farewell(&self, end: End, cursor: &Cursor) -> Farewell {
        self.keep.farewell(end, cursor)
    }

    fn cut(&self) -> &CancellationToken {
        self.keep.cut()
    }

    fn dismissed(&self) -> bool {
        self.keep.dismissed()
    }

    fn follows(&self) -> bool {
        self.keep.follows()
    }

    fn passed(&self, position: PackedCursor) {
        self.keep.passed(position);
    }

    fn word(&self) -> Option<Bytes> {
        self.keep.word()
    }

    fn bell(&self) -> Option<Arc<Notify>> {
        self.keep.bell()
    }
}

/// Whether the client speaks HTTP/2 from the first byte on. Takes nothing from the socket.
async fn speaks_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut seen = [0; PREFACE.len()];
    loop {
        let n = stream.peek(&mut seen).await?;
        if n == 0 || !PREFACE.starts_with(&seen[..n]) {
            return Ok(false);
        }
        if n == PREFACE.len() {
            return Ok(true);
        }
        // The rest is on its way. Peeking again at once would spin, as the socket stays readable.
        sleep(Duration::from_millis(5)).await;
    }
}

fn set_options(stream: &TcpStream, peer_timeout: Duration, options: SocketOptions) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    if options.quick_ack {
        socket.set_tcp_quickack(true)?;
    }
    socket.set_tcp_notsent_lowat(UNSENT_MAX)?;
    liveness::watch(&socket, peer_timeout)
}

/// Ends a connection so that the peer surely got the last bytes: our end, then its end, then close.
/// Closing at once could reset the connection over unread input and take those bytes along.
async fn linger(mut stream: impl Wire) {
    let farewell = async {
        stream.shutdown().await?;
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await? > 0 {}
        Ok::<_, io::Error>(())
    };
    // Whatever goes wrong here, the connection is over.
    let _ = timeout(LINGER, farewell).await;
}

/// Makes closing this connection look like a broken network.
fn reset(stream: &TcpStream) {
    if let Err(error) = SockRef::from(stream).set_linger(Some(Duration::ZERO)) {
        tracing::debug!(%error, "a connection was closed where it should have been reset");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bytes of what such a function gives.
    fn bytes<A, B, C, D, E, F>(_: impl Fn(A, B, C, D, E) -> F) -> usize {
        size_of::<F>()
    }

    /// It is copied into its task, and in a storm there is one for everybody at once.
    #[test]
    fn what_is_opened_takes_little() {
        let task = bytes(serve);
        assert!(task <= 3_200, "{task} bytes");
    }
}
