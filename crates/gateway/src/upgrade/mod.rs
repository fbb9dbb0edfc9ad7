//! The change from one process to the next on one host, without a refused connection.
//!
//! ```text
//!   old process                          successor
//!       │  ◀──────────── hello ───────────── │   who it is, and which log it will use
//!       │  ── listeners (SCM_RIGHTS) ──────▶ │   the same sockets, the same queues
//!       │                                    │   … starts, and begins to accept
//!       │  ◀──────────── ready ───────────── │
//!       │  ── draining ────────────────────▶ │   … becomes ready, and waits for its own successor
//!       ▼ drains as at SIGTERM, exits 0      ▼
//! ```
//!
//! Owns how listeners come into a process that did not bind them: from its predecessor, or from
//! systemd. Promises: a listener is never closed while its queue may hold somebody, as long as one of
//! both processes lives; a successor that fails before it is ready changes nothing; no wait is without
//! a bound. Must never know what is served on the listeners.

mod activation;
mod listeners;
mod message;
mod offer;
mod place;
mod predecessor;
mod wire;

use std::path::Path;

use anyhow::{Context as _, bail};

use crate::config::Config;

pub(crate) use activation::activated;
pub(crate) use listeners::Listeners;
pub(crate) use offer::{Offer, Successor};
pub(crate) use predecessor::{Confirmed, Predecessor};

/// The listeners there are already, and the process that still serves on them, if there is one.
pub(crate) async fn begin(
    config: &Config,
    activated: Listeners,
) -> anyhow::Result<(Listeners, Option<Predecessor>)> {
    let Some(path) = &config.upgrade_socket else { return Ok((activated, None)) };
    let found = Predecessor::find(path, &config.log.to_string()).await.with_context(|| cannot(path))?;
    let Some((predecessor, listeners)) = found else { return Ok((activated, None)) };
    if !activated.is_empty() {
        bail!(
            "systemd hands over listeners, and so does the running process at {}: take one way, not both",
            path.display()
        );
    }
    listeners
        .must_be_at(config.http.address, config.grpc.address, config.admin_address)
        .with_context(|| cannot(path))?;
    Ok((listeners, Some(predecessor)))
}

fn cannot(path: &Path) -> String {
    format!("cannot take over from the running process at {}", path.display())
}

/// Waits for a successor that has taken over; for ever where none can come. Cancel-safe: a handover
/// that is broken off leaves the successor the only one.
pub(crate) async fn taken_over(offer: &mut Option<Offer>) -> Successor {
    match offer {
        Some(offer) => offer.taken().await,
        None => std::future::pending().await,
    }
}
