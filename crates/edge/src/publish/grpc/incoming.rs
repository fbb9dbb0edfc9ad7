//! From a listener to connections whose handshakes are done.

use std::future::pending;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, StreamExt as _, stream};
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;
use tonic::transport::server::TcpIncoming;

use super::cut::{Cuttable, Wire};
use super::door::{Door, Held};
use crate::config::GrpcTls;
use crate::handshake;
use crate::liveness;
use crate::remote_end::RemoteEnd;

/// How long what was sent may stay unacknowledged: publishers and other nodes stand on networks that
/// work or do not.
const PEER_TIMEOUT: Duration = Duration::from_secs(5);

/// Time before the next accept after one failed for want of something (descriptors, memory).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Handshakes under way at once. Who comes when there are as many waits in the listener's queue, for the
/// time of a handshake at the most.
const HANDSHAKES_MAX: usize = 1_024;

/// The connections of a listener, each as soon as it can be spoken on. Those that do not get that far
/// are counted, and otherwise nobody's business.
///
/// Once it is `closing` the listener is let go, and nobody comes any more; it does not end, as the server
/// would take that for the wish to stop.
pub(super) fn incoming(
    listener: TcpListener,
    tls: Option<GrpcTls>,
    door: Door,
    first_word_timeout: Duration,
    closing: CancellationToken,
    cut: CancellationToken,
) -> impl Stream<Item = io::Result<Cuttable>> {
    let listener = TcpIncoming::from(listener).with_nodelay(Some(true));
    let accepted = stream::unfold((listener, door), move |(mut listener, door)| {
        let closing = closing.clone();
        async move {
            let Some(accepted) = closing.run_until_cancelled(accept(&mut listener, &door)).await else {
                drop(listener);
                return pending().await;
            };
            Some((accepted?, (listener, door)))
        }
    });
    let tls = tls.map(Arc::new);
    let begun = accepted.map(move |accepted| begin(accepted, tls.clone(), first_word_timeout, cut.clone()));
    begun.buffer_unordered(HANDSHAKES_MAX).filter_map(std::future::ready)
}

/// The next connection that may stay; `None` once there are no more.
async fn accept(listener: &mut TcpIncoming, door: &Door) -> Option<io::Result<(TcpStream, Held)>> {
    loop {
        let place = door.opens().await;
        match listener.next().await? {
            Ok(socket) => {
                let Some(held) = socket.peer_addr().ok().and_then(|from| door.admit(from, place)) else {
                    continue;
                };
                if let Err(error) = liveness::watch(&SockRef::from(&socket), PEER_TIMEOUT) {
                    tracing::debug!(%error, "a gRPC connection was gone before it was served");
                }
                return Some(Ok((socket, held)));
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a gRPC connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                return Some(Err(error));
            }
        }
    }
}

async fn begin(
    accepted: io::Result<(TcpStream, Held)>,
    tls: Option<Arc<GrpcTls>>,
    first_word_timeout: Duration,
    cut: CancellationToken,
) -> Option<io::Result<Cuttable>> {
    let (socket, held) = match accepted {
        Ok(accepted) => accepted,
        Err(error) => return Some(Err(error)),
    };
    let address = socket.peer_addr().ok();
    let Some(tls) = tls else {
        let caller = RemoteEnd { address, ..RemoteEnd::default() };
        return Some(Ok(Cuttable::new(Wire::Plain(socket), caller, held, first_word_timeout, cut)));
    };
    match handshake::accept(&tls.server, "grpc", socket).await {
        Ok(accepted) => {
            let of_cluster =
                tls.cluster.as_ref().is_some_and(|cluster| cluster.vouches_for(&accepted.stream));
            let caller = RemoteEnd { address, identity: accepted.identity.map(Arc::new), of_cluster };
            let wire = Wire::Tls(accepted.stream);
            Some(Ok(Cuttable::new(wire, caller, held, first_word_timeout, cut)))
        }
        Err(error) => {
            tracing::debug!(%error, "a gRPC connection is not served");
            None
        }
    }
}
