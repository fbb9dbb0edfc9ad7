//! Two edges behind a proxy.

use std::collections::BTreeMap;

use evergate_tests::http1::Request;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::proxy::{Product, Proxy, Upstream};
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::subscription::Subscription;

use crate::{EVENTS, through_each};

through_each!(
    streams_go_to_the_edge_with_fewer_of_them,
    a_client_keeps_its_edge_by_its_address,
    the_other_edge_takes_over,
    more_streams_than_defaults_allow,
);

const STREAMS: usize = 40;
/// Envoy's circuit breakers open at 1,024 unless told otherwise.
const MANY: usize = 1_100;
/// On one connection of a browser; all three allow so many.
const PER_CONNECTION: usize = 100;

async fn edges() -> [Evergate; 2] {
    let edge = |node: &str| Evergate::start(Options::memory().set("node", node));
    [edge("a").await, edge("b").await]
}

fn upstreams(servers: &[Evergate; 2]) -> [Upstream; 2] {
    servers.each_ref().map(Upstream::of)
}

/// Opens many streams; says on which edge each came to lie.
async fn spread(proxy: &Proxy) -> (Vec<Subscription>, BTreeMap<String, usize>) {
    let (mut open, mut spread) = (Vec::new(), BTreeMap::new());
    for _ in 0..STREAMS {
        let mut stream = proxy.subscribe(&Request::get(EVENTS)).await;
        *spread.entry(node(&mut stream).await).or_default() += 1;
        open.push(stream);
    }
    (open, spread)
}

/// The edge a stream lies on: connection ids begin with its name.
async fn node(stream: &mut Subscription) -> String {
    let connection = stream.opened().await.connection;
    connection.split('~').next().expect("split gives one at least").to_owned()
}

async fn streams_go_to_the_edge_with_fewer_of_them(test: &str, product: Product) {
    let servers = edges().await;
    let Some(proxy) = Proxy::start(test, product, upstreams(&servers)).await else { return };
    let (_open, spread) = spread(&proxy).await;
    // Envoy compares two that it draws; the others compare all.
    for node in ["a", "b"] {
        let share = spread.get(node).copied().unwrap_or(0);
        assert!((STREAMS / 4..=STREAMS * 3 / 4).contains(&share), "{spread:?}");
    }
}

async fn a_client_keeps_its_edge_by_its_address(test: &str, product: Product) {
    let instead: &[(&str, &str)] = match product {
        Product::Nginx => &[("least_conn;", ""), ("# hash $binary_remote_addr", "hash $binary_remote_addr")],
        Product::HaProxy => &[
            ("balance leastconn\n    # balance source                     #", "balance source #"),
            ("# hash-type consistent", "hash-type consistent"),
        ],
        Product::Envoy => &[
            ("lb_policy: LEAST_REQUEST\n      # lb_policy: RING_HASH", "lb_policy: RING_HASH"),
            ("# hash_policy:", "hash_policy:"),
        ],
    };
    let servers = edges().await;
    let Some(proxy) = Proxy::changed(test, product, upstreams(&servers), instead).await else { return };
    let (_open, spread) = spread(&proxy).await;
    assert_eq!(spread.len(), 1, "one address, one edge: {spread:?}");
}

async fn the_other_edge_takes_over(test: &str, product: Product) {
    let mut servers = edges().await;
    let Some(proxy) = Proxy::start(test, product, upstreams(&servers)).await else { return };
    for gone in [0, 1] {
        let left = ["b", "a"][gone];
        servers[gone].kill();
        // At once, and every time: not only when a health check has noticed. They stay open, so that to
        // a balancer the one that is gone looks like the one with the fewest.
        let mut open = Vec::new();
        for _ in 0..10 {
            let mut stream = proxy.subscribe(&Request::get(EVENTS)).await;
            assert_eq!(node(&mut stream).await, left);
            open.push(stream);
        }
        servers[gone].restart().await;
        // Until the proxy gives it something to do again.
        loop {
            let mut stream = proxy.subscribe(&Request::get(EVENTS)).await;
            if node(&mut stream).await != left {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    }
}

async fn more_streams_than_defaults_allow(test: &str, product: Product) {
    let servers = edges().await;
    // All at one edge: limits are often per upstream.
    let behind = [Upstream::of(&servers[0]); 2];
    let Some(proxy) = Proxy::start(test, product, behind).await else { return };
    let (mut clients, mut open) = (Vec::new(), Vec::new());
    for _ in 0..MANY / PER_CONNECTION {
        let mut client = proxy.http2().await;
        for _ in 0..PER_CONNECTION {
            let mut stream = Subscription::over_http2(&mut client, EVENTS, &[]).await;
            // Not `busy`, which would be a stream as well.
            stream.opened().await;
            open.push(stream);
        }
        clients.push(client);
    }
    let publisher = Publisher::connect(servers[0].grpc()).await;
    publisher.publish("s", event("to all of them")).await;
    for stream in &mut open {
        assert_eq!(stream.data(1).await, ["to all of them"]);
    }
}
