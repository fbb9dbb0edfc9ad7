//! What the services need of the group, and no more: so they can be tested without one.

use std::future::Future;

use evergate_domain::UnixMillis;
use evergate_domain::cluster::{Command, Proposal};
use evergate_member::encode_proposal;
use evergate_proto::control::v1 as proto;
use prost::Message as _;
use tokio::sync::watch;
use tonic::Status;

use crate::agreed::Agreed;
use crate::group::{Handle, ProposeError, Role};

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
        let leader = status.members.iter().find(|member| Some(member.id) == status.leader);
        Leadership {
            term: status.term,
            is_here: status.role == Role::Leader,
            address: leader.map(|member| member.member.address.clone()),
        }
    }
}

/// Has a command agreed on in somebody's name, and reads the answer. What is refused is an answer too.
pub(crate) async fn agree(
    group: &impl Agreement,
    by: &str,
    command: Command,
) -> Result<proto::Answer, Status> {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let at = UnixMillis::new(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
    let proposal = Proposal { by: by.to_owned(), at, command };
    let answer =
        group.propose(encode_proposal(&proposal).encode_to_vec()).await.map_err(|error| match error {
            ProposeError::TooLarge { .. } => Status::invalid_argument(error.to_string()),
            ProposeError::Busy => Status::resource_exhausted(error.to_string()),
            ProposeError::NoLeader { .. } | ProposeError::NoQuorum { .. } | ProposeError::Stopped { .. } => {
                Status::unavailable(error.to_string())
            }
            ProposeError::Unknown { .. } => Status::unknown(error.to_string()),
        })?;
    proto::Answer::decode(&*answer).map_err(|error| Status::internal(error.to_string()))
}
