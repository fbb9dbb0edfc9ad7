//! `evergate doctor` through real proxies: it finds nothing where they are set up as documented, and
//! names each thing that is spoilt.

use std::net::SocketAddr;
use std::process::Output;
use std::time::{Duration, Instant};

use evergate_tests::process::{Evergate, Options, binary};
use evergate_tests::proxy::{Product, Proxy, Upstream};
use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::Command;
use tokio::task::JoinSet;

use crate::through_each;

through_each!(the_documented_way_is_sound);

/// A published configuration and what a careless hand made of it.
type Changes<'a> = &'a [(&'a str, &'a str)];

const BUFFERED: (&str, &str) =
    ("proxy_buffering    off;", "proxy_buffering on; proxy_ignore_headers X-Accel-Buffering Cache-Control;");

/// What the doctor says.
#[derive(Debug)]
struct Told {
    exit: i32,
    report: Value,
}

impl Told {
    fn read(output: &Output) -> Self {
        let text = String::from_utf8_lossy(&output.stdout);
        let report = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {output:?}"));
        Self { exit: output.status.code().expect("it was not killed"), report }
    }

    fn codes(&self) -> Vec<&str> {
        let findings = self.report["findings"].as_array().expect("a list");
        findings.iter().map(|finding| finding["code"].as_str().expect("a code")).collect()
    }

    /// Exactly these, each with a way to mend it, and the exit code that goes with it.
    #[track_caller]
    fn assert_finds(&self, codes: &[&str], exit: i32) {
        assert_eq!((self.codes().as_slice(), self.exit), (codes, exit), "{:#}", self.report);
        for finding in self.report["findings"].as_array().expect("a list") {
            assert!(finding["mend"].as_array().is_some_and(|mend| !mend.is_empty()), "{finding}");
        }
    }
}

async fn examine(arguments: &[&str]) -> Told {
    let mut command = Command::new(binary());
    command.arg("doctor").args(arguments).args(["--output", "json"]).kill_on_drop(true);
    Told::read(&command.output().await.expect("the binary can be started"))
}

async fn examine_proxy(proxy: &Proxy, arguments: &[&str]) -> Told {
    let url = proxy.url("/");
    let ca = proxy.certificate().chain.display().to_string();
    examine(&[&[url.as_str(), "--ca", &ca], arguments].concat()).await
}

fn compressing() -> Options {
    Options::memory().set("http.cors_origins", "https://app.example")
}

/// What is compressed is a proxy's doing.
fn gateway() -> Options {
    compressing().set("sse.compression", "off")
}

/// What the doctor finds through an nginx with a changed configuration.
async fn through_nginx(test: &str, changes: Changes<'_>, arguments: &[&str]) -> Option<Told> {
    let server = Evergate::start(gateway()).await;
    let behind = [Upstream::of(&server); 2];
    let proxy = Proxy::changed(test, Product::Nginx, behind, changes).await?;
    Some(examine_proxy(&proxy, arguments).await)
}

async fn the_documented_way_is_sound(test: &str, product: Product) {
    // The gateway's own compression is no ailment.
    let server = Evergate::start(compressing().set("sse.heartbeat", "1s")).await;
    let Some(proxy) = Proxy::start(test, product, [Upstream::of(&server); 2]).await else { return };
    let told = examine_proxy(&proxy, &["--idle", "4", "--origin", "https://app.example"]).await;
    assert_eq!((told.codes(), told.exit), (vec![], 0), "{:#}", told.report);
    let measured = &told.report["measured"];
    assert!(measured["heartbeats"].as_u64().is_some_and(|heard| heard >= 2), "{measured}");
    for name in ["first_frame_ms", "held_back_ms", "received_over_ms"] {
        assert!(measured[name].is_u64(), "{name} was measured: {measured}");
    }
}

/// A test of its own for each thing spoilt: the changes, further arguments, what is found, and the
/// exit code.
macro_rules! spoilt {
    ($($name:ident: $changes:expr, $arguments:expr => $codes:expr, $exit:expr;)+) => {
        $(#[tokio::test] async fn $name() {
            let arguments: &[&str] = &$arguments;
            let told = through_nginx(stringify!($name), &$changes, arguments).await;
            let Some(told) = told else { return };
            told.assert_finds(&$codes, $exit);
            assert_eq!(told.report["in_between"], serde_json::json!(["nginx"]));
        })+
    };
}

spoilt! {
    buffering_is_found: [BUFFERED], ["--idle", "1"] => ["buffered"], 1;
    compression_is_found:
        [("gzip               off;", "gzip on; gzip_types text/event-stream; gzip_min_length 0; gzip_proxied any;")],
        ["--idle", "1"] => ["compressed"], 0;
    a_cache_is_found:
        [
            ("upstream evergate {", "proxy_cache_path /etc/ssl/evergate/cache keys_zone=bad:1m;\nupstream evergate {"),
            ("proxy_cache        off;", "proxy_cache bad; proxy_cache_valid any 10m;"),
            BUFFERED,
        ],
        ["--idle", "1"] => ["buffered", "stored-copy"], 1;
    a_short_read_timeout_is_found:
        [("proxy_read_timeout 90s;", "proxy_read_timeout 5s;")], ["--idle", "8"] => ["cut-when-idle"], 1;
    a_lost_last_event_id_is_found:
        [("X-Forwarded-Proto $scheme;", "X-Forwarded-Proto $scheme; proxy_set_header Last-Event-ID \"\";")],
        ["--idle", "1"] => ["last-event-id-lost"], 1;
    a_lost_x_accel_buffering_is_found:
        [("proxy_pass_header  X-Accel-Buffering;", "")], ["--idle", "1"] => ["x-accel-buffering-lost"], 0;
    a_rewritten_cache_control_is_found:
        [("gzip               off;", "proxy_hide_header Cache-Control; add_header Cache-Control \"public, max-age=60\";")],
        ["--idle", "1"] => ["cache-control-rewritten"], 0;
    a_stream_without_chunks_is_found:
        [("gzip               off;", "chunked_transfer_encoding off;")], ["--idle", "1"] => ["close-delimited"], 0;
    missing_http2_is_found: [("listen 443 ssl http2;", "listen 443 ssl;")], ["--idle", "1"] => ["no-http2"], 0;
    a_wrong_route_is_found:
        [("proxy_pass         http://evergate;", "default_type text/html; return 200 hello;")], [] => ["not-a-stream"], 1;
    two_allowed_origins_are_found:
        [("gzip               off;", "add_header Access-Control-Allow-Origin * always;")],
        ["--idle", "1", "--origin", "https://app.example"] => ["origin-twice"], 1;
    dropped_cors_is_found:
        [("gzip               off;", "proxy_hide_header Access-Control-Allow-Origin;")],
        ["--idle", "1", "--origin", "https://app.example"] => ["origin-refused"], 1;
    preflights_answered_elsewhere_are_found:
        [("gzip               off;", "if ($request_method = OPTIONS) { return 405; }")],
        ["--idle", "1", "--origin", "https://app.example"] => ["preflight-fails"], 0;
    an_origin_that_is_not_on_the_list_is_found: [], ["--origin", "https://other.example"] => ["refused"], 1;
    a_publish_that_is_refused_is_found:
        [("gzip               off;", "limit_except GET OPTIONS { deny all; }")],
        ["--idle", "1"] => ["publish-refused"], 0;
}

/// Nobody behind the proxy: with the documented file a browser lives on, without it it does not.
#[tokio::test]
async fn an_edge_that_is_away_is_found() {
    const TEST: &str = "an_edge_that_is_away_is_found";
    let mut server = Evergate::start(gateway()).await;
    let behind = [Upstream::of(&server); 2];
    server.kill();
    let fatal: Changes<'_> = &[("error_page 502 503 504 = @evergate_away;", "")];
    for (changes, code) in [(&[][..], "no-edge"), (fatal, "server-error")] {
        let Some(proxy) = Proxy::changed(TEST, Product::Nginx, behind, changes).await else { return };
        examine_proxy(&proxy, &[]).await.assert_finds(&[code], 1);
    }
}

#[tokio::test]
async fn a_redirect_is_found() {
    let server = Evergate::start(gateway()).await;
    let moved: Changes<'_> = &[(
        "    location / {",
        "    location = /old { return 302 https://$http_host/v1/streams/s/events; }\n    location / {",
    )];
    let behind = [Upstream::of(&server); 2];
    let Some(proxy) = Proxy::changed("a_redirect_is_found", Product::Nginx, behind, moved).await else {
        return;
    };
    let ca = proxy.certificate().chain.display().to_string();
    let told = examine(&[&proxy.url("/old"), "--ca", &ca, "--idle", "1"]).await;
    told.assert_finds(&["redirected", "not-published"], 0);
}

/// Envoy's default: a quarter of a minute, whatever the stream is doing.
#[tokio::test]
async fn a_limit_on_the_whole_answer_is_found() {
    let server = Evergate::start(gateway().set("sse.heartbeat", "1s")).await;
    let behind = [Upstream::of(&server); 2];
    let changes: Changes<'_> = &[("timeout: 0s  ", "timeout: 4s  ")];
    let test = "a_limit_on_the_whole_answer_is_found";
    let Some(proxy) = Proxy::changed(test, Product::Envoy, behind, changes).await else { return };
    let told = examine_proxy(&proxy, &["--idle", "8"]).await;
    told.assert_finds(&["cut-by-age"], 1);
    assert_eq!(told.report["in_between"], serde_json::json!(["Envoy"]));
}

#[tokio::test]
async fn a_certificate_that_nobody_vouches_for_is_found() {
    let server = Evergate::start(gateway()).await;
    let test = "a_certificate_that_nobody_vouches_for_is_found";
    let Some(proxy) = Proxy::start(test, Product::Nginx, [Upstream::of(&server); 2]).await else { return };
    let told = examine(&[&proxy.url("/")]).await;
    told.assert_finds(&["unreachable"], 1);
}

/// Passes on at once what goes in, and what comes out only every so often.
async fn collect(listener: TcpListener, edge: SocketAddr, every: Duration) {
    let mut relays = JoinSet::new();
    loop {
        let (client, _) = listener.accept().await.expect("a connection");
        relays.spawn(async move {
            let server = TcpStream::connect(edge).await.expect("the edge accepts");
            let (mut from_client, mut to_client) = client.into_split();
            let (mut from_server, mut to_server) = server.into_split();
            let inwards = tokio::io::copy(&mut from_client, &mut to_server);
            let outwards = async {
                let (mut collected, mut tick) =
                    (Vec::new(), tokio::time::interval_at((Instant::now() + every).into(), every));
                loop {
                    tokio::select! {
                        read = from_server.read_buf(&mut collected) => if !matches!(read, Ok(1..)) { return },
                        _ = tick.tick() => {
                            if to_client.write_all(&collected).await.is_err() {
                                return;
                            }
                            collected.clear();
                        }
                    }
                }
            };
            // An error is a connection that is over.
            tokio::select! {
                _ = inwards => {}
                () = outwards => {}
            }
        });
    }
}

/// As some filters and accelerators do: everything arrives, by and by.
#[tokio::test]
async fn somebody_who_collects_is_found() {
    let server = Evergate::start(gateway()).await;
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("there are free ports");
    let http = listener.local_addr().expect("it is bound");
    let collector = tokio::spawn(collect(listener, server.http(), Duration::from_secs(3)));
    let behind = [Upstream { http, admin: server.admin() }; 2];
    let test = "somebody_who_collects_is_found";
    let Some(proxy) = Proxy::start(test, Product::Nginx, behind).await else { return };
    let told = examine_proxy(&proxy, &["--publish-to", &server.url(""), "--idle", "1"]).await;
    // The first frame, then the events, which moreover come in heaps.
    told.assert_finds(&["held-back", "held-back", "coalesced"], 1);
    collector.abort();
}

/// Events published past the proxy, on a stream that others read.
#[tokio::test]
async fn a_gateway_itself_lacks_only_http2() {
    let server = Evergate::start(gateway()).await;
    let url = server.url("/v1/streams/s/events");
    let told = examine(&[&url, "--publish-to", &server.url(""), "--idle", "1"]).await;
    told.assert_finds(&["no-http2"], 0);
    assert!(told.report["measured"]["held_back_ms"].is_u64());
}

#[tokio::test]
async fn the_report_for_people_names_the_fault_and_the_cure() {
    let server = Evergate::start(gateway()).await;
    let test = "the_report_for_people_names_the_fault_and_the_cure";
    let behind = [Upstream::of(&server); 2];
    let Some(proxy) = Proxy::changed(test, Product::Nginx, behind, &[BUFFERED]).await else { return };
    let output = Command::new(binary())
        .args(["doctor", &proxy.url("/"), "--idle", "1", "--ca"])
        .arg(&proxy.certificate().chain)
        .output()
        .await
        .expect("the binary can be started");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(1), "{text}");
    for part in [
        "FAULT buffered: ",
        "nginx: `proxy_buffering off;`",
        "in between",
        "faults: 1; warnings and notes: 0",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}
