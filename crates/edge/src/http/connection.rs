//! One connection: which protocol it speaks, and how it ends.

use std::convert::Infallible;
use std::future::poll_fn;
use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use evergate_domain::Cursor;
use evergate_fanout::{End, Farewell, Guard, Handover as Handed};
use hyper::rt::Executor;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::http::carrier::{self, Carrier, Handover, Step, Watched};
use crate::http::context::Context;
use crate::http::router;
use crate::http::stream::{Keep, Live};

/// How long unacknowledged bytes may stay so before the peer counts as gone. Shorter would throw
/// phones out of tunnels.
const USER_TIMEOUT: Duration = Duration::from_secs(30);

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
pub(crate) async fn serve(stream: TcpStream, context: Arc<Context>, ends: Ends, place: OwnedSemaphorePermit) {
    if let Err(error) = set_options(&stream) {
        tracing::debug!(%error, "a connection was gone before it was served");
        return;
    }
    let cut = CancellationToken::new();
    let served = async {
        let head = context.config.connections.head_timeout;
        match timeout(head, speaks_http2(&stream)).await {
            Err(_) | Ok(Err(_)) => {}
            Ok(Ok(true)) => serve_http2(stream, &context, &ends, &cut).await,
            Ok(Ok(false)) => serve_http1(stream, &context, &ends, &cut, place).await,
        }
    };
    tokio::select! {
        biased;
        () = ends.kill.cancelled() => {}
        () = served => {}
    }
}

async fn serve_http1(
    stream: TcpStream,
    context: &Arc<Context>,
    ends: &Ends,
    cut: &CancellationToken,
    place: OwnedSemaphorePermit,
) {
    let limits = context.config.connections;
    let asked = AtomicBool::new(false);
    let handover = Arc::<Handover>::default();
    let service = service_fn(|request| {
        asked.store(true, Ordering::Relaxed);
        let carrier = Carrier { cut: cut.clone(), handover: Some(Arc::clone(&handover)) };
        let answer = router::answer(Arc::clone(context), request, carrier);
        Box::pin(async move { Ok::<_, Infallible>(answer.await) })
    });
    let mut connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.idle_timeout)
        .max_buf_size(limits.head_bytes_max * PARSER_SLACK)
        .serve_connection(Watched::new(stream, Arc::clone(&handover)), service);
    let mut first_head = pin!(sleep(limits.head_timeout));
    let mut waiting = true;
    let mut draining = false;
    loop {
        let mut step = poll_fn(|cx| carrier::poll_step(&mut connection, &handover, cx));
        tokio::select! {
            biased;
            () = cut.cancelled() => {
                reset(&connection.into_parts().io.into_inner());
                return;
            }
            () = ends.drain.cancelled(), if !draining => {
                draining = true;
                std::pin::Pin::new(&mut connection).graceful_shutdown();
            }
            () = &mut first_head, if waiting => {
                waiting = false;
                if !asked.load(Ordering::Relaxed) {
                    return;
                }
            }
            step = &mut step => {
                match step {
                    Step::Over(Ok(())) => linger(connection.into_parts().io.into_inner()).await,
                    Step::Over(Err(error)) => tracing::debug!(%error, "a connection ended early"),
                    Step::Streams((first, Live { subscriber, keep })) => {
                        // What came behind the request is dropped: the answer to it would never come.
                        let socket = connection.into_parts().io.into_inner();
                        let guard = Box::new(Placed { keep, _place: place });
                        context.engine.serve(Handed { socket, first, subscriber, guard }).await;
                    }
                }
                return;
            }
        }
    }
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
}

async fn serve_http2(stream: TcpStream, context: &Arc<Context>, ends: &Ends, cut: &CancellationToken) {
    let service = service_fn(|request| {
        let carrier = Carrier { cut: cut.clone(), handover: None };
        let answer = router::answer(Arc::clone(context), request, carrier);
        async move { Ok::<_, Infallible>(answer.await) }
    });
    // The streams of a connection are tasks of their own; they end with it.
    let streams = Streams::default();
    // Also when this connection is killed in the middle.
    let _ended = streams.gone.clone().drop_guard();
    let header_list = u32::try_from(context.config.connections.head_bytes_max * PARSER_SLACK);
    let connection = http2::Builder::new(streams.clone())
        .timer(TokioTimer::new())
        .max_concurrent_streams(128)
        .max_header_list_size(header_list.unwrap_or(u32::MAX))
        .max_send_buf_size(64 << 10)
        .keep_alive_interval(Some(Duration::from_secs(20)))
        .keep_alive_timeout(Duration::from_secs(10))
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = pin!(connection);
    let mut draining = false;
    loop {
        tokio::select! {
            biased;
            () = cut.cancelled() => break,
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

fn set_options(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    let keepalive = TcpKeepalive::new()
        .with_time(Duration::from_secs(60))
        .with_interval(Duration::from_secs(10))
        .with_retries(3);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_notsent_lowat(UNSENT_MAX)?;
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))
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
