//! When the next connection is accepted. What may not come in yet waits in the listener's queue, where
//! it costs nothing and is not refused.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use evergate_domain::{AddressGroup, ClientAddress, Rate};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

use crate::config::{ConnectionLimits, Proxies};
use crate::http::tally::{Place, Tally};

/// A rest after the system had no descriptor or memory for a connection: long enough for some to come
/// free, instead of asking again at once.
const REST: Duration = Duration::from_millis(100);

const PAUSES: &str = "evergate_accept_pauses_total";

/// Connections that were closed before they were answered.
pub(crate) const REFUSED: &str = "evergate_connections_refused_total";

/// Decides when to accept.
pub(crate) struct Door {
    places: Arc<Semaphore>,
    pending: Arc<Semaphore>,
    by_address: Option<Tally<AddressGroup>>,
    pending_by_address: Option<Tally<AddressGroup>>,
    accepts: Option<Rate>,
    begun: Instant,
    full_at: u64,
    /// Whether the last accept failed for want of something.
    short: bool,
}

/// A connection's place among all, and its first request head, which is waited for.
pub(crate) struct Entry {
    pub(crate) held: Held,
    pub(crate) first_head: FirstHead,
}

/// A connection's places; given back when dropped.
#[expect(dead_code, reason = "held, not read")]
pub(crate) struct Held {
    among_all: OwnedSemaphorePermit,
    /// In a box, as most servers set no such bound, and there may be many connections.
    among_its_address: Option<Box<Place<AddressGroup>>>,
}

/// A place among those that have asked for nothing yet; given back with the first head.
pub(crate) struct FirstHead {
    pending: Mutex<Option<Pending>>,
    here: Notify,
}

#[expect(dead_code, reason = "held, not read")]
struct Pending {
    among_all: OwnedSemaphorePermit,
    among_its_address: Option<Place<AddressGroup>>,
}

impl FirstHead {
    /// It is here.
    pub(crate) fn arrived(&self) {
        if self.pending.lock().take().is_some() {
            self.here.notify_one();
        }
    }

    pub(crate) fn is_awaited(&self) -> bool {
        self.pending.lock().is_some()
    }

    /// Waits until it is here. Cancel-safe, for one waiter.
    pub(crate) async fn came(&self) {
        while self.is_awaited() {
            self.here.notified().await;
        }
    }
}

impl Door {
    pub(crate) fn new(limits: &ConnectionLimits) -> Self {
        Self {
            places: Arc::new(Semaphore::new(limits.places())),
            pending: Arc::new(Semaphore::new(limits.pending_max)),
            by_address: limits.connections_per_address.map(Tally::new),
            pending_by_address: limits.pending_per_address.map(Tally::new),
            accepts: limits.accepts,
            begun: Instant::now(),
            full_at: 0,
            short: false,
        }
    }

    /// Waits until one more may come in. Cancel-safe.
    pub(crate) async fn opens(&mut self) -> Entry {
        let place = permit(&self.places, "connections").await;
        let pending = permit(&self.pending, "pending").await;
        if let Some(rate) = self.accepts {
            self.pace(rate).await;
        }
        let pending = Pending { among_all: pending, among_its_address: None };
        let held = Held { among_all: place, among_its_address: None };
        Entry { held, first_head: FirstHead { pending: Mutex::new(Some(pending)), here: Notify::new() } }
    }

    /// Lets a connection in that was accepted, unless its address has as many already, or as many that wait:
    /// else one address could hold up all others. A trusted proxy is many clients, and has no such bounds.
    pub(crate) fn admit(&self, from: SocketAddr, entry: &mut Entry, proxies: &Proxies) -> bool {
        let client = ClientAddress::resolve(&proxies.trusted, from.ip(), []);
        if client.is_proxied() {
            return true;
        }
        if let Some(tally) = &self.by_address {
            let Some(place) = tally.enter(client.group()) else {
                metrics::counter!(REFUSED, "reason" => "connections-of-address").increment(1);
                return false;
            };
            entry.held.among_its_address = Some(Box::new(place));
        }
        if let Some(tally) = &self.pending_by_address {
            let Some(place) = tally.enter(client.group()) else {
                metrics::counter!(REFUSED, "reason" => "pending-of-address").increment(1);
                return false;
            };
            if let Some(pending) = &mut *entry.first_head.pending.lock() {
                pending.among_its_address = Some(place);
            }
        }
        true
    }

    async fn pace(&mut self, rate: Rate) {
        loop {
            let now = u64::try_from(self.begun.elapsed().as_nanos()).expect("five hundred years are enough");
            match rate.take(self.full_at, now, 1) {
                Ok((full_at, _)) => {
                    self.full_at = full_at;
                    return;
                }
                Err(too_fast) => {
                    metrics::counter!(PAUSES, "reason" => "rate").increment(1);
                    tokio::time::sleep(too_fast.after).await;
                }
            }
        }
    }

    /// A connection was accepted.
    pub(crate) fn accepted(&mut self) {
        if std::mem::take(&mut self.short) {
            tracing::info!("connections are accepted again");
        }
        metrics::counter!("evergate_connections_total").increment(1);
    }

    /// One could not be accepted. Rests if that was not the connection's own fault, and says so once.
    pub(crate) async fn failed(&mut self, error: &io::Error) {
        use rustix::io::Errno;
        let short = Errno::from_io_error(error)
            .is_some_and(|errno| matches!(errno, Errno::MFILE | Errno::NFILE | Errno::NOBUFS | Errno::NOMEM));
        if !short {
            tracing::debug!(%error, "a connection was gone before it was accepted");
            return;
        }
        if !std::mem::replace(&mut self.short, true) {
            tracing::error!(%error, "no connection can be accepted; those that come wait");
        }
        metrics::counter!(PAUSES, "reason" => "descriptors").increment(1);
        tokio::time::sleep(REST).await;
    }
}

/// Waits for a permit, and counts that it had to.
async fn permit(permits: &Arc<Semaphore>, reason: &'static str) -> OwnedSemaphorePermit {
    if let Ok(permit) = Arc::clone(permits).try_acquire_owned() {
        return permit;
    }
    metrics::counter!(PAUSES, "reason" => reason).increment(1);
    Arc::clone(permits).acquire_owned().await.expect("never closed")
}
