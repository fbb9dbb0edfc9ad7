//! A stream through a proxy is the stream: at once, unchanged, for as long as it lives, and no longer.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use evergate_tests::PATIENCE;
use evergate_tests::figures::metric;
use evergate_tests::http1::{Request, call};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::proxy::{Product, Proxy, Upstream};
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::subscription::{End, Next, Subscription};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::{EVENTS, heartbeats, through_each};

through_each!(
    frames_come_at_once_and_unchanged,
    a_cut_stream_resumes_exactly,
    a_quiet_stream_outlives_the_timeouts,
    an_edge_that_falls_silent_is_noticed,
    a_client_that_leaves_is_noticed_by_the_edge,
    the_edge_is_told_who_asks,
    a_publish_goes_through,
);

/// How the documented timeout is called, and one short enough to wait for.
fn short_timeouts(product: Product) -> Vec<(&'static str, &'static str)> {
    match product {
        Product::Nginx => vec![("proxy_read_timeout 90s", "proxy_read_timeout 3s")],
        Product::HaProxy => {
            vec![("timeout client 90s", "timeout client 3s"), ("timeout server 90s", "timeout server 3s")]
        }
        Product::Envoy => vec![("stream_idle_timeout: 90s", "stream_idle_timeout: 3s")],
    }
}

async fn frames_come_at_once_and_unchanged(test: &str, product: Product) {
    // The gateway's own compression is off, so that what is compressed is the proxy's doing.
    let options = Options::memory().set("sse.heartbeat", "1s").set("sse.compression", "off");
    let server = Evergate::start(options).await;
    let Some(proxy) = Proxy::start(test, product, [Upstream::of(&server); 2]).await else { return };
    let publisher = Publisher::connect(server.grpc()).await;
    // As a browser asks: whatever can compress, may.
    let fields = [("Accept", "text/event-stream"), ("Accept-Encoding", "gzip, deflate, br, zstd")];
    let plain =
        fields.iter().fold(Request::get(EVENTS), |request, (name, value)| request.header(name, value));
    let mut http2 = proxy.http2().await;
    for version in ["HTTP/1.1", "HTTP/2.0"] {
        let mut stream = match version {
            "HTTP/1.1" => proxy.subscribe(&plain).await,
            _ => Subscription::over_http2(&mut http2, EVENTS, &fields).await,
        };
        // Nobody has published: with a buffer in between there would be nothing to see yet.
        let opened = stream.opened().await;
        assert_eq!(opened.resume, "live");
        let head = stream.head().clone();
        assert_eq!(head.header("content-encoding"), None, "{head:?}");
        assert_eq!(head.must("cache-control"), "no-cache, no-store, no-transform");
        assert_eq!(head.must("x-accel-buffering"), "no");
        assert_eq!(head.must("x-trace-id"), opened.trace_id);
        assert!(head.header("age").is_none() && head.header("content-length").is_none(), "{head:?}");
        for n in 0..5 {
            let text = format!("{version} {n}");
            publisher.publish("s", event(text.as_str())).await;
            // Each before the next one is published.
            assert_eq!(stream.data(1).await, [text]);
        }
        heartbeats(&mut stream, 2).await;
    }
}

async fn a_cut_stream_resumes_exactly(test: &str, product: Product) {
    let server = Evergate::start(Options::memory()).await;
    let Some(proxy) = Proxy::start(test, product, [Upstream::of(&server); 2]).await else { return };
    let publisher = Publisher::connect(server.grpc()).await;
    let mut first = proxy.subscribe(&Request::get(EVENTS)).await;
    let opened = first.opened().await;
    publisher.publish_all("s", ["1", "2", "3"]).await;
    let last = first.events(3).await.pop().expect("three");
    let answer = call(server.http(), Request::new("POST", &format!("/dev/cut/{}", opened.connection))).await;
    assert_eq!(answer.status(), 204);
    let (rest, _) = first.end().await;
    assert_eq!(rest, [], "nothing was invented at the cut");
    publisher.publish_all("s", ["4", "5"]).await;

    let id = last.must_id();
    let mut http2 = proxy.http2().await;
    let again = [
        proxy.subscribe(&Request::get(EVENTS).header("Last-Event-ID", id)).await,
        Subscription::over_http2(&mut http2, EVENTS, &[("last-event-id", id)]).await,
    ];
    for mut stream in again {
        assert_eq!(stream.opened().await.resume, "exact");
        assert_eq!(stream.data(2).await, ["4", "5"]);
    }
}

async fn a_quiet_stream_outlives_the_timeouts(test: &str, product: Product) {
    let server = Evergate::start(Options::memory().set("sse.heartbeat", "1s")).await;
    let behind = [Upstream::of(&server); 2];
    let Some(proxy) = Proxy::changed(test, product, behind, &short_timeouts(product)).await else { return };
    let mut http2 = proxy.http2().await;
    let mut streams = [
        proxy.subscribe(&Request::get(EVENTS)).await,
        Subscription::over_http2(&mut http2, EVENTS, &[]).await,
    ];
    for stream in &mut streams {
        stream.opened().await;
    }
    // More than twice as long as the proxy would let a silent one live.
    for stream in &mut streams {
        heartbeats(stream, 7).await;
    }
}

async fn an_edge_that_falls_silent_is_noticed(test: &str, product: Product) {
    let server = Evergate::start(Options::memory().set("sse.heartbeat", "1s")).await;
    let behind = [Upstream::of(&server); 2];
    let Some(proxy) = Proxy::changed(test, product, behind, &short_timeouts(product)).await else { return };
    let mut stream = proxy.subscribe(&Request::get(EVENTS)).await;
    stream.opened().await;
    // As a machine without power does, it neither speaks nor closes.
    server.signal(Signal::STOP);
    let (frames, end) = stream.end().await;
    assert_eq!(frames, [], "the proxy adds nothing to a stream that began");
    assert_eq!(end, End::Cut, "and does not pretend that it was whole");
    server.signal(Signal::CONT);
}

async fn open_streams(server: &Evergate) -> u64 {
    metric(server, "evergate_streams_open", "").await as u64
}

async fn until_open(server: &Evergate, wanted: u64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let open = open_streams(server).await;
        if open == wanted {
            return;
        }
        assert!(Instant::now() < deadline, "{open} streams are open on the edge, not {wanted}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn a_client_that_leaves_is_noticed_by_the_edge(test: &str, product: Product) {
    // No heartbeat is there to stumble over the closed connection.
    let server = Evergate::start(Options::memory().set("sse.heartbeat", "25s")).await;
    let Some(proxy) = Proxy::start(test, product, [Upstream::of(&server); 2]).await else { return };
    let mut http1 = proxy.subscribe(&Request::get(EVENTS)).await;
    let mut http2 = proxy.http2().await;
    let mut one = Subscription::over_http2(&mut http2, EVENTS, &[]).await;
    let mut two = Subscription::over_http2(&mut http2, EVENTS, &[]).await;
    for stream in [&mut http1, &mut one, &mut two] {
        stream.opened().await;
    }
    until_open(&server, 3).await;
    drop(http1);
    until_open(&server, 2).await;
    // A tab is closed, the connection of its browser stays.
    drop(one);
    until_open(&server, 1).await;
    drop((two, http2));
    until_open(&server, 0).await;
}

/// Answers health checks, and gives back the head of the first request that is none.
async fn overhear(listener: TcpListener) -> String {
    loop {
        let (mut socket, _) = listener.accept().await.expect("a connection");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match socket.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => break,
            }
        }
        // An error is the proxy's, which will ask again.
        let _ = socket.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
        let head = String::from_utf8(head).expect("a head is text");
        if head.contains("/v1/") {
            return head;
        }
    }
}

async fn the_edge_is_told_who_asks(test: &str, product: Product) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there are free ports");
    let address = listener.local_addr().expect("it is bound");
    let heard = tokio::spawn(overhear(listener));
    let behind = [Upstream { http: address, admin: address }; 2];
    let Some(proxy) = Proxy::start(test, product, behind).await else { return };
    let request = Request::get(&format!("{EVENTS}?key=a*"))
        .header("Accept", "text/event-stream")
        .header("Origin", "https://app.example")
        .header("Last-Event-ID", "7-40")
        .header("X-Forwarded-For", "203.0.113.9");
    proxy.call(request).await;
    let head = heard.await.expect("it is overheard");
    let field = |name: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(": "));
        let values: Vec<&str> =
            lines.filter(|(had, _)| had.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect();
        assert_eq!(values.len(), 1, "{name} comes once: {head}");
        values[0].to_owned()
    };
    assert!(head.starts_with(&format!("GET {EVENTS}?key=a* HTTP/1.1\r\n")), "{head}");
    let told = field("x-forwarded-for");
    match product {
        // What the client claims is thrown away.
        Product::Nginx | Product::HaProxy => assert_eq!(told, "127.0.0.1"),
        // What the client claims stands before what the proxy saw, which for loopback is the machine's
        // own address.
        Product::Envoy => {
            let seen = told.strip_prefix("203.0.113.9,").expect("the claim comes first");
            assert!(seen.parse::<IpAddr>().is_ok_and(|seen| seen.to_string() != "203.0.113.9"), "{told}");
        }
    }
    assert_eq!(field("x-forwarded-proto"), "https");
    assert_eq!(field("host"), "evergate.test");
    assert_eq!(field("last-event-id"), "7-40");
    assert_eq!(field("origin"), "https://app.example");
}

async fn a_publish_goes_through(test: &str, product: Product) {
    let server = Evergate::start(Options::memory()).await;
    let Some(proxy) = Proxy::start(test, product, [Upstream::of(&server); 2]).await else { return };
    let mut stream = proxy.subscribe(&Request::get(EVENTS)).await;
    stream.opened().await;
    let answer = proxy.call(Request::post(EVENTS, "text/plain", "hello")).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    assert_eq!(stream.data(1).await, ["hello"]);
    // What an edge has to say about a mistake is left alone.
    let refused = proxy.call(Request::get(&format!("{EVENTS}?from=nonsense"))).await;
    refused.problem_with(400, "from");
    let mut next = proxy.subscribe(&Request::get("/v1/events?stream=s&stream=t")).await;
    assert!(matches!(next.next().await, Next::Item(_)));
}
