//! Connections for gRPC that nobody says anything on: they have a place for a while, and then it is somebody else's.

use std::time::Duration;

use evergate_tests::PATIENCE;
use evergate_tests::authority::{Authority, text};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{metric, until_counted};

/// All places that there are.
const PLACES: usize = 50;

/// Long enough for all of them to come meanwhile.
fn options(first_word: &str) -> Options {
    Options::memory().set("grpc.connections_max", &PLACES.to_string()).set("http.head_timeout", first_word)
}

/// Waits until the server has ended a connection.
async fn is_ended(mut wire: impl AsyncRead + Unpin) {
    let mut rest = Vec::new();
    // Settings may have come, an alert, and a reset.
    let ended = tokio::time::timeout(PATIENCE, wire.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "still open after {PATIENCE:?}");
}

/// With a publisher that comes after them all, and is served once they are gone.
async fn is_served_after(server: &Evergate, publisher: impl Future<Output = Publisher>) {
    until_counted(server, "evergate_grpc_accept_pauses_total", "").await;
    let published = async { publisher.await.publish("s", event("after all")).await };
    tokio::time::timeout(PATIENCE, published).await.expect("a place comes back");
}

#[tokio::test]
async fn who_says_nothing_or_too_little_loses_its_place() {
    let server = Evergate::start(options("3s")).await;
    // What a connection begins with, byte by byte: nothing, a part of the preface, all of it, a frame's first bytes.
    let beginning = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\x06\x04";
    let mut crowd = Vec::new();
    for n in 0..PLACES {
        let mut socket = TcpStream::connect(server.grpc()).await.expect("accepted");
        let said = [0, 1, 23, 24, 28][n % 5];
        socket.write_all(&beginning[..said]).await.expect("written");
        crowd.push(socket);
    }
    is_served_after(&server, Publisher::connect(server.grpc())).await;
    for socket in crowd {
        is_ended(socket).await;
    }
    let silent = metric(&server, "evergate_grpc_connections_ended_total", "silent").await;
    assert!((silent - PLACES as f64).abs() < 0.5, "{silent} of {PLACES}");
}

#[tokio::test]
async fn who_shakes_hands_and_says_nothing_loses_its_place_too() {
    let authority = Authority::new();
    let shown = authority.sign("edge", &["localhost"]);
    let options = options("8s")
        .set("grpc.tls", "on")
        .set("tls.certificate_files", text(&shown.certificate))
        .set("tls.key_files", text(&shown.key));
    let server = Evergate::start(options).await;
    let mut crowd = Vec::new();
    for _ in 0..PLACES {
        crowd.push(authority.connect(server.grpc(), &["h2"], None).await.expect("agreed"));
    }
    let publisher =
        async { Publisher::over(authority.channel(server.grpc(), None).await.expect("it is its turn")) };
    is_served_after(&server, publisher).await;
    for wire in crowd {
        is_ended(wire).await;
    }
}

/// Whoever has begun is left alone, and says what it has to whenever it likes.
#[tokio::test]
async fn who_has_begun_may_be_silent_for_longer() {
    let server = Evergate::start(options("1s")).await;
    let publisher = Publisher::connect(server.grpc()).await;
    publisher.publish("s", event("1")).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    publisher.publish("s", event("2")).await;
    assert!(metric(&server, "evergate_grpc_connections_ended_total", "").await < 0.5);
}
