//! `evergate.control.v1.Admin`: what operators look at, and ask for.

use std::fmt;
use std::time::Duration;

use evergate_domain::cluster::{Command, LimitName, NodeAddress, NodeAddressError, Rings};
use evergate_member::{decode_command, encode_audit, encode_view};
use evergate_proto::control::v1 as proto;
use prost::Message as _;
use proto::admin_server::AdminServer;
use sha2::{Digest as _, Sha256};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};

use crate::agreement::{Agreement, MemberChange, agree};
use crate::group::ChangeError;

/// What operators prove themselves by: `authorization: Bearer …`.
#[derive(Clone)]
pub struct AdminToken([u8; 32]);

/// Who an operator says to be, for the audit trail.
const OPERATOR: &str = "evergate-operator";

/// A heartbeat or two, by which a node learns that what it has is agreed on.
const REACHED_MAX: Duration = Duration::from_secs(2);

/// What an operator's command may have, with room to say what is wrong with it.
const COMMAND_BYTES_MAX: usize = 64 << 10;

/// What is read of a message: more than any command, so that one that is too large is refused in our own words.
const MESSAGE_BYTES_MAX: usize = 1 << 20;

impl AdminToken {
    /// Keeps a digest of it, so that it takes as long to compare whatever is given.
    #[must_use]
    pub fn new(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Whether it is this.
    #[must_use]
    pub fn is(&self, given: &str) -> bool {
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

    /// Waits, and not for long, until what was agreed on has come here, too: who asked for it may look next.
    async fn reached(&self, version: u64) {
        let mut applied = self.group.applied();
        let here = async {
            while self.group.look(|machine| machine.state().view().version()) < version {
                if applied.changed().await.is_err() {
                    return;
                }
            }
        };
        let _ = tokio::time::timeout(REACHED_MAX, here).await;
    }

    /// Has it remembered who changed the control nodes, where everybody understands that. What was done is done, whether
    /// or not it can be.
    async fn note(&self, by: &str, what: String) {
        if self.group.look(|machine| machine.state().view().format()) < 2 {
            return;
        }
        let refusal = match agree(&self.group, by, Command::Note(what.clone())).await {
            Ok(answer) => {
                self.reached(answer.version).await;
                answer.refusal.map(|refusal| refusal.message)
            }
            Err(status) => Some(status.message().to_owned()),
        };
        if let Some(why) = refusal {
            tracing::warn!(by, what, why, "what was done is not in the audit trail");
        }
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

fn refused(error: &ChangeError) -> Status {
    match error {
        ChangeError::Refused(_) => Status::failed_precondition(error.to_string()),
        ChangeError::NoLeader(_) => Status::unavailable(error.to_string()),
        ChangeError::Unknown(_) => Status::unknown(error.to_string()),
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
        let bytes = command.encoded_len();
        if bytes > COMMAND_BYTES_MAX {
            return Err(Status::invalid_argument(format!(
                "the command has {bytes} bytes, and {COMMAND_BYTES_MAX} are allowed"
            )));
        }
        let command =
            decode_command(&command).map_err(|error| Status::invalid_argument(error.to_string()))?;
        match &command {
            Command::Join(_)
            | Command::Lost { .. }
            | Command::Back { .. }
            | Command::Ending { .. }
            | Command::Leave { .. }
            | Command::Drained { .. }
            | Command::Rebalanced { .. } => {
                return Err(Status::invalid_argument(format!("{command}: that is said over leases only")));
            }
            Command::Note(_) => {
                return Err(Status::invalid_argument("a note is made by what it is about"));
            }
            Command::SetLimit(name, _) => {
                // Not judged with the command: a later version of the others may know it, and all have to judge alike.
                name.parse::<LimitName>().map_err(|error| Status::invalid_argument(error.to_string()))?;
            }
            Command::RaiseFormat(format) => {
                self.group.all_read(*format).await.map_err(|error| refused(&error))?;
            }
            Command::Forget(_)
            | Command::Drain { .. }
            | Command::Undrain(_)
            | Command::Rebalance(_)
            | Command::CancelRebalance(_)
            | Command::SetRegion(_)
            | Command::RemoveRegion(_)
            | Command::SetPolicy(..)
            | Command::RemovePolicy(_)
            | Command::SetBreaker(..)
            | Command::RemoveBreaker(_)
            | Command::RemoveLimit(_)
            | Command::SetSettings(_)
            | Command::SetCanary(_)
            | Command::BeginEpoch { .. }
            | Command::EndEpoch { .. } => {}
        }
        let answer = agree(&self.group, &by, command).await?;
        self.reached(answer.version).await;
        Ok(Response::new(answer))
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

    async fn members(
        &self,
        request: Request<proto::MembersRequest>,
    ) -> Result<Response<proto::MembersResponse>, Status> {
        self.operator(request.metadata())?;
        let status = self.group.status();
        let members = status.members.into_iter().map(|member| proto::ControlMember {
            id: member.id,
            address: member.member.address,
            voter: member.voter,
            matched: member.matched,
        });
        Ok(Response::new(proto::MembersResponse {
            asked: status.id,
            leader: status.leader.unwrap_or_default(),
            term: status.term,
            last: status.last,
            applied: status.applied,
            snapshot: status.snapshot,
            members: members.collect(),
            stopped: status.stopped.unwrap_or_default(),
        }))
    }

    async fn change_member(
        &self,
        request: Request<proto::ChangeMemberRequest>,
    ) -> Result<Response<proto::ChangeMemberResponse>, Status> {
        use proto::change_member_request::Change;

        let by = self.operator(request.metadata())?;
        let change = request.into_inner().change;
        let change = match change.ok_or_else(|| Status::invalid_argument("there is no change"))? {
            Change::Add(newcomer) => {
                let address: NodeAddress = newcomer
                    .address
                    .parse()
                    .map_err(|error: NodeAddressError| Status::invalid_argument(error.to_string()))?;
                MemberChange::Add { id: newcomer.id, address: address.to_string() }
            }
            Change::Promote(id) => MemberChange::Promote(id),
            Change::Demote(id) => MemberChange::Demote(id),
            Change::Remove(id) => MemberChange::Remove(id),
        };
        tracing::info!(by, ?change, "the control nodes are to be changed");
        let what = change.to_string();
        self.group.change(change).await.map_err(|error| refused(&error))?;
        self.note(&by, what).await;
        Ok(Response::new(proto::ChangeMemberResponse {}))
    }
}
