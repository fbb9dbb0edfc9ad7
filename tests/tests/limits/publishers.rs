//! How fast one address may publish, and over how many connections.

use std::net::Ipv4Addr;
use std::time::Duration;

use evergate_tests::http1::{Request, Response, call};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event, published, refused, request};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::{events_of, metric};

const BURST: u32 = 5;

async fn limited() -> Evergate {
    // So slow that no second adds to a budget while the test runs: a whole one takes five of them.
    let options = Options::memory()
        .set("http.trusted_proxies", "127.0.0.0/8")
        .set("limits.publishes_per_second", "1")
        .set("limits.publishes_burst", &BURST.to_string());
    Evergate::start(options).await
}

async fn post(server: &Evergate, from: &str, body: &str) -> Response {
    let request =
        Request::post(&events_of("s"), "application/x-ndjson", body).header("X-Forwarded-For", from);
    call(server.http(), request).await
}

fn number(answer: &Response, field: &str) -> u64 {
    answer.head.must(field).parse().expect("a number")
}

#[tokio::test]
async fn over_http_the_budget_is_told_and_what_is_above_it_refused() {
    let server = limited().await;
    let two = "{\"data\":\"a\"}\n{\"data\":\"b\"}\n";
    let first = post(&server, "192.0.2.1", two).await;
    assert_eq!(first.status(), 200);
    assert_eq!(number(&first, "x-ratelimit-limit"), u64::from(BURST));
    assert_eq!(number(&first, "x-ratelimit-remaining"), u64::from(BURST) - 2);
    assert_eq!(number(&first, "x-ratelimit-reset"), 2);
    let mut taken = 1;
    let above = loop {
        let answer = post(&server, "192.0.2.1", two).await;
        if answer.status() != 200 {
            break answer;
        }
        taken += 1;
        assert!(taken < 20, "nothing was ever refused");
    };
    assert!(taken >= 2, "a budget of {BURST} is worth two pairs");
    let problem = above.problem(429);
    assert_eq!(problem["code"], "rate-limited");
    assert!((1..=BURST.into()).contains(&number(&above, "retry-after")));
    assert!(number(&above, "x-ratelimit-remaining") < 2);
    assert_eq!(post(&server, "192.0.2.2", two).await.status(), 200, "nobody else's budget");
    assert!(metric(&server, "evergate_publish_events_total", "rate-limited").await >= 2.0);
}

/// However many addresses there are. What is told is the smaller of two budgets.
#[tokio::test]
async fn a_stream_takes_only_so_much_a_second() {
    let options = Options::memory()
        .set("http.trusted_proxies", "127.0.0.0/8")
        .set("limits.publishes_per_second", "1000")
        .set("limits.publishes_burst", "1000")
        .set("limits.stream_publishes_per_second", "1")
        .set("limits.stream_publishes_burst", &BURST.to_string());
    let server = Evergate::start(options).await;
    let two = "{\"data\":\"a\"}\n{\"data\":\"b\"}\n";
    let first = post(&server, "192.0.2.1", two).await;
    assert_eq!(first.status(), 200);
    assert_eq!(number(&first, "x-ratelimit-limit"), u64::from(BURST), "the smaller one");
    let mut from = 1;
    let above = loop {
        from += 1;
        let answer = post(&server, &format!("192.0.2.{from}"), two).await;
        if answer.status() != 200 {
            break answer;
        }
        assert!(from < 20, "nothing was ever refused");
    };
    let problem = above.problem(429);
    assert_eq!(problem["code"], "rate-limited");
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains("this stream")), "{problem}");
    assert_eq!(number(&above, "x-ratelimit-limit"), u64::from(BURST));
    assert!((1..=BURST.into()).contains(&number(&above, "retry-after")));
    let other = Request::post(&events_of("other"), "application/x-ndjson", two);
    assert_eq!(call(server.http(), other).await.status(), 200, "no other stream's budget");
}

#[tokio::test]
async fn over_grpc_the_time_to_wait_is_told() {
    let server = limited().await;
    let publisher = Publisher::connect(server.grpc()).await;
    let mut taken = 0;
    let status = loop {
        match publisher.try_publish("s", event("x")).await {
            Ok(_) => taken += 1,
            Err(status) => break status,
        }
        assert!(taken < 50, "nothing was ever refused");
    };
    assert!(taken >= BURST);
    assert_eq!(status.code(), Code::ResourceExhausted);
    let after = status.get_error_details().retry_info().expect("when to come back").retry_delay;
    assert!(
        after.is_some_and(|after| after > Duration::ZERO && after <= Duration::from_secs(1)),
        "{after:?}"
    );

    // The same within a call that goes on.
    let mut call = publisher.open().await.expect("a call");
    for n in 0..u64::from(BURST) {
        call.send(request("s", n, event("y"))).await.expect("the call is open");
    }
    let mut told = false;
    for _ in 0..BURST {
        let answer = call.answer().await.expect("the call goes on").expect("an answer for each");
        match &answer.result {
            Some(evergate_proto::publish::v1::publish_stream_response::Result::Refused(_)) => {
                let refused = refused(&answer);
                assert_eq!(refused.code, i32::from(Code::ResourceExhausted));
                assert!(refused.retry_after_ms > 0, "{refused:?}");
                told = true;
            }
            _ => drop(published(&answer)),
        }
    }
    assert!(told, "more than a budget at once");
}

/// Over gRPC, as over HTTP, who comes when all is taken waits, and is not reset.
#[tokio::test]
async fn a_grpc_connection_too_many_waits_for_its_turn() {
    let server = Evergate::start(Options::memory().set("grpc.connections_max", "2")).await;
    let first = Publisher::connect(server.grpc()).await;
    let second = Publisher::connect(server.grpc()).await;
    first.publish("s", event("1")).await;
    second.publish("s", event("2")).await;
    let third = tokio::spawn({
        let address = server.grpc();
        async move { Publisher::connect(address).await.publish("s", event("3")).await }
    });
    let until = std::time::Instant::now() + evergate_tests::PATIENCE;
    while metric(&server, "evergate_grpc_accept_pauses_total", "").await < 1.0 {
        assert!(std::time::Instant::now() < until, "nothing was ever full");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    first.publish("s", event("4")).await;
    // Long enough for one that would be served.
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!third.is_finished(), "two are two");
    drop(first);
    tokio::time::timeout(evergate_tests::PATIENCE, third).await.expect("it is its turn").expect("published");
}

#[tokio::test]
async fn one_address_has_so_many_grpc_connections() {
    let server = Evergate::start(Options::memory().set("limits.grpc_connections_per_address", "1")).await;
    let publisher = Publisher::connect(server.grpc()).await;
    publisher.publish("s", event("1")).await;
    let connect = async |from: Ipv4Addr| {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket can be had");
        socket.bind((from, 0).into()).expect("it is ours");
        let mut stream = socket.connect(server.grpc()).await.expect("it is accepted");
        // What a connection begins with, and settings without any. One that is closed takes it or not.
        let preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
        let _ = tokio::io::AsyncWriteExt::write_all(&mut stream, preface).await;
        let mut seen = [0; 1];
        // The server's settings, or the end.
        tokio::io::AsyncReadExt::read(&mut stream, &mut seen).await.unwrap_or(0)
    };
    assert_eq!(connect(Ipv4Addr::LOCALHOST).await, 0, "closed at once");
    assert_eq!(connect(Ipv4Addr::new(127, 0, 0, 8)).await, 1, "another address");
    publisher.publish("s", event("2")).await;
    assert!(metric(&server, "evergate_grpc_connections_refused_total", "").await >= 1.0);
}
