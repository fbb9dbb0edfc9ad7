//! Bounds of the fan-out.

use std::sync::Arc;
use std::time::Duration;

use evergate_domain::{RetryRange, SlowReaders};
use evergate_eventlog::ReadLimit;
use evergate_telemetry::Tracer;

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
    /// How long streams go on after they were told that the hub ends them, within its window: the time
    /// in which a client can open another one first.
    pub goaway_lead: Duration,
    /// When they are to come back, until [`Retries`](crate::Retries) are set to something else.
    pub retry: RetryRange,
    /// What is done about subscribers that take less than they are sent.
    pub slow: Arc<SlowReaders>,
    /// Where it is told what became of events whose traces are kept.
    pub tracer: Tracer,
}

impl HubConfig {
    /// How many events a subscriber passes over before it is told where it is. Half of what it may be,
    /// because those who want other keys are looked at only as often.
    pub(crate) fn call_after(&self) -> u32 {
        (self.scan_max / 2).max(1)
    }

    /// When a stream is told that it ends, within a window from now, and how long before its end.
    pub(crate) fn leave_within(&self, window: Duration) -> (Duration, Duration) {
        let lead = self.goaway_lead.min(window);
        ((window - lead).mul_f64(fastrand::f64()), lead)
    }
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
            goaway_lead: Duration::from_secs(1),
            retry: RetryRange::new(Duration::from_secs(1), Duration::from_secs(10)).expect("in order"),
            slow: Arc::default(),
            tracer: Tracer::off(),
        }
    }
}
