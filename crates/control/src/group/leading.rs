//! What only a leader can do. Any node tries; who does not lead says so, and has done nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use evergate_proto::raft::v1::Batch;
use evergate_proto::raft::v1::change_request::Change;
use openraft::error::{CheckIsLeaderError, ClientWriteError, RaftError};
use openraft::{ChangeMembers, RaftMetrics};
use tokio::sync::watch;
use tokio::time::timeout;
use tonic::Status;

use super::settings::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX, COMMAND_BYTES_MAX, Timing};
use crate::network::Links;
use crate::raft::coding;
use crate::raft::types::{Member, NodeId, Raft};

/// How far a node may lie back to be given a vote: a majority may need it at once.
const LAG_MAX: u64 = 100;
/// How long a change of members may take; it needs two entries.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(20);

/// Why it was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum LeadError {
    /// Nothing was done.
    #[error("node {id} does not lead")]
    NotLeading { id: NodeId },
    /// Nothing was done.
    #[error("this node leads, and has not heard from a majority for {silence:?}")]
    NoQuorum { silence: Duration },
    /// Nothing was done.
    #[error("the node has stopped: {0}")]
    Stopped(String),
    /// Nothing was done, because of what was asked.
    #[error("{0}")]
    Refused(String),
    /// Whether it was done is unknown.
    #[error("{0}")]
    Unknown(String),
}

impl From<LeadError> for Status {
    fn from(error: LeadError) -> Self {
        let why = error.to_string();
        match error {
            LeadError::NotLeading { .. }
            | LeadError::NoQuorum { .. }
            | LeadError::Stopped(_)
            | LeadError::Refused(_) => Self::failed_precondition(why),
            LeadError::Unknown(_) => Self::deadline_exceeded(why),
        }
    }
}

/// What a leader does. Clones do it for the same node.
#[derive(Clone)]
pub(crate) struct Leading {
    raft: Raft,
    links: Arc<Links>,
    metrics: watch::Receiver<RaftMetrics<NodeId, Member>>,
    /// A leader that has not heard from a majority for so long takes nothing new.
    silence_max: Duration,
    /// How long a majority may take.
    within: Duration,
    /// The newest format that this node reads.
    format_read: u32,
}

impl Leading {
    pub(crate) fn new(raft: Raft, links: Arc<Links>, timing: &Timing, format_read: u32) -> Self {
        let metrics = raft.metrics();
        let (silence_max, within) = (timing.election_max, timing.propose);
        Self { raft, links, metrics, silence_max, within, format_read }
    }

    /// Whether this node may try. It may still turn out that it leads no more.
    pub(super) fn check(&self) -> Result<(), LeadError> {
        let metrics = self.metrics.borrow();
        if let Err(fatal) = &metrics.running_state {
            return Err(LeadError::Stopped(fatal.to_string()));
        }
        if metrics.current_leader != Some(metrics.id) {
            return Err(LeadError::NotLeading { id: metrics.id });
        }
        match metrics.millis_since_quorum_ack.map(Duration::from_millis) {
            Some(silence) if silence > self.silence_max => Err(LeadError::NoQuorum { silence }),
            Some(_) | None => Ok(()),
        }
    }

    /// Whether a batch, which may come from another node, fits into the log: an entry that cannot be sent,
    /// or that this node cannot read, would hold up the whole group.
    fn takes(&self, batch: &Batch) -> Result<(), LeadError> {
        let bytes: usize = batch.commands.iter().map(Vec::len).sum();
        let alone = batch.commands.len() == 1 && bytes <= COMMAND_BYTES_MAX;
        if batch.commands.len() > BATCH_COMMANDS_MAX || (bytes > BATCH_BYTES_MAX && !alone) {
            let count = batch.commands.len();
            return Err(LeadError::Refused(format!(
                "{count} commands of {bytes} bytes are too many at once"
            )));
        }
        if batch.format > self.format_read {
            let (format, known) = (batch.format, self.format_read);
            return Err(LeadError::Refused(format!(
                "the commands have format {format}, and the leader reads formats up to {known}: bring it up to date"
            )));
        }
        Ok(())
    }

    /// Has the commands agreed on, and answers what the machine said to each, and in which entry they are.
    pub(crate) async fn propose(&self, batch: Batch) -> Result<(Vec<Vec<u8>>, u64), LeadError> {
        self.check()?;
        self.takes(&batch)?;
        match timeout(self.within, self.raft.client_write(batch)).await {
            Ok(Ok(written)) => Ok((written.data, written.log_id.index)),
            // Also said when an entry was cut off the log here, which may still live on elsewhere.
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
                Err(LeadError::Unknown("the leader changed meanwhile".to_owned()))
            }
            Ok(Err(error)) => Err(LeadError::Unknown(error.to_string())),
            Err(_) => {
                let within = self.within;
                Err(LeadError::Unknown(format!("no majority confirmed it within {within:?}")))
            }
        }
    }

    /// Up to which entry a node has to be to read what is the latest now. Asks a majority.
    pub(crate) async fn read_index(&self) -> Result<u64, LeadError> {
        self.check()?;
        match timeout(self.within, self.raft.get_read_log_id()).await {
            Ok(Ok((read, _))) => Ok(read.map_or(0, |log_id| log_id.index)),
            Ok(Err(RaftError::APIError(CheckIsLeaderError::ForwardToLeader(_)))) => {
                Err(LeadError::NotLeading { id: self.metrics.borrow().id })
            }
            Ok(Err(RaftError::APIError(CheckIsLeaderError::QuorumNotEnough(_)))) | Err(_) => {
                let silence = self.metrics.borrow().millis_since_quorum_ack.unwrap_or(0);
                Err(LeadError::NoQuorum { silence: Duration::from_millis(silence) })
            }
            Ok(Err(RaftError::Fatal(fatal))) => Err(LeadError::Stopped(fatal.to_string())),
        }
    }

    /// Changes the members.
    pub(crate) async fn change(&self, change: Change) -> Result<(), LeadError> {
        self.check()?;
        match change {
            Change::Add(member) => {
                let (id, member) = coding::to_member(member);
                match self.stranger(id, member).await? {
                    None => Ok(()),
                    Some(member) => self.commit(ChangeMembers::AddNodes([(id, member)].into()), true).await,
                }
            }
            Change::Promote(id) => {
                self.caught_up(id)?;
                self.commit(ChangeMembers::AddVoterIds([id].into()), true).await
            }
            Change::Demote(id) => {
                self.member(id)?;
                self.commit(ChangeMembers::RemoveVoters([id].into()), true).await
            }
            Change::Remove(id) => {
                self.member(id)?;
                let voters: BTreeSet<_> = self.metrics.borrow().membership_config.voter_ids().collect();
                if voters.contains(&id) {
                    self.commit(ChangeMembers::RemoveVoters([id].into()), false).await
                } else {
                    self.commit(ChangeMembers::RemoveNodes([id].into()), true).await
                }
            }
        }
    }

    async fn commit(&self, change: ChangeMembers<NodeId, Member>, retain: bool) -> Result<(), LeadError> {
        match timeout(CHANGE_TIMEOUT, self.raft.change_membership(change, retain)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(RaftError::APIError(ClientWriteError::ChangeMembershipError(error)))) => {
                Err(LeadError::Refused(error.to_string()))
            }
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(_)))) => {
                Err(LeadError::Unknown("the leader changed meanwhile".to_owned()))
            }
            Ok(Err(error)) => Err(LeadError::Unknown(error.to_string())),
            Err(_) => Err(LeadError::Unknown(format!("no majority confirmed it within {CHANGE_TIMEOUT:?}"))),
        }
    }

    fn member(&self, id: NodeId) -> Result<Member, LeadError> {
        let metrics = self.metrics.borrow();
        let member = metrics.membership_config.membership().get_node(&id).cloned();
        member.ok_or_else(|| LeadError::Refused(format!("node {id} is no member")))
    }

    /// A node that is to be added, as it says who it is; none if it is a member already.
    async fn stranger(&self, id: NodeId, member: Member) -> Result<Option<Member>, LeadError> {
        let address = &member.address;
        let greeted = self.links.greet(address, None, self.within).await;
        let answer = greeted.map_err(|error| LeadError::Refused(error.to_string()))?;
        let from = answer.from.unwrap_or_default();
        if from.id != id {
            return Err(LeadError::Refused(format!("node {} is at {address}, and not node {id}", from.id)));
        }
        match self.member(id) {
            Ok(known) if known.address == *address => return Ok(None),
            Ok(known) => {
                let known = known.address;
                return Err(LeadError::Refused(format!("node {id} is a member already, at {known}")));
            }
            Err(_) => {}
        }
        if answer.initialised {
            return Err(LeadError::Refused(format!(
                "node {id} was part of a group before; give it an empty folder and an id that was never used"
            )));
        }
        Ok(Some(Member { address: member.address, incarnation: from.incarnation }))
    }

    fn caught_up(&self, id: NodeId) -> Result<(), LeadError> {
        self.member(id)?;
        let metrics = self.metrics.borrow();
        if id == metrics.id {
            return Ok(());
        }
        let matched = metrics.replication.as_ref().and_then(|members| members.get(&id).copied().flatten());
        let last = metrics.last_log_index.unwrap_or(0);
        match matched {
            Some(matched) if last.saturating_sub(matched.index) <= LAG_MAX => Ok(()),
            Some(matched) => {
                let at = matched.index;
                Err(LeadError::Refused(format!(
                    "node {id} has not caught up yet: it has {at} of {last} entries"
                )))
            }
            None => Err(LeadError::Refused(format!("node {id} has not caught up yet: it has nothing"))),
        }
    }
}
