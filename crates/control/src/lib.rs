//! The control plane: the group of nodes that agrees, by Raft, on what all the others follow.
//!
//! A [`Machine`] is what they agree on. It knows nothing of how agreement is reached; the group knows
//! nothing of what its commands mean. The machine of a cluster is [`Agreed`]; beside the group a
//! control node serves what other nodes and operators ask of it ([`Keeper`]).

mod machine;

mod group;
mod network;
mod raft;
mod store;

mod agreed;
mod agreement;
mod service;

pub use agreed::{Agreed, News};
pub use agreement::{Agreement, Leadership, MemberChange};
pub use group::{
    Answer, ChangeError, Group, GroupSettings, Handle, MemberStatus, ProposeError, ReadError, Role, Seeds,
    StartError, Status, Timing,
};
pub use machine::{Machine, RestoreError};
pub use raft::types::{Member, NodeId};
pub use service::{AdminToken, Keeper, Services};
pub use store::OpenError;
