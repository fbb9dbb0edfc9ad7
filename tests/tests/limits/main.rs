//! Who comes, how many, how fast, and whether they are still there.

mod connections;
mod floods;
mod leaks;
mod memory;
mod names;
mod processes;
mod proxies;
mod publishers;
mod silent;
mod stalls;
mod streams;
mod vanished;
mod windows;

pub(crate) use evergate_tests::figures::{metric, until_counted, until_metric, value_on};

/// What says how much a process holds.
pub(crate) const GAUGES: [&str; 7] = [
    "evergate_streams_open",
    "evergate_connections_open",
    "evergate_connections_parked",
    "evergate_streams_followed",
    "evergate_runtime_tasks",
    "evergate_streams_leased",
    "evergate_cursors_waiting",
];

/// The events of a stream.
pub(crate) fn events_of(stream: &str) -> String {
    format!("/v1/streams/{stream}/events")
}
