//! Where edges say that clients belong.

use std::collections::BTreeMap;

use evergate_tests::controls::{Controls, wait};
use evergate_tests::http1::{Request, call};
use evergate_tests::process::{Evergate, Options};
use serde_json::Value;

/// Clients that are asked for.
pub(crate) const CLIENTS: usize = 60;

/// What an edge of these tests is told: its zone is its own, and it believes what proxies tell.
pub(crate) fn edge(controls: &Controls, options: Options, name: &str) -> Options {
    controls
        .followed_by(options.as_edge())
        .set("node", name)
        .set("region", "eu")
        .set("cluster.zone", name)
        .set("http.trusted_proxies", "127.0.0.1")
}

/// `edge-a`, `edge-b` and `edge-c`, which know of each other.
pub(crate) async fn three(controls: &Controls, options: impl Fn() -> Options) -> Vec<Evergate> {
    let mut edges = Vec::new();
    for name in ["edge-a", "edge-b", "edge-c"] {
        edges.push(Evergate::start(edge(controls, options(), name)).await);
    }
    for edge in &edges {
        knows(edge, 3).await;
    }
    edges
}

/// Where an edge says that a client belongs.
pub(crate) async fn route(edge: &Evergate, client: &str) -> Value {
    let request = Request::get("/v1/route").header("X-Forwarded-For", client);
    call(edge.http(), request).await.json()
}

/// The version of the view, and the edge of each of many clients, both by the same view.
pub(crate) async fn routes(edge: &Evergate) -> (u64, BTreeMap<String, String>) {
    'again: loop {
        let mut routes = BTreeMap::new();
        let mut version = None;
        for number in 0..CLIENTS {
            let client = format!("192.0.2.{number}");
            let told = route(edge, &client).await;
            let seen = told["view"].as_u64().expect("it follows a view");
            if *version.get_or_insert(seen) != seen {
                continue 'again;
            }
            routes.insert(client, told["edge"].as_str().expect("an edge").to_owned());
        }
        return (version.expect("somebody was asked for"), routes);
    }
}

/// What edges say that follow the same version: they all must say the same.
pub(crate) async fn agreed(edges: &[&Evergate]) -> BTreeMap<String, String> {
    wait("the same version at all edges", async || {
        let mut all = Vec::new();
        for edge in edges {
            all.push(routes(edge).await);
        }
        let (version, routes) = all.pop()?;
        if all.iter().any(|(other, _)| *other != version) {
            return None;
        }
        assert!(all.iter().all(|(_, other)| *other == routes), "two minds at version {version}");
        Some(routes)
    })
    .await
}

/// Returns once an edge places clients on so many edges.
pub(crate) async fn knows(edge: &Evergate, edges: usize) {
    wait("the ring is known", async || {
        let seen = route(edge, "192.0.2.1").await;
        let others = seen["alternatives"].as_array().map(Vec::len);
        (seen["view"].is_number() && others == Some(edges - 1)).then_some(())
    })
    .await;
}

/// What an edge says is amiss.
pub(crate) async fn troubles(edge: &Evergate) -> String {
    let ready = call(edge.admin(), Request::get("/readyz")).await;
    assert_eq!(ready.status(), 200, "nothing of it is the edge's own fault");
    ready.json()["troubles"].to_string()
}
