//! What the listener agrees to, what it refuses, and what it costs whoever does not come to an end.

use std::time::Duration;

use evergate_tests::PATIENCE;
use evergate_tests::authority::{Authority, over_tls, text};
use evergate_tests::http1::{Connection, Request};
use evergate_tests::http2::Client;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::Publisher;
use evergate_tests::subscription::Subscription;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{EVENTS, HERE, metric, server};

/// How many connections were refused for this reason.
async fn refused(server: &Evergate, reason: &str) -> f64 {
    metric(server, "evergate_connections_refused_total", &[&format!("reason=\"{reason}\"")]).await
}

#[tokio::test]
async fn streams_are_read_over_both_versions_and_resume_exactly() {
    let (authority, _, server) = server(Options::disk()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let wire = authority.connect(server.http(), &["http/1.1"], None).await.expect("agreed");
    let mut connection = Connection::over(wire);
    connection.send(&Request::get(EVENTS)).await;
    let mut first = Subscription::over(connection).await.expect("answered");
    assert_eq!(first.opened().await.resume, "live");
    // No task is left for it: the engine writes to the session.
    let parked = async {
        while metric(&server, "evergate_connections_parked", &[]).await < 1.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(PATIENCE, parked).await.expect("it is parked");
    let wire = authority.connect(server.http(), &["h2", "http/1.1"], None).await.expect("agreed");
    assert_eq!(wire.get_ref().1.alpn_protocol(), Some(&b"h2"[..]), "HTTP/2 is preferred");
    let mut client = Client::over(wire, "localhost").await;
    let mut second = Subscription::over_http2(&mut client, EVENTS, &[]).await;
    second.opened().await;
    publisher.publish_all("s", ["1", "2", "3"]).await;
    assert_eq!(second.data(3).await, ["1", "2", "3"]);
    let events = first.events(3).await;
    let id = events[1].must_id().to_owned();
    drop(first);

    let wire = authority.connect(server.http(), &["http/1.1"], None).await.expect("agreed");
    let mut connection = Connection::over(wire);
    connection.send(&Request::get(EVENTS).header("Last-Event-ID", &id)).await;
    let mut again = Subscription::over(connection).await.expect("answered");
    assert_eq!(again.opened().await.resume, "exact");
    assert_eq!(again.data(1).await, ["3"]);
    assert!(
        metric(&server, "evergate_tls_handshakes_total", &["listener=\"http\"", "outcome=\"full\""]).await
            >= 3.0
    );
}

#[tokio::test]
async fn who_does_not_finish_the_handshake_is_cut_in_time_and_counted() {
    let (authority, _, server) = server(Options::memory().set("tls.handshake_timeout", "300ms")).await;
    let mut silent = TcpStream::connect(server.http()).await.expect("accepted");
    // The beginning of a record that never comes.
    silent.write_all(&[0x16, 3, 1, 1, 0, 1]).await.expect("written");
    let mut plain = TcpStream::connect(server.http()).await.expect("accepted");
    plain.write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n").await.expect("written");
    for socket in [&mut silent, &mut plain] {
        let mut rest = Vec::new();
        // An alert may come first, and a reset where input was left.
        let ended = tokio::time::timeout(PATIENCE, socket.read_to_end(&mut rest)).await;
        assert!(ended.is_ok(), "still open, after {rest:?}");
        assert!(!rest.starts_with(b"HTTP"), "answered in plain");
    }
    for reason in ["tls-timeout", "tls-refused"] {
        assert!(refused(&server, reason).await >= 1.0, "{reason}");
    }
    let wire = authority.connect(server.http(), &["http/1.1"], None).await.expect("agreed");
    let answer = Connection::over(wire).call(&Request::get("/v1/streams/s")).await;
    assert!(answer.status() < 500, "others are served: {answer:?}");
}

#[tokio::test]
async fn who_shakes_hands_and_asks_for_nothing_is_cut_in_time() {
    let (authority, _, server) = server(Options::memory().set("http.head_timeout", "300ms")).await;
    let mut wire = authority.connect(server.http(), &["http/1.1"], None).await.expect("agreed");
    let ended = tokio::time::timeout(PATIENCE, wire.read(&mut [0; 64])).await.expect("it is cut");
    assert!(matches!(ended, Ok(0) | Err(_)), "nothing was asked");
    assert!(refused(&server, "head-timeout").await >= 1.0);
}

#[tokio::test]
async fn a_proxy_tells_of_its_client_before_tls_begins() {
    let options = Options::memory()
        .set("http.trusted_proxies", "127.0.0.1")
        .set("http.proxy_protocol", "require")
        .set("limits.streams_per_address", "1");
    let (authority, _, server) = server(options).await;
    let through = async |client: &str| {
        let mut socket = TcpStream::connect(server.http()).await.expect("accepted");
        let header = format!("PROXY TCP4 {client} 192.0.2.9 4000 443\r\n");
        socket.write_all(header.as_bytes()).await.expect("written");
        let wire = authority.connect_over(socket, &["http/1.1"], None).await.expect("agreed");
        let mut connection = Connection::over(wire);
        connection.send(&Request::get(EVENTS)).await;
        let mut stream = Subscription::over(connection).await.expect("answered");
        let first = stream.frame().await;
        (stream, first.event)
    };
    let (_held, first) = through("192.0.2.1").await;
    let (_, second) = through("192.0.2.1").await;
    let (_, other) = through("192.0.2.2").await;
    let kinds = [first, second, other].map(Option::unwrap_or_default);
    assert_eq!(kinds, ["evergate.open", "evergate.busy", "evergate.open"]);
}

#[tokio::test]
async fn who_has_to_prove_itself_and_cannot_gets_no_further() {
    let authority = Authority::new();
    let clients = Authority::new();
    let shown = authority.sign("edge", &HERE);
    let options = Options::memory()
        .set("http.client_certificates", "required")
        .set("http.client_ca_file", text(&clients.file()));
    let server = Evergate::start(over_tls(options, &shown)).await;
    let ask = async |identity| {
        let wire = authority.connect(server.http(), &["http/1.1"], identity).await?;
        Connection::over(wire).try_call(&Request::get("/v1/streams/s")).await
    };
    let known = clients.sign("known", &["known.example"]);
    let stranger = authority.sign("stranger", &["known.example"]);
    let late = clients.sign_until("late", &["known.example"], 2020);
    assert!(ask(Some(&known)).await.is_ok(), "signed by who is believed");
    for identity in [None, Some(&stranger), Some(&late)] {
        assert!(ask(identity).await.is_err(), "{identity:?}");
    }
    tokio::time::timeout(PATIENCE, async {
        while refused(&server, "tls-refused").await < 3.0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await
    .expect("all three are counted");
}
