//! Publishing over gRPC, wrongly.

use evergate_tests::http2::Client;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Event, PublishRequest, Publisher, assert_blames, event, keyed, produced};
use tonic::Code;

use crate::assert_nothing_stored;

fn typed(kind: &str) -> Event {
    Event { r#type: kind.to_owned(), ..event("x") }
}

#[tokio::test]
async fn every_field_is_checked_and_named() {
    let server = Evergate::start(Options::memory()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let long = "x".repeat(300);
    let cases = [
        ("", event("x"), "stream"),
        ("-s", event("x"), "stream"),
        ("a b", event("x"), "stream"),
        ("a\nb", event("x"), "stream"),
        (long.as_str(), event("x"), "stream"),
        ("s", typed("a\nid: 9-9"), "event.type"),
        ("s", typed("a\rb"), "event.type"),
        ("s", typed("a\0b"), "event.type"),
        ("s", typed("evergate.open"), "event.type"),
        ("s", typed(&long), "event.type"),
        ("s", keyed("a\nb", "x"), "event.key"),
        ("s", keyed("a\0b", "x"), "event.key"),
        ("s", keyed("a*", "x"), "event.key"),
        ("s", keyed(&long, "x"), "event.key"),
        ("s", produced("", 1, "x"), "event.producer.id"),
        ("s", produced("a b", 1, "x"), "event.producer.id"),
        ("s", produced(&long, 1, "x"), "event.producer.id"),
        ("s", produced("p", 0, "x"), "event.producer.seq"),
        ("s", produced("p", 1 << 53, "x"), "event.producer.seq"),
    ];
    for (stream, event, field) in cases {
        let status = publisher.try_publish(stream, event).await.expect_err(field);
        assert_blames(&status, Code::InvalidArgument, field);
    }
    let nothing = PublishRequest { stream: "s".into(), event: None, level: 0 };
    let status = publisher.try_request(nothing).await.expect_err("no event");
    assert_blames(&status, Code::InvalidArgument, "event");
    let strange = PublishRequest { stream: "s".into(), event: Some(event("x")), level: 99 };
    let status = publisher.try_request(strange).await.expect_err("no such level");
    assert_blames(&status, Code::InvalidArgument, "level");
    assert_nothing_stored(&server).await;
}

/// Bytes that are no message, and methods that are not there.
#[tokio::test]
async fn what_is_no_call_is_answered_by_a_status() {
    let server = Evergate::start(Options::memory()).await;
    let mut client = Client::open(server.grpc()).await;
    let publish = "/evergate.publish.v1.Publisher/Publish";
    let frame = |message: &[u8]| {
        let length = u32::try_from(message.len()).expect("small").to_be_bytes();
        [&[0], length.as_slice(), message].concat()
    };
    // Field 1, "s"; field 2, an event whose data is not UTF-8.
    let not_text = frame(b"\x0a\x01s\x12\x04\x0a\x02\xff\xfe");
    let nonsense = frame(b"\xff\xff\xff\xff");
    let fields = [("content-type", "application/grpc"), ("te", "trailers")];
    for (path, body) in [
        (publish, not_text),
        (publish, nonsense),
        ("/evergate.publish.v1.Publisher/Nothing", frame(b"")),
        ("/nothing.Nowhere/Publish", frame(b"")),
    ] {
        let (head, trailers) = client.call_with_trailers("POST", path, &fields, body).await;
        let status =
            head.header("grpc-status").map(str::to_owned).or_else(|| trailers.get("grpc-status").cloned());
        let status = status.unwrap_or_else(|| panic!("{path}: no status: {head:?} {trailers:?}"));
        assert_ne!(status, "0", "{path}");
    }
    assert_nothing_stored(&server).await;
}
