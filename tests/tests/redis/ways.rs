//! Ways to Redis other than a plain connection.

use std::net::TcpListener;

use evergate_tests::authority::{Authority, text};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::redis::{Keeps, RedisServer};
use evergate_tests::subscription::Subscription;

/// A connection for each purpose.
const LINKS: usize = 4;

#[tokio::test]
async fn a_redis_over_tls_is_believed_if_the_named_authority_vouches_for_it() {
    let test = "a_redis_over_tls_is_believed_if_the_named_authority_vouches_for_it";
    let authority = Authority::new();
    let (ca, signed) = (authority.file(), authority.sign("redis", &["127.0.0.1"]));
    let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a port").port();
    let port = port.to_string();
    let words = [
        ["--tls-port", &port],
        ["--tls-cert-file", text(&signed.certificate)],
        ["--tls-key-file", text(&signed.key)],
        ["--tls-ca-cert-file", text(&ca)],
        ["--tls-auth-clients", "no"],
    ];
    let Some(redis) = RedisServer::start_with(test, Keeps::Nothing, &words.concat()).await else { return };
    let options = || Options::redis(&format!("rediss://127.0.0.1:{port}"));
    let server = Evergate::start(options().set("redis.ca_file", text(&ca))).await;
    let mut live = Subscription::open(server.http(), "/v1/streams/s/events").await;
    live.opened().await;
    let publisher = Publisher::connect(server.grpc()).await;
    publisher.publish("s", event("over TLS")).await;
    assert_eq!(live.event().await.data, "over TLS");
    let clients = redis.must(&["CLIENT", "LIST"]).await;
    let over_tls = clients.lines().filter(|client| client.contains(&format!(" laddr=127.0.0.1:{port} ")));
    assert!(over_tls.count() >= LINKS, "{clients}");

    // The system's authorities do not know this one.
    let refused = Evergate::refusal(options()).await;
    assert!(refused.contains(&format!("no Redis answers at 127.0.0.1:{port}: ")), "{refused}");
    assert!(refused.contains("certificate"), "{refused}");
}
