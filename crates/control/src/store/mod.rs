//! What a node keeps on its disk: who it is, its vote, its log, its snapshot.
//!
//! ```text
//!   FORMAT        says what this is and in which version
//!   LOCK          held by the process that has the folder open
//!   raft.redb     who this node is; its vote; its log
//!   snapshot      what the log's purged part had made of the machine
//! ```
//!
//! A vote or an entry is answered for only once it is synced. What cannot be read back is never guessed:
//! a node that forgets a vote or an entry may undo what the group has agreed on.

mod error;
mod folder;
mod log;
mod rows;
mod snapshots;
mod state;

pub use error::OpenError;
pub(crate) use folder::Folder;
pub(crate) use log::LogStore;
pub(crate) use snapshots::Snapshots;
pub(crate) use state::Shared;

#[cfg(test)]
mod tests;
