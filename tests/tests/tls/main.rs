//! TLS at the listeners of the real binary.

mod clients;
mod early;
mod files;
mod grpc;
mod listener;

use evergate_tests::authority::{Authority, Signed, over_tls};
use evergate_tests::figures;
use evergate_tests::process::{Evergate, Options};

const EVENTS: &str = "/v1/streams/s/events";

/// What a server stands for in these tests.
const HERE: [&str; 2] = ["localhost", "127.0.0.1"];

/// An authority, what it signed for the server, and the server.
async fn server(options: Options) -> (Authority, Signed, Evergate) {
    let authority = Authority::new();
    let shown = authority.sign("edge", &HERE);
    let server = Evergate::start(over_tls(options, &shown)).await;
    (authority, shown, server)
}

/// The sum of a metric over the series with these labels; 0 if there is none.
async fn metric(server: &Evergate, name: &str, labels: &[&str]) -> f64 {
    figures::series(&figures::page(server).await, name, labels).iter().map(|(_, value)| value).sum()
}
