//! What is remembered of epochs is bounded, and what is forgotten is not passed over in silence.

use evergate_domain::{GapReason, Retention};

use super::super::testing::clock;
use super::*;

const ALL: ReadLimit = ReadLimit { events: 1000, bytes: 1 << 20 };
/// Far more than are kept.
const EPOCHS: usize = 150;

async fn field(server: &Server, key: &str, name: &str) -> String {
    server.ask::<Option<String>>(&["HGET", key, name]).await.expect("asks").unwrap_or_default()
}

async fn append(log: &RedisLog, stream: &StreamName) -> Offset {
    log.append(stream, vec![EventDraft::new("x")]).await.expect("appends")[0].offset
}

async fn gap(log: &RedisLog, stream: &StreamName, after: Offset) -> evergate_domain::Gap {
    match log.read(stream, after, ALL).await.expect("reads") {
        Page::Gap(gap) => gap,
        other => panic!("{after} is answered by {other:?}"),
    }
}

#[tokio::test]
async fn epochs_are_forgotten_and_that_is_told() {
    let server = Server::start().await;
    let policies = StreamPolicies::open(Retention { events: Some(20), ..Retention::FOREVER });
    let log = log(server.options(Level::Home), policies, clock()).await;
    // Two streams of one slot: one goes on through all epochs, the other is silent after the first.
    let busy = StreamName::new("busy").expect("valid");
    let slot = Keys::of(&busy).slot;
    let silent = (0..).map(|n| StreamName::new(&format!("silent-{n}")).expect("valid"));
    let silent = silent.into_iter().find(|name| Keys::of(name).slot == slot).expect("there is one");
    let mut offsets = vec![append(&log, &busy).await];
    let last = append(&log, &silent).await;
    for epoch in 1..EPOCHS {
        reader::take_over(&log.shared, slot).await.expect("opens a new epoch");
        offsets.push(append(&log, &busy).await);
        if epoch % 10 == 0 {
            log.trim().await.expect("trims");
        }
    }
    log.trim().await.expect("trims");
    let epochs = field(&server, &slot.record(), "epochs").await;
    assert_eq!(epochs.split(' ').count(), 64, "{epochs}");
    let ends = field(&server, &Keys::of(&busy).meta(), "ends").await;
    assert_eq!(ends.split(' ').count(), 64, "{ends}");

    // Trimmed and forgotten: unknown. Trimmed only: counted. Kept: read.
    let told = gap(&log, &busy, offsets[3]).await;
    assert_eq!((told.reason, told.lost), (GapReason::Unknown, None));
    let told = gap(&log, &busy, offsets[EPOCHS - 40]).await;
    assert_eq!((told.reason, told.lost), (GapReason::Trimmed, Some(19)));
    let Page::Events { events, .. } = log.read(&busy, offsets[EPOCHS - 10], ALL).await.expect("reads") else {
        panic!("it is kept")
    };
    assert_eq!(events.iter().map(|event| event.offset).collect::<Vec<_>>(), offsets[EPOCHS - 9..]);

    // The silent stream's epoch is forgotten but for the stream itself; how it ended nobody knows.
    let Page::Events { events, .. } = log.read(&silent, Offset::BEGINNING, ALL).await.expect("reads") else {
        panic!("it is kept")
    };
    assert_eq!(events.len(), 1);
    assert_eq!(gap(&log, &silent, last).await.reason, GapReason::LostTail);
    let cursor = gap(&log, &silent, last).await.cursor;
    append(&log, &silent).await;
    let Page::Events { events, .. } = log.read(&silent, cursor, ALL).await.expect("reads") else {
        panic!("it was told already")
    };
    assert_eq!(events.len(), 1);
    log.close().await;
}
