//! What one principal may have, from however many addresses it comes.

use evergate_proto::publish::v1::PublishRequest;
use evergate_proto::publish::v1::publisher_client::PublisherClient;
use evergate_tests::PATIENCE;
use evergate_tests::http1::{Request, Response, call};
use evergate_tests::process::Evergate;
use evergate_tests::publisher::channel;
use evergate_tests::subscription::Subscription;
use serde_json::json;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{EVENTS, bearer, guarded_with};

/// Asks for a stream from an address, and says what it was told first.
async fn first_word(server: &Evergate, token: &str, n: u32) -> (Subscription, String, serde_json::Value) {
    let request = bearer(Request::get(EVENTS), token).header("X-Forwarded-For", format!("192.0.2.{n}"));
    let mut stream = Subscription::request(server.http(), &request).await;
    let frame = stream.frame().await;
    (stream, frame.event.clone().unwrap_or_default(), frame.json())
}

#[tokio::test]
async fn it_has_its_streams_whichever_token_it_shows_and_wherever_it_is() {
    let (issuer, server) = guarded_with(|options| {
        options.set("http.trusted_proxies", "127.0.0.0/8").set("limits.streams_per_principal", "2")
    })
    .await;
    // Two tokens of one subject are one principal.
    let [phone, laptop] =
        [600, 700].map(|lasts| issuer.token("alice", lasts, &json!({ "subscribe": ["*"] })));
    let (first, word, _) = first_word(&server, &phone, 1).await;
    assert_eq!(word, "evergate.open");
    let (second, word, _) = first_word(&server, &laptop, 2).await;
    assert_eq!(word, "evergate.open");
    let (_, word, said) = first_word(&server, &laptop, 3).await;
    assert_eq!(
        (word.as_str(), &said["reason"]),
        ("evergate.busy", &json!("too many streams with this token"))
    );
    let plainly = bearer(Request::get(&format!("{EVENTS}?errors=http")), &phone);
    call(server.http(), plainly).await.problem(429);
    let bob = issuer.token("bob", 600, &json!({ "subscribe": ["*"] }));
    let (_third, word, _) = first_word(&server, &bob, 1).await;
    assert_eq!(word, "evergate.open", "nobody else's");
    drop(first);
    let until = std::time::Instant::now() + PATIENCE;
    while first_word(&server, &phone, 4).await.1 != "evergate.open" {
        assert!(std::time::Instant::now() < until, "no place was given back");
    }
    drop(second);
}

#[tokio::test]
async fn it_connects_only_so_fast() {
    let (issuer, server) = guarded_with(|options| {
        options
            .set("http.trusted_proxies", "127.0.0.0/8")
            .set("limits.principal_connects_per_second", "1")
            .set("limits.principal_connects_burst", "3")
    })
    .await;
    let token = issuer.token("alice", 600, &json!({ "subscribe": ["*"] }));
    let (mut opened, mut reason) = (0, None);
    for n in 1..20 {
        let (_, word, said) = first_word(&server, &token, n).await;
        match word.as_str() {
            "evergate.open" => opened += 1,
            _ => reason = Some(said["reason"].clone()),
        }
    }
    assert!((3..19).contains(&opened), "{opened}");
    assert_eq!(reason, Some(json!("connecting too fast with this token")));
    let bob = issuer.token("bob", 600, &json!({ "subscribe": ["*"] }));
    assert_eq!(first_word(&server, &bob, 1).await.1, "evergate.open");
}

#[tokio::test]
async fn it_publishes_only_so_fast_by_either_way() {
    let (issuer, server) = guarded_with(|options| {
        options
            .set("http.trusted_proxies", "127.0.0.0/8")
            .set("limits.principal_publishes_per_second", "1")
            .set("limits.principal_publishes_burst", "5")
    })
    .await;
    let token = issuer.token("p", 600, &json!({ "publish": ["*"] }));
    let send = async |token: &str, n: u32| -> Response {
        let post = Request::post(EVENTS, "application/json", r#"{"data":"1"}"#);
        call(server.http(), bearer(post, token).header("X-Forwarded-For", format!("192.0.2.{n}"))).await
    };
    let first = send(&token, 1).await;
    assert_eq!((first.status(), first.head.must("x-ratelimit-limit")), (200, "5"));
    let mut n = 1;
    let above = loop {
        n += 1;
        let answer = send(&token, n).await;
        if answer.status() != 200 {
            break answer;
        }
        assert!(n < 50, "nothing was ever refused");
    };
    let problem = above.problem(429);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("this token")), "{problem}");
    assert!(above.head.must("retry-after").parse::<u64>().expect("seconds") >= 1);
    let other = issuer.token("q", 600, &json!({ "publish": ["*"] }));
    assert_eq!(send(&other, n).await.status(), 200, "nobody else's budget");

    let mut client = PublisherClient::new(channel(server.grpc()).await.expect("it listens"));
    let mut refused = None;
    for _ in 0..20 {
        let event = Some(evergate_tests::publisher::event("1"));
        let mut request =
            tonic::Request::new(PublishRequest { stream: "quote".to_owned(), event, ..Default::default() });
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("plain"));
        if let Err(status) = client.publish(request).await {
            refused = Some(status);
            break;
        }
    }
    let refused = refused.expect("the same budget");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert!(refused.get_error_details().retry_info().is_some_and(|info| info.retry_delay.is_some()));
}
