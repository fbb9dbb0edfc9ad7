//! `PublishBatch`: all or nothing.

use evergate_tests::offset::offset;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Event, Publisher, event, produced};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::stored;

fn events(n: usize) -> Vec<Event> {
    (0..n).map(|n| event(n.to_string())).collect()
}

/// The field a status blames, by whichever detail says so.
fn blamed(status: &Status) -> String {
    let details = status.get_error_details();
    let field = details.bad_request().and_then(|request| request.field_violations.first());
    field.unwrap_or_else(|| panic!("no field is named: {status:?}")).field.clone()
}

#[tokio::test]
async fn a_batch_is_stored_in_order() {
    let server = Evergate::start(Options::memory()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let answers = publisher.try_batch("s", events(1000)).await.expect("taken");
    assert_eq!(answers.len(), 1000);
    let stored = stored(&server, 1000).await;
    for (n, (answer, (at, text))) in answers.iter().zip(&stored).enumerate() {
        assert_eq!((offset(&answer.offset), answer.duplicate), (*at, false));
        assert_eq!(*text, n.to_string());
    }
}

#[tokio::test]
async fn one_wrong_event_refuses_the_whole_batch() {
    let server = Evergate::start(Options::memory()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let mut wrong = events(10);
    wrong[6].r#type = "two\nlines".into();
    let status = publisher.try_batch("s", wrong).await.expect_err("refused");
    assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
    assert_eq!(blamed(&status), "events[6].type");
    assert_eq!(stored(&server, 0).await, []);
}

#[tokio::test]
async fn limits_are_checked_before_anything_is_stored() {
    let server = Evergate::start(Options::memory()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let large = vec![event("x".repeat(200_000)); 6];
    for (batch, limit) in [(events(1001), "1000"), (large, "1048576"), (Vec::new(), "")] {
        let status = publisher.try_batch("s", batch).await.expect_err("refused");
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        assert_eq!(blamed(&status), "events");
        assert!(status.message().contains(limit), "the limit is told: {status:?}");
    }
    assert_eq!(stored(&server, 0).await, []);
}

#[tokio::test]
async fn a_batch_retried_finds_itself() {
    let server = Evergate::start(Options::disk()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let batch =
        |from: u64| (from..from + 10).map(|seq| produced("p", seq, seq.to_string())).collect::<Vec<_>>();
    let first = publisher.try_batch("s", batch(1)).await.expect("taken");
    let again = publisher.try_batch("s", batch(1)).await.expect("taken");
    for (first, again) in first.iter().zip(&again) {
        assert_eq!((again.duplicate, &again.offset), (true, &first.offset));
    }
    // Half of it known, half new.
    let mixed = publisher.try_batch("s", batch(6)).await.expect("taken");
    assert_eq!(
        mixed.iter().map(|answer| answer.duplicate).collect::<Vec<_>>(),
        [[true; 5], [false; 5]].concat()
    );
    let texts: Vec<String> = stored(&server, 15).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, (1..=15).map(|n| n.to_string()).collect::<Vec<_>>());
}
