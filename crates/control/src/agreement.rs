//! What the services need of the group, and no more: so they can be tested without one.

use std::fmt;
use std::future::Future;

use evergate_domain::UnixMillis;
use evergate_domain::cluster::{Command, Proposal};
use evergate_member::encode_proposal;
use evergate_proto::control::v1 as proto;
use prost::Message as _;
use tokio::sync::watch;

use crate::agreed::Agreed;
use crate::group::{ChangeError, Handle, ProposeError, Role, Status};
use crate::raft::types::NodeId;

/// Who leads, as far as a node knows.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Leadership {
    /// Rises with every leader.
    pub term: u64,
    /// Whether it is this node.
    pub is_here: bool,
    /// `HOST:PORT` of whoever it is; `None` if nobody is known.
    pub address: Option<String>,
}

/// The group, as the services see it. Cheap to clone.
pub trait Agreement: Clone + Send + Sync + 'static {
    /// Has a command agreed on, whoever leads.
    fn propose(&self, command: Vec<u8>) -> impl Future<Output = Result<Vec<u8>, ProposeError>> + Send;

    /// Looks at what is agreed on, as far as it is known here. The look has to be short.
    fn look<T>(&self, look: impl FnOnce(&Agreed) -> T) -> T;

    /// Changes with every command that was taken here.
    fn applied(&self) -> watch::Receiver<u64>;

    /// Who leads.
    fn leadership(&self) -> Leadership;

    /// How the group looks from here.
    fn status(&self) -> Status;

    /// Whether every member reads commands of this format.
    fn all_read(&self, format: u32) -> impl Future<Output = Result<(), ChangeError>> + Send;

    /// Has the members changed, whoever leads.
    fn change(&self, change: MemberChange) -> impl Future<Output = Result<(), ChangeError>> + Send;
}

/// A change of the control nodes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MemberChange {
    /// A node that is up, with an empty folder, is to follow, without a vote.
    Add {
        /// Never used before.
        id: NodeId,
        /// `HOST:PORT`.
        address: String,
    },
    /// A node that follows is to vote.
    Promote(NodeId),
    /// A voter is to follow only.
    Demote(NodeId),
    /// A node is to be no part any more.
    Remove(NodeId),
}

impl fmt::Display for MemberChange {
    /// One line of the audit trail.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Add { id, address } => write!(f, "add control node {id} at {address}"),
            Self::Promote(id) => write!(f, "give control node {id} a vote"),
            Self::Demote(id) => write!(f, "take the vote from control node {id}"),
            Self::Remove(id) => write!(f, "remove control node {id}"),
        }
    }
}

impl Agreement for Handle<Agreed> {
    async fn propose(&self, command: Vec<u8>) -> Result<Vec<u8>, ProposeError> {
        Handle::propose(self, command).await.map(|answer| answer.bytes)
    }

    fn look<T>(&self, look: impl FnOnce(&Agreed) -> T) -> T {
        Handle::look(self, |machine, _| look(machine))
    }

    fn applied(&self) -> watch::Receiver<u64> {
        Handle::applied(self)
    }

    fn leadership(&self) -> Leadership {
        let status = self.status();
        if self.is_cut_off() {
            // Whoever asks here has to ask elsewhere: whom this node hears of, the others do not.
            return Leadership { term: status.term, is_here: false, address: None };
        }
        let leader = status.members.iter().find(|member| Some(member.id) == status.leader);
        Leadership {
            term: status.term,
            is_here: status.role == Role::Leader,
            address: leader.map(|member| member.member.address.clone()),
        }
    }

    fn status(&self) -> Status {
        Handle::status(self)
    }

    async fn all_read(&self, format: u32) -> Result<(), ChangeError> {
        Handle::all_read(self, format).await
    }

    async fn change(&self, change: MemberChange) -> Result<(), ChangeError> {
        match change {
            MemberChange::Add { id, address } => self.add(id, &address).await,
            MemberChange::Promote(id) => self.promote(id).await,
            MemberChange::Demote(id) => self.demote(id).await,
            MemberChange::Remove(id) => self.remove(id).await,
        }
    }
}

/// Has a command agreed on in somebody's name, and reads the answer. What is refused is an answer too.
pub(crate) async fn agree(
    group: &impl Agreement,
    by: &str,
    command: Command,
) -> Result<proto::Answer, tonic::Status> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let at = UnixMillis::new(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    let proposal = Proposal { by: by.to_owned(), at, command };
    let proposed = group.propose(encode_proposal(&proposal).encode_to_vec()).await;
    let answer = proposed
        .inspect_err(|error| count(if error.is_certain() { "failed" } else { "unknown" }))
        .map_err(|error| match error {
        ProposeError::TooLarge { .. } => tonic::Status::invalid_argument(error.to_string()),
        ProposeError::Busy => tonic::Status::resource_exhausted(error.to_string()),
        ProposeError::NoLeader { .. } | ProposeError::NoQuorum { .. } | ProposeError::Stopped { .. } => {
            tonic::Status::unavailable(error.to_string())
        }
        ProposeError::Unknown { .. } => tonic::Status::unknown(error.to_string()),
    })?;
    let answer =
        proto::Answer::decode(&*answer).map_err(|error| tonic::Status::internal(error.to_string()))?;
    count(if answer.refusal.is_some() { "refused" } else { "done" });
    Ok(answer)
}

fn count(outcome: &'static str) {
    metrics::counter!("evergate_control_commands_total", "outcome" => outcome).increment(1);
}
