//! The gRPC server: what it offers, what it bounds, and how it stops.

use std::future::{Future, pending};
use std::sync::Arc;
use std::time::Duration;

use evergate_proto::publish::v1::publisher_server::PublisherServer;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::server::NamedService as _;
use tonic::service::Routes;
use tonic::transport::Server;
use tonic_health::ServingStatus;
use tonic_health::server::HealthReporter;

use super::Service;
use super::door::Door;
use super::incoming::incoming;
use crate::access::Gate;
use crate::config::{GrpcLimits, GrpcTls, Proxies, PublishLimits};
use crate::publish::Publisher;

/// From the wish to stop until the connections that are still open are cut.
const GRACE: Duration = Duration::from_secs(5);

/// From when nobody is let in any more until connections are told to end. Whoever came last has so long for its
/// first call: a client that is told to end before it has asked loses that call, which some do not repeat.
const FIRST_CALL: Duration = Duration::from_millis(500);

/// A connection that does not answer a PING, sent this often, within `PING_TIMEOUT` is dead.
const PING_INTERVAL: Duration = Duration::from_secs(15);
const PING_TIMEOUT: Duration = Duration::from_secs(5);

/// What a call, and a connection, may have sent that was not read yet. The connection's is many
/// times the call's, for two reasons: a `PublishStream` which waits for the log must not hold up the
/// other calls of its connection; and h2 ends a connection that has half its window waiting in small
/// frames, which is just what a publisher looks like that is held back.
const CALL_WINDOW_BYTES: u32 = 128 * 1024;
const CONNECTION_WINDOW_BYTES: u32 = 16 * 1024 * 1024;

/// Calls that one connection may have open.
const CALLS_MAX: u32 = 256;

/// The name under which the health service answers for the publisher.
const PUBLISHER: &str = PublisherServer::<Service>::NAME;

/// The overall health goes by the empty name.
const SERVER: &str = "";

/// Where gRPC is served.
pub(crate) struct Place {
    pub(crate) listener: TcpListener,
    /// By what it is secured, if it is.
    pub(crate) tls: Option<GrpcTls>,
    /// Bounds on the connections.
    pub(crate) limits: GrpcLimits,
}

/// Serves gRPC until `shutdown`, then until every connection has ended, which takes 5.5 s at the most.
///
/// On shutdown health turns to NOT_SERVING, no connection is accepted any more, half a second later calls under
/// way finish, and a `PublishStream` answers what it has read and ends with UNAVAILABLE. When this
/// returns, or is dropped, no connection is left. `besides` is what else is served there.
pub(crate) async fn serve_grpc(
    place: Place,
    publisher: Publisher,
    proxies: Arc<Proxies>,
    gate: Option<Arc<Gate>>,
    besides: Routes,
    shutdown: impl Future<Output = ()>,
) -> Result<(), tonic::transport::Error> {
    serve(place, publisher, proxies, gate, besides, shutdown, GRACE).await
}

/// The same with a grace of the caller's choice.
pub(super) async fn serve(
    place: Place,
    publisher: Publisher,
    proxies: Arc<Proxies>,
    gate: Option<Arc<Gate>>,
    besides: Routes,
    shutdown: impl Future<Output = ()>,
    grace: Duration,
) -> Result<(), tonic::transport::Error> {
    let stopping = CancellationToken::new();
    let cut = CancellationToken::new();
    let _cut_when_dropped = cut.clone().drop_guard();
    let first_word_timeout = place.limits.first_word_timeout;
    let door = Door::new(place.limits, Arc::clone(&proxies));
    let (routes, mut health) = grpc_routes(publisher, proxies, gate, besides, stopping.clone()).await;

    let closing = CancellationToken::new();
    let incoming =
        incoming(place.listener, place.tls, door, first_word_timeout, closing.clone(), cut.clone());
    let serving = Server::builder()
        .http2_keepalive_interval(Some(PING_INTERVAL))
        .http2_keepalive_timeout(Some(PING_TIMEOUT))
        .initial_stream_window_size(CALL_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_concurrent_streams(CALLS_MAX)
        .add_routes(routes)
        .serve_with_incoming_shutdown(incoming, stopping.cancelled());
    let stop = async {
        shutdown.await;
        closing.cancel();
        not_serving(&mut health).await;
        tokio::time::sleep(FIRST_CALL).await;
        stopping.cancel();
        tokio::time::sleep(grace).await;
        tracing::info!("cutting the gRPC connections that are still open");
        cut.cancel();
        pending::<()>().await;
    };
    tokio::select! {
        served = serving => served,
        () = stop => unreachable!("it never ends"),
    }
}

/// All that is served: the publisher, health and reflection, and what there is besides.
async fn grpc_routes(
    publisher: Publisher,
    proxies: Arc<Proxies>,
    gate: Option<Arc<Gate>>,
    besides: Routes,
    stopping: CancellationToken,
) -> (Routes, HealthReporter) {
    let (health, health_service) = tonic_health::server::health_reporter();
    health.set_service_status(PUBLISHER, ServingStatus::Serving).await;
    let message_bytes_max = message_bytes_max(publisher.limits());
    let publisher = PublisherServer::new(Service { publisher, proxies, gate, stopping })
        .max_decoding_message_size(message_bytes_max);
    let reflection = || {
        tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(evergate_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
    };
    let described = "descriptors made by our own build are well-formed";
    let routes = besides
        .add_service(publisher)
        .add_service(health_service)
        .add_service(reflection().build_v1().expect(described))
        .add_service(reflection().build_v1alpha().expect(described));
    (routes, health)
}

/// The largest message that is read at all. It leaves room for twice what is allowed, so that
/// whoever is moderately over a limit is told which one; beyond it tonic says OUT_OF_RANGE.
fn message_bytes_max(limits: PublishLimits) -> usize {
    /// Producer, trace, framing, names up to their limits.
    const EVENT_OVERHEAD_MAX: usize = 1024;
    let content = limits.batch_bytes_max.max(limits.payload_bytes_max);
    2 * content + EVENT_OVERHEAD_MAX * (limits.batch_events_max + 1)
}

/// Says that nothing is served any more, and ends the calls that watch for such news: they would
/// stay open for ever otherwise.
async fn not_serving(health: &mut HealthReporter) {
    for service in [SERVER, PUBLISHER] {
        health.set_service_status(service, ServingStatus::NotServing).await;
        // Lets go of the watchers, who are told first, and leaves the answer for whoever asks now.
        health.clear_service_status(service).await;
        health.set_service_status(service, ServingStatus::NotServing).await;
    }
}
