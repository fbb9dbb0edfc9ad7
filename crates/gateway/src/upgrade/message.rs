//! What the two processes say to each other: one JSON object a line, in turns.
//!
//! The two are of different versions by nature, so the first message carries the version of the
//! protocol, and unknown fields are passed over.

use serde::{Deserialize, Serialize};

/// The version of this protocol.
pub(super) const PROTOCOL: u32 = 1;

/// The longest message, with the end of its line.
pub(super) const MESSAGE_BYTES_MAX: usize = 4096;

/// What a successor says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub(super) enum FromSuccessor {
    /// First of all.
    Hello {
        protocol: u32,
        /// Of Evergate.
        version: String,
        pid: u32,
        /// The log it will use, without passwords.
        log: String,
    },
    /// It accepts connections.
    Ready,
}

/// What the running process says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "say", rename_all = "kebab-case")]
pub(super) enum FromPredecessor {
    /// The names of the descriptors that come with this message, in their order.
    Listeners { names: Vec<String> },
    /// It goes on by itself.
    Refused { why: String },
    /// It accepts nothing more.
    Draining,
}

/// Why a successor is turned away.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(super) enum Mismatch {
    #[error(
        "the running process speaks version {PROTOCOL} of the upgrade protocol and the successor version {0}; restart instead"
    )]
    Protocol(u32),
    #[error("the log of the running process is {ours} and the successor's is {theirs}; restart instead")]
    Log { ours: String, theirs: String },
}

/// Whether a successor may take over.
pub(super) fn judge(protocol: u32, theirs: &str, ours: &str) -> Result<(), Mismatch> {
    if protocol != PROTOCOL {
        return Err(Mismatch::Protocol(protocol));
    }
    // With another log every cursor would be unknown, and everything published twice could be stored twice.
    if theirs != ours {
        return Err(Mismatch::Log { ours: ours.to_owned(), theirs: theirs.to_owned() });
    }
    Ok(())
}
