//! Where a client comes from, told to the edge by the PROXY protocol, version 2, of a real HAProxy and a
//! real Envoy: the lines that stand in their files as comments, taken in.

use std::net::Ipv4Addr;

use evergate_tests::http1::{Connection, Request};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::proxy::{Product, Proxy, Upstream};
use evergate_tests::subscription::Subscription;
use serde_json::json;

use crate::EVENTS;

const ONE: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 7);
const OTHER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 8);

/// Only the proxy's own address is believed, and nothing but what it says by the protocol.
fn edge() -> Options {
    Options::memory()
        .set("http.trusted_proxies", "127.0.0.1")
        .set("http.proxy_protocol", "require")
        .set("http.forwarded_header", "none")
        .set("limits.streams_per_address", "1")
}

async fn seen(connection: &mut Connection) -> serde_json::Value {
    let forged = Request::get("/v1/route").header("X-Forwarded-For", "192.0.2.66");
    connection.call(&forged).await.json()["client"].clone()
}

async fn subscribe(proxy: &Proxy, from: Ipv4Addr) -> Subscription {
    let mut connection = proxy.connect_from(from).await;
    connection.send(&Request::get(EVENTS)).await;
    Subscription::over(connection).await.expect("an answer")
}

async fn the_edge_sees_the_client(test: &str, product: Product, changes: &[(&str, &str)]) {
    let server = Evergate::start(edge()).await;
    // In both places, so that it counts all streams.
    let behind = [Upstream::of(&server); 2];
    let Some(proxy) = Proxy::changed(test, product, behind, changes).await else { return };
    // Turn by turn, so that a connection which the proxy used for one would be used for the other.
    for _ in 0..2 {
        for from in [ONE, OTHER] {
            let mut connection = proxy.connect_from(from).await;
            let expected = json!({ "address": from.to_string(), "proxied": true });
            assert_eq!(seen(&mut connection).await, expected);
            assert_eq!(seen(&mut connection).await, expected, "on the same connection");
        }
    }
    let mut first = subscribe(&proxy, ONE).await;
    first.opened().await;
    let busy = subscribe(&proxy, ONE).await.control("evergate.busy").await;
    assert_eq!(busy.json()["reason"], "too many streams from this address");
    subscribe(&proxy, OTHER).await.opened().await;
}

#[tokio::test]
async fn haproxy_tells_it() {
    let line = |line: &str| (line.to_owned(), format!("{line} send-proxy-v2"));
    let lines = [line("server edge1 127.0.0.1:8080"), line("server edge2 127.0.0.1:9080 port 9082")];
    let changes = lines.each_ref().map(|(from, to)| (from.as_str(), to.as_str()));
    the_edge_sees_the_client("haproxy_tells_it", Product::HaProxy, &changes).await;
}

#[tokio::test]
async fn envoy_tells_it() {
    let file = evergate_tests::clients::checkout().join("deploy/proxies/envoy.yaml");
    let text = std::fs::read_to_string(file).expect("the file is documented");
    // What stands there as comments from its first line on.
    let taken_in = |first: &str| {
        let from = text.find(first).expect("it is documented");
        let indent = first.find('#').expect("it is a comment");
        let block = text[from..].lines().take_while(|line| line.get(indent..indent + 1) == Some("#"));
        let block: Vec<_> = block.collect();
        let lines = block.iter().map(|line| line.replacen("# ", "", 1));
        (block.join("\n"), lines.collect::<Vec<_>>().join("\n"))
    };
    let blocks = [
        taken_in("      # transport_socket_matches:"),
        taken_in("          # transport_socket_match_criteria:"),
    ];
    let changes = blocks.each_ref().map(|(from, to)| (from.as_str(), to.as_str()));
    the_edge_sees_the_client("envoy_tells_it", Product::Envoy, &changes).await;
}
