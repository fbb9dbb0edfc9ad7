//! The control plane: the group of nodes that agrees, by Raft, on what all the others follow.
//!
//! A [`Machine`] is what they agree on. It knows nothing of how agreement is reached; the group knows
//! nothing of what its commands mean.

mod machine;

pub use machine::{Machine, RestoreError};
