//! Which gRPC connections are taken in, and how many.

use std::net::SocketAddr;
use std::sync::Arc;

use evergate_domain::{AddressGroup, ClientAddress};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::config::{GrpcLimits, Proxies};
use crate::http::tally::{Place, Tally};

const PAUSES: &str = "evergate_grpc_accept_pauses_total";
const REFUSED: &str = "evergate_grpc_connections_refused_total";

/// Decides when the next connection is accepted and whether it stays. What may not come in yet waits in
/// the listener's queue.
pub(super) struct Door {
    places: Arc<Semaphore>,
    by_address: Option<Tally<AddressGroup>>,
    proxies: Arc<Proxies>,
}

/// A connection's places; given back when dropped.
#[expect(dead_code, reason = "held, not read")]
pub(super) struct Held {
    among_all: OwnedSemaphorePermit,
    among_its_address: Option<Place<AddressGroup>>,
}

impl Door {
    pub(super) fn new(limits: GrpcLimits, proxies: Arc<Proxies>) -> Self {
        Self {
            places: Arc::new(Semaphore::new(limits.connections_max.get())),
            by_address: limits.connections_per_address.map(Tally::new),
            proxies,
        }
    }

    /// Waits until one more may come in. Cancel-safe.
    pub(super) async fn opens(&self) -> OwnedSemaphorePermit {
        if let Ok(permit) = Arc::clone(&self.places).try_acquire_owned() {
            return permit;
        }
        metrics::counter!(PAUSES).increment(1);
        Arc::clone(&self.places).acquire_owned().await.expect("never closed")
    }

    /// Lets a connection in that was accepted, unless its address has as many already. A trusted proxy is
    /// many clients, and has no such bound.
    pub(super) fn admit(&self, from: SocketAddr, among_all: OwnedSemaphorePermit) -> Option<Held> {
        let client = ClientAddress::resolve(&self.proxies.trusted, from.ip(), []);
        let among_its_address = match self.by_address.as_ref().filter(|_| !client.is_proxied()) {
            Some(tally) => match tally.enter(client.group()) {
                Some(place) => Some(place),
                None => {
                    metrics::counter!(REFUSED).increment(1);
                    return None;
                }
            },
            None => None,
        };
        Some(Held { among_all, among_its_address })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::num::{NonZeroU32, NonZeroUsize};

    fn from(address: &str) -> SocketAddr {
        SocketAddr::new(address.parse().expect("an address"), 4711)
    }

    #[tokio::test]
    async fn an_address_that_has_all_it_may_holds_up_nobody_else() {
        let limits = GrpcLimits {
            connections_max: NonZeroUsize::new(4).expect("four"),
            connections_per_address: NonZeroU32::new(1),
            first_word_timeout: std::time::Duration::from_secs(5),
        };
        let trusted = vec!["192.0.2.99".parse().expect("an address")];
        let proxies = Proxies { trusted, ..Proxies::default() };
        let door = Door::new(limits, Arc::new(proxies));
        let first = door.admit(from("192.0.2.1"), door.opens().await).expect("room");
        assert!(door.admit(from("192.0.2.1"), door.opens().await).is_none());
        let other = door.admit(from("192.0.2.2"), door.opens().await).expect("its own");
        for _ in 0..2 {
            let proxy = door.admit(from("192.0.2.99"), door.opens().await);
            assert!(proxy.is_some(), "many clients");
        }
        drop(first);
        assert!(door.admit(from("192.0.2.1"), door.opens().await).is_some(), "a place was given back");
        drop(other);
        assert_eq!(door.places.available_permits(), 4, "nothing is kept of whoever is gone");
    }
}
