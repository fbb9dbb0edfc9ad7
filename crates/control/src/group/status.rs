//! How the group looks from one node.

use std::time::Duration;

use openraft::{RaftMetrics, ServerState};

use crate::raft::types::{Member, NodeId};

/// How the group looks from one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// This node.
    pub id: NodeId,
    /// What it is to the group.
    pub role: Role,
    /// The term it is in.
    pub term: u64,
    /// Who leads, as far as it knows.
    pub leader: Option<NodeId>,
    /// The last entry of its log; 0 also if it has none.
    pub last: u64,
    /// The last entry that its machine has taken; 0 also if none.
    pub applied: u64,
    /// The last entry in its snapshot.
    pub snapshot: Option<u64>,
    /// If it leads: for how long it has not heard from a majority.
    pub silence: Option<Duration>,
    /// All members, by id.
    pub members: Vec<MemberStatus>,
    /// Why it takes no part any more, if it does not.
    pub stopped: Option<String>,
}

/// What a node is to the group.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// It orders the commands.
    Leader,
    /// It votes, and follows.
    Follower,
    /// It stands for election.
    Candidate,
    /// It follows without a vote, or is no member yet.
    Learner,
    /// It takes no part any more.
    Stopped,
}

impl Role {
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Leader => "leader",
            Self::Follower => "follower",
            Self::Candidate => "candidate",
            Self::Learner => "learner",
            Self::Stopped => "stopped",
        }
    }
}

/// A member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberStatus {
    /// Who.
    pub id: NodeId,
    /// Where.
    pub member: Member,
    /// Whether it has a vote.
    pub voter: bool,
    /// Up to which entry it is known to have the log; only its leader knows.
    pub matched: Option<u64>,
}

impl Status {
    pub(crate) fn of(metrics: &RaftMetrics<NodeId, Member>) -> Self {
        let membership = metrics.membership_config.membership();
        let voters: std::collections::BTreeSet<_> = membership.voter_ids().collect();
        let matched = |id: &NodeId| {
            let known = metrics.replication.as_ref()?.get(id)?;
            Some(known.map_or(0, |log_id| log_id.index))
        };
        let members = membership.nodes().map(|(id, member)| MemberStatus {
            id: *id,
            member: member.clone(),
            voter: voters.contains(id),
            matched: matched(id),
        });
        let stopped = metrics.running_state.as_ref().err().map(ToString::to_string);
        Self {
            id: metrics.id,
            role: match metrics.state {
                _ if stopped.is_some() => Role::Stopped,
                ServerState::Leader => Role::Leader,
                ServerState::Follower => Role::Follower,
                ServerState::Candidate => Role::Candidate,
                ServerState::Learner => Role::Learner,
                ServerState::Shutdown => Role::Stopped,
            },
            term: metrics.current_term,
            leader: metrics.current_leader,
            last: metrics.last_log_index.unwrap_or(0),
            applied: metrics.last_applied.map_or(0, |log_id| log_id.index),
            snapshot: metrics.snapshot.map(|log_id| log_id.index),
            silence: metrics.millis_since_quorum_ack.map(Duration::from_millis),
            members: members.collect(),
            stopped,
        }
    }
}
