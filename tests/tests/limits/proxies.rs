//! Who a client is, when others speak for it.

use evergate_tests::http1::{Connection, Request, call};
use evergate_tests::http2::Client;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::subscription::Subscription;
use serde_json::{Value, json};

use crate::{events_of, metric};

/// What version 2 begins with.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

fn behind_proxies() -> Options {
    Options::memory().set("http.trusted_proxies", "127.0.0.0/8,10.0.0.0/8")
}

/// Where the server takes the client of this request to be.
async fn seen(server: &Evergate, request: Request) -> Value {
    call(server.http(), request).await.json()["client"].clone()
}

/// The same on a connection that begins with these bytes.
async fn seen_after(server: &Evergate, header: &[u8], request: &Request) -> Value {
    let mut connection = Connection::open(server.http()).await;
    connection.send_bytes(&[header, &request.encode()].concat()).await;
    connection.read_response(false).await.json()["client"].clone()
}

/// Whether the server ends such a connection without serving it.
async fn is_refused(server: &Evergate, header: &[u8]) -> bool {
    let mut connection = Connection::open(server.http()).await;
    connection.send_bytes(&[header, &route().encode()].concat()).await;
    connection.closed().await;
    let told = connection.take_unread();
    !told.starts_with(b"HTTP/1.1 200")
}

fn route() -> Request {
    Request::get("/v1/route")
}

fn v2(command: u8, source: [u8; 4]) -> Vec<u8> {
    [SIGNATURE, &[command, 0x11, 0, 12], &source, &[192, 0, 2, 99, 0, 80, 0, 80]].concat()
}

#[tokio::test]
async fn only_a_trusted_proxy_is_believed() {
    let forwarded = || route().header("X-Forwarded-For", "192.0.2.1");
    let server = Evergate::start(Options::memory()).await;
    let direct = json!({ "address": "127.0.0.1", "proxied": false });
    assert_eq!(seen(&server, forwarded()).await, direct);

    let server = Evergate::start(behind_proxies()).await;
    assert_eq!(seen(&server, forwarded()).await, json!({ "address": "192.0.2.1", "proxied": true }));
    // What the client wrote itself stands before what the proxies saw.
    let forged = route()
        .header("X-Forwarded-For", "198.51.100.66, 2001:db8::7")
        .header("Forwarded", "for=198.51.100.66")
        .header("X-Forwarded-For", "10.1.2.3");
    assert_eq!(seen(&server, forged).await["address"], "2001:db8::7");
    let broken = route().header("X-Forwarded-For", "198.51.100.66, unknown");
    assert_eq!(seen(&server, broken).await["address"], "127.0.0.1");
}

#[tokio::test]
async fn the_standard_header_is_read_where_proxies_write_it() {
    let server = Evergate::start(behind_proxies().set("http.forwarded_header", "forwarded")).await;
    let request = route()
        .header("X-Forwarded-For", "198.51.100.66")
        .header("Forwarded", "for=198.51.100.66, for=\"[2001:db8::7]:4711\";proto=https");
    assert_eq!(seen(&server, request).await["address"], "2001:db8::7");
}

#[tokio::test]
async fn a_balancer_may_say_where_a_connection_comes_from() {
    let server = Evergate::start(behind_proxies().set("http.proxy_protocol", "accept")).await;
    let proxied = |address: &str| json!({ "address": address, "proxied": true });
    let line = b"PROXY TCP4 192.0.2.1 192.0.2.99 4711 80\r\n";
    assert_eq!(seen_after(&server, line, &route()).await, proxied("192.0.2.1"));
    assert_eq!(seen_after(&server, &v2(0x21, [192, 0, 2, 2]), &route()).await, proxied("192.0.2.2"));
    assert_eq!(seen_after(&server, &v2(0x20, [192, 0, 2, 2]), &route()).await, proxied("127.0.0.1"), "LOCAL");
    assert_eq!(seen_after(&server, b"", &route()).await, proxied("127.0.0.1"));
    // A balancer in front of a proxy: the proxy's word counts, the client's does not.
    let request = route().header("X-Forwarded-For", "192.0.2.3");
    assert_eq!(seen_after(&server, &v2(0x21, [10, 0, 0, 1]), &request).await, proxied("192.0.2.3"));
    assert_eq!(seen_after(&server, &v2(0x21, [192, 0, 2, 2]), &request).await, proxied("192.0.2.2"));

    // Cut anywhere, it is the same header; and a stream follows as it follows any request.
    let mut connection = Connection::open(server.http()).await;
    for byte in v2(0x21, [192, 0, 2, 2]) {
        connection.send_bytes(&[byte]).await;
        tokio::task::yield_now().await;
    }
    connection.send_bytes(&Request::get(&events_of("s")).encode()).await;
    Subscription::over(connection).await.expect("an answer").opened().await;

    for wrong in [&b"PROXY TCP4 192.0.2.1\r\n"[..], &[SIGNATURE, &[0x21, 0x11, 0, 1, 0]].concat()] {
        assert!(is_refused(&server, wrong).await);
    }
    assert!(metric(&server, "evergate_connections_refused_total", "proxy-malformed").await >= 2.0);
    let mut client = Client::open(server.http()).await;
    Subscription::over_http2(&mut client, &events_of("s"), &[]).await.opened().await;
}

#[tokio::test]
async fn a_header_from_anybody_else_is_refused_and_never_believed() {
    let line = b"PROXY TCP4 192.0.2.1 192.0.2.99 4711 80\r\n";
    let elsewhere = || Options::memory().set("http.trusted_proxies", "10.0.0.0/8");
    let server = Evergate::start(elsewhere().set("http.proxy_protocol", "accept")).await;
    assert!(is_refused(&server, line).await);
    assert!(is_refused(&server, &v2(0x21, [192, 0, 2, 2])).await);
    assert!(metric(&server, "evergate_connections_refused_total", "proxy-untrusted").await >= 2.0);
    assert_eq!(seen(&server, route()).await, json!({ "address": "127.0.0.1", "proxied": false }));

    // Where none is expected, it is no HTTP.
    let server = Evergate::start(behind_proxies()).await;
    assert!(is_refused(&server, line).await);
    assert!(is_refused(&server, &v2(0x21, [192, 0, 2, 2])).await);

    // And where one is required, there is nothing without.
    let server = Evergate::start(behind_proxies().set("http.proxy_protocol", "require")).await;
    assert!(is_refused(&server, b"").await);
    assert!(metric(&server, "evergate_connections_refused_total", "proxy-missing").await >= 1.0);
    assert_eq!(seen_after(&server, line, &route()).await["address"], "192.0.2.1");
}

#[tokio::test]
async fn a_header_that_does_not_come_is_not_waited_for_for_ever() {
    let options = behind_proxies().set("http.proxy_protocol", "require").set("http.head_timeout", "200ms");
    let server = Evergate::start(options).await;
    for begun in [&b""[..], b"PROXY TCP4 192", SIGNATURE] {
        let mut connection = Connection::open(server.http()).await;
        connection.send_bytes(begun).await;
        connection.closed().await;
    }
    assert!(metric(&server, "evergate_connections_refused_total", "head-timeout").await >= 3.0);
}
