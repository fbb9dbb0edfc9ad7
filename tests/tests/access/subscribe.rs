//! What a subscriber may see.

use evergate_tests::http1::{Request, call};
use evergate_tests::http2;
use evergate_tests::issuer::{Issuer, now};
use evergate_tests::process::Evergate;
use evergate_tests::publisher::{Publisher, event, keyed};
use evergate_tests::subscription::Subscription;
use serde_json::json;

use crate::{EVENTS, bearer, guarded, told};

#[tokio::test]
async fn nobody_is_let_in_without_a_token_but_where_that_is_said() {
    let (issuer, server) = guarded().await;
    let answer = call(server.http(), Request::get(EVENTS)).await;
    let unknown = call(server.http(), Request::get("/v1/streams/no-such-stream/events")).await;
    assert_eq!(told(&answer.problem(401)), told(&unknown.problem(401)), "one is there, and one is not");
    assert_eq!(answer.head.must("www-authenticate"), "Bearer realm=\"evergate\"");
    let page = Request::get(EVENTS).header("Origin", "https://app.example.com");
    let answer = call(server.http(), page).await;
    answer.problem(401);
    assert_eq!(answer.head.must("access-control-allow-origin"), "*", "a page can read why");
    Subscription::open(server.http(), "/v1/streams/open/events").await.opened().await;
    // A wrong token is not passed over, where none is needed either.
    let forger = Issuer::new("forger");
    let forged = forger.token("alice", 60, &json!({ "subscribe": ["*"] }));
    for path in [EVENTS, "/v1/streams/open/events"] {
        let answer = call(server.http(), bearer(Request::get(path), &forged)).await;
        answer.problem(401);
        assert!(answer.head.must("www-authenticate").contains("error=\"invalid_token\""), "{answer:?}");
    }
    let expired = issuer.sign(&json!({ "sub": "a", "exp": now() - 1, "evergate": { "subscribe": ["*"] } }));
    call(server.http(), bearer(Request::get(EVENTS), &expired)).await.problem(401);
}

#[tokio::test]
async fn what_is_granted_is_shown_event_by_event_live_and_replayed() {
    let (issuer, server) = guarded().await;
    let publisher = Publisher::connect(server.grpc()).await;
    for (key, data) in [("AAPL", "1"), ("MSFT", "2"), ("AMZN", "3")] {
        publisher.publish("quote", keyed(key, data)).await;
    }
    publisher.publish("quote", event("4")).await;
    let token = issuer.token("alice", 600, &json!({ "subscribe": ["quote/A*"] }));
    let all = issuer.token("bob", 600, &json!({ "subscribe": ["q*"] }));
    let target = format!("{EVENTS}?from=earliest");
    let mut alice = Subscription::request(server.http(), &bearer(Request::get(&target), &token)).await;
    let mut bob = Subscription::request(server.http(), &bearer(Request::get(&target), &all)).await;
    let mut client = http2::Client::open(server.http()).await;
    let authorization = format!("Bearer {token}");
    let mut over_http2 =
        Subscription::over_http2(&mut client, &target, &[("authorization", &authorization)]).await;
    for stream in [&mut alice, &mut bob, &mut over_http2] {
        stream.opened().await;
    }
    assert_eq!(alice.data(2).await, ["1", "3"], "replayed");
    assert_eq!(over_http2.data(2).await, ["1", "3"], "replayed");
    assert_eq!(bob.data(4).await, ["1", "2", "3", "4"]);
    for (key, data) in [("MSFT", "5"), ("AAPL", "6")] {
        publisher.publish("quote", keyed(key, data)).await;
    }
    assert_eq!(alice.data(1).await, ["6"], "live");
    assert_eq!(over_http2.data(1).await, ["6"], "live");
    assert_eq!(bob.data(2).await, ["5", "6"]);
}

#[tokio::test]
async fn what_is_not_granted_is_refused_and_not_left_out() {
    let (issuer, server) = guarded().await;
    let token = issuer.token("alice", 600, &json!({ "subscribe": ["quote/A*", "news"] }));
    let ask = async |path: &str| call(server.http(), bearer(Request::get(path), &token)).await;
    let forbidden = ask("/v1/streams/secret/events").await;
    let unknown = ask("/v1/streams/no-such-stream/events").await;
    assert_eq!(told(&forbidden.problem(403)), told(&unknown.problem(403)));
    for path in [
        &format!("{EVENTS}?key=MSFT"),
        &format!("{EVENTS}?key=AAPL&key=MSFT"),
        "/v1/events?stream=quote&stream=secret",
        "/v1/events?stream=news&stream=quote&key=quote/M*",
        // A kept place is taken over by whoever comes with its name.
        &format!("{EVENTS}?client_id=bob"),
    ] {
        ask(path).await.problem(403);
    }
    let head = call(server.http(), bearer(Request::new("HEAD", "/v1/streams/secret/events"), &token)).await;
    assert_eq!(head.status(), 403);
    let several = "/v1/events?stream=news&stream=quote&key=quote/AAPL";
    Subscription::request(server.http(), &bearer(Request::get(several), &token)).await.opened().await;
    let own = json!({ "subscribe": ["quote"], "client_id": "alice/*" });
    let token = issuer.token("alice", 600, &own);
    let target = format!("{EVENTS}?client_id=alice/phone");
    Subscription::request(server.http(), &bearer(Request::get(&target), &token)).await.opened().await;
}

/// Asks with a token until it is answered so.
async fn until_status(server: &Evergate, token: &str, status: u16) {
    let answered = async {
        loop {
            let head = Request::new("HEAD", EVENTS);
            if call(server.http(), bearer(head, token)).await.status() == status {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(30), answered).await.expect("it is so in time");
}

#[tokio::test]
async fn a_key_that_is_new_is_looked_for_when_it_comes() {
    // The next look by the clock is far off.
    let (issuer, server) = crate::guarded_with(|options| options.set("access.keys_refresh", "10m")).await;
    let next = Issuer::new("next");
    let token = next.token("alice", 600, &json!({ "subscribe": ["quote"] }));
    issuer.publish(&[&issuer, &next]);
    until_status(&server, &token, 200).await;
    let mut stream = Subscription::request(server.http(), &bearer(Request::get(EVENTS), &token)).await;
    stream.opened().await;
}

#[tokio::test]
async fn a_key_that_is_gone_is_believed_no_longer() {
    let (issuer, server) = crate::guarded_with(|options| options.set("access.keys_refresh", "10s")).await;
    let next = Issuer::new("next");
    let token = next.token("alice", 600, &json!({ "subscribe": ["quote"] }));
    issuer.publish(&[&issuer, &next]);
    until_status(&server, &token, 200).await;
    issuer.publish(&[&issuer]);
    until_status(&server, &token, 401).await;
}
