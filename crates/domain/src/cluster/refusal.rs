//! Why a command was refused.

use crate::cluster::{SettingError, SlotError};
use crate::{NodeName, RegionName, StreamName};

/// A command cannot be done, and nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Somebody wrote what cannot be.
    #[error("{what}: {why}")]
    Invalid {
        /// Which part.
        what: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// There is no such thing.
    #[error("there is no {what} {name:?}")]
    Unknown {
        /// What was looked for.
        what: &'static str,
        /// By which name.
        name: String,
    },
    /// The table is full.
    #[error("there are {max} {what} already, and there may be no more")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// The bound.
        max: usize,
    },
    /// Two processes have one name.
    #[error("the name {0} is used by a process that was started later; no two nodes may have one name")]
    NameInUse(NodeName),
    /// What was judged is no longer so.
    #[error("{0} is not as it was when this was asked for")]
    Outdated(NodeName),
    /// A binary that is older than what the cluster has agreed on.
    #[error(
        "{node} understands format {understands}, and the cluster has agreed on {agreed}: update the node before it joins"
    )]
    TooOld {
        /// Whose.
        node: NodeName,
        /// Up to which format.
        understands: u32,
        /// What is needed.
        agreed: u32,
    },
    /// A format that somebody would not understand, or that is in use already.
    #[error("the format cannot be raised from {agreed} to {asked}: {why}")]
    Format {
        /// What there is.
        agreed: u32,
        /// What was asked for.
        asked: u32,
        /// Why not.
        why: String,
    },
    /// It is there, and can be drained or stopped.
    #[error("{0} is there; drain and stop it, and it will leave by itself")]
    StillThere(NodeName),
    /// Nobody would take its clients.
    #[error("no other edge of region {region} takes clients; {node} is drained only by force")]
    LastOfRegion {
        /// Which node.
        node: NodeName,
        /// Whose last edge it is.
        region: RegionName,
    },
    /// It is on the way already.
    #[error("{0} is being drained already")]
    AlreadyDraining(NodeName),
    /// There is nothing to take back.
    #[error("{0} is not being drained")]
    NotDraining(NodeName),
    /// One at a time.
    #[error("region {0} is being rebalanced already; wait until it is done, or cancel that")]
    Rebalancing(RegionName),
    /// There is nothing to take back.
    #[error("region {0} is not being rebalanced")]
    NotRebalancing(RegionName),
    /// Its clients go elsewhere first, and then everybody's places are others.
    #[error("{0} is being drained; rebalance when that is done")]
    DrainFirst(NodeName),
    /// All clients are where they belong.
    #[error("region {0} has no two edges that take clients")]
    NothingToRebalance(RegionName),
    /// Not everybody would understand it.
    #[error(
        "{what} needs format {needs}, and the cluster has agreed on {agreed}: raise it once every node understands it"
    )]
    FormatTooLow {
        /// What was asked for.
        what: &'static str,
        /// What it needs.
        needs: u32,
        /// What there is.
        agreed: u32,
    },
    /// Clients hold on to what they were promised.
    #[error("the level of stream {0} was fixed by its first policy; remove the policy first")]
    LevelFixed(StreamName),
    /// Somebody is still there.
    #[error("region {region} still has {what}")]
    RegionInUse {
        /// Which.
        region: RegionName,
        /// What it has.
        what: &'static str,
    },
    /// A slot's epoch cannot be begun or ended so.
    #[error(transparent)]
    Slot(#[from] SlotError),
    /// A setting is out of bounds.
    #[error(transparent)]
    Setting(#[from] SettingError),
}

/// What whoever gave a refused command should make of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefusalKind {
    /// It was wrong in itself; give another.
    Invalid,
    /// It does not fit what there is; look, and decide anew.
    Conflict,
    /// What it is about is not there.
    Unknown,
    /// There is no room.
    Full,
}

impl Refusal {
    pub(super) fn invalid(what: &'static str, why: impl Into<String>) -> Self {
        Self::Invalid { what, why: why.into() }
    }

    pub(super) fn unknown(what: &'static str, name: &(impl ToString + ?Sized)) -> Self {
        Self::Unknown { what, name: name.to_string() }
    }

    /// What to make of it.
    #[must_use]
    pub fn kind(&self) -> RefusalKind {
        match self {
            Self::Invalid { .. } | Self::Setting(_) | Self::Slot(SlotError::NoSuchSlot(_)) => {
                RefusalKind::Invalid
            }
            Self::Unknown { .. } => RefusalKind::Unknown,
            Self::TooMany { .. } => RefusalKind::Full,
            Self::NameInUse(_)
            | Self::Outdated(_)
            | Self::TooOld { .. }
            | Self::Format { .. }
            | Self::StillThere(_)
            | Self::LastOfRegion { .. }
            | Self::AlreadyDraining(_)
            | Self::NotDraining(_)
            | Self::Rebalancing(_)
            | Self::NotRebalancing(_)
            | Self::DrainFirst(_)
            | Self::NothingToRebalance(_)
            | Self::FormatTooLow { .. }
            | Self::LevelFixed(_)
            | Self::RegionInUse { .. }
            | Self::Slot(SlotError::StillOpen { .. } | SlotError::NotAbove { .. } | SlotError::NotOpen(_)) => {
                RefusalKind::Conflict
            }
        }
    }
}
