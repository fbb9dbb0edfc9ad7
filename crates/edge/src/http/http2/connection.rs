//! One HTTP/2 connection.

use std::future::poll_fn;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;

use bytes::Bytes;
use evergate_fanout::{Bundle, Entrant, Outlet as _};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, sleep, timeout};

use crate::http::carrier::Carrier;
use crate::http::connection::{Ends, LINGER, refused};
use crate::http::context::Context;
use crate::http::door::Entry;
use crate::http::http2::exchange::exchange;
use crate::http::http2::gate::{Gate, Gated};
use crate::http::http2::limits::{STREAMS_MAX, settings};
use crate::http::http2::lost::lost;
use crate::http::http2::outlet::Stream;
use crate::http::http2::upload::Uploads;

type Connection<W> = h2::server::Connection<Gated<W>, Bytes>;

/// A request that is being answered.
type Exchange = Pin<Box<dyn Future<Output = Option<Entrant<Stream>>> + Send>>;

/// What a connection brings.
enum Step {
    Request(Box<(Request<RecvStream>, SendResponse<Bytes>)>),
    /// It has written all it held, and takes more.
    Opened,
    /// Too many frames that do nothing.
    Flooded,
    Over(Result<(), h2::Error>),
}

/// Serves a connection to its end. `carrier` stands for the connection.
pub(in crate::http) async fn serve<W>(
    wire: W,
    context: &Arc<Context>,
    ends: &Ends,
    carrier: Carrier,
    entry: Entry,
) where
    W: AsyncRead + AsyncWrite + Unpin + Send,
{
    let limits = context.config.connections;
    let Entry { held: _held, first_head } = entry;
    let gate = Arc::<Gate>::default();
    let begun = settings(&limits).handshake::<_, Bytes>(Gated::new(wire, Arc::clone(&gate)));
    let mut connection = match timeout(limits.head_timeout, begun).await {
        Ok(Ok(connection)) => connection,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a connection is not served");
            return refused("gone");
        }
        Err(_) => return refused("head-timeout"),
    };
    let pings = connection.ping_pong().expect("asked for once");
    let mut lost = pin!(lost(pings, &gate, limits.stall_timeout));
    let mut look = pin!(sleep(limits.head_timeout));
    let (mut cut, mut draining, mut idle, mut flooded) = (false, false, false, false);
    let mut exchanges = FuturesUnordered::<Exchange>::new();
    let mut bundle = Bundle::<Stream>::new(&context.hub);
    let uploads = Uploads::new();
    let mut aborted = Vec::new();
    loop {
        let open = gate.is_open();
        if open {
            // All that they were sent is on the wire: the connection has been driven since.
            aborted.drain(..).for_each(Stream::reset);
        }
        bundle.turn(open);
        aborted.append(&mut bundle.take_aborted());
        // Those that wait to be begun are counted by h2, and too many are an attack.
        let begins = exchanges.len() < STREAMS_MAX as usize;
        tokio::select! {
            biased;
            () = carrier.cut.cancelled(), if !cut => {
                if !bundle.dismiss() {
                    return;
                }
                cut = true;
                draining = true;
                connection.graceful_shutdown();
                look.as_mut().reset(Instant::now() + LINGER);
            }
            step = step(&mut connection, &gate, begins, flooded) => match step {
                Step::Request(asked) => {
                    let (request, respond) = *asked;
                    first_head.arrived();
                    let request = request.map(|body| uploads.of(body));
                    exchanges.push(Box::pin(exchange(Arc::clone(context), request, respond, carrier.clone())));
                }
                Step::Opened => {}
                Step::Flooded => {
                    flooded = true;
                    ended("flood");
                    // Tells it so, and is over then.
                    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                }
                Step::Over(result) => {
                    if let Err(error) = result {
                        tracing::debug!(%error, "a connection ended early");
                    }
                    return;
                }
            },
            () = ends.drain.cancelled(), if !draining => {
                draining = true;
                connection.graceful_shutdown();
                if !first_head.is_awaited() {
                    look.as_mut().reset(Instant::now() + LINGER);
                }
            }
            Some(entrant) = exchanges.next(), if !exchanges.is_empty() => {
                if let Some(entrant) = entrant {
                    bundle.take_in(entrant);
                }
            }
            () = &mut look => {
                if first_head.is_awaited() {
                    return refused("head-timeout");
                }
                // Idle at two looks in a row; what came and went in between was short.
                let was_idle = std::mem::replace(&mut idle, exchanges.is_empty() && bundle.is_empty());
                if cut {
                    // It fires once, and others may have been dismissed since.
                    bundle.dismiss();
                }
                if was_idle && idle {
                    if draining {
                        // It was told to go, and does not say that it heard.
                        return;
                    }
                    draining = true;
                    connection.graceful_shutdown();
                }
                let next = if draining { LINGER } else { limits.idle_timeout / 2 };
                look.as_mut().reset(Instant::now() + next);
            }
            () = &mut lost => {
                ended("unanswered");
                return;
            }
            () = bundle.news(open) => {}
        }
    }
}

/// Counts a connection that was ended for what its peer did or left out.
fn ended(reason: &'static str) {
    metrics::counter!("evergate_connections_ended_total", "reason" => reason).increment(1);
}

/// Drives a connection: what came is read, what waits is written. Cancel-safe.
async fn step<W>(connection: &mut Connection<W>, gate: &Gate, begins: bool, flooded: bool) -> Step
where
    W: AsyncRead + AsyncWrite + Unpin,
{
    poll_fn(|cx| {
        let step = if begins {
            connection.poll_accept(cx).map(|request| match request {
                Some(Ok(asked)) => Step::Request(Box::new(asked)),
                Some(Err(error)) => Step::Over(Err(error)),
                None => Step::Over(Ok(())),
            })
        } else {
            connection.poll_closed(cx).map(Step::Over)
        };
        match step {
            Poll::Pending if !flooded && gate.is_flooded() => Poll::Ready(Step::Flooded),
            Poll::Pending if gate.take_opened() => Poll::Ready(Step::Opened),
            step @ (Poll::Ready(_) | Poll::Pending) => step,
        }
    })
    .await
}
