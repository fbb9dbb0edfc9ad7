//! `evergate.edge.v1.Edge`: the calls that other edges pass on.

use evergate_proto::edge::v1 as proto;
use proto::edge_server::{self, EdgeServer};
use tonic::{Request, Response, Status};

use crate::calls::{Call, CallError, Owner};

/// A connection's name, a cursor, and room to say which of them is too long.
const MESSAGE_BYTES_MAX: usize = 16 << 10;

/// The service. It has an owner only, so what it is asked goes no further.
pub(crate) struct Service(Owner);

impl Service {
    /// The service, ready to be served.
    pub(crate) fn server(owner: Owner) -> EdgeServer<Self> {
        EdgeServer::new(Self(owner)).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }
}

#[tonic::async_trait]
impl edge_server::Edge for Service {
    async fn ping(
        &self,
        request: Request<proto::PingRequest>,
    ) -> Result<Response<proto::PingResponse>, Status> {
        self.0.take(&Call::Ping(request.into_inner())).map_err(CallError::into_status)?;
        Ok(Response::new(proto::PingResponse {}))
    }

    async fn acknowledge(
        &self,
        request: Request<proto::AcknowledgeRequest>,
    ) -> Result<Response<proto::AcknowledgeResponse>, Status> {
        self.0.take(&Call::Acknowledge(request.into_inner())).map_err(CallError::into_status)?;
        Ok(Response::new(proto::AcknowledgeResponse {}))
    }
}
