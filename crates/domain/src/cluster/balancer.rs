//! The edges of a region as data for a balancer that has a ring of its own.
//!
//! Such a balancer places clients otherwise than [`crate::cluster::Ring`] does, but it keeps them: the same
//! client comes to the same edge, and when an edge goes its clients move (with nginx nobody else's; Envoy
//! shares its ring anew among those that are left). Edges that take no clients are left out.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::IpAddr;

use serde_json::{Value, json};

use crate::RegionName;
use crate::cluster::{Node, View};

/// An edge cannot be written down for a balancer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BalancerError {
    /// An empty list would be no configuration that a balancer takes.
    #[error("region {0} has no edge that takes clients and says where it serves HTTP")]
    NoEdges(RegionName),
    /// Envoy takes addresses only where endpoints come from a file.
    #[error("{address} of edge {node} is no IP address, and Envoy resolves no names in an endpoints file")]
    NoAddress {
        /// Whose.
        node: String,
        /// What it is instead.
        address: String,
    },
}

/// An `upstream` block for nginx, hashed by `key`, such as `$remote_addr` behind `set_real_ip_from`.
pub fn nginx_upstream(view: &View, region: &RegionName, key: &str) -> Result<String, BalancerError> {
    let edges = edges(view, region)?;
    // nginx makes 160 points for each unit of weight: of 100 that would be too many.
    let unit = edges.iter().map(|edge| edge.weight.get()).fold(0, gcd).max(1);
    let mut text = format!(
        "# Version {} of the ring of region {region}.\nupstream evergate {{\n    hash {key} consistent;\n",
        view.ring_version()
    );
    for edge in edges {
        if let Some(http) = &edge.addresses.http {
            let _ = writeln!(text, "    server {http} weight={}; # {}", edge.weight.get() / unit, edge.name);
        }
    }
    text.push_str("}\n");
    Ok(text)
}

/// An endpoints file for a cluster `evergate` of Envoy's whose endpoints come by EDS from a file, with
/// `lb_policy: RING_HASH`. Envoy watches the file for being moved into its place.
pub fn envoy_endpoints(view: &View, region: &RegionName) -> Result<Value, BalancerError> {
    let mut zones: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for edge in edges(view, region)? {
        let Some(http) = &edge.addresses.http else { continue };
        let (host, port) = http.parts();
        if host.parse::<IpAddr>().is_err() {
            let (node, address) = (edge.name.to_string(), http.to_string());
            return Err(BalancerError::NoAddress { node, address });
        }
        zones.entry(edge.zone.as_str()).or_default().push(json!({
            "endpoint": { "address": { "socket_address": { "address": host, "port_value": port } } },
            "load_balancing_weight": edge.weight.get(),
            // Hashed by name, so that an edge keeps its clients when its address changes.
            "metadata": { "filter_metadata": { "envoy.lb": { "hash_key": edge.name.as_str() } } },
        }));
    }
    let endpoints = zones.into_iter().map(|(zone, edges)| {
        json!({ "locality": { "region": region.as_str(), "zone": zone }, "lb_endpoints": edges })
    });
    Ok(json!({
        "version_info": view.ring_version().to_string(),
        "resources": [{
            "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            "cluster_name": "evergate",
            "endpoints": endpoints.collect::<Vec<_>>(),
        }],
    }))
}

/// By name, so that the same view is written down alike.
fn edges<'v>(view: &'v View, region: &RegionName) -> Result<Vec<&'v Node>, BalancerError> {
    let takes =
        |node: &&Node| node.takes_clients() && node.region == *region && node.addresses.http.is_some();
    let edges: Vec<_> = view.nodes().values().filter(takes).collect();
    if edges.is_empty() { Err(BalancerError::NoEdges(region.clone())) } else { Ok(edges) }
}

fn gcd(a: u32, b: u32) -> u32 {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::testing::edge;
    use crate::cluster::{Addresses, Change, Lease, Weight};

    fn view(addresses: [&str; 3]) -> View {
        let at =
            |text: &str| Addresses { http: Some(text.parse().expect("an address")), ..Addresses::default() };
        let mut view = View::default();
        view.advance(vec![
            Change::Node(Box::new(Node { addresses: at(addresses[0]), ..edge("a") })),
            Change::Node(Box::new(Node {
                addresses: at(addresses[1]),
                weight: Weight::new(150).expect("a weight"),
                ..edge("b")
            })),
            Change::Node(Box::new(Node { addresses: at(addresses[2]), lease: Lease::Lost, ..edge("c") })),
        ]);
        view
    }

    #[test]
    fn nginx_gets_those_who_take_clients_with_small_weights() {
        let region = RegionName::new("eu").expect("a name");
        let text =
            nginx_upstream(&view(["10.0.0.1:80", "b.internal:80", "10.0.0.3:80"]), &region, "$remote_addr");
        assert_eq!(
            text.expect("there are edges"),
            "# Version 1 of the ring of region eu.\nupstream evergate {\n    hash $remote_addr consistent;\n    \
             server 10.0.0.1:80 weight=2; # a\n    server b.internal:80 weight=3; # b\n}\n"
        );
        let nobody = nginx_upstream(&View::default(), &region, "$remote_addr").expect_err("nobody");
        assert_eq!(
            nobody.to_string(),
            "region eu has no edge that takes clients and says where it serves HTTP"
        );
    }

    #[test]
    fn envoy_gets_addresses_by_zone_and_no_names() {
        let region = RegionName::new("eu").expect("a name");
        let file = envoy_endpoints(&view(["10.0.0.1:80", "[fd00::2]:81", "10.0.0.3:80"]), &region)
            .expect("addresses");
        let endpoints = &file["resources"][0]["endpoints"];
        assert_eq!(endpoints.as_array().map(Vec::len), Some(1), "one zone");
        let edges = &endpoints[0]["lb_endpoints"];
        let address = |n: usize| &edges[n]["endpoint"]["address"]["socket_address"];
        assert_eq!(*address(0), json!({ "address": "10.0.0.1", "port_value": 80 }));
        assert_eq!(*address(1), json!({ "address": "fd00::2", "port_value": 81 }));
        assert_eq!(edges[1]["load_balancing_weight"], 150);
        assert_eq!(edges[2], Value::Null, "whoever is lost is left out");
        let named = envoy_endpoints(&view(["10.0.0.1:80", "b.internal:80", "10.0.0.3:80"]), &region);
        assert!(matches!(named, Err(BalancerError::NoAddress { .. })));
    }
}
