//! What can go wrong, and what is to be done about it.

use std::time::Duration;

use crate::store::OpenError;

/// Why a node cannot take part.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its folder cannot be used.
    #[error(transparent)]
    Folder(#[from] OpenError),
    /// It was told something that cannot be.
    #[error("{0}")]
    Settings(String),
    /// What it keeps does not fit together.
    #[error("the control node cannot start: {0}")]
    Raft(String),
}

/// Why a command was not agreed on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Nothing was done, and never will be.
    #[error("the command has {bytes} bytes, and {max} are allowed")]
    TooLarge {
        /// What it has.
        bytes: usize,
        /// What is allowed.
        max: usize,
    },
    /// Nothing was done. As many commands as may be wait already.
    #[error("too many commands wait for the control group; try again later")]
    Busy,
    /// Nothing was done.
    #[error(
        "the control group has no leader that this node can reach ({why}); a majority of its nodes has to be up and connected, then try again"
    )]
    NoLeader {
        /// What was tried.
        why: String,
    },
    /// Nothing was done: this node leads, or did, and does not hear from enough of the others.
    #[error(
        "this control node has not heard from a majority of the group for {silence:?}; bring nodes or their network back, then try again"
    )]
    NoQuorum {
        /// For how long.
        silence: Duration,
    },
    /// The command may have been agreed on, or may be yet, or never.
    #[error("whether the command was agreed on is unknown ({why}); look before it is repeated")]
    Unknown {
        /// What happened.
        why: String,
    },
    /// Nothing was done. This node takes no part any more.
    #[error("this control node has stopped: {why}")]
    Stopped {
        /// Why.
        why: String,
    },
}

impl ProposeError {
    /// Whether it is certain that the command never takes effect.
    pub fn is_certain(&self) -> bool {
        match self {
            Self::TooLarge { .. }
            | Self::Busy
            | Self::NoLeader { .. }
            | Self::NoQuorum { .. }
            | Self::Stopped { .. } => true,
            Self::Unknown { .. } => false,
        }
    }
}

/// Why it is unknown whether this node is up to date.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// Nobody could say what is the latest.
    #[error(
        "no leader of the control group confirmed what is the latest ({why}); a majority of its nodes has to be up and connected"
    )]
    Unconfirmed {
        /// What was tried.
        why: String,
    },
    /// This node has not caught up in time.
    #[error("this control node has not caught up: it is at entry {applied}, and {wanted} is the latest")]
    Behind {
        /// Where it is.
        applied: u64,
        /// Where it should be.
        wanted: u64,
    },
    /// This node takes no part any more.
    #[error("this control node has stopped: {why}")]
    Stopped {
        /// Why.
        why: String,
    },
}

/// Why the members are as they were.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Nothing was changed, because of what was asked for.
    #[error("{0}")]
    Refused(String),
    /// Nothing was changed: nobody leads, or nobody who can be reached.
    #[error("the control group has no leader that this node can reach ({0}); try again later")]
    NoLeader(String),
    /// The change may have been made, or may be yet, or never.
    #[error("whether the members were changed is unknown ({0}); look at them")]
    Unknown(String),
}
