//! The notice of a loss: what a subscriber is told instead of being left to wonder.

use crate::Offset;

/// Why continuity broke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GapReason {
    /// Retention had already removed what was asked for.
    Trimmed,
    /// The position belongs to a tail that a failover cut off.
    LostTail,
    /// The position's epoch never existed here.
    Unknown,
    /// A slow reader was moved on.
    Slow,
    /// The stream's policy skipped the range.
    Policy,
}

impl GapReason {
    /// The reason as it is written on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::LostTail => "lost-tail",
            Self::Unknown => "unknown",
            Self::Slow => "slow",
            Self::Policy => "policy",
        }
    }
}

/// A break in continuity, with its exact bounds.
///
/// ```text
///   requested   first_missing            cursor   resumed_at
///       │            │                      │          │
///   ────●            ○   ○   ○   …   ○   ○  ○          ●────▶
///                    └────── lost ──────────┘
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The cursor that was asked for.
    pub requested: Offset,
    /// The first event that is missing, if that can be known.
    pub first_missing: Option<Offset>,
    /// The cursor to go on from: just before `resumed_at`. The notice itself carries it as its id.
    pub cursor: Offset,
    /// The next event the subscriber can get, or the place it will have.
    pub resumed_at: Offset,
    /// Why.
    pub reason: GapReason,
    /// How many of the stream's events are missing, before filters; `None` where it cannot be known.
    pub lost: Option<u64>,
}
