//! What callers hold of the group.

use std::sync::Arc;
use std::time::Duration;

use evergate_proto::raft::v1::change_request::Change;
use openraft::RaftMetrics;
use tokio::sync::{mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::error::{ChangeError, ProposeError, ReadError};
use super::founding::Waiting;
use super::leading::{LeadError, Leading};
use super::proposer::{Leader, Proposal, Room, leader};
use super::status::Status;
use crate::machine::Machine;
use crate::network::{CallError, Links};
use crate::raft::coding;
use crate::raft::types::{Member, NodeId};
use crate::store::Shared;

/// Time before a leader is asked again.
const PAUSE: Duration = Duration::from_millis(100);
/// How long a member may take to say who it is.
const GREET_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a change of members may take on another node, in all.
const CHANGE_TIMEOUT: Duration = Duration::from_secs(25);

/// What the machine said to a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    /// Its words.
    pub bytes: Vec<u8>,
    /// The entry that the command is in. Commands of one entry share it, and come in the order in which
    /// they were proposed.
    pub index: u64,
}

/// A hold on the group, through this node. Cheap to clone.
pub struct Handle<M> {
    pub(super) shared: Arc<Shared<M>>,
    pub(super) proposals: mpsc::Sender<Proposal>,
    pub(super) room: Room,
    pub(super) leading: Leading,
    pub(super) waiting: Waiting,
    pub(super) links: Arc<Links>,
    pub(super) metrics: watch::Receiver<RaftMetrics<NodeId, Member>>,
    pub(super) command_bytes_max: usize,
    pub(super) patience: Duration,
}

impl<M> Clone for Handle<M> {
    fn clone(&self) -> Self {
        Self {
            shared: Arc::clone(&self.shared),
            proposals: self.proposals.clone(),
            room: self.room.clone(),
            leading: self.leading.clone(),
            waiting: self.waiting.clone(),
            links: Arc::clone(&self.links),
            metrics: self.metrics.clone(),
            command_bytes_max: self.command_bytes_max,
            patience: self.patience,
        }
    }
}

impl<M: Machine> Handle<M> {
    /// Has a command agreed on, whichever node leads, and answers what the machine said once a majority
    /// has it on its disks.
    ///
    /// Cancel-safe in that nothing breaks; but a command that was taken may still be agreed on.
    pub async fn propose(&self, command: Vec<u8>) -> Result<Answer, ProposeError> {
        let (bytes, max) = (command.len(), self.command_bytes_max);
        if bytes > max {
            return Err(ProposeError::TooLarge { bytes, max });
        }
        let (answer, answered) = oneshot::channel();
        let place = self.room.take(bytes).ok_or(ProposeError::Busy)?;
        let proposal = Proposal { command, place, until: Instant::now() + self.patience, answer };
        self.proposals.try_send(proposal).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => ProposeError::Busy,
            mpsc::error::TrySendError::Closed(_) => shutting_down(),
        })?;
        let lost = || ProposeError::Unknown { why: "the node ended meanwhile".to_owned() };
        answered.await.map_err(|_| lost())?
    }

    /// Looks at the machine as it is here, which may be behind; and at the index of the last entry it has
    /// taken. The look has to be short: commands wait for it.
    pub fn look<T>(&self, look: impl FnOnce(&M, u64) -> T) -> T {
        self.shared.read(look)
    }

    /// Looks at the machine when it has all that was agreed on anywhere before this call.
    pub async fn read<T>(&self, look: impl FnOnce(&M, u64) -> T) -> Result<T, ReadError> {
        let until = Instant::now() + self.patience;
        let wanted = self.latest(until).await?;
        let mut applied = self.shared.applied();
        let reached = timeout_at(until, applied.wait_for(|applied| *applied >= wanted)).await;
        match reached {
            Ok(Ok(_)) => Ok(self.shared.read(look)),
            Ok(Err(_)) | Err(_) => {
                Err(ReadError::Behind { applied: self.shared.read(|_, applied| applied), wanted })
            }
        }
    }

    async fn latest(&self, until: Instant) -> Result<u64, ReadError> {
        let mut metrics = self.metrics.clone();
        let mut why = "there is none".to_owned();
        loop {
            let found = leader(&metrics.borrow_and_update());
            match found.map_err(|error| ReadError::Stopped { why: error.to_string() })? {
                None => {}
                Some(Leader::Here) => match self.leading.read_index().await {
                    Ok(index) => return Ok(index),
                    Err(error) => why = error.to_string(),
                },
                Some(Leader::There(id, member)) => {
                    let within = until.saturating_duration_since(Instant::now()).max(PAUSE);
                    match self.links.to(id, &member).read_index(within).await {
                        Ok(index) => return Ok(index),
                        Err(error) => why = error.to_string(),
                    }
                }
            }
            if Instant::now() >= until {
                return Err(ReadError::Unconfirmed { why });
            }
            let pause = until.min(Instant::now() + PAUSE);
            if let Ok(Err(_)) = timeout_at(pause, metrics.changed()).await {
                return Err(ReadError::Stopped { why: "it is shutting down".to_owned() });
            }
        }
    }

    /// The index of the last entry that the machine here has taken, as it changes.
    pub fn applied(&self) -> watch::Receiver<u64> {
        self.shared.applied()
    }

    /// How the group looks from here.
    pub fn status(&self) -> Status {
        Status::of(&self.metrics.borrow())
    }

    /// Whether this node leads, as far as it knows, and has not heard from a majority for so long that it takes
    /// nothing new: the others may have another leader by now.
    pub fn is_cut_off(&self) -> bool {
        matches!(self.leading.check(), Err(LeadError::NoQuorum { .. }))
    }

    /// What this node waits for, as long as it belongs to no group; in a sentence.
    pub fn waits_for(&self) -> Option<String> {
        self.waiting.why()
    }

    /// How the group looks from here, as it changes. Once closed, the node has ended.
    pub async fn changed(&mut self) -> Option<Status> {
        self.metrics.changed().await.ok()?;
        Some(Status::of(&self.metrics.borrow_and_update()))
    }

    /// Has a node follow, without a vote. It has to be up, with an empty folder. Idempotent.
    pub async fn add(&self, id: NodeId, address: &str) -> Result<(), ChangeError> {
        let member = Member { address: address.to_owned(), incarnation: 0 };
        self.change(Change::Add(coding::from_member(id, &member))).await
    }

    /// Gives a vote to a node that follows and has caught up. Idempotent.
    pub async fn promote(&self, id: NodeId) -> Result<(), ChangeError> {
        self.change(Change::Promote(id)).await
    }

    /// Takes the vote from a node; it follows on. Idempotent.
    pub async fn demote(&self, id: NodeId) -> Result<(), ChangeError> {
        self.change(Change::Demote(id)).await
    }

    /// Has a node be no part any more. Its id must not be used again.
    pub async fn remove(&self, id: NodeId) -> Result<(), ChangeError> {
        self.change(Change::Remove(id)).await
    }

    /// Whether every member reads commands of this format, as each of them says when it is asked. Once there is one
    /// of it in the log, whoever does not is refused.
    pub async fn all_read(&self, format: u32) -> Result<(), ChangeError> {
        for member in self.status().members {
            let id = member.id;
            let greeted = self.links.greet(&member.member.address, None, GREET_TIMEOUT).await;
            let answer = greeted.map_err(|error| {
                ChangeError::Refused(format!("control node {id} cannot be asked what it reads: {error}"))
            })?;
            let read = answer.from.unwrap_or_default().format_read;
            if read < format {
                return Err(ChangeError::Refused(format!(
                    "control node {id} reads commands up to format {read}, and not {format}: bring it up to date first"
                )));
            }
        }
        Ok(())
    }

    async fn change(&self, change: Change) -> Result<(), ChangeError> {
        let found = leader(&self.metrics.borrow());
        match found.map_err(|error| ChangeError::NoLeader(error.to_string()))? {
            None => Err(ChangeError::NoLeader("there is none".to_owned())),
            Some(Leader::Here) => self.leading.change(change).await.map_err(|error| match error {
                LeadError::Refused(why) => ChangeError::Refused(why),
                LeadError::Unknown(why) => ChangeError::Unknown(why),
                LeadError::NotLeading { .. } | LeadError::NoQuorum { .. } | LeadError::Stopped(_) => {
                    ChangeError::NoLeader(error.to_string())
                }
            }),
            Some(Leader::There(id, member)) => {
                let changed = self.links.to(id, &member).change(change, CHANGE_TIMEOUT).await;
                changed.map_err(|error| match error {
                    CallError::Declined { why, .. } => ChangeError::Refused(why),
                    CallError::Refused(_) | CallError::Unreachable { .. } => {
                        ChangeError::NoLeader(error.to_string())
                    }
                    CallError::Unknown { .. } | CallError::Nonsense { .. } => {
                        ChangeError::Unknown(error.to_string())
                    }
                })
            }
        }
    }
}

fn shutting_down() -> ProposeError {
    ProposeError::Stopped { why: "it is shutting down".to_owned() }
}
