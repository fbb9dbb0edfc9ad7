//! Input that nobody thought of: what is right, changed at random, for every parser that strangers reach
//! through a socket. `EVERGATE_CASES` makes a run longer.

use std::time::Duration;

use evergate_proto::publish::v1::{Event, Producer, PublishBatchRequest};
use evergate_tests::PATIENCE;
use evergate_tests::http1::{Connection, Request, call};
use evergate_tests::http2::Client;
use evergate_tests::mutator::Mutator;
use evergate_tests::process::{Evergate, Options, binary};
use evergate_tests::subscription::Subscription;
use tokio::time::timeout;
use tonic::Code;

use crate::{EVENTS, answers_to, during, server, statuses};

/// Inputs in an ordinary run: as many as take some seconds.
const CASES: usize = 300;

#[tokio::test]
async fn heads_and_bodies_of_http1() {
    let server = server().await;
    let corpus = [
        format!("GET {EVENTS}?key=a*&from=-5&errors=http HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 1-1\r\nConnection: close\r\n\r\n"),
        format!("POST {EVENTS} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 12\r\nConnection: close\r\n\r\n{{\"data\":\"a\"}}"),
        format!("POST {EVENTS} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\nEvergate-Type: t\r\nEvergate-Producer: p/1\r\n\r\n3\r\nabc\r\n0\r\n\r\n"),
        "OPTIONS /v1/events HTTP/1.1\r\nHost: x\r\nOrigin: https://a.example\r\nAccess-Control-Request-Method: GET\r\n\r\n".to_owned(),
        "HEAD /v1/route HTTP/1.1\r\nHost: x\r\nForwarded: for=192.0.2.1;by=x\r\nX-Forwarded-For: 192.0.2.1, ::1\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\u{4}\0\0\0\0\0".to_owned(),
    ];
    let mutator = Mutator::new(&corpus, CASES);
    let seed = mutator.seed();
    during(&server, async {
        for bytes in mutator {
            let mut connection = Connection::open(server.http()).await;
            let _ = connection.try_send_bytes(&bytes).await;
            // Whoever sends half a request is waited for; the first answer is all there may be until then.
            let _ = connection.read_more(Duration::from_millis(30)).await;
            let answer = String::from_utf8_lossy(&connection.take_unread()).into_owned();
            let fine = statuses(&answer).iter().all(|status| *status < 500);
            assert!(fine, "{seed}: {:?}: {answer}", String::from_utf8_lossy(&bytes));
        }
    })
    .await;
    let answers = answers_to(server.http(), corpus[0].as_bytes()).await;
    assert_eq!(statuses(&answers), [200], "it serves on: {answers}");
}

/// Bodies that are sent whole: each is answered, with what its sender can do about it.
#[tokio::test]
async fn events_by_http() {
    let server = server().await;
    let json = [
        r#"{"data":"a","type":"t","key":"k","producer":{"id":"p","seq":7},"level":"HOME"}"#,
        r#"{"data":{"a":[1,2.5e3,null,true,"\u00e9\n"]},"key":null}"#,
        "{\"data\":\"1\"}\n\n{\"data\":\"2\",\"type\":\"evergate.x\"}\r\n{\"data\":3}\n",
        "just text\r\nin two lines",
    ];
    let mutator = Mutator::new(&json, CASES * 4);
    let seed = mutator.seed();
    during(&server, async {
        let mut client = Client::open(server.http()).await;
        let kinds = ["application/json", "application/x-ndjson", "text/plain"];
        for (n, body) in mutator.enumerate() {
            let kind = kinds[n % kinds.len()];
            let answer = client.call("POST", EVENTS, &[("content-type", kind)], body.clone()).await;
            let status = answer.status();
            let fine = matches!(status, 200 | 400 | 409 | 413);
            assert!(fine, "{seed}: {kind}: {status} to {:?}", String::from_utf8_lossy(&body));
            if status != 200 {
                answer.problem(status);
            }
        }
    })
    .await;
}

/// What stands in the query and in `Last-Event-ID`.
#[tokio::test]
async fn what_a_subscriber_asks_for() {
    let server = server().await;
    let corpus = [
        "stream=s&stream=quote&key=quote/A*&key=s/x",
        "stream=s&from=-20&envelope=1&heartbeat=event",
        "stream=s&from=2026-01-31T09:30:00Z&lastEventId=1-42",
        "stream=s&client_id=c.1&acks=1&lease=1&last_event_id=0-0",
        "stream=a&stream=b&last_event_id=AAECAwQFBgcICQoLDA0ODxAREhMU",
        "ticket=0123456789abcdef0123456789abcdef&stream=%73",
    ];
    let mutator = Mutator::new(&corpus, CASES * 4);
    let seed = mutator.seed();
    during(&server, async {
        let mut client = Client::open(server.http()).await;
        let mut opened = 0;
        for (n, input) in mutator.enumerate() {
            // A head holds no other bytes; the parser of heads is tried elsewhere.
            let plain = |byte: &u8| byte.is_ascii_graphic() && !b"#\"<>".contains(byte);
            let query: String = input.iter().copied().filter(plain).map(char::from).take(4096).collect();
            let id: String = query.chars().rev().take(60).collect();
            let target = format!("/v1/events?{query}&errors=http");
            // Hardly any text is an id, so half of them come without.
            let id = (n % 2 == 1).then_some(id);
            let fields: Vec<_> = id.iter().map(|id| ("last-event-id", id.as_str())).collect();
            let status = client.call("HEAD", &target, &fields, "").await.status();
            assert!(matches!(status, 200 | 400), "{seed}: {status} to {target}");
            if status == 200 && opened < CASES {
                opened += 1;
                let request = Request::get(&target);
                let request = match id {
                    Some(id) => request.header("Last-Event-ID", id),
                    None => request,
                };
                let mut stream = Subscription::request(server.http(), &request).await;
                let first = stream.frame().await;
                assert_eq!(first.event.as_deref(), Some("evergate.open"), "{seed}: {target}");
            }
        }
        assert!(opened > 0, "{seed}: nothing was ever right");
    })
    .await;
}

#[tokio::test]
async fn messages_by_grpc() {
    let server = server().await;
    let events = ["a", "b"].map(|data| Event {
        data: data.to_owned(),
        r#type: "t".to_owned(),
        key: "k".to_owned(),
        producer: Some(Producer { id: "p".to_owned(), seq: 7 }),
        ..Default::default()
    });
    let batch = PublishBatchRequest { stream: "s".to_owned(), events: events.into(), ..Default::default() };
    let message = prost_bytes(&batch);
    let mut framed = vec![0];
    framed.extend_from_slice(&u32::try_from(message.len()).expect("short").to_be_bytes());
    framed.extend_from_slice(&message);
    let mutator = Mutator::new(&[framed], CASES * 4);
    let seed = mutator.seed();
    during(&server, async {
        let mut client = Client::open(server.grpc()).await;
        let fields = [("content-type", "application/grpc"), ("te", "trailers")];
        for body in mutator {
            let path = "/evergate.publish.v1.Publisher/PublishBatch";
            let asking = client.call_with_trailers("POST", path, &fields, body.clone());
            let (head, trailers) = timeout(PATIENCE, asking).await.expect("an answer");

            let told =
                |name: &str| head.header(name).or(trailers.get(name).map(String::as_str)).map(str::to_owned);
            let code = told("grpc-status").and_then(|code| code.parse().ok()).map(Code::from_i32);
            let fine = match code {
                Some(Code::Ok | Code::InvalidArgument | Code::FailedPrecondition | Code::OutOfRange) => true,
                // How the library says what it cannot decode, or misses.
                Some(Code::Internal | Code::Unimplemented) => {
                    told("grpc-message").is_some_and(|why| !why.is_empty() && !why.contains("panic"))
                }
                _ => false,
            };
            assert!(fine, "{seed}: {code:?} to {body:?}");
        }
    })
    .await;
}

/// A configuration is taken or its mistakes are named; the program never breaks over it.
#[test]
fn a_configuration() {
    let corpus = [
        "node = \"a\"\nlog = \"memory\"\n[http]\naddress = \"127.0.0.1:0\"\nidle_timeout = \"9s\"\n[streams.\"a.*\"]\nretention_events = 5\n",
        "[access]\nmode = \"tokens\"\nkeys = [\"file:k.json\", \"https://i.example/k\"]\nanonymous_subscribe = [\"a/*\"]\n[limits]\nconnects_per_second = 0x10\n",
        "[cluster]\npeers = [\"b=http://[::1]:9\"]\n[retention]\nage = \"1d\"\nbytes = \"1GiB\"\n[sse]\nretry_min = \"1s\"\n",
    ];
    let mutator = Mutator::new(&corpus, CASES);
    let seed = mutator.seed();
    let home = tempfile::tempdir().expect("a folder");
    let file = home.path().join("evergate.toml");
    for input in mutator {
        std::fs::write(&file, &input).expect("written");
        let checked = std::process::Command::new(binary())
            .args(["config", "check", "--config"])
            .arg(&file)
            .env_clear()
            .output()
            .expect("it starts");
        let said = String::from_utf8_lossy(&checked.stderr);
        let fine = matches!(checked.status.code(), Some(0 | 2)) && !said.contains("panicked");
        assert!(fine, "{seed}: {:?}: {:?}: {said}", String::from_utf8_lossy(&input), checked.status);
    }
}

/// The server with which a token would have to be forged, and the one way to know that it was not.
#[tokio::test]
async fn tokens() {
    let issuer = evergate_tests::issuer::Issuer::new("issuer");
    let server = Evergate::start(issuer.guard(Options::memory())).await;
    let good = issuer.token("alice", 600, &serde_json::json!({ "subscribe": ["*"], "publish": ["*"] }));
    let mutator = Mutator::new(&[good.as_str()], CASES * 4);
    let seed = mutator.seed();
    let mut client = Client::open(server.http()).await;
    for input in mutator {
        let token: String = input
            .iter()
            .filter(|byte| byte.is_ascii_graphic())
            .map(|byte| char::from(*byte))
            .take(8000)
            .collect();
        let answer = client
            .call(
                "POST",
                EVENTS,
                &[("authorization", &format!("Bearer {token}")), ("content-type", "text/plain")],
                "x",
            )
            .await;
        let expected = if token == good { 200 } else { 401 };
        assert_eq!(answer.status(), expected, "{seed}: {token}");
    }
    let answer = call(
        server.http(),
        Request::post(EVENTS, "text/plain", "x").header("Authorization", format!("Bearer {good}")),
    )
    .await;
    assert_eq!(answer.status(), 200);
}

fn prost_bytes(message: &PublishBatchRequest) -> Vec<u8> {
    prost::Message::encode_to_vec(message)
}
