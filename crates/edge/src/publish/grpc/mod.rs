//! `evergate.publish.v1.Publisher`, with health and reflection beside it.

mod call;
mod cut;
mod door;
mod incoming;
mod lanes;
mod server;
mod wire;

#[cfg(test)]
mod tests;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use evergate_domain::TraceParent;
use evergate_eventlog::Placed;
use evergate_proto::publish::v1 as proto;
use proto::publisher_server;
use tokio_util::sync::CancellationToken;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::publisher::Refusal;
use super::{Naming, Publisher, Sender, Submission, Transport};
use crate::access::{Asked, Caller, Denied, Gate};
use crate::config::Proxies;
use crate::http::Peer;
use crate::remote_end::RemoteEnd;

pub(crate) use server::{Place, serve_grpc};
#[cfg(feature = "fuzzing")]
pub(super) use wire::batch;

/// The service: a thin shell around the [`Publisher`].
struct Service {
    publisher: Publisher,
    proxies: Arc<Proxies>,
    /// Who is let in; `None` for everybody.
    gate: Option<Arc<Gate>>,
    /// Ends the calls that would go on for ever.
    stopping: CancellationToken,
}

impl Service {
    async fn publish_all(
        &self,
        sender: &Sender,
        submission: Submission,
        naming: Naming<'_>,
    ) -> Result<Vec<Placed>, Status> {
        let arrived = Instant::now();
        let events = submission.events.len();
        let result = match self.publisher.charge(sender, events) {
            Ok(charged) => {
                self.publisher.publish(sender, submission, charged).await.map(|(placed, _)| placed)
            }
            Err(too_fast) => Err(too_fast),
        };
        let counted = match &result {
            Ok(placed) => Ok(placed.as_slice()),
            Err(error) => Err(Refusal { events, word: error.word() }),
        };
        self.publisher.count(Transport::Grpc, arrived, counted);
        result.map_err(|error| error.into_status(naming))
    }

    /// Who calls: what its metadata says, and what its connection proved.
    async fn sender<T>(&self, request: &Request<T>) -> Result<Sender, Status> {
        let RemoteEnd { address, identity, .. } =
            request.extensions().get::<RemoteEnd>().cloned().unwrap_or_default();
        let unknown = || SocketAddr::from(([0, 0, 0, 0], 0));
        let peer = Peer::from(address.unwrap_or_else(unknown));
        let headers = request.metadata().as_ref();
        let caller = match &self.gate {
            Some(gate) => gate.identify(&Asked { headers, query: None, cookies: false }).await,
            None => Ok(Caller::anybody()),
        };
        let caller = caller.map_err(Denied::into_status)?;
        Ok(Sender { from: self.proxies.client(peer, headers), caller, identity })
    }
}

#[tonic::async_trait]
impl publisher_server::Publisher for Service {
    async fn publish(
        &self,
        request: Request<proto::PublishRequest>,
    ) -> Result<Response<proto::PublishResponse>, Status> {
        let (sender, trace) = (self.sender(&request).await?, trace(request.metadata()));
        let proto::PublishRequest { stream, event, level } = request.into_inner();
        let submission = wire::single(&stream, event, level, trace.as_ref());
        let placed = self.publish_all(&sender, submission, Naming::Event).await?;
        let placed = placed.first().copied().expect("one event, one answer");
        Ok(Response::new(wire::published(placed)))
    }

    async fn publish_batch(
        &self,
        request: Request<proto::PublishBatchRequest>,
    ) -> Result<Response<proto::PublishBatchResponse>, Status> {
        let (sender, trace) = (self.sender(&request).await?, trace(request.metadata()));
        let proto::PublishBatchRequest { stream, events, level } = request.into_inner();
        let submission = wire::batch(&stream, events, level, trace.as_ref());
        let placed = self.publish_all(&sender, submission, Naming::Events).await?;
        let results = placed.into_iter().map(wire::published).collect();
        Ok(Response::new(proto::PublishBatchResponse { results }))
    }

    type PublishStreamStream = call::Answers;

    async fn publish_stream(
        &self,
        request: Request<Streaming<proto::PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        let (sender, trace) = (self.sender(&request).await?, trace(request.metadata()));
        let requests = request.into_inner();
        let answers = call::open(self.publisher.clone(), sender, requests, trace, self.stopping.clone());
        Ok(Response::new(answers))
    }
}

/// The call's own trace.
fn trace(metadata: &MetadataMap) -> Option<TraceParent> {
    TraceParent::parse(metadata.get("traceparent")?.to_str().ok()?)
}
