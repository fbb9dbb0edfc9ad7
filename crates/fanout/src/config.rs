//! Bounds of the fan-out.

use std::sync::Arc;
use std::time::Duration;

use evergate_domain::SlowReaders;
use evergate_eventlog::ReadLimit;

/// What a [`Hub`](crate::Hub) may use.
#[derive(Debug, Clone)]
pub struct HubConfig {
    /// Events a stream's ring holds. A reader further behind reads from the log.
    pub ring_events: usize,
    /// Bytes of payload, keys and types a stream's ring holds; at least one event stays.
    pub ring_bytes: u64,
    /// Bytes of log pages kept for those who replay, over all streams.
    pub replay_bytes: u64,
    /// What one page of the log holds.
    pub page: ReadLimit,
    /// Events scanned for a filtered subscriber before it is told its position again.
    pub scan_max: u32,
    /// Bytes a subscriber takes at once before it lets others on.
    pub piece_bytes: usize,
    /// How often it is looked how far those have come whose guards want to know. What they learn is
    /// written at this pace, too.
    pub trail_interval: Duration,
    /// How long a cursor that is ahead of this region is held.
    pub hold: Duration,
    /// How long a connection may take nothing of what it has to get before it is let go.
    pub stall: Duration,
    /// What is done about subscribers that take less than they are sent.
    pub slow: Arc<SlowReaders>,
}

impl Default for HubConfig {
    fn default() -> Self {
        Self {
            ring_events: 4096,
            ring_bytes: 8 << 20,
            replay_bytes: 64 << 20,
            page: ReadLimit { events: 256, bytes: 1 << 20 },
            scan_max: 10_000,
            piece_bytes: 64 << 10,
            trail_interval: Duration::from_secs(5),
            hold: Duration::from_secs(30),
            stall: Duration::from_secs(60),
            slow: Arc::default(),
        }
    }
}
