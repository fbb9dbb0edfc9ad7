//! The types that the group's Raft is made of.

use std::sync::Arc;

use evergate_proto::raft::v1::Batch;

/// The id of a node in its group. Never used twice in the life of a cluster.
pub type NodeId = u64;

/// What the members know of each other.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Member {
    /// `HOST:PORT`
    pub address: String,
    /// Drawn when the member's folder was made; 0 until it is known. A node with the same id and another
    /// incarnation has forgotten what it voted for, and is refused.
    pub incarnation: u64,
}

/// The state in a snapshot. Cheap to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Image {
    /// The format of the bytes.
    pub(crate) format: u32,
    pub(crate) bytes: Arc<Vec<u8>>,
}

openraft::declare_raft_types!(
    /// The group's Raft: batches of commands in, an answer for each command out, snapshots in memory.
    pub(crate) Types:
        D = Batch,
        R = Vec<Vec<u8>>,
        NodeId = NodeId,
        Node = Member,
        Entry = openraft::Entry<Types>,
        SnapshotData = Image,
);

pub(crate) type Raft = openraft::Raft<Types>;
pub(crate) type Entry = openraft::Entry<Types>;
pub(crate) type LogId = openraft::LogId<NodeId>;
pub(crate) type Vote = openraft::Vote<NodeId>;
pub(crate) type Membership = openraft::Membership<NodeId, Member>;
pub(crate) type StoredMembership = openraft::StoredMembership<NodeId, Member>;
pub(crate) type SnapshotMeta = openraft::SnapshotMeta<NodeId, Member>;
pub(crate) type Snapshot = openraft::Snapshot<Types>;
pub(crate) type StorageError = openraft::StorageError<NodeId>;
pub(crate) type StorageIoError = openraft::StorageIOError<NodeId>;
