//! Chromium's own `EventSource` over HTTP/2 through a proxy: it outlives the time when no edge is
//! there, before its first event and after, and misses nothing.

use evergate_tests::clients::{pinned, script, system};
use evergate_tests::offset::offset;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::program::Program;
use evergate_tests::proxy::{Product, Proxy, Upstream};
use evergate_tests::publisher::Publisher;
use serde_json::Value;

use crate::{EVENTS, through_each};

through_each!(chromium_lives_while_no_edge_does);

const CHROMIUM: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

/// The next event of this name; nothing else may come but `busy` and the script's own remarks.
async fn next(page: &mut Program, name: &str) -> Value {
    loop {
        let told = page.json().await;
        let event = told["event"].as_str().expect("every line names an event").to_owned();
        if event == "response" && told["status"] == 200 {
            assert_eq!(told["protocol"], "h2", "{told}");
        }
        if event == name {
            return told;
        }
        let remark = matches!(event.as_str(), "request" | "response" | "evergate.busy");
        assert!(remark, "{name} was expected, not {told}");
    }
}

fn control(told: &Value) -> Value {
    serde_json::from_str(told["data"].as_str().expect("data is text")).expect("control data is JSON")
}

async fn numbers(page: &mut Program, numbers: std::ops::RangeInclusive<u64>) {
    for n in numbers {
        let told = next(page, "message").await;
        assert_eq!(told["data"], n.to_string());
        assert_eq!(offset(told["id"].as_str().expect("an id")).seq, n);
    }
}

async fn chromium_lives_while_no_edge_does(test: &str, product: Product) {
    let (Some(pinned), Some(chromium)) = (pinned(test), system(test, &CHROMIUM)) else { return };
    let mut server = Evergate::start(Options::disk().set("http.cors_origins", "*")).await;
    let behind = [Upstream::of(&server); 2];
    server.kill();
    let Some(proxy) = Proxy::start(test, product, behind).await else { return };
    let words = [
        script("node/browser.cjs").into_os_string(),
        chromium.into(),
        proxy.url(EVENTS).into(),
        "evergate.open".into(),
        "evergate.busy".into(),
        "evergate.gap".into(),
    ];
    let mut page = Program::start(&pinned.node, &words, &[("NODE_PATH", pinned.node_modules.as_os_str())]);

    // It comes when nobody is there, is told to come back, and does.
    next(&mut page, "evergate.busy").await;
    server.restart().await;
    let opened = control(&next(&mut page, "evergate.open").await);
    assert_eq!(opened["resume"], "live");
    let publisher = Publisher::connect(server.grpc()).await;
    publisher.publish_all("s", (1..=5).map(|n| n.to_string())).await;
    numbers(&mut page, 1..=5).await;

    // The edge dies under it, and stays away for two rounds.
    server.kill();
    for _ in 0..2 {
        assert_eq!(control(&next(&mut page, "evergate.busy").await)["reason"], "no-edge");
    }
    server.restart().await;
    let publisher = Publisher::connect(server.grpc()).await;
    publisher.publish_all("s", (6..=9).map(|n| n.to_string())).await;
    assert_eq!(control(&next(&mut page, "evergate.open").await)["resume"], "exact");
    publisher.publish_all("s", ["10"]).await;
    numbers(&mut page, 6..=10).await;
    page.finish().await;
}
