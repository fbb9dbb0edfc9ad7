//! What was measured, for people and for programs.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::histogram::Histogram;

/// All that a run has found. Times of the server's CPU and its memory are null where no process was named.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    /// Whether everybody was let in and got every event once and in order.
    pub(super) sound: bool,
    /// Why the load ended early, if it did.
    pub(super) error: Option<String>,
    pub(super) subscribers: Subscribers,
    pub(super) published: Published,
    pub(super) delivered: Delivered,
    /// From the moment an event was due until a subscriber had read it.
    pub(super) latency: Spread,
    /// CPU time of this command itself.
    pub(super) own_cpu_seconds: f64,
}

#[derive(Debug, Serialize)]
pub(super) struct Subscribers {
    pub(super) wanted: u32,
    pub(super) opened: u64,
    /// Not let in, or cut off.
    pub(super) lost: u64,
    pub(super) opened_per_second: f64,
    /// Anonymous memory of the server for each, while nothing was published yet.
    pub(super) memory_bytes_each: Option<f64>,
}

#[derive(Debug, Serialize)]
pub(super) struct Published {
    pub(super) events: u64,
    pub(super) per_second: f64,
    /// From the moment an event was due until it was acknowledged.
    pub(super) acknowledged: Spread,
}

#[derive(Debug, Serialize)]
pub(super) struct Delivered {
    pub(super) expected: u64,
    pub(super) received: u64,
    pub(super) lost: u64,
    /// Or out of order.
    pub(super) repeated: u64,
    /// Losses that were told.
    pub(super) gaps: u64,
    pub(super) per_second: f64,
    pub(super) bytes_each: f64,
    /// All that the server did during the load, publishing included.
    pub(super) server_cpu_micros_each: Option<f64>,
}

/// In milliseconds; null where nothing was measured.
#[derive(Debug, Serialize)]
pub(super) struct Spread {
    pub(super) p50_ms: Option<f64>,
    pub(super) p99_ms: Option<f64>,
    pub(super) max_ms: Option<f64>,
}

impl Spread {
    pub(super) fn of(histogram: &Histogram) -> Self {
        let at = |share| histogram.quantile(share).map(|took| took.as_secs_f64() * 1e3);
        Self { p50_ms: at(0.5), p99_ms: at(0.99), max_ms: at(1.0) }
    }

    fn text(&self) -> String {
        let at = |millis: Option<f64>| millis.map_or_else(|| "-".to_owned(), |millis| format!("{millis:.2}"));
        format!("p50 {} ms, p99 {} ms, at most {} ms", at(self.p50_ms), at(self.p99_ms), at(self.max_ms))
    }
}

/// How much that is for each; nothing if there are none.
#[expect(clippy::cast_precision_loss, reason = "a figure for people, not a count")]
pub(super) fn each(total: f64, count: u64) -> f64 {
    if count == 0 { 0.0 } else { total / count as f64 }
}

/// How many that is a second.
#[expect(clippy::cast_precision_loss, reason = "a figure for people, not a count")]
pub(super) fn per_second(count: u64, took: Duration) -> f64 {
    count as f64 / took.as_secs_f64().max(1e-9)
}

impl Report {
    /// A few lines.
    pub(super) fn text(&self) -> String {
        let Self { subscribers, published, delivered, .. } = self;
        let mut text = String::new();
        // Writing to a string cannot fail.
        let mut line = |name: &str, told: String| {
            let _ = writeln!(text, "{name:<12}{told}");
        };
        let of_memory =
            subscribers.memory_bytes_each.map_or_else(String::new, |bytes| format!(", {bytes:.0} B each"));
        line(
            "subscribers",
            format!(
                "{} of {} opened, {:.0}/s, {} lost{of_memory}",
                subscribers.opened, subscribers.wanted, subscribers.opened_per_second, subscribers.lost
            ),
        );
        line(
            "published",
            format!(
                "{} events, {:.1}/s; acknowledged {}",
                published.events,
                published.per_second,
                published.acknowledged.text()
            ),
        );
        line(
            "delivered",
            format!(
                "{} of {}, {:.0}/s, {:.0} B each; {} lost, {} repeated, {} gaps told",
                delivered.received,
                delivered.expected,
                delivered.per_second,
                delivered.bytes_each,
                delivered.lost,
                delivered.repeated,
                delivered.gaps
            ),
        );
        line("latency", self.latency.text());
        if let Some(micros) = delivered.server_cpu_micros_each {
            line("server CPU", format!("{micros:.2} µs a delivery, publishing included"));
        }
        line("own CPU", format!("{:.2} s", self.own_cpu_seconds));
        if let Some(error) = &self.error {
            line("ended early", error.clone());
        }
        text
    }
}
