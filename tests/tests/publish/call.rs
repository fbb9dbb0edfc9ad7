//! `PublishStream`: many events under way in one call.

use std::time::Duration;

use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Event, Publisher, event, produced, published, refused, request};
use evergate_tests::subscription::{Next, Subscription};
use tonic::Code;

use crate::stored;

#[tokio::test]
async fn answers_come_in_the_order_of_the_requests() {
    for options in [Options::memory(), Options::disk()] {
        let server = Evergate::start(options).await;
        let publisher = Publisher::connect(server.grpc()).await;
        let mut call = publisher.open().await.expect("the call opens");
        let requests = call.sender();
        let sending = tokio::spawn(async move {
            for n in 0..5000u64 {
                // Any number may match the two; two streams take turns.
                let stream = if n % 2 == 0 { "s" } else { "other" };
                requests.send(request(stream, n * 3, event(n.to_string()))).await.expect("the call is open");
            }
        });
        let mut seqs = [0u64; 2];
        for n in 0..5000u64 {
            let answer = call.answer().await.expect("an answer").expect("one for each request");
            assert_eq!(answer.correlation, n * 3);
            let (offset, duplicate) = published(&answer);
            let seq = &mut seqs[usize::from(n % 2 == 1)];
            *seq += 1;
            assert_eq!((offset.seq, duplicate), (*seq, false), "ordered and dense per stream");
        }
        sending.await.expect("everything was sent");
        call.finish();
        assert!(call.answer().await.expect("the call ends well").is_none());
        let texts: Vec<String> = stored(&server, 2500).await.into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, (0..2500).map(|n| (n * 2).to_string()).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn an_event_that_is_refused_ends_nothing() {
    let server = Evergate::start(Options::memory()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let mut call = publisher.open().await.expect("the call opens");
    let wrong = [
        ("s", Event { r#type: "two\nlines".into(), ..event("x") }, "event.type"),
        ("s", Event { key: "a*".into(), ..event("x") }, "event.key"),
        ("s", event("x".repeat(256 * 1024 + 1)), "event.data"),
        ("-s", event("x"), "stream"),
        ("s", produced("", 1, "x"), "event.producer.id"),
        ("s", produced("p", 0, "x"), "event.producer.seq"),
    ];
    for (n, (stream, event_, field)) in (0..).zip(wrong) {
        call.send(request(stream, n, event_)).await.expect("the call is open");
        let answer = call.answer().await.expect("an answer").expect("one for each request");
        assert_eq!(answer.correlation, n);
        let told = refused(&answer);
        assert_eq!((told.code, told.field.as_str()), (Code::InvalidArgument as i32, field), "{told:?}");
        assert!(!told.message.is_empty() && told.retry_after_ms == 0, "{told:?}");

        call.send(request("s", 100 + n, event("good"))).await.expect("the call is open");
        let answer = call.answer().await.expect("an answer").expect("one for each request");
        assert_eq!(published(&answer).0.seq, n + 1);
    }
    call.finish();
    assert!(call.answer().await.expect("the call ends well").is_none());
    assert_eq!(stored(&server, 6).await.len(), 6);
}

#[tokio::test]
async fn a_broken_call_is_taken_up_again_without_doubling() {
    let server = Evergate::start(Options::disk()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let mut call = publisher.open().await.expect("the call opens");
    for seq in 1..=100 {
        call.send(request("s", seq, produced("p", seq, seq.to_string()))).await.expect("open");
    }
    // Ten answers are read; what became of the others the publisher does not know.
    for _ in 0..10 {
        call.answer().await.expect("an answer").expect("one for each request");
    }
    drop(call);

    let mut call = publisher.open().await.expect("the call opens again");
    let mut offsets = Vec::new();
    for seq in 11..=200 {
        call.send(request("s", seq, produced("p", seq, seq.to_string()))).await.expect("open");
        let answer = call.answer().await.expect("an answer").expect("one for each request");
        offsets.push(published(&answer).0);
    }
    assert!(offsets.is_sorted());
    let texts: Vec<String> = stored(&server, 200).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, (1..=200).map(|n| n.to_string()).collect::<Vec<_>>());
}

/// A publisher that reads no answers is held back: the server stops reading its requests, so it
/// cannot make the server hold any number of events.
#[tokio::test]
async fn a_window_bounds_what_is_under_way() {
    let server = Evergate::start(Options::memory().set("publish.stream_window", "64")).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let mut watcher = Subscription::open(server.http(), "/v1/streams/s/events").await;
    watcher.opened().await;
    let mut call = publisher.open().await.expect("the call opens");
    let total = 200_000;
    let requests = call.sender();
    let sending = tokio::spawn(async move {
        for n in 0..total {
            requests.send(request("s", n, event(n.to_string()))).await.expect("the call is open");
        }
    });
    // Until nothing has been stored for a second.
    let mut stored = 0u64;
    while let Some(next) = watcher.next_within(Duration::from_secs(1)).await {
        match next {
            Next::Item(_) => stored += 1,
            Next::End(end) => panic!("the watcher's stream ended: {end:?}"),
        }
    }
    assert!(!sending.is_finished(), "200,000 events were taken from one who reads no answers");
    assert!(stored >= 64, "{stored}");
    drop(watcher);
    for n in 0..total {
        let answer = call.answer().await.expect("an answer").expect("one for each request");
        assert_eq!((answer.correlation, published(&answer).0.seq), (n, n + 1));
    }
    sending.await.expect("everything was sent in the end");
}
