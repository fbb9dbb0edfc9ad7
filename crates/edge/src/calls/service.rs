//! `evergate.edge.v1.Edge`: the calls that other edges pass on.

use evergate_proto::edge::v1 as proto;
use proto::edge_server::{self, EdgeServer};
use tonic::{Request, Response, Status};

use crate::calls::{Call, CallError, Owner};
use crate::remote_end::RemoteEnd;

/// A connection's name, a cursor or a token, and room to say which of them is too long.
const MESSAGE_BYTES_MAX: usize = 16 << 10;

/// The service. It has an owner only, so what it is asked goes no further.
pub(crate) struct Service {
    owner: Owner,
    of_cluster_only: bool,
}

impl Service {
    /// The service, ready to be served: to everybody, or only to whom the cluster's authority vouches for.
    pub(crate) fn server(owner: Owner, of_cluster_only: bool) -> EdgeServer<Self> {
        EdgeServer::new(Self { owner, of_cluster_only }).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Refuses whoever may not ask.
    fn admit<T>(&self, request: Request<T>) -> Result<T, Status> {
        let of_cluster = request.extensions().get::<RemoteEnd>().is_some_and(|end| end.of_cluster);
        if self.of_cluster_only && !of_cluster {
            // Not PERMISSION_DENIED, which is what a client is told about its own token.
            return Err(Status::failed_precondition("only nodes of the cluster may ask this"));
        }
        Ok(request.into_inner())
    }

    async fn take<T>(&self, request: Request<T>, call: impl FnOnce(T) -> Call) -> Result<(), Status> {
        let call = call(self.admit(request)?);
        self.owner.take(&call).await.map_err(CallError::into_status)
    }
}

#[tonic::async_trait]
impl edge_server::Edge for Service {
    async fn ping(
        &self,
        request: Request<proto::PingRequest>,
    ) -> Result<Response<proto::PingResponse>, Status> {
        self.take(request, Call::Ping).await?;
        Ok(Response::new(proto::PingResponse {}))
    }

    async fn acknowledge(
        &self,
        request: Request<proto::AcknowledgeRequest>,
    ) -> Result<Response<proto::AcknowledgeResponse>, Status> {
        self.take(request, Call::Acknowledge).await?;
        Ok(Response::new(proto::AcknowledgeResponse {}))
    }

    async fn renew(
        &self,
        request: Request<proto::RenewRequest>,
    ) -> Result<Response<proto::RenewResponse>, Status> {
        self.take(request, Call::Renew).await?;
        Ok(Response::new(proto::RenewResponse {}))
    }

    async fn redeem(
        &self,
        request: Request<proto::RedeemRequest>,
    ) -> Result<Response<proto::RedeemResponse>, Status> {
        let request = self.admit(request)?;
        let claims = self.owner.redeem(&request.ticket).map_err(CallError::into_status)?;
        Ok(Response::new(proto::RedeemResponse { claims }))
    }

    async fn revocations(
        &self,
        request: Request<proto::RevocationsRequest>,
    ) -> Result<Response<proto::RevocationsResponse>, Status> {
        let proto::RevocationsRequest { incarnation, version } = self.admit(request)?;
        let ((incarnation, version), revocations) = self.owner.revocations((incarnation, version));
        let revocations = revocations.into_iter().map(|revocation| proto::Revocation {
            digest: revocation.digest.into(),
            until: revocation.until,
        });
        Ok(Response::new(proto::RevocationsResponse {
            incarnation,
            version,
            revocations: revocations.collect(),
        }))
    }
}
