//! The control plane: the group of nodes that agrees, by Raft, on what all the others follow.
//!
//! A [`Machine`] is what they agree on. It knows nothing of how agreement is reached; the group knows
//! nothing of what its commands mean.

mod agreed;
mod machine;

mod group;
mod network;
mod raft;
mod store;

pub use agreed::Agreed;
pub use group::{
    Answer, ChangeError, Group, GroupSettings, Handle, MemberStatus, ProposeError, ReadError, Role, Seeds,
    StartError, Status, Timing,
};
pub use machine::{Machine, RestoreError};
pub use raft::types::{Member, NodeId};
pub use store::OpenError;
