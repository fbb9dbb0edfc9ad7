//! Finding out that a peer no longer answers, although its system still does.

use std::pin::pin;
use std::time::Duration;

use h2::{Ping, PingPong};
use tokio::time::{sleep, timeout};

use crate::http::http2::gate::Gate;

/// How often a peer is asked.
const PING_INTERVAL: Duration = Duration::from_secs(20);

/// Waits until the peer has neither answered nor sent anything else for `patience`. One that only takes
/// its time still says what it has taken.
pub(super) async fn lost(mut pings: PingPong, gate: &Gate, patience: Duration) {
    loop {
        sleep(PING_INTERVAL.min(patience)).await;
        gate.take_heard();
        let mut pong = pin!(pings.ping(Ping::opaque()));
        loop {
            match timeout(patience, &mut pong).await {
                Ok(Ok(_)) => break,
                // The connection is over, which shows elsewhere.
                Ok(Err(_)) => std::future::pending().await,
                Err(_) if gate.take_heard() => {}
                Err(_) => return,
            }
        }
    }
}
