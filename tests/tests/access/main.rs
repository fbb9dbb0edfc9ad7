//! Who is let in, and who is not: tokens over real sockets.

mod going_on;
mod issuers;
mod limits;
mod memory;
mod outlived;
mod places;
mod publish;
mod revocation;
mod secrets;
mod subscribe;
mod unknown;

use evergate_tests::http1::Request;
use evergate_tests::issuer::Issuer;
use evergate_tests::process::{Evergate, Options};
use serde_json::Value;

const EVENTS: &str = "/v1/streams/quote/events";

/// A server that asks for tokens, and who makes them. Anybody may read `open` and write to `in`.
async fn guarded() -> (Issuer, Evergate) {
    guarded_with(|options| options).await
}

async fn guarded_with(more: impl FnOnce(Options) -> Options) -> (Issuer, Evergate) {
    let issuer = Issuer::new("issuer");
    let options = issuer
        .guard(Options::memory())
        .set("access.anonymous_subscribe", "open")
        .set("access.anonymous_publish", "in,quote,secret,open");
    let server = Evergate::start(more(options)).await;
    (issuer, server)
}

fn bearer(request: Request, token: &str) -> Request {
    request.header("Authorization", format!("Bearer {token}"))
}

/// What a problem says, without what differs from one to the next.
fn told(problem: &Value) -> String {
    format!("{} {} {}", problem["code"], problem["title"], problem["detail"])
}
