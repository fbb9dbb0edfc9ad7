//! Commands on their way to agreement: many callers, one batch at a time.
//!
//! An entry costs every node a sync of its disk, so all that waits goes into one. While a batch is under
//! way the next one gathers.

use std::sync::Arc;
use std::time::Duration;

use evergate_proto::raft::v1::Batch;
use openraft::RaftMetrics;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::{Instant, timeout_at};

use super::error::ProposeError;
use super::handle::Answer;
use super::leading::{LeadError, Leading};
use super::settings::{BATCH_BYTES_MAX, BATCH_COMMANDS_MAX};
use crate::network::{CallError, Links};
use crate::raft::types::{Member, NodeId};

/// Commands that wait. When there are as many, the next are refused.
pub(super) const QUEUE: usize = 4096;
/// What commands that wait may have together. When they have it, the next are refused.
const QUEUE_BYTES: usize = 64 << 20;
/// Time before a leader is looked for again, if nothing is heard of one meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

/// The memory that commands may take while they wait. Clones are the same.
#[derive(Clone)]
pub(super) struct Room(Arc<Semaphore>);

/// What one of them takes.
pub(super) type Place = OwnedSemaphorePermit;

impl Default for Room {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(QUEUE_BYTES)))
    }
}

impl Room {
    /// Room for so many bytes, if there is any.
    pub(super) fn take(&self, bytes: usize) -> Option<Place> {
        Arc::clone(&self.0).try_acquire_many_owned(u32::try_from(bytes).ok()?).ok()
    }
}

/// A command with the way back for its answer.
pub(super) struct Proposal {
    pub(super) command: Vec<u8>,
    /// Given back with the answer.
    pub(super) place: Place,
    /// Until then it may wait for a leader.
    pub(super) until: Instant,
    pub(super) answer: oneshot::Sender<Result<Answer, ProposeError>>,
}

/// The one that takes them to the leader, here or elsewhere.
pub(super) struct Proposer {
    pub(super) proposals: mpsc::Receiver<Proposal>,
    pub(super) leading: Leading,
    pub(super) links: Arc<Links>,
    pub(super) metrics: watch::Receiver<RaftMetrics<NodeId, Member>>,
    /// By which format a command can be read.
    pub(super) format_of: fn(&[u8]) -> u32,
}

impl Proposer {
    /// Works until nobody can propose any more.
    pub(super) async fn run(mut self) {
        let mut next = None;
        loop {
            let first = match next.take() {
                Some(proposal) => proposal,
                None => match self.proposals.recv().await {
                    Some(proposal) => proposal,
                    None => return,
                },
            };
            let (batch, left) = self.gather(first);
            next = left;
            self.settle(batch).await;
        }
    }

    /// All that waits, as far as it goes into one entry; and the one that did not.
    fn gather(&mut self, first: Proposal) -> (Vec<Proposal>, Option<Proposal>) {
        let mut bytes = first.command.len();
        let mut batch = vec![first];
        while batch.len() < BATCH_COMMANDS_MAX {
            let Ok(proposal) = self.proposals.try_recv() else { break };
            bytes += proposal.command.len();
            if bytes > BATCH_BYTES_MAX {
                return (batch, Some(proposal));
            }
            batch.push(proposal);
        }
        (batch, None)
    }

    async fn settle(&mut self, mut batch: Vec<Proposal>) {
        // Whoever has gone wants nothing done any more, as long as nothing was.
        batch.retain(|proposal| !proposal.answer.is_closed());
        let Some(until) = batch.iter().map(|proposal| proposal.until).max() else { return };
        let commands: Vec<_> =
            batch.iter_mut().map(|proposal| std::mem::take(&mut proposal.command)).collect();
        let format = commands.iter().map(|command| (self.format_of)(command)).max().unwrap_or(0);
        let result = self.submit(Batch { format, commands }, until).await;
        let (answers, index) = match result {
            Ok(agreed) => agreed,
            Err(error) => {
                batch.into_iter().for_each(|proposal| drop(proposal.answer.send(Err(error.clone()))));
                return;
            }
        };
        assert_eq!(answers.len(), batch.len(), "a machine answers each command");
        for (Proposal { answer, place, .. }, bytes) in batch.into_iter().zip(answers) {
            drop(place);
            // Whoever asked may have gone.
            drop(answer.send(Ok(Answer { bytes, index })));
        }
    }

    /// Takes a batch to the leader. It is sent again only if it is certain that nothing was done.
    async fn submit(&mut self, batch: Batch, until: Instant) -> Result<(Vec<Vec<u8>>, u64), ProposeError> {
        let mut why = "there is none".to_owned();
        loop {
            let leader = leader(&self.metrics.borrow_and_update())?;
            match leader {
                None => {}
                Some(Leader::Here) => match self.leading.propose(batch.clone()).await {
                    Ok(agreed) => return Ok(agreed),
                    Err(LeadError::NoQuorum { silence }) => return Err(ProposeError::NoQuorum { silence }),
                    Err(LeadError::Stopped(why)) => return Err(ProposeError::Stopped { why }),
                    Err(LeadError::Unknown(why)) => return Err(ProposeError::Unknown { why }),
                    Err(error @ (LeadError::NotLeading { .. } | LeadError::Refused(_))) => {
                        why = error.to_string();
                    }
                },
                Some(Leader::There(id, member)) => {
                    let link = self.links.to(id, &member);
                    let within = until.saturating_duration_since(Instant::now()).max(PAUSE);
                    // A leader that stands still never answers, and everybody behind this waits for it.
                    let answer = tokio::select! {
                        biased;
                        answer = link.propose(batch.clone(), within) => answer,
                        () = succeeded(self.metrics.clone(), id) => {
                            let why = "somebody else came to lead before the leader answered".to_owned();
                            return Err(ProposeError::Unknown { why });
                        }
                    };
                    match answer {
                        Ok(agreed) => return Ok(agreed),
                        Err(error @ (CallError::Unknown { .. } | CallError::Nonsense { .. })) => {
                            return Err(ProposeError::Unknown { why: error.to_string() });
                        }
                        Err(
                            error @ (CallError::Refused(_)
                            | CallError::Declined { .. }
                            | CallError::Unreachable { .. }),
                        ) => why = error.to_string(),
                    }
                }
            }
            if Instant::now() >= until {
                return Err(ProposeError::NoLeader { why });
            }
            // The leader may have changed; or it is the same one, which can be reached again.
            let pause = until.min(Instant::now() + PAUSE);
            if let Ok(Err(_)) = timeout_at(pause, self.metrics.changed()).await {
                return Err(ProposeError::Stopped { why: "it is shutting down".to_owned() });
            }
        }
    }
}

/// Ends when somebody else leads.
async fn succeeded(mut metrics: watch::Receiver<RaftMetrics<NodeId, Member>>, leader: NodeId) {
    let other = metrics.wait_for(|metrics| metrics.current_leader.is_some_and(|known| known != leader));
    if other.await.is_err() {
        // It is shutting down, which is told elsewhere.
        std::future::pending::<()>().await;
    }
}

/// Where the leader is.
pub(super) enum Leader {
    Here,
    There(NodeId, Member),
}

/// Where the leader is, as far as this node knows.
pub(super) fn leader(metrics: &RaftMetrics<NodeId, Member>) -> Result<Option<Leader>, ProposeError> {
    if let Err(fatal) = &metrics.running_state {
        return Err(ProposeError::Stopped { why: fatal.to_string() });
    }
    let Some(id) = metrics.current_leader else { return Ok(None) };
    if id == metrics.id {
        return Ok(Some(Leader::Here));
    }
    let member = metrics.membership_config.membership().get_node(&id);
    Ok(member.map(|member| Leader::There(id, member.clone())))
}
