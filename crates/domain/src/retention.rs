//! How much of a stream is kept.

use std::time::Duration;

/// A stream's retention: whichever bound is reached first trims.
///
/// The last event of a stream counts like any other: a stream may be trimmed to nothing, its
/// position is kept all the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Keep at most this many events.
    pub events: Option<u64>,
    /// Keep at most this many bytes of payload, keys and types.
    pub bytes: Option<u64>,
    /// Keep events for about this long.
    pub age: Option<Duration>,
}

impl Retention {
    /// Keeps everything.
    pub const FOREVER: Self = Self { events: None, bytes: None, age: None };
}

impl Default for Retention {
    /// A million events, a gibibyte, a week.
    fn default() -> Self {
        Self { events: Some(1_000_000), bytes: Some(1 << 30), age: Some(Duration::from_secs(7 * 24 * 3600)) }
    }
}
