//! How connections come to their places when the store does not answer at first.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use evergate_domain::{
    ClientId, Cursor, CursorKey, KeyFilter, PackedCursor, Retention, StoredCursor, StreamName,
    StreamPolicies, StreamSet,
};
use evergate_eventlog::{
    BackendError, CursorStore, CursorStoreError, CursorWrite, MemoryCursors, MemoryLog, Only, SystemClock,
    TakeOver, Wish, Written,
};
use evergate_fanout::{Engine, Hub, HubConfig};
use tokio_util::sync::CancellationToken;

use crate::cursors::{Dismissal, Keeper, Place, Reason, Taken};

/// One edge's way to the store, which may be cut.
struct Way {
    store: Arc<MemoryCursors>,
    cut: AtomicBool,
    /// The stream whose places are on a server that is down.
    down: Option<&'static str>,
}

impl Way {
    fn passable(&self) -> Result<(), CursorStoreError> {
        let cut = self.cut.load(Ordering::Relaxed);
        let error = || CursorStoreError::Unavailable(BackendError::message("it is away"));
        if cut { Err(error()) } else { Ok(()) }
    }
}

#[tonic::async_trait]
impl CursorStore for Way {
    async fn take_over(
        &self,
        key: &CursorKey,
        take: TakeOver,
    ) -> Result<Option<StoredCursor>, CursorStoreError> {
        self.passable()?;
        self.store.take_over(key, take).await
    }

    async fn take_if(&self, key: &CursorKey, take: TakeOver, only: Only) -> Result<Wish, CursorStoreError> {
        self.passable()?;
        self.store.take_if(key, take, only).await
    }

    async fn look(&self, key: &CursorKey) -> Result<Option<StoredCursor>, CursorStoreError> {
        self.passable()?;
        self.store.look(key).await
    }

    async fn write(&self, batch: &[CursorWrite]) -> Vec<Result<Written, CursorStoreError>> {
        if let Err(error) = self.passable() {
            return vec![Err(error); batch.len()];
        }
        let mut answers = Vec::new();
        for write in batch {
            if Some(write.key.service_and_bucket().0) == self.down {
                let error = BackendError::message("this server is down");
                answers.push(Err(CursorStoreError::Unavailable(error)));
            } else {
                answers.extend(self.store.write(std::slice::from_ref(write)).await);
            }
        }
        answers
    }

    async fn expire(&self) -> Result<(), CursorStoreError> {
        self.store.expire().await
    }

    async fn close(&self) {}
}

struct Edge {
    way: Arc<Way>,
    keeper: Arc<Keeper>,
    turn: u64,
}

/// Edges with one store.
fn edges<const N: usize>() -> [Edge; N] {
    edges_without(None)
}

fn edges_without<const N: usize>(down: Option<&'static str>) -> [Edge; N] {
    let store = Arc::new(MemoryCursors::new(Arc::new(SystemClock)));
    std::array::from_fn(|_| {
        let policies = StreamPolicies::open(Retention::default());
        let log = MemoryLog::new(Arc::new(policies), Arc::new(SystemClock));
        let engine = Engine::start(&Hub::new(Arc::new(log), HubConfig::default()), 1);
        let way = Arc::new(Way { store: Arc::clone(&store), cut: false.into(), down });
        Edge { keeper: Keeper::new(Arc::clone(&way) as _, engine, 20_000), way, turn: 0 }
    })
}

fn streams() -> StreamSet {
    StreamSet::new(vec![StreamName::new("s").expect("valid")]).expect("one")
}

fn at(seq: u64) -> PackedCursor {
    Cursor::parse(&streams(), &format!("1-{seq}")).expect("valid").pack()
}

impl Edge {
    fn cut(&self, cut: bool) {
        self.way.cut.store(cut, Ordering::Relaxed);
    }

    /// The client comes, and says where it is.
    async fn comes(&self, own: Option<u64>) -> (Taken, Dismissal) {
        let key = CursorKey::new(&ClientId::new("c").expect("valid"), &streams(), &[KeyFilter::all()]);
        let dismissal = Dismissal::new(CancellationToken::new());
        let taken = self.keeper.take(key, streams(), dismissal.clone(), own.map(at), false, None).await;
        (taken.expect("it is served"), dismissal)
    }

    async fn flush(&mut self) {
        self.keeper.flush().await;
        self.keeper.take_late(self.turn).await;
        self.turn += 1;
        self.keeper.flush().await;
    }

    /// What is kept of a place that is held here: to take it again changes nothing.
    async fn stored(&self, place: &Place) -> Option<PackedCursor> {
        let take = TakeOver { claim: place.claim, position: None, acknowledges: false };
        let kept = self.way.store.take_over(&place.key, take).await.expect("it answers");
        kept.map(|kept| kept.position)
    }

    /// Where a client would begin that comes here and brings nothing.
    async fn kept(&self) -> Option<PackedCursor> {
        self.comes(None).await.0.kept.map(|kept| kept.position)
    }
}

#[tokio::test]
async fn it_has_its_place_when_the_store_answers_again() {
    let [mut edge] = edges();
    edge.cut(true);
    let (taken, _) = edge.comes(Some(5)).await;
    assert!(taken.late && taken.kept.is_none());
    taken.place.passed(at(7));
    edge.flush().await;
    edge.cut(false);
    edge.flush().await;
    taken.place.passed(at(8));
    edge.flush().await;
    assert_eq!(edge.kept().await, Some(at(8)));
}

#[tokio::test]
async fn it_does_not_displace_who_came_later_elsewhere() {
    let [mut here, mut there] = edges();
    here.cut(true);
    let (old, _) = here.comes(Some(5)).await;
    let (new, dismissed) = there.comes(Some(6)).await;
    here.cut(false);
    old.place.passed(at(50));
    here.flush().await;
    new.place.passed(at(9));
    there.flush().await;
    assert_eq!(dismissed.reason(), None);
    // It comes to it when the other one has gone, and what is kept is not moved back.
    drop(new);
    there.flush().await;
    old.place.passed(at(8));
    here.flush().await;
    assert_eq!(here.stored(&old.place).await, Some(at(9)));
}

#[tokio::test]
async fn it_moves_nothing_backwards() {
    let [mut here, mut there] = edges();
    let (before, _) = there.comes(Some(9)).await;
    drop(before);
    here.cut(true);
    let (late, _) = here.comes(Some(5)).await;
    there.flush().await;
    here.cut(false);
    for (passed, kept) in [(7, 9), (8, 9), (12, 12)] {
        late.place.passed(at(passed));
        here.flush().await;
        assert_eq!(here.stored(&late.place).await, Some(at(kept)), "after {passed}");
    }
}

#[tokio::test]
async fn the_connection_before_on_the_same_edge_lets_go() {
    let [mut edge] = edges();
    let (before, dismissed) = edge.comes(Some(5)).await;
    before.place.passed(at(6));
    edge.cut(true);
    let (late, _) = edge.comes(Some(6)).await;
    assert_eq!(dismissed.reason(), Some(Reason::Replaced));
    edge.flush().await;
    edge.cut(false);
    edge.flush().await;
    late.place.passed(at(7));
    edge.flush().await;
    drop((before, late));
    assert_eq!(edge.kept().await, Some(at(7)));
}

#[tokio::test]
async fn one_that_went_before_holds_nothing() {
    let [mut here, mut there] = edges();
    here.cut(true);
    drop(here.comes(Some(5)).await);
    here.cut(false);
    here.flush().await;
    there.cut(true);
    let (late, _) = there.comes(Some(6)).await;
    there.cut(false);
    there.flush().await;
    late.place.passed(at(7));
    there.flush().await;
    drop(late);
    there.flush().await;
    assert_eq!(here.kept().await, Some(at(7)));
}

/// Sorted by what they belong to, whole batches may be of a server that is down.
#[tokio::test]
async fn what_belongs_to_a_server_that_is_down_holds_up_nothing_else() {
    let [mut edge] = edges_without(Some("down"));
    let mut places = Vec::new();
    for (stream, clients) in [("down", 5_000), ("up", 10), ("a", 10)] {
        let streams = StreamSet::new(vec![StreamName::new(stream).expect("valid")]).expect("one");
        for n in 0..clients {
            let client = ClientId::new(&n.to_string()).expect("valid");
            let key = CursorKey::new(&client, &streams, &[KeyFilter::all()]);
            let dismissal = Dismissal::new(CancellationToken::new());
            let taken = edge.keeper.take(key, streams.clone(), dismissal, Some(at(1)), false, None).await;
            places.push(taken.expect("it is served").place);
        }
    }
    places.iter().for_each(|place| place.passed(at(2)));
    edge.flush().await;
    assert_eq!(edge.keeper.waiting(), 5_000);
    assert_eq!(edge.stored(&places[0]).await, Some(at(1)));
    for place in &places[5_000..] {
        assert_eq!(edge.stored(place).await, Some(at(2)));
    }
}
