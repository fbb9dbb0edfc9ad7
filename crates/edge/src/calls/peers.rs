//! The other edges, as far as calls are passed on to them.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use evergate_access::Revocation;
use evergate_domain::NodeName;
use evergate_domain::cluster::Role;
use evergate_member::Placement;
use evergate_proto::edge::v1::edge_client::EdgeClient;
use evergate_proto::edge::v1::{self as proto, RedeemRequest, RevocationsRequest};
use evergate_tls::{Client, Connector};
use http::Uri;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, watch};
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::calls::{Call, CallError};
use crate::config::{EdgeConfig, PeerNode};
use crate::http::registry::node_of;

/// From a call's arrival to its answer, a place among the calls under way included.
const DEADLINE: Duration = Duration::from_secs(2);

/// Calls under way with one peer. More wait, within their deadline; whoever makes them holds a
/// connection, so their number has a bound.
pub(super) const CALLS_MAX: usize = 128;

/// A peer that does not answer a PING, sent this often while calls are under way, within the deadline is
/// dead, and connected to anew.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// The edges that this one knows besides itself: those it was told of, and those of the cluster's view.
pub(crate) struct Peers {
    told: HashMap<String, Arc<Peer>>,
    /// This edge itself, which is in the view, too.
    own: String,
    placement: Option<watch::Receiver<Arc<Placement>>>,
    links: Option<Client>,
    /// Those of the view that were called, as long as they are in it under the same address.
    found: Mutex<HashMap<NodeName, Arc<Peer>>>,
}

struct Peer {
    endpoint: Endpoint,
    tls: Option<Client>,
    /// Made with the first call and kept; it connects anew by itself.
    channel: OnceLock<Channel>,
    places: Semaphore,
    /// Whether the last call could not be made, which is said in the log when it changes: there may be
    /// thousands a second.
    away: AtomicBool,
    /// What it told of revocations last: its incarnation, and how many changes it had seen.
    revocations_seen: Mutex<(u64, u64)>,
}

impl Peers {
    pub(crate) fn new(config: &EdgeConfig) -> Self {
        let EdgeConfig { node, peers, placement, links, .. } = config;
        Self::of(node, peers, placement.clone(), links.clone())
    }

    fn of(
        own: &str,
        peers: &[PeerNode],
        placement: Option<watch::Receiver<Arc<Placement>>>,
        links: Option<Client>,
    ) -> Self {
        let told = peers
            .iter()
            .map(|peer| (peer.node.clone(), Arc::new(Peer::new(peer.grpc.clone(), peer.tls.clone()))));
        Self { told: told.collect(), own: own.to_owned(), placement, links, found: Mutex::default() }
    }

    /// The edge of this name, if there is one.
    fn find(&self, node: &str) -> Option<Arc<Peer>> {
        if let Some(peer) = self.told.get(node) {
            return Some(Arc::clone(peer));
        }
        let placement = self.placement.as_ref()?.borrow().clone();
        let name = NodeName::new(node).ok().filter(|name| name.as_str() != self.own)?;
        let nodes = placement.view.nodes();
        let scheme = if self.links.is_some() { "https" } else { "http" };
        let address = |name: &NodeName| -> Option<Uri> {
            let node = nodes.get(name).filter(|node| node.role == Role::Edge)?;
            format!("{scheme}://{}", node.addresses.grpc.as_ref()?).parse().ok()
        };
        let grpc = address(&name)?;
        let mut found = self.found.lock();
        if let Some(peer) = found.get(&name).filter(|peer| *peer.endpoint.uri() == grpc) {
            return Some(Arc::clone(peer));
        }
        // Nobody is kept who is not in the view, so there are never more than are.
        found.retain(|name, peer| address(name).is_some_and(|grpc| *peer.endpoint.uri() == grpc));
        let peer = Arc::new(Peer::new(grpc, self.links.clone()));
        found.insert(name, Arc::clone(&peer));
        Some(peer)
    }

    /// All of them, by name.
    fn all(&self) -> Vec<(String, Arc<Peer>)> {
        let placement = self.placement.as_ref().map(|placement| placement.borrow().clone());
        let viewed = placement.iter().flat_map(|placement| placement.view.nodes().keys());
        let mut names: Vec<_> = viewed.map(ToString::to_string).chain(self.told.keys().cloned()).collect();
        names.sort_unstable();
        names.dedup();
        names.into_iter().filter_map(|name| self.find(&name).map(|peer| (name, peer))).collect()
    }

    /// Has the edge that the call names do it. [`CallError::Gone`] if there is none of that name.
    pub(super) async fn pass_on(&self, call: Call) -> Result<(), CallError> {
        let node = node_of(call.connection()).to_owned();
        let peer = self.find(&node).ok_or(CallError::Gone)?;
        let word = call.word();
        let made = tokio::time::timeout(DEADLINE, peer.make(call)).await;
        let result = match made {
            Ok(Ok(())) => Ok(()),
            Ok(Err(status)) => Err(CallError::told_by(&node, &status)),
            Err(_) => Err(CallError::Unreachable { node, why: format!("no answer within {DEADLINE:?}") }),
        };
        peer.note(&result);
        let outcome = match &result {
            Ok(()) => "done",
            Err(CallError::Gone) => "gone",
            Err(CallError::Invalid(_)) => "invalid",
            Err(CallError::Unauthorized(_) | CallError::Forbidden(_)) => "denied",
            Err(CallError::Misdirected { .. } | CallError::Unreachable { .. }) => "unreachable",
        };
        metrics::counter!("evergate_calls_passed_on_total", "call" => word, "outcome" => outcome)
            .increment(1);
        result
    }

    /// What a ticket of another edge stands for.
    pub(super) async fn redeem(&self, ticket: &str) -> Result<Vec<u8>, CallError> {
        let node = node_of(ticket).to_owned();
        let unknown = || CallError::Unauthorized("the ticket is of no edge that is known here".to_owned());
        let peer = self.find(&node).ok_or_else(unknown)?;
        match tokio::time::timeout(DEADLINE, peer.redeem(ticket)).await {
            Ok(Ok(claims)) => Ok(claims),
            Ok(Err(status)) => Err(CallError::told_by(&node, &status)),
            Err(_) => Err(CallError::Unreachable { node, why: format!("no answer within {DEADLINE:?}") }),
        }
    }

    /// What the others have called back since they were last asked; whoever cannot be asked now will be
    /// asked again, and tells it then.
    pub(super) async fn revocations(&self) -> Vec<Revocation> {
        let asked = self.all().into_iter().map(|(node, peer)| async move {
            match tokio::time::timeout(DEADLINE, peer.revocations()).await {
                Ok(Ok(revocations)) => revocations,
                Ok(Err(error)) => {
                    tracing::debug!(node, %error, "a peer does not tell what was revoked");
                    Vec::new()
                }
                Err(_) => Vec::new(),
            }
        });
        futures_util::future::join_all(asked).await.concat()
    }
}

impl Peer {
    fn new(grpc: Uri, tls: Option<Client>) -> Self {
        let endpoint = Endpoint::from(grpc)
            .connect_timeout(DEADLINE)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(DEADLINE);
        Self {
            endpoint,
            tls,
            channel: OnceLock::new(),
            places: Semaphore::new(CALLS_MAX),
            away: AtomicBool::new(false),
            revocations_seen: Mutex::default(),
        }
    }

    /// Tells the operator when the peer goes away, and when it is back.
    fn note(&self, result: &Result<(), CallError>) {
        let away = match result {
            Ok(())
            | Err(
                CallError::Gone
                | CallError::Invalid(_)
                | CallError::Unauthorized(_)
                | CallError::Forbidden(_),
            ) => false,
            Err(CallError::Misdirected { .. } | CallError::Unreachable { .. }) => true,
        };
        if self.away.swap(away, Ordering::Relaxed) == away {
            return;
        }
        match result {
            Err(error) if away => {
                tracing::warn!(%error, "calls about the streams of a peer are answered 503");
            }
            Ok(()) | Err(_) => {
                tracing::info!(address = %self.endpoint.uri(), "a peer takes calls again");
            }
        }
    }

    fn client(&self) -> EdgeClient<Channel> {
        EdgeClient::new(self.channel.get_or_init(|| self.connect()).clone())
    }

    async fn redeem(&self, ticket: &str) -> Result<Vec<u8>, Status> {
        let _place = self.places.acquire().await.expect("it is never closed");
        let request = within(RedeemRequest { ticket: ticket.to_owned() });
        Ok(self.client().redeem(request).await?.into_inner().claims)
    }

    async fn revocations(&self) -> Result<Vec<Revocation>, Status> {
        let (incarnation, version) = *self.revocations_seen.lock();
        let request = within(RevocationsRequest { incarnation, version });
        let told = self.client().revocations(request).await?.into_inner();
        *self.revocations_seen.lock() = (told.incarnation, told.version);
        // What is no digest is of a version that we do not know.
        let revocation = |told: proto::Revocation| {
            Some(Revocation { digest: told.digest.try_into().ok()?, until: told.until })
        };
        Ok(told.revocations.into_iter().filter_map(revocation).collect())
    }

    fn connect(&self) -> Channel {
        match &self.tls {
            Some(tls) => self.endpoint.connect_with_connector_lazy(Connector::new(tls.clone())),
            None => self.endpoint.connect_lazy(),
        }
    }

    async fn make(&self, call: Call) -> Result<(), Status> {
        let _place = self.places.acquire().await.expect("it is never closed");
        let mut client = self.client();
        // The peer, too, is to give up what nobody waits for any more.
        match call {
            Call::Ping(ping) => client.ping(within(ping)).await.map(drop),
            Call::Acknowledge(acknowledge) => client.acknowledge(within(acknowledge)).await.map(drop),
            Call::Renew(renew) => client.renew(within(renew)).await.map(drop),
        }
    }
}

fn within<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(DEADLINE);
    request
}

#[cfg(test)]
mod tests {
    use super::*;
    use evergate_proto::edge::v1::PingRequest;

    fn ping(node: &str) -> Call {
        Call::Ping(PingRequest { connection: format!("{node}~0~0~1~0000000000000000") })
    }

    fn peers(grpc: std::net::SocketAddr) -> Peers {
        let grpc = format!("http://{grpc}").parse().expect("a URI");
        Peers::of("a", &[PeerNode { node: "b".to_owned(), grpc, tls: None }], None, None)
    }

    #[tokio::test]
    async fn a_node_that_nobody_knows_has_no_streams() {
        let peers = peers(([127, 0, 0, 1], 1).into());
        assert!(matches!(peers.pass_on(ping("c")).await, Err(CallError::Gone)));
        assert!(matches!(peers.pass_on(ping("")).await, Err(CallError::Gone)));
    }

    #[test]
    fn a_node_of_the_view_is_a_peer_under_the_address_that_it_has_now() {
        use evergate_domain::cluster::testing::edge;
        use evergate_domain::cluster::{Addresses, Change, Node, View};
        let placed = |address: Option<&str>| {
            let grpc = address.map(|address| address.parse().expect("an address"));
            let at = Addresses { grpc, ..Addresses::default() };
            let node = |name: &str| Node { addresses: at.clone(), ..edge(name) };
            let control = Node { role: Role::Control, ..node("control") };
            let mut view = View::default();
            view.advance([node("a"), node("b"), control].map(Box::new).map(Change::Node).into());
            Arc::new(Placement::new(view, Default::default()))
        };
        let (now, placement) = watch::channel(placed(Some("b:1")));
        let peers = Peers::of("a", &[], Some(placement), None);
        let uri = |peers: &Peers| peers.find("b").map(|peer| peer.endpoint.uri().to_string());
        assert_eq!(uri(&peers).as_deref(), Some("http://b:1/"));
        let (one, again) = (peers.find("b").expect("there"), peers.find("b").expect("there"));
        assert!(Arc::ptr_eq(&one, &again), "its connection is kept");
        now.send_replace(placed(Some("b:2")));
        assert_eq!(uri(&peers).as_deref(), Some("http://b:2/"));
        now.send_replace(placed(None));
        assert_eq!(uri(&peers), None);
        for none in ["a", "c", "control"] {
            assert!(peers.find(none).is_none(), "{none} is no other edge");
        }
    }

    #[tokio::test]
    async fn a_peer_that_accepts_and_says_nothing_costs_no_more_than_the_deadline() {
        let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let peers = peers(silent.local_addr().expect("bound"));
        let began = std::time::Instant::now();
        // Half of them only ever wait for a place.
        let calls = (0..CALLS_MAX * 2).map(|_| peers.pass_on(ping("b")));
        for result in futures_util::future::join_all(calls).await {
            assert!(matches!(result, Err(CallError::Unreachable { .. })), "{result:?}");
        }
        assert!(began.elapsed() < DEADLINE * 5, "they wait together, not one after the other");
        assert_eq!(peers.told["b"].places.available_permits(), CALLS_MAX);
    }
}
