//! What a node of the group is told.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::raft::types::NodeId;

/// A command with more is refused whatever was set: it would not go into a message with others.
pub(crate) const COMMAND_BYTES_MAX: usize = 1 << 20;
/// Commands of one batch.
pub(crate) const BATCH_COMMANDS_MAX: usize = 1024;
/// Bytes of one batch, unless a single command has more.
pub(crate) const BATCH_BYTES_MAX: usize = 1 << 20;

/// What a node of the group is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GroupSettings {
    /// The cluster's name. Nodes of two clusters never talk to each other.
    pub cluster: String,
    /// This node. Never used twice in the life of a cluster.
    pub id: NodeId,
    /// Where it keeps its vote, its log and its snapshot.
    pub dir: PathBuf,
    /// `HOST:PORT` by which the others reach it.
    pub address: String,
    /// With whom it founds a group, if none of them knows of one.
    pub seeds: Seeds,
    /// What the certificates of nodes are for: names, or families of them. Empty: the hosts by which the members
    /// are reached.
    pub identities: Vec<String>,
    /// How patient it is.
    pub timing: Timing,
    /// The largest command, in bytes. At most 1 MiB.
    pub command_bytes_max: usize,
    /// After so many entries a snapshot is made, and the log before it is dropped, up to as many again.
    pub snapshot_entries: u64,
}

/// With whom a group is founded. Once it is, this says nothing any more: the group itself knows its
/// members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Seeds {
    /// These nodes, `HOST:PORT` by id. All are told the same, and this node is one of them.
    Listed(BTreeMap<NodeId, String>),
    /// As many nodes as stand behind a name (`HOST:PORT`), each of which says who it is.
    Named {
        /// The name, which is looked up again and again until the group is founded.
        name: String,
        /// How many there have to be.
        nodes: usize,
    },
    /// With nobody: it waits until a group takes it in.
    Nobody,
}

impl Seeds {
    /// The same text wherever the same was told.
    pub(crate) fn text(&self) -> String {
        match self {
            Self::Listed(peers) => {
                let peers: Vec<_> = peers.iter().map(|(id, address)| format!("{id}={address}")).collect();
                peers.join(",")
            }
            Self::Named { .. } | Self::Nobody => String::new(),
        }
    }
}

/// How patient a node is. None of it decides what is agreed on, only how soon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Timing {
    /// A leader says so often that it is there. Also how long a message with entries may take, so it
    /// should be several times the way to the farthest node and back, and what a disk needs.
    pub heartbeat: Duration,
    /// A follower that heard from no leader stands for election after a random time between this
    pub election_min: Duration,
    /// and this.
    pub election_max: Duration,
    /// How long a command waits for a leader, and for a majority.
    pub propose: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(250),
            election_min: Duration::from_millis(1500),
            election_max: Duration::from_secs(3),
            propose: Duration::from_secs(5),
        }
    }
}
