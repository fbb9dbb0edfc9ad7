//! What may be asked of a cluster.

use std::fmt;

use crate::cluster::{
    Breaker, Canary, ClusterSettings, Digest, Limit, Node, Region, SlotNumber, StreamPolicy,
};
use crate::{Epoch, NodeName, RegionName, StreamName, UnixMillis};

/// A command, and who gives it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Who, for the audit trail: 1 to 128 bytes without control characters.
    pub by: String,
    /// When, by the clock of whoever brought it. Nothing is decided by it.
    pub at: UnixMillis,
    /// What.
    pub command: Command,
}

/// A change that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// A node is there. Its lease and whether it is draining are not its to say.
    Join(Box<Node>),
    /// A node has not been heard of for too long.
    Lost {
        /// Which.
        node: NodeName,
        /// Which run of it.
        incarnation: u64,
    },
    /// A lost node has been there again for long enough.
    Back {
        /// Which.
        node: NodeName,
        /// Which run of it.
        incarnation: u64,
    },
    /// A node is about to end, whoever asked it to: it gets no new clients, and sends its own away.
    Ending {
        /// Which.
        node: NodeName,
        /// Which run of it.
        incarnation: u64,
    },
    /// A node ends, as planned. When it joins again it is as good as new.
    Leave {
        /// Which.
        node: NodeName,
        /// Which run of it.
        incarnation: u64,
    },
    /// A lost node will not come back.
    Forget(NodeName),
    /// A node's clients are to be sent elsewhere, when its turn comes.
    Drain {
        /// Which.
        node: NodeName,
        /// Even if its region has no other edge that takes clients.
        force: bool,
    },
    /// A node that is being drained has no clients left.
    Drained {
        /// Which.
        node: NodeName,
        /// Which run of it.
        incarnation: u64,
    },
    /// A node is to get clients again.
    Undrain(NodeName),
    /// The clients of a region that are at another edge than theirs are to go there, a few at a time.
    Rebalance(RegionName),
    /// Those of a region's clients that have not gone yet are to stay where they are.
    CancelRebalance(RegionName),
    /// A node has sent everybody away who belongs to another.
    Rebalanced {
        /// Which.
        node: NodeName,
        /// Which run of it.
        incarnation: u64,
        /// By which plan.
        plan: u64,
    },
    /// A region is as this says.
    SetRegion(Region),
    /// A region without nodes is no more.
    RemoveRegion(RegionName),
    /// What holds for a stream. Its level is fixed with the first policy.
    SetPolicy(StreamName, StreamPolicy),
    /// A stream goes by the nodes' own configuration again.
    RemovePolicy(StreamName),
    /// When a dependency is left alone.
    SetBreaker(String, Breaker),
    /// A dependency goes by the nodes' own configuration again.
    RemoveBreaker(String),
    /// A cluster-wide limit.
    SetLimit(String, Limit),
    /// A limit no longer holds.
    RemoveLimit(String),
    /// What holds for the cluster as a whole.
    SetSettings(ClusterSettings),
    /// The trial of a new log.
    SetCanary(Canary),
    /// Something was changed that is not agreed on here, such as who the control nodes are: it is remembered who
    /// did it, in words of 1 to 256 bytes.
    Note(String),
    /// Every node understands this, so it may be used from now on; whoever does not is refused.
    RaiseFormat(u32),
    /// A region gets the right to append to a slot's streams.
    BeginEpoch {
        /// Which slot.
        slot: SlotNumber,
        /// Which region.
        home: RegionName,
        /// The epoch is not below this: what a log has used already.
        at_least: Epoch,
    },
    /// The right to append ends.
    EndEpoch {
        /// Which slot.
        slot: SlotNumber,
        /// Which epoch.
        epoch: Epoch,
        /// Of the positions at which the slot's streams end.
        ends: Digest,
    },
}

impl fmt::Display for Command {
    /// One line of the audit trail.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Join(node) => write!(
                f,
                "join {} ({}, {}/{}, weight {}, version {})",
                node.name,
                node.role.as_str(),
                node.region,
                node.zone,
                node.weight,
                node.version
            ),
            Self::Lost { node, .. } => write!(f, "lost {node}"),
            Self::Back { node, .. } => write!(f, "back {node}"),
            Self::Ending { node, .. } => write!(f, "ending {node}"),
            Self::Leave { node, .. } => write!(f, "leave {node}"),
            Self::Forget(node) => write!(f, "forget {node}"),
            Self::Drain { node, force } => write!(f, "drain {node}{}", if *force { " by force" } else { "" }),
            Self::Drained { node, .. } => write!(f, "drained {node}"),
            Self::Undrain(node) => write!(f, "undrain {node}"),
            Self::Rebalance(region) => write!(f, "rebalance {region}"),
            Self::CancelRebalance(region) => write!(f, "cancel the rebalance of {region}"),
            Self::Rebalanced { node, plan, .. } => write!(f, "rebalanced {node} by plan {plan}"),
            Self::Note(what) => f.write_str(what),
            Self::SetRegion(region) => write!(f, "set region {}", region.name),
            Self::RemoveRegion(region) => write!(f, "remove region {region}"),
            Self::SetPolicy(stream, policy) => write!(f, "set policy of {stream}: {policy:?}"),
            Self::RemovePolicy(stream) => write!(f, "remove policy of {stream}"),
            Self::SetBreaker(name, breaker) => write!(f, "set breaker {name:?}: {breaker:?}"),
            Self::RemoveBreaker(name) => write!(f, "remove breaker {name:?}"),
            Self::SetLimit(name, limit) => write!(f, "set limit {name:?}: {limit:?}"),
            Self::RemoveLimit(name) => write!(f, "remove limit {name:?}"),
            Self::SetSettings(settings) => write!(f, "set {settings:?}"),
            Self::SetCanary(canary) => write!(f, "set {canary:?}"),
            Self::RaiseFormat(format) => write!(f, "raise format to {format}"),
            Self::BeginEpoch { slot, home, .. } => write!(f, "begin epoch of slot {} in {home}", slot.get()),
            Self::EndEpoch { slot, epoch, .. } => write!(f, "end epoch {epoch} of slot {}", slot.get()),
        }
    }
}
