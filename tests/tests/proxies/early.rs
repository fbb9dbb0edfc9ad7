//! TLS 1.3's early data, taken by a real nginx: what could be sent again by somebody else changes nothing.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::sync::Arc;

use evergate_tests::PATIENCE;
use evergate_tests::http1::{Request, call};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::proxy::{Product, Proxy, Upstream};
use evergate_tests::subscription::Subscription;
use evergate_tests::tls::HOST;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, ClientConnection};

use crate::EVENTS;

/// When a request is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    /// With the first words of a session that is taken up again. The handshake is never ended: whoever sends again what
    /// somebody else has sent could not do it either.
    Early,
    /// After the handshake.
    Late,
}

/// Asks on a connection of its own, and reads until the proxy hangs up, which every request wants it to.
fn ask(config: &Arc<ClientConfig>, proxy: &Proxy, request: &str, sent: Sent) -> String {
    let name = ServerName::try_from(HOST).expect("a name");
    let mut connection = ClientConnection::new(Arc::clone(config), name).expect("it can be had");
    let mut socket = TcpStream::connect(proxy.address()).expect("the proxy accepts");
    socket.set_read_timeout(Some(PATIENCE)).expect("it is a socket");
    match sent {
        Sent::Early => {
            let mut early = connection.early_data().expect("the proxy offered it the last time");
            early.write_all(request.as_bytes()).expect("there is room");
        }
        Sent::Late => connection.writer().write_all(request.as_bytes()).expect("there is room"),
    }
    connection.write_tls(&mut socket).expect("the proxy listens");
    let mut told = Vec::new();
    loop {
        while sent == Sent::Late && connection.wants_write() {
            connection.write_tls(&mut socket).expect("the proxy listens");
        }
        if connection.read_tls(&mut socket).expect("the proxy answers in time") == 0 {
            break;
        }
        let state = connection.process_new_packets().expect("it is TLS");
        let mut part = vec![0; state.plaintext_bytes_to_read()];
        connection.reader().read_exact(&mut part).expect("it is there");
        told.append(&mut part);
        if state.peer_has_closed() {
            break;
        }
    }
    assert!(sent == Sent::Late || connection.is_early_data_accepted(), "nginx took none");
    String::from_utf8(told).expect("text")
}

#[tokio::test]
async fn what_came_in_early_data_changes_nothing() {
    let test = "what_came_in_early_data_changes_nothing";
    let server = Evergate::start(Options::memory()).await;
    let versions = "ssl_protocols       TLSv1.2 TLSv1.3;";
    let taking = format!("{versions} ssl_early_data on;");
    let behind = [Upstream::of(&server); 2];
    let Some(proxy) = Proxy::changed(test, Product::Nginx, behind, &[(versions, &taking)]).await else {
        return;
    };
    let mut config = proxy.certificate().client("http/1.1");
    config.enable_early_data = true;
    let config = Arc::new(config);
    let get = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\n\r\n");
    let post = format!(
        "POST {EVENTS} HTTP/1.1\r\nHost: {HOST}\r\nConnection: close\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\nhello"
    );

    let told = ask(&config, &proxy, &post, Sent::Late);
    assert!(told.starts_with("HTTP/1.1 200") && told.contains("\"offset\""), "{told}");
    for (request, status, says) in [
        (post, "HTTP/1.1 425", "too-early"),
        (get(&format!("{EVENTS}?client_id=ann")), "HTTP/1.1 425", "too-early"),
        (get("/v1/route"), "HTTP/1.1 200", "\"reached\""),
    ] {
        // A session may be good for one connection only.
        let told = ask(&config, &proxy, &get("/v1/route"), Sent::Late);
        assert!(told.starts_with("HTTP/1.1 200"), "{told}");
        let told = ask(&config, &proxy, &request, Sent::Early);
        assert!(told.starts_with(status) && told.contains(says), "{request}: {told}");
    }
    let after = call(server.http(), Request::post(EVENTS, "text/plain", "after")).await;
    assert_eq!(after.status(), 200);
    let mut all = Subscription::open(server.http(), &format!("{EVENTS}?from=earliest")).await;
    all.opened().await;
    assert_eq!(all.data(2).await, ["hello", "after"]);
}
