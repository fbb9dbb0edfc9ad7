//! `Publish`: one event, one answer.

use evergate_tests::offset::offset;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Event, Level, PublishRequest, Publisher, assert_blames, event, produced};
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::stored;

#[tokio::test]
async fn an_acknowledged_event_is_stored_where_it_was_said_to_be() {
    let server = Evergate::start(Options::memory()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let offsets = publisher.publish_all("s", ["a", "b", "c"]).await;
    let expected: Vec<_> = offsets.into_iter().zip(["a", "b", "c"].map(str::to_owned)).collect();
    assert_eq!(expected[0].0.seq, 1);
    assert_eq!(stored(&server, 3).await, expected);
}

#[tokio::test]
async fn a_retry_finds_the_first_attempt() {
    for options in [Options::memory(), Options::disk()] {
        let server = Evergate::start(options).await;
        let publisher = Publisher::connect(server.grpc()).await;
        let first = publisher.publish("s", produced("p", 7, "once")).await;
        publisher.publish("s", produced("q", 7, "another producer")).await;
        publisher.publish("other", produced("p", 7, "another stream")).await;
        for _ in 0..3 {
            let answer = publisher.try_publish("s", produced("p", 7, "once")).await.expect("taken");
            assert!(answer.duplicate);
            assert_eq!(offset(&answer.offset), first);
        }
        let texts: Vec<String> = stored(&server, 2).await.into_iter().map(|(_, text)| text).collect();
        assert_eq!(texts, ["once", "another producer"]);
    }
}

#[tokio::test]
async fn a_retry_after_a_restart_finds_it_too() {
    let mut server = Evergate::start(Options::disk()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let first = publisher.publish("s", produced("p", 1, "once")).await;
    server.kill();
    server.restart().await;
    let publisher = Publisher::connect(server.grpc()).await;
    let answer = publisher.try_publish("s", produced("p", 1, "once")).await.expect("taken");
    assert_eq!((answer.duplicate, offset(&answer.offset)), (true, first));
}

#[tokio::test]
async fn a_sequence_too_old_to_be_judged_is_refused() {
    let server = Evergate::start(Options::memory()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let oldest = publisher.publish("s", produced("p", 1, "oldest")).await;
    publisher.publish("s", produced("q", 1, "in between")).await;
    let mut offsets = Vec::new();
    for part in [2..=1001u64, 1002..=2000] {
        let events = part.map(|seq| produced("p", seq, seq.to_string())).collect();
        offsets.extend(publisher.try_batch("s", events).await.expect("taken"));
    }
    // The last 1,024 at least are remembered: 977 to 2000.
    for seq in [977, 1500, 2000] {
        let answer = publisher.try_publish("s", produced("p", seq, "again")).await.expect("taken");
        assert!(answer.duplicate, "{seq}");
        assert_eq!(answer.offset, offsets[usize::try_from(seq).expect("small") - 2].offset);
    }
    refused_as_too_old(&publisher, produced("p", 1, "oldest")).await;
    assert_eq!(stored(&server, 2001).await[0], (oldest, "oldest".to_owned()));
}

#[tokio::test]
async fn a_sequence_may_leave_holes_but_not_fill_them_later() {
    let server = Evergate::start(Options::memory()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    publisher.publish("s", produced("p", 10, "ten")).await;
    publisher.publish("s", produced("p", 20, "twenty")).await;
    refused_as_too_old(&publisher, produced("p", 15, "fifteen")).await;
    publisher.publish("s", produced("p", 21, "twenty-one")).await;
    assert_eq!(stored(&server, 3).await.len(), 3);
}

async fn refused_as_too_old(publisher: &Publisher, event: Event) {
    let status = publisher.try_publish("s", event).await.expect_err("too old");
    assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
    let details = status.get_error_details();
    let failure = details.precondition_failure().expect("the details say what failed");
    assert!(!failure.violations.is_empty(), "{status:?}");
}

#[tokio::test]
async fn a_level_the_log_cannot_give_is_refused() {
    let server = Evergate::start(Options::memory()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let request =
        |level: Level| PublishRequest { stream: "s".into(), event: Some(event("x")), level: level.into() };
    for level in [Level::Unspecified, Level::Home] {
        publisher.try_request(request(level)).await.expect("any log can give that");
    }
    for level in [Level::Replicated, Level::Quorum] {
        let status = publisher.try_request(request(level)).await.expect_err("one node has no replica");
        assert_eq!(status.code(), Code::FailedPrecondition, "{status:?}");
        assert!(status.get_error_details().precondition_failure().is_some(), "{status:?}");
    }
    assert_eq!(stored(&server, 2).await.len(), 2);
}

#[tokio::test]
async fn the_payload_limit_is_told_with_its_size() {
    let server = Evergate::start(Options::memory().set("publish.payload_bytes_max", "1KiB")).await;
    let publisher = Publisher::connect(server.grpc()).await;
    publisher.publish("s", event("x".repeat(1024))).await;
    let status = publisher.try_publish("s", event("x".repeat(1025))).await.expect_err("too large");
    assert_blames(&status, Code::InvalidArgument, "event.data");
    assert!(status.message().contains("1024"), "{status:?}");
    assert_eq!(stored(&server, 1).await.len(), 1);
}

#[tokio::test]
async fn the_default_payload_limit_is_256_kib() {
    let server = Evergate::start(Options::memory()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    publisher.publish("s", event("x".repeat(256 * 1024))).await;
    let status = publisher.try_publish("s", event("x".repeat(256 * 1024 + 1))).await.expect_err("too large");
    assert_blames(&status, Code::InvalidArgument, "event.data");
    let status = publisher.try_publish("s", event("x".repeat(16 << 20))).await.expect_err("far too large");
    assert!(
        matches!(status.code(), Code::InvalidArgument | Code::OutOfRange | Code::ResourceExhausted),
        "{status:?}"
    );
    publisher.publish("s", event("the connection is usable after that")).await;
}

#[tokio::test]
async fn a_stream_may_have_to_exist_already() {
    let options = Options::memory().set("streams.create", "false").configured("[streams.known]\n");
    let server = Evergate::start(options).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let status = publisher.try_publish("s", event("x")).await.expect_err("no such stream");
    assert_eq!(status.code(), Code::NotFound, "{status:?}");
    publisher.publish("known", event("x")).await;
}

#[tokio::test]
async fn publishers_side_by_side_share_one_dense_sequence() {
    let server = Evergate::start(Options::memory()).await;
    let mut tasks = Vec::new();
    for n in 0..8 {
        let publisher = Publisher::connect(server.grpc()).await;
        tasks.push(tokio::spawn(async move {
            publisher.publish_all("s", (0..50).map(|m| format!("{n}-{m}"))).await
        }));
    }
    let mut offsets = Vec::new();
    for task in tasks {
        let own = task.await.expect("a publisher ends well");
        assert!(own.is_sorted(), "one publisher's events keep their order");
        offsets.extend(own);
    }
    offsets.sort();
    let seqs: Vec<u64> = offsets.iter().map(|offset| offset.seq).collect();
    assert_eq!(seqs, (1..=400).collect::<Vec<u64>>());
    assert_eq!(stored(&server, 400).await.len(), 400);
}
