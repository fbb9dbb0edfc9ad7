//! What a subscriber is promised, checked byte by byte where bytes are what was promised.

mod admin;
mod compression;
mod cors;
mod ending;
mod filters;
mod frames;
mod gaps;
mod headers;
mod http2;
mod lease;
mod lifetimes;
mod overlap;
mod refusals;
mod resume;
mod several;
mod stored;

/// The path of a stream's events.
fn events_of(stream: &str) -> String {
    format!("/v1/streams/{stream}/events")
}
