//! What a publisher is promised.

mod batch;
mod call;
mod http;
mod services;
mod unary;

use evergate_tests::offset::{Offset, offset};
use evergate_tests::process::Evergate;
use evergate_tests::subscription::Subscription;

/// Everything stream `s` holds: offsets and texts, in order. `n` events are expected; one more would
/// be noticed, because a marker is published after them.
async fn stored(server: &Evergate, n: usize) -> Vec<(Offset, String)> {
    let mut stream = Subscription::open(server.http(), "/v1/streams/s/events?from=earliest").await;
    stream.opened().await;
    let marker = evergate_tests::http1::Request::post("/v1/streams/s/events", "text/plain", "marker");
    let answer = evergate_tests::http1::call(server.http(), marker).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let frames = stream.events(n + 1).await;
    let mut events: Vec<_> = frames.into_iter().map(|frame| (frame.offset(), frame.data)).collect();
    let last = events.pop().expect("the marker");
    assert_eq!(last.1, "marker", "more was stored than was expected");
    assert_eq!(last.0, offset(answer.json()["offset"].as_str().expect("an offset")));
    events
}
