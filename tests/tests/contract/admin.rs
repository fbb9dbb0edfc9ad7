//! Beside the streams: where a client belongs, and how the process is.

use evergate_tests::http1::{Request, call};
use evergate_tests::process::{Evergate, Options};

#[tokio::test]
async fn a_client_can_ask_where_it_belongs() {
    let options = Options::memory().set("region", "eu-west").set("node", "edge-7");
    let server = Evergate::start(options).await;
    let route = call(server.http(), Request::get("/v1/route")).await;
    assert_eq!(route.status(), 200);
    assert_eq!(route.head.must("cache-control"), "no-store", "an answer of this moment only");
    assert_eq!(route.json()["region"], "eu-west");
    assert_eq!(route.json()["edge"], "edge-7");
}

#[tokio::test]
async fn the_admin_listener_tells_of_health_and_figures() {
    let server = Evergate::start(Options::memory()).await;
    for path in ["/livez", "/readyz"] {
        assert_eq!(call(server.admin(), Request::get(path)).await.status(), 200, "{path}");
    }
    let figures = call(server.admin(), Request::get("/metrics")).await;
    assert_eq!(figures.status(), 200);
    assert!(figures.text().lines().any(|line| line.starts_with("evergate_")), "{}", figures.text());
    assert_eq!(call(server.http(), Request::get("/metrics")).await.status(), 404, "not in public");
}
