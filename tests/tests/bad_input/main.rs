//! Wrong input of every kind: a clear answer that says whose fault it was, nothing stored, and the
//! connection usable afterwards.

mod grpc;
mod publish;
mod requests;
mod subscribe;

use evergate_tests::http1::{Connection, Request};
use evergate_tests::process::Evergate;
use evergate_tests::subscription::Subscription;

const EVENTS: &str = "/v1/streams/s/events";

/// Nothing is in stream `s`, and it can still be used.
async fn assert_nothing_stored(server: &Evergate) {
    let mut stream = Subscription::open(server.http(), &format!("{EVENTS}?from=earliest")).await;
    stream.opened().await;
    let good = Request::post(EVENTS, "text/plain", "good");
    let answer = evergate_tests::http1::call(server.http(), good).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let first = stream.event().await;
    assert_eq!((first.data.as_str(), first.offset().seq), ("good", 1), "something was stored before");
}

/// The connection is as good as new, unless the answer said that it would be closed.
async fn assert_usable(mut connection: Connection, closing: bool) {
    if closing {
        connection.closed().await;
        return;
    }
    let answer = connection.call(&Request::get("/v1/route")).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
}
