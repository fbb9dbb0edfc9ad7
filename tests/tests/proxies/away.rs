//! No edge is there: the proxy says "come back", each time at another moment, in the one form that a
//! browser's `EventSource` survives.

use std::collections::BTreeSet;

use evergate_tests::http1::Request;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::proxy::{Product, Proxy, Upstream};
use evergate_tests::subscription::{End, Subscription};

use crate::{EVENTS, through_each};

through_each!(no_edge_is_a_stream_that_says_come_back, the_others_are_told_plainly);

const ASKED: usize = 40;
const RETRY_MS: std::ops::RangeInclusive<u64> = 1_000..=9_999;

/// A proxy in front of a gateway that is gone.
async fn behind_nothing(test: &str, product: Product) -> Option<Proxy> {
    let mut server = Evergate::start(Options::memory()).await;
    let behind = [Upstream::of(&server); 2];
    server.kill();
    Proxy::start(test, product, behind).await
}

async fn come_back(mut stream: Subscription) -> u64 {
    let head = stream.head().clone();
    assert_eq!(head.must("cache-control"), "no-cache, no-store, no-transform");
    assert_eq!(head.must("access-control-allow-origin"), "https://app.example");
    assert_eq!(head.must("access-control-allow-credentials"), "true");
    assert!(head.lists("vary", "origin"), "{head:?}");
    let busy = stream.control("evergate.busy").await;
    assert_eq!(busy.json()["reason"], "no-edge");
    assert_eq!(busy.id, None, "the client keeps the id it has");
    assert_eq!(stream.end().await, (vec![], End::Clean));
    busy.retry.expect("a time to come back")
}

async fn no_edge_is_a_stream_that_says_come_back(test: &str, product: Product) {
    let Some(proxy) = behind_nothing(test, product).await else { return };
    let mut http2 = proxy.http2().await;
    let mut pauses = BTreeSet::new();
    for n in 0..ASKED {
        let target = if n % 4 < 2 { EVENTS } else { "/v1/events?stream=s&stream=t" };
        let origin = "https://app.example";
        let stream = if n % 2 == 0 {
            let request = Request::get(target).header("Origin", origin).header("Last-Event-ID", "7-40");
            proxy.subscribe(&request).await
        } else {
            Subscription::over_http2(&mut http2, target, &[("origin", origin)]).await
        };
        let pause = come_back(stream).await;
        assert!(RETRY_MS.contains(&pause), "{pause} ms");
        pauses.insert(pause);
    }
    // A crowd does not come back as one: of forty hardly two agree, and they are seconds apart.
    assert!(pauses.len() > ASKED * 3 / 4, "{pauses:?}");
    let seconds: BTreeSet<u64> = pauses.iter().map(|pause| pause / 1_000).collect();
    assert!(seconds.len() >= 5, "{pauses:?}");
}

async fn the_others_are_told_plainly(test: &str, product: Product) {
    let Some(proxy) = behind_nothing(test, product).await else { return };
    for request in [
        Request::get(&format!("{EVENTS}?errors=http")),
        Request::get(&format!("{EVENTS}?key=a&errors=http")),
        Request::post(EVENTS, "text/plain", "hello"),
        Request::get("/v1/route"),
    ] {
        let answer = proxy.call(request.clone()).await;
        assert!(matches!(answer.status(), 502..=504), "{request:?}: {answer:?}");
    }
}
