//! The kept cursors: the suite, and what only a shared Redis can show.

use std::sync::Arc;

use async_trait::async_trait;
use evergate_domain::{
    Claim, ClientId, Cursor, CursorKey, KeyFilter, Level, Retention, StoredCursor, StreamName,
    StreamPolicies, StreamSet,
};

use super::super::testing::{Server, clock, log};
use crate::cursors::conformance::{Subject, suite};
use crate::{
    Clock, CursorStore, CursorStoreError, CursorWrite, EventLog as _, Move, Only, RedisCursors, RedisLog,
    TakeOver, Wish, Written,
};

/// A store with the log whose connections it uses.
struct Store(Arc<RedisLog>, RedisCursors);

#[async_trait]
impl CursorStore for Store {
    async fn take_over(
        &self,
        key: &CursorKey,
        take: TakeOver,
    ) -> Result<Option<StoredCursor>, CursorStoreError> {
        self.1.take_over(key, take).await
    }

    async fn take_if(&self, key: &CursorKey, take: TakeOver, only: Only) -> Result<Wish, CursorStoreError> {
        self.1.take_if(key, take, only).await
    }

    async fn look(&self, key: &CursorKey) -> Result<Option<StoredCursor>, CursorStoreError> {
        self.1.look(key).await
    }

    async fn write(&self, batch: &[CursorWrite]) -> Vec<Result<Written, CursorStoreError>> {
        self.1.write(batch).await
    }

    async fn expire(&self) -> Result<(), CursorStoreError> {
        self.1.expire().await
    }

    async fn close(&self) {
        self.1.close().await;
        self.0.close().await;
    }
}

struct Redis(Server);

async fn store(server: &Server, clock: Arc<dyn Clock>) -> Store {
    let log = log(server.options(Level::Home), StreamPolicies::open(Retention::FOREVER), clock).await;
    let cursors = log.cursors();
    Store(log, cursors)
}

#[async_trait]
impl Subject for Redis {
    async fn open(&self, clock: Arc<dyn Clock>) -> Arc<dyn CursorStore> {
        Arc::new(store(&self.0, clock).await)
    }

    fn durable(&self) -> bool {
        true
    }
}

suite!(Redis(Server::start().await));

pub(super) fn subscription(n: usize) -> (CursorKey, StreamSet) {
    let streams = StreamSet::new(vec![StreamName::new("quote").expect("valid")]).expect("valid");
    let client = ClientId::new(&format!("client-{n}")).expect("valid");
    (CursorKey::new(&client, &streams, &[KeyFilter::all()]), streams)
}

#[tokio::test]
async fn a_cursor_taken_over_at_another_edge_is_lost_to_the_first() {
    let server = Server::start().await;
    let (one, other) = (store(&server, clock()).await, store(&server, clock()).await);
    let (key, streams) = subscription(0);
    let at = |text: &str| Cursor::parse(&streams, text).expect("valid").pack();
    let take = |claim, position| TakeOver { claim: Claim::new(claim), position, acknowledges: false };
    one.take_over(&key, take(1, Some(at("1-5")))).await.expect("begins");
    let kept = other.take_over(&key, take(2, None)).await.expect("answers").expect("kept");
    assert_eq!(kept.position, at("1-5"));
    let hint = CursorWrite {
        key: key.clone(),
        claim: Claim::new(1),
        position: at("1-6"),
        by: Move::Hint,
        last: false,
    };
    assert!(matches!(one.write(&[hint]).await[..], [Ok(Written::Replaced)]));
    one.close().await;
    other.close().await;
}

/// The cost that the design allows: 48 bytes a client, and no key for each.
#[tokio::test]
async fn a_hundred_thousand_cursors_are_small() {
    const CLIENTS: usize = 100_000;
    let server = Server::start().await;
    let store = store(&server, clock()).await;
    let used = || async {
        let info: String = server.ask(&["INFO", "memory"]).await.expect("answers");
        let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).expect("told");
        line.trim().parse::<usize>().expect("a number")
    };
    let before = used().await;
    for first in (0..CLIENTS).step_by(10_000) {
        let batch: Vec<_> = (first..first + 10_000)
            .map(|n| {
                let (key, streams) = subscription(n);
                // As a log makes them after a day's work: epochs in milliseconds, millions of events.
                let position = Cursor::parse(&streams, "1790000000000-12345678").expect("valid").pack();
                CursorWrite { key, claim: Claim::new(7), position, by: Move::Hint, last: false }
            })
            .collect();
        assert!(store.write(&batch).await.iter().all(|written| matches!(written, Ok(Written::Moved))));
    }
    let each = (used().await - before) as f64 / CLIENTS as f64;
    let keys: usize = server.ask(&["DBSIZE"]).await.expect("answers");
    assert!(keys <= 2048 + 8, "{keys} keys");
    assert!(each <= 48.0, "{each} bytes a cursor");
    store.close().await;
}
