//! `evergate.publish.v1.Publisher`, with health and reflection beside it.

mod call;
mod cut;
mod lanes;
mod server;
mod wire;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use evergate_domain::{ClientAddress, TraceParent};
use evergate_eventlog::Placed;
use evergate_proto::publish::v1 as proto;
use proto::publisher_server;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::publisher::Refusal;
use super::{Naming, Publisher, Submission, Transport};
use crate::config::Proxies;
use crate::http::Peer;

pub(crate) use server::serve_grpc;

/// The service: a thin shell around the [`Publisher`].
struct Service {
    publisher: Publisher,
    proxies: Arc<Proxies>,
    /// Ends the calls that would go on for ever.
    stopping: CancellationToken,
}

impl Service {
    async fn publish_all(
        &self,
        from: ClientAddress,
        submission: Submission,
        naming: Naming<'_>,
    ) -> Result<Vec<Placed>, Status> {
        let arrived = Instant::now();
        let events = submission.events.len();
        let result = match self.publisher.charge(from, events) {
            Ok(_) => self.publisher.publish(submission).await,
            Err(too_fast) => Err(too_fast),
        };
        let counted = match &result {
            Ok(placed) => Ok(placed.as_slice()),
            Err(error) => Err(Refusal { events, word: error.word() }),
        };
        self.publisher.count(Transport::Grpc, arrived, counted);
        result.map_err(|error| error.into_status(naming))
    }

    fn client<T>(&self, request: &Request<T>) -> ClientAddress {
        let unknown = || SocketAddr::from(([0, 0, 0, 0], 0));
        let peer = Peer::from(request.remote_addr().unwrap_or_else(unknown));
        self.proxies.client(peer, request.metadata().as_ref())
    }
}

#[tonic::async_trait]
impl publisher_server::Publisher for Service {
    async fn publish(
        &self,
        request: Request<proto::PublishRequest>,
    ) -> Result<Response<proto::PublishResponse>, Status> {
        let (from, trace) = (self.client(&request), trace(request.metadata()));
        let proto::PublishRequest { stream, event, level } = request.into_inner();
        let submission = wire::single(&stream, event, level, trace.as_ref());
        let placed = self.publish_all(from, submission, Naming::Event).await?;
        let placed = placed.first().copied().expect("one event, one answer");
        Ok(Response::new(wire::published(placed)))
    }

    async fn publish_batch(
        &self,
        request: Request<proto::PublishBatchRequest>,
    ) -> Result<Response<proto::PublishBatchResponse>, Status> {
        let (from, trace) = (self.client(&request), trace(request.metadata()));
        let proto::PublishBatchRequest { stream, events, level } = request.into_inner();
        let submission = wire::batch(&stream, events, level, trace.as_ref());
        let placed = self.publish_all(from, submission, Naming::Events).await?;
        let results = placed.into_iter().map(wire::published).collect();
        Ok(Response::new(proto::PublishBatchResponse { results }))
    }

    type PublishStreamStream = call::Answers;

    async fn publish_stream(
        &self,
        request: Request<Streaming<proto::PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let (from, trace) = (self.client(&request), trace(request.metadata()));
        let requests = request.into_inner();
        let answers = call::open(self.publisher.clone(), from, requests, trace, self.stopping.clone());
        Ok(Response::new(answers))
    }
}

/// The call's own trace.
fn trace(metadata: &MetadataMap) -> Option<TraceParent> {
    TraceParent::parse(metadata.get("traceparent")?.to_str().ok()?)
}
