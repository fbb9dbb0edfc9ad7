//! One connection: which protocol it speaks, and how it ends.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use evergate_domain::{Cursor, PackedCursor};
use evergate_fanout::{End, Farewell, Guard, Handover as Handed};
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::carrier::{self, Carrier, Handover, Step, Watched};
use crate::http::context::Context;
use crate::http::door::{Entry, FirstHead, REFUSED};
use crate::http::patient::Patient;
use crate::http::peer::{NotAdmitted, Peer};
use crate::http::router;
use crate::http::stream::{Keep, Live};
use crate::liveness;

/// Bytes that may wait unsent in the kernel, per connection. Without a bound it takes 4 MB for every
/// client that stalls, before we even notice that it does.
const UNSENT_MAX: u32 = 16 << 10;

/// How long a closed connection is read on for the peer's own end.
const LINGER: Duration = Duration::from_secs(1);

/// The parser's bound is this many times the one that is answered with an explanation.
const PARSER_SLACK: usize = 4;

/// What every HTTP/2 connection begins with; no HTTP/1 method does.
const PREFACE: &[u8] = b"PRI * HTTP/2.0";

/// What ends a connection from outside.
#[derive(Clone)]
pub(crate) struct Ends {
    /// Finish what is under way, begin nothing new.
    pub(crate) drain: CancellationToken,
    /// Let go of everything now.
    pub(crate) kill: CancellationToken,
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
    if let Err(error) = set_options(&stream, limits.peer_timeout) {
        tracing::debug!(%error, "a connection was gone before it was served");
        return;
    }
    let cut = CancellationToken::new();
    let served = async {
        let begun = async {
            let peer = context.config.proxies.admit(&mut stream, from).await?;
            let http2 = speaks_http2(&stream).await?;
            Ok::<_, NotAdmitted>((peer, http2))
        };
        match timeout(limits.head_timeout, begun).await {
            Ok(Ok((peer, true))) => serve_http2(stream, peer, &context, &ends, &cut, entry).await,
            Ok(Ok((peer, false))) => serve_http1(stream, peer, &context, &ends, &cut, entry).await,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a connection is not served");
                refused(error.reason());
            }
            Err(_) => refused("head-timeout"),
        }
    };
    tokio::select! {
        biased;
        () = ends.kill.cancelled() => {}
        () = served => {}
    }
}

/// Counts a connection that is closed before it was answered.
fn refused(reason: &'static str) {
    metrics::counter!(REFUSED, "reason" => reason).increment(1);
}

async fn serve_http1(
    stream: TcpStream,
    peer: Peer,
    context: &Arc<Context>,
    ends: &Ends,
    cut: &CancellationToken,
    entry: Entry,
) {
    let limits = context.config.connections;
    let Entry { place, first_head } = entry;
    let handover = Arc::<Handover>::default();
    let service = service_fn(|request| {
        first_head.arrived();
        let carrier = Carrier { peer, cut: cut.clone(), handover: Some(Arc::clone(&handover)) };
        let answer = router::answer(Arc::clone(context), request, carrier);
        Box::pin(async move { Ok::<_, Infallible>(answer.await) })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(limits.head_bytes_max * PARSER_SLACK)
        .serve_connection(
            Watched::new(Patient::new(stream, limits.stall_timeout), Arc::clone(&handover)),
            service,
        );
    let mut head_due = pin!(sleep(limits.head_timeout));
    let mut waiting = true;
    let mut draining = false;
    loop {
        let mut step = poll_fn(|cx| carrier::poll_step(&mut connection, &handover, cx));
        tokio::select! {
            biased;
            () = cut.cancelled() => {
                reset(&connection.into_parts().io.into_inner().into_inner());
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
                    Step::Over(Ok(())) => linger(connection.into_parts().io.into_inner().into_inner()).await,
                    Step::Over(Err(error)) => tracing::debug!(%error, "a connection ended early"),
                    Step::Streams((first, Live { subscriber, keep })) => {
                        // What came behind the request is dropped: the answer to it would never come.
                        let socket = connection.into_parts().io.into_inner().into_inner();
                        let guard = Box::new(Placed { keep, _place: place });
                        context.engine.serve(Handed { socket, first, subscriber, guard }).await;
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

/// A stream's keep, with the connection's place among all connections.
struct Placed {
    keep: Keep,
    _place: OwnedSemaphorePermit,
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
}

async fn serve_http2(
    stream: TcpStream,
    peer: Peer,
    context: &Arc<Context>,
    ends: &Ends,
    cut: &CancellationToken,
    entry: Entry,
) {
    let limits = context.config.connections;
    let first_head = entry.first_head;
    let service = service_fn(|request| {
        first_head.arrived();
        let carrier = Carrier { peer, cut: cut.clone(), handover: None };
        let answer = router::answer(Arc::clone(context), request, carrier);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    // The streams of a connection are tasks of their own; they end with it.
    let streams = Streams::default();
    // Also when this connection is killed in the middle.
    let _ended = streams.gone.clone().drop_guard();
    let header_list = u32::try_from(limits.head_bytes_max * PARSER_SLACK);
    let connection = http2::Builder::new(streams.clone())
        .timer(TokioTimer::new())
        .max_concurrent_streams(128)
        .max_header_list_size(header_list.unwrap_or(u32::MAX))
        .max_send_buf_size(64 << 10)
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .keep_alive_timeout(Duration::from_secs(10))
        .serve_connection(TokioIo::new(Patient::new(stream, limits.stall_timeout)), service);
    let mut connection = pin!(connection);
    let mut draining = false;
    let mut look = pin!(sleep(limits.head_timeout));
    let mut idle = false;
    loop {
        tokio::select! {
            biased;
            () = cut.cancelled() => break,
            () = &mut look => {
                if first_head.is_awaited() {
                    refused("head-timeout");
                    break;
                }
                // Idle at two looks in a row; what came and went in between was short.
                let was_idle = std::mem::replace(&mut idle, streams.tasks.is_empty());
                if was_idle && idle && !draining {
                    draining = true;
                    connection.as_mut().graceful_shutdown();
                }
                look.as_mut().reset(tokio::time::Instant::now() + limits.idle_timeout / 2);
            }
            () = ends.drain.cancelled(), if !draining => {
                draining = true;
                connection.as_mut().graceful_shutdown();
            }
            result = &mut connection => {
                if let Err(error) = result {
                    tracing::debug!(%error, "a connection ended early");
                }
                break;
            }
        }
    }
    streams.end().await;
}

/// Spawns what hyper spawns for a connection's streams, and ends it with the connection.
#[derive(Clone, Default)]
struct Streams {
    tasks: TaskTracker,
    gone: CancellationToken,
}

impl<F> Executor<F> for Streams
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    fn execute(&self, future: F) {
        let gone = self.gone.clone();
        self.tasks.spawn(async move { drop(gone.run_until_cancelled_owned(future).await) });
    }
}

impl Streams {
    async fn end(self) {
        self.gone.cancel();
        self.tasks.close();
        self.tasks.wait().await;
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

fn set_options(stream: &TcpStream, peer_timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_notsent_lowat(UNSENT_MAX)?;
    liveness::watch(&socket, peer_timeout)
}

/// Ends a connection so that the peer surely got the last bytes: our end, then its end, then close.
/// Closing at once could reset the connection over unread input and take those bytes along.
async fn linger(mut stream: TcpStream) {
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
