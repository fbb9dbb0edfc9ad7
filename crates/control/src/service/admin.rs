//! `evergate.control.v1.Admin`: what operators look at, and ask for.

use std::fmt;

use evergate_domain::cluster::{Command, Rings};
use evergate_member::{decode_command, encode_audit, encode_view};
use evergate_proto::control::v1 as proto;
use proto::admin_server::AdminServer;
use sha2::{Digest as _, Sha256};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::agreement::{Agreement, agree};

/// What operators prove themselves by: `authorization: Bearer …`.
#[derive(Clone)]
pub struct AdminToken([u8; 32]);

/// Who an operator says to be, for the audit trail.
const OPERATOR: &str = "evergate-operator";

/// A command with room to say what is wrong with it.
const MESSAGE_BYTES_MAX: usize = 64 << 10;

impl AdminToken {
    /// Keeps a digest of it, so that it takes as long to compare whatever is given.
    #[must_use]
    pub fn new(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    fn is(&self, given: &str) -> bool {
        let given: [u8; 32] = Sha256::digest(given.as_bytes()).into();
        given == self.0
    }
}

impl fmt::Debug for AdminToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AdminToken")
    }
}

/// The service of one control node.
pub(super) struct AdminService<A> {
    cluster: String,
    node: String,
    group: A,
    token: Option<AdminToken>,
}

impl<A: Agreement> AdminService<A> {
    pub(super) fn new(cluster: String, node: String, group: A, token: Option<AdminToken>) -> Self {
        Self { cluster, node, group, token }
    }

    pub(super) fn server(self) -> AdminServer<Self> {
        AdminServer::new(self).max_decoding_message_size(MESSAGE_BYTES_MAX)
    }

    /// Who asks. Without a token whoever reaches the listener may; with TLS between nodes that is whoever
    /// has a certificate of the cluster's.
    fn operator(&self, metadata: &MetadataMap) -> Result<String, Status> {
        let given = metadata.get("authorization").and_then(|value| value.to_str().ok());
        let given = given.and_then(|value| value.strip_prefix("Bearer "));
        match (&self.token, given) {
            (None, _) => {}
            (Some(token), Some(given)) if token.is(given) => {}
            (Some(_), Some(_)) => return Err(Status::unauthenticated("the token is another one")),
            (Some(_), None) => {
                return Err(Status::unauthenticated("a token is needed: authorization: Bearer …"));
            }
        }
        let named = metadata.get(OPERATOR).and_then(|value| value.to_str().ok()).unwrap_or("somebody");
        let named: String = named.chars().filter(|c| !c.is_control()).take(64).collect();
        Ok(format!("operator {named}"))
    }
}

#[tonic::async_trait]
impl<A: Agreement> proto::admin_server::Admin for AdminService<A> {
    async fn status(
        &self,
        request: Request<proto::StatusRequest>,
    ) -> Result<Response<proto::StatusResponse>, Status> {
        self.operator(request.metadata())?;
        let view = self.group.look(|machine| machine.state().view().clone());
        Ok(Response::new(proto::StatusResponse {
            cluster: self.cluster.clone(),
            node: self.node.clone(),
            leader: self.group.leadership().address.unwrap_or_default(),
            version: view.version(),
            ring_version: view.ring_version(),
            digest: view.digest().get(),
            ring_digest: Rings::of(&view).digest().get(),
            format: view.format(),
        }))
    }

    async fn get_view(
        &self,
        request: Request<proto::GetViewRequest>,
    ) -> Result<Response<proto::View>, Status> {
        self.operator(request.metadata())?;
        let view = self.group.look(|machine| machine.state().view().clone());
        Ok(Response::new(encode_view(&view)))
    }

    async fn execute(
        &self,
        request: Request<proto::ExecuteRequest>,
    ) -> Result<Response<proto::Answer>, Status> {
        let by = self.operator(request.metadata())?;
        let command = request.into_inner().command;
        let command = command.ok_or_else(|| Status::invalid_argument("there is no command"))?;
        let command =
            decode_command(&command).map_err(|error| Status::invalid_argument(error.to_string()))?;
        match &command {
            Command::Join(_)
            | Command::Lost { .. }
            | Command::Back { .. }
            | Command::Ending { .. }
            | Command::Leave { .. }
            | Command::Drained { .. } => {
                return Err(Status::invalid_argument(format!("{command}: that is said over leases only")));
            }
            Command::Forget(_)
            | Command::Drain { .. }
            | Command::Undrain(_)
            | Command::SetRegion(_)
            | Command::RemoveRegion(_)
            | Command::SetPolicy(..)
            | Command::RemovePolicy(_)
            | Command::SetBreaker(..)
            | Command::RemoveBreaker(_)
            | Command::SetLimit(..)
            | Command::RemoveLimit(_)
            | Command::SetSettings(_)
            | Command::SetCanary(_)
            | Command::RaiseFormat(_)
            | Command::BeginEpoch { .. }
            | Command::EndEpoch { .. } => {}
        }
        agree(&self.group, &by, command).await.map(Response::new)
    }

    async fn audit(
        &self,
        request: Request<proto::AuditRequest>,
    ) -> Result<Response<proto::AuditResponse>, Status> {
        self.operator(request.metadata())?;
        let max = match request.into_inner().max {
            0 => usize::MAX,
            max => max as usize,
        };
        let entries = self
            .group
            .look(|machine| machine.state().audit().entries().rev().take(max).map(encode_audit).collect());
        Ok(Response::new(proto::AuditResponse { entries }))
    }
}
