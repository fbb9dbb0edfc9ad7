//! What breaks while many publish and follow, and what must hold all the same: nothing acknowledged
//! is lost or stored twice where that is promised, order is kept, and every loss is told.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use evergate_domain::{Event, GapReason, ProducerId, ProducerSeq, Retention, Seq, UnixMillis};
use rustix::process::Signal;

use super::super::library::{self, tests::load_version};
use super::super::testing::{PATIENCE, clock, oracle, until};
use super::*;
use crate::{Retry, SystemClock, TailItem};

/// Entries of one node of a stream, as Redis has it unless it is told otherwise: what appending trims at a
/// guess keeps fewer than that too many.
const NODE_ENTRIES: u64 = 100;
const ALL: ReadLimit = ReadLimit { events: usize::MAX, bytes: u64::MAX };

fn stream(name: &str) -> StreamName {
    StreamName::new(name).expect("valid")
}

fn numbered(producer: &str, seq: u64) -> EventDraft {
    EventDraft {
        producer: Some(ProducerSeq {
            id: ProducerId::new(producer).expect("valid"),
            seq: Seq::new(seq).expect("fits"),
        }),
        ..EventDraft::new(format!("{producer}/{seq}"))
    }
}

/// A log that gives up soon, so that its caller has something to decide.
async fn hasty(server: &Server, level: Level) -> Arc<RedisLog> {
    let options = RedisOptions {
        response_timeout: Duration::from_millis(500),
        append_timeout: Duration::from_millis(700),
        confirm_timeout: Duration::from_millis(200),
        compare_every: Duration::from_millis(200),
        ..server.options(level)
    };
    log(options, StreamPolicies::open(Retention::FOREVER), Arc::new(SystemClock)).await
}

/// Publishes one event, as a publisher would: again and again under the same number.
async fn publish(log: &RedisLog, name: &StreamName, draft: EventDraft) -> Offset {
    let publishing = async {
        loop {
            match log.append(name, vec![draft.clone()]).await {
                Ok(placed) => return placed[0].offset,
                Err(error) => {
                    assert!(matches!(error.retry(), Retry::After(_)), "{error}");
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
        }
    };
    tokio::time::timeout(PATIENCE, publishing).await.unwrap_or_else(|_| panic!("{draft:?} is never taken"))
}

/// Everything that was acknowledged, by offset.
#[derive(Default)]
struct Ledger(Mutex<BTreeMap<Offset, String>>);

impl Ledger {
    fn note(&self, offset: Offset, data: String) {
        let mut noted = self.0.lock();
        assert!(!noted.contains_key(&offset), "{offset} was given to {} and to {data}", noted[&offset]);
        noted.insert(offset, data);
    }

    fn len(&self) -> usize {
        self.0.lock().len()
    }

    /// What lies in Redis is dense, in order, holds nothing twice, and all that was acknowledged.
    async fn judge(&self, server: &Server, name: &StreamName) {
        let stored: Vec<(Offset, String)> = oracle(server, name)
            .await
            .into_iter()
            .map(|(id, event)| {
                let data = event.rsplit_once('\n').expect("an event").1.to_owned();
                (id.parse().expect("an offset"), data)
            })
            .collect();
        for (at, (offset, _)) in stored.iter().enumerate() {
            assert_eq!(offset.seq.get(), at as u64 + 1, "a hole");
        }
        let mut data: Vec<_> = stored.iter().map(|(_, data)| data).collect();
        data.sort();
        data.dedup();
        assert_eq!(data.len(), stored.len(), "something is stored twice");
        let stored: BTreeMap<_, _> = stored.into_iter().collect();
        for (offset, data) in &*self.0.lock() {
            assert_eq!(stored.get(offset), Some(data), "acknowledged as {offset}");
        }
        // Each producer's events in its order.
        let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
        for data in stored.values() {
            let (producer, seq) = data.split_once('/').expect("made here");
            let seq = seq.parse().expect("made here");
            assert!(newest.insert(producer, seq).is_none_or(|before| before < seq), "{data} came late");
        }
    }
}

/// Follows a stream the way the fan-out does, and notes what it saw and what it was told.
#[derive(Default)]
struct Follower {
    seen: Mutex<Vec<Arc<Event>>>,
    told: Mutex<Vec<evergate_domain::Gap>>,
}

impl Follower {
    async fn start(log: &Arc<RedisLog>, name: &StreamName) -> (Arc<Self>, tokio::task::JoinHandle<()>) {
        let follower = Arc::new(Self::default());
        let mut tail = log.follow(name).await.expect("follows");
        let (it, log, name) = (Arc::clone(&follower), Arc::clone(log), name.clone());
        let task = tokio::spawn(async move {
            let mut head = tail.start();
            loop {
                let whole = match tail.next().await {
                    TailItem::Events(events) => it.take(&mut head, &events),
                    TailItem::Trimmed(_) => true,
                    TailItem::Lagged => false,
                    TailItem::Closed => return,
                };
                if !whole {
                    it.repair(&mut head, &log, &name).await;
                }
            }
        });
        (follower, task)
    }

    fn take(&self, head: &mut Offset, events: &[Arc<Event>]) -> bool {
        for event in events.iter().filter(|event| event.offset.seq > head.seq).collect::<Vec<_>>() {
            if event.offset.seq != head.seq.plus(1) {
                return false;
            }
            self.seen.lock().push(Arc::clone(event));
            *head = event.offset;
        }
        true
    }

    async fn repair(&self, head: &mut Offset, log: &RedisLog, name: &StreamName) {
        loop {
            match log.read(name, *head, ReadLimit { events: 256, bytes: 1 << 20 }).await {
                Ok(Page::Events { events, at_end }) => {
                    assert!(self.take(head, &events), "a page has no holes");
                    if at_end {
                        return;
                    }
                }
                Ok(Page::Gap(gap)) => {
                    *head = gap.cursor;
                    self.told.lock().push(gap);
                }
                Ok(Page::Hold { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(ReadError::Closed) => return,
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    fn last(&self) -> u64 {
        self.seen.lock().last().map_or(0, |event| event.offset.seq.get())
    }

    /// Everything from the first to the last, once and in order.
    fn saw_all(&self, count: u64) -> bool {
        self.seen.lock().iter().map(|event| event.offset.seq.get()).eq(1..=count)
    }
}

/// Writers at work, each with its own numbers, until each has published `each`.
struct Writers {
    tasks: JoinSet<()>,
    done: Arc<AtomicU64>,
}

fn writers(log: &Arc<RedisLog>, name: &StreamName, ledger: &Arc<Ledger>, count: u64, each: u64) -> Writers {
    let done = Arc::new(AtomicU64::new(0));
    let mut tasks = JoinSet::new();
    for writer in 0..count {
        let (log, name, ledger, done) =
            (Arc::clone(log), name.clone(), Arc::clone(ledger), Arc::clone(&done));
        tasks.spawn(async move {
            for seq in 1..=each {
                let draft = numbered(&format!("w{writer}"), seq);
                let data = draft.data.clone();
                ledger.note(publish(&log, &name, draft).await, data);
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    Writers { tasks, done }
}

impl Writers {
    /// Waits until so many events are acknowledged.
    async fn at(&self, many: u64) {
        until(&format!("{many} are published"), || async { self.done.load(Ordering::Relaxed) >= many }).await;
    }

    async fn end(mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            ended.expect("no panic");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_killed_under_64_writers_duplicate_and_lose_nothing() {
    let server = Server::start().await;
    let log = hasty(&server, Level::Home).await;
    let (name, ledger) = (stream("killed"), Arc::<Ledger>::default());
    let (follower, following) = Follower::start(&log, &name).await;
    let writers = writers(&log, &name, &ledger, 64, 100);
    for round in 1..=10 {
        writers.at(round * 500).await;
        // Right after the last time there may be none yet.
        until("a connection is killed", || async {
            let pubsub: i64 = server.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]).await.expect("kills");
            pubsub + server.ask::<i64>(&["CLIENT", "KILL", "TYPE", "normal"]).await.expect("kills") > 0
        })
        .await;
    }
    writers.end().await;
    assert_eq!(ledger.len(), 6400);
    ledger.judge(&server, &name).await;
    assert_eq!(oracle(&server, &name).await.len(), 6400);
    until("the follower has all", || async { follower.last() == 6400 }).await;
    assert!(follower.saw_all(6400));
    assert!(follower.told.lock().is_empty());
    log.close().await;
    following.await.expect("no panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_without_producer_are_not_duplicated_either() {
    let server = Server::start().await;
    let options =
        RedisOptions { response_timeout: Duration::from_millis(500), ..server.options(Level::Home) };
    let log = log(options, StreamPolicies::open(Retention::FOREVER), Arc::new(SystemClock)).await;
    let name = stream("anonymous");
    let mut tasks = JoinSet::new();
    for writer in 0..16 {
        let (log, name) = (Arc::clone(&log), name.clone());
        tasks.spawn(async move {
            for n in 1..=100 {
                // Retried inside, and not by the publisher, who could not say that it is the same.
                let placed = log.append(&name, vec![EventDraft::new(format!("{writer}/{n}"))]).await;
                assert!(!placed.expect("appends")[0].duplicate, "it was published once");
            }
        });
    }
    for _ in 0..10 {
        let before = oracle(&server, &name).await.len();
        until("some more are stored", || async {
            oracle(&server, &name).await.len() >= (before + 50).min(1600)
        })
        .await;
        let _: i64 = server.ask(&["CLIENT", "KILL", "TYPE", "normal"]).await.expect("kills");
    }
    while let Some(ended) = tasks.join_next().await {
        ended.expect("no panic");
    }
    let stored: std::collections::BTreeSet<_> =
        oracle(&server, &name).await.into_iter().map(|(_, event)| event).collect();
    assert_eq!((stored.len(), oracle(&server, &name).await.len()), (1600, 1600));
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_stops_for_a_while() {
    let server = Server::start().await;
    let log = hasty(&server, Level::Home).await;
    let (name, ledger) = (stream("stopped"), Arc::<Ledger>::default());
    let (follower, following) = Follower::start(&log, &name).await;
    let writers = writers(&log, &name, &ledger, 16, 100);
    for round in 1..=2 {
        writers.at(round * 300).await;
        server.signal(Signal::STOP);
        // Longer than an answer may take and than an append is retried.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        server.signal(Signal::CONT);
    }
    writers.end().await;
    ledger.judge(&server, &name).await;
    assert_eq!(oracle(&server, &name).await.len(), 1600);
    until("the follower has all", || async { follower.last() == 1600 }).await;
    assert!(follower.saw_all(1600) && follower.told.lock().is_empty());
    log.close().await;
    following.await.expect("no panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_that_wrote_everything_down() {
    let server = Server::start_durable().await;
    let log = hasty(&server, Level::Home).await;
    let (name, ledger) = (stream("restarted"), Arc::<Ledger>::default());
    let (follower, following) = Follower::start(&log, &name).await;
    let writers = writers(&log, &name, &ledger, 16, 60);
    writers.at(300).await;
    let epoch = log.status(&name).await.expect("status").tail.epoch;
    server.kill();
    server.run().await;
    writers.end().await;
    ledger.judge(&server, &name).await;
    let status = log.status(&name).await.expect("status");
    assert_eq!(status.tail.seq.get(), 960);
    assert!(status.tail.epoch > epoch, "the gate was shut");
    until("the follower has all", || async { follower.last() == 960 }).await;
    assert!(follower.saw_all(960));
    // At HOME nobody can know that nothing was lost.
    let told = follower.told.lock().clone();
    assert_eq!(
        told.iter().map(|gap| (gap.reason, gap.lost)).collect::<Vec<_>>(),
        [(GapReason::LostTail, None)]
    );
    assert!(told[0].resumed_at.epoch > epoch);
    log.close().await;
    following.await.expect("no panic");
}

/// After this nothing is left but what the processes remember.
async fn everything_is_lost(lose: impl AsyncFnOnce(&Server)) {
    let server = Server::start().await;
    let log = hasty(&server, Level::Home).await;
    let name = stream("emptied");
    let (follower, following) = Follower::start(&log, &name).await;
    for n in 1..=20 {
        publish(&log, &name, numbered("p", n)).await;
    }
    until("the follower has all", || async { follower.last() == 20 }).await;
    let before = log.status(&name).await.expect("status").tail;
    lose(&server).await;

    // Even while nobody publishes, who follows is told.
    until("the follower is told", || async { !follower.told.lock().is_empty() }).await;
    let told = follower.told.lock()[0];
    assert_eq!((told.reason, told.requested, told.lost), (GapReason::Unknown, before, None));
    // An old publisher goes on, and its old numbers are new here.
    let mut after = Vec::new();
    for n in 21..=45 {
        after.push(publish(&log, &name, numbered("p", n)).await);
    }
    assert!(after[0].epoch > before.epoch && after[0].seq.get() == 1, "no id is used twice");
    for old in 1..=20 {
        let cursor = Offset::new(before.epoch, Seq::new(old).expect("fits"));
        match log.read(&name, cursor, ALL).await.expect("reads") {
            Page::Gap(gap) => {
                assert_eq!((gap.reason, gap.lost), (GapReason::Unknown, None));
                assert_eq!(gap.resumed_at, after[0]);
            }
            other => panic!("{cursor}: {other:?}"),
        }
    }
    until("the follower has what came", || async { follower.last() == 25 }).await;
    log.close().await;
    following.await.expect("no panic");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_without_persistence() {
    everything_is_lost(async |server| {
        server.kill();
        server.run().await;
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush() {
    everything_is_lost(async |server| {
        let _: String = server.ask(&["FLUSHALL"]).await.expect("flushes");
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_server_refuses_appends_and_nothing_else() {
    let server = Server::start().await;
    let keep = Retention { events: Some(10), ..Retention::FOREVER };
    let log = log(server.options(Level::Home), StreamPolicies::open(Retention::FOREVER), clock()).await;
    let name = stream("full");
    let large = || EventDraft::new("x".repeat(10_000));
    for _ in 0..10 {
        log.append(&name, (0..50).map(|_| large()).collect()).await.expect("appends");
    }
    let used = async || -> u64 {
        let told: String = server.ask(&["INFO", "memory"]).await.expect("tells");
        super::super::checks::field(&told, "used_memory").expect("is told").parse().expect("a number")
    };
    // Less than there is, and more than there is when all that is not to be kept is gone.
    let room = (used().await - 2_000_000).to_string();
    let _: String = server.ask(&["CONFIG", "SET", "maxmemory", &room]).await.expect("sets");
    match log.append(&name, vec![large()]).await {
        Err(error @ AppendError::Full(_)) => assert!(matches!(error.retry(), Retry::After(_))),
        other => panic!("{other:?}"),
    }
    // Reading, following and trimming go on.
    let tail = log.status(&name).await.expect("status").tail;
    let Ok(Page::Events { events, .. }) = log.read(&name, Offset::BEGINNING, ALL).await else {
        panic!("reads")
    };
    assert_eq!(events.len(), 500);
    log.follow(&name).await.expect("follows");
    let trimming =
        super::super::testing::log(server.options(Level::Home), StreamPolicies::open(keep), clock()).await;
    trimming.trim().await.expect("trims");
    assert_eq!(trimming.status(&name).await.expect("status").floor.seq.get(), 490);
    let stored: u64 = server.ask(&["XLEN", &Keys::of(&name).log()]).await.expect("counts");
    assert_eq!(stored, 10, "and really so");
    // Trimming made room, and nothing else did.
    let placed = log.append(&name, vec![large()]).await.expect("appends");
    assert_eq!(placed[0].offset, tail.next());
    log.close().await;
    trimming.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_library_replaced_in_mid_stream() {
    let server = Server::start().await;
    let (one, two) = (hasty(&server, Level::Home).await, hasty(&server, Level::Home).await);
    let (name, ledger) = (stream("replaced"), Arc::<Ledger>::default());
    let (follower, following) = Follower::start(&two, &name).await;
    let writers = writers(&one, &name, &ledger, 16, 60);
    let mut connection = server.connect().await.expect("connects");
    for round in 1..=5u32 {
        writers.at(u64::from(round) * 150).await;
        let loaded =
            load_version(&mut connection, *library::VERSION + i64::from(round)).await.expect("loads");
        assert!(matches!(loaded, library::Loaded::Replaced(Some(_))), "{loaded:?}");
    }
    // Gone altogether.
    writers.at(900).await;
    let _: String = server.ask(&["FUNCTION", "FLUSH"]).await.expect("flushes");
    writers.end().await;
    publish(&two, &name, numbered("late", 1)).await;
    ledger.judge(&server, &name).await;
    until("the follower has all", || async { follower.last() == 961 }).await;
    // The server was the same all the while, so nobody is told of a loss.
    assert!(follower.saw_all(961) && follower.told.lock().is_empty());
    one.close().await;
    two.close().await;
    following.await.expect("no panic");
}

/// Whoever comes first after the gate was shut opens it, also to read: what is told names the event that
/// comes next, and is told once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cursor_that_is_ahead_goes_on_under_the_next_epoch() {
    let server = Server::start().await;
    let log = server.log(Level::Home).await;
    let name = stream("ahead");
    let last = publish(&log, &name, numbered("p", 1)).await;
    let mut connection = server.connect().await.expect("connects");
    load_version(&mut connection, *library::VERSION + 1).await.expect("loads");
    let ahead = Offset::new(last.epoch, last.seq.plus(5));
    let gap = match log.read(&name, ahead, ALL).await.expect("reads") {
        Page::Gap(gap) => gap,
        other => panic!("{other:?}"),
    };
    assert_eq!((gap.reason, gap.cursor), (GapReason::LostTail, last));
    assert!(gap.resumed_at.epoch > last.epoch, "{gap:?}");
    assert_eq!(publish(&log, &name, numbered("p", 2)).await, gap.resumed_at);
    match log.read(&name, gap.cursor, ALL).await.expect("reads") {
        Page::Events { events, at_end: true } => assert_eq!(events[0].offset, gap.resumed_at),
        other => panic!("{other:?}"),
    }
    log.close().await;
}

/// A demotion and a second promotion without a restart leave the library's memory as it was. The
/// gate is shut all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_planned_failover_there_and_back_shuts_the_gate() {
    let a = Server::start().await;
    let b = a.replica().await;
    let log = hasty(&a, Level::Replicated).await;
    let name = stream("aba");
    let first = publish(&log, &name, numbered("p", 1)).await;

    let fail_over = async |from: &Server, to: &Server| {
        let port = to.port().to_string();
        let _: String =
            from.ask(&["FAILOVER", "TO", "127.0.0.1", &port, "TIMEOUT", "5000"]).await.expect("begins");
        until("the other is the primary", || async {
            to.ask::<String>(&["INFO", "replication"]).await.is_ok_and(|info| info.contains("role:master"))
        })
        .await;
        from.synchronised().await;
    };
    fail_over(&a, &b).await;
    // Meanwhile the log's own address holds a replica.
    assert!(matches!(log.append(&name, vec![numbered("p", 2)]).await, Err(AppendError::Unavailable(_))));
    fail_over(&b, &a).await;

    let tails: Vec<String> = {
        let keys = Keys::of(&name);
        let mut tails = redis::cmd("FCALL_RO");
        tails.arg("evergate_1_tails").arg(1).arg(keys.slot.record());
        let mut connection = a.connect().await.expect("connects");
        tails.query_async(&mut connection).await.expect("asks")
    };
    assert_eq!(tails[0], "SHUT");
    let second = publish(&log, &name, numbered("p", 2)).await;
    assert!(second.epoch > first.epoch && second.seq == first.seq.plus(1));
    // Nothing that was replicated is told as lost.
    match log.read(&name, first, ALL).await.expect("reads") {
        Page::Events { events, at_end: true } => assert_eq!(events[0].offset, second),
        other => panic!("{other:?}"),
    }
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_no_replica_confirmed_is_neither_acknowledged_nor_shown() {
    let primary = Server::start().await;
    let replica = primary.replica().await;
    let log = hasty(&primary, Level::Replicated).await;
    let name = stream("unconfirmed");
    let (follower, following) = Follower::start(&log, &name).await;
    let first = publish(&log, &name, numbered("p", 1)).await;
    until("the follower has it", || async { follower.last() == 1 }).await;

    replica.signal(Signal::STOP);
    assert!(matches!(log.append(&name, vec![numbered("p", 2)]).await, Err(AppendError::Unavailable(_))));
    // A retry finds it, and does not take that for an acknowledgement.
    assert!(matches!(log.append(&name, vec![numbered("p", 2)]).await, Err(AppendError::Unavailable(_))));
    assert_eq!(oracle(&primary, &name).await.len(), 2);
    assert_eq!(log.status(&name).await.expect("status").tail, first);
    match log.read(&name, first, ALL).await.expect("reads") {
        Page::Events { events, at_end: true } => assert!(events.is_empty()),
        other => panic!("{other:?}"),
    }
    match log.read(&name, first.next(), ALL).await.expect("reads") {
        Page::Hold { committed } => assert_eq!(committed, first),
        other => panic!("{other:?}"),
    }
    assert_eq!(follower.last(), 1);

    // Nobody publishes any more. Whoever follows commits what lies there.
    replica.signal(Signal::CONT);
    until("the follower has it", || async { follower.last() == 2 }).await;
    assert_eq!(log.status(&name).await.expect("status").tail, first.next());
    let again = log.append(&name, vec![numbered("p", 2)]).await.expect("appends");
    assert_eq!(again, [Placed { offset: first.next(), duplicate: true }]);
    assert!(follower.saw_all(2) && follower.told.lock().is_empty());
    log.close().await;
    following.await.expect("no panic");
}

/// What a process left behind is committed by any other that follows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_process_left_uncommitted_another_commits() {
    let primary = Server::start().await;
    let replica = primary.replica().await;
    let (gone, here) = (hasty(&primary, Level::Replicated).await, hasty(&primary, Level::Replicated).await);
    let name = stream("orphaned");
    let (follower, following) = Follower::start(&here, &name).await;
    let first = publish(&gone, &name, numbered("p", 1)).await;
    until("the follower has it", || async { follower.last() == 1 }).await;

    replica.signal(Signal::STOP);
    let appending = tokio::spawn({
        let (gone, name) = (Arc::clone(&gone), name.clone());
        async move { gone.append(&name, vec![numbered("p", 2), numbered("p", 3)]).await }
    });
    until("they are written", || async { oracle(&primary, &name).await.len() == 3 }).await;
    gone.close().await;
    let answer = appending.await.expect("no panic");
    assert!(matches!(answer, Err(AppendError::Unavailable(_))), "{answer:?}");
    assert_eq!(here.status(&name).await.expect("status").tail, first, "nobody confirmed them");
    assert_eq!(follower.last(), 1);

    replica.signal(Signal::CONT);
    until("the follower has them", || async { follower.last() == 3 }).await;
    assert_eq!(here.status(&name).await.expect("status").tail, first.next().next());
    assert!(follower.saw_all(3) && follower.told.lock().is_empty());
    // Under the same numbers their publisher finds them.
    let again = here.append(&name, vec![numbered("p", 2)]).await.expect("appends");
    assert_eq!(again, [Placed { offset: first.next(), duplicate: true }]);
    here.close().await;
    following.await.expect("no panic");
}

/// Counts, and no times: while the first question to the replicas has no answer, all others wait for one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_confirmation_covers_many_streams() {
    let primary = Server::start().await;
    let replica = primary.replica().await;
    let options = RedisOptions {
        response_timeout: PATIENCE,
        append_timeout: PATIENCE,
        confirm_timeout: PATIENCE,
        ..primary.options(Level::Replicated)
    };
    let log = log(options, StreamPolicies::open(Retention::FOREVER), clock()).await;
    let append = |n: usize| {
        let log = Arc::clone(&log);
        async move { log.append(&stream(&format!("s{n}")), vec![EventDraft::new("x")]).await }
    };
    // So that all gates are open.
    for n in 0..64 {
        append(n).await.expect("appends");
    }
    let _: String = primary.ask(&["CONFIG", "RESETSTAT"]).await.expect("resets");
    let asks = async |section: &str, field: &str| -> Option<u64> {
        let told: String = primary.ask(&["INFO", section]).await.expect("tells");
        let line = super::super::checks::field(&told, field)?;
        line.trim_start_matches("calls=").split(',').next()?.parse().ok()
    };
    replica.signal(Signal::STOP);
    let mut tasks = JoinSet::new();
    tasks.spawn(append(0));
    until("it waits", || async { asks("clients", "blocked_clients").await == Some(1) }).await;
    for n in 1..64 {
        tasks.spawn(append(n));
    }
    // Sent, and read by nobody as long as the first waits.
    until("the others are on their way", || async {
        let sent: String = primary.ask(&["CLIENT", "LIST"]).await.expect("tells");
        let waiting = sent.lines().find(|line| line.contains(" flags=b ")).unwrap_or_default();
        let queued = waiting.split(' ').find_map(|word| word.strip_prefix("qbuf=")?.parse::<u64>().ok());
        queued.is_some_and(|bytes| bytes > 63 * 100)
    })
    .await;
    replica.signal(Signal::CONT);
    while let Some(appended) = tasks.join_next().await {
        let placed = appended.expect("no panic").expect("the replica is back");
        assert_eq!(placed[0].offset.seq.get(), 2);
    }
    let waits = asks("commandstats", "cmdstat_wait").await.expect("it was asked");
    println!("64 streams confirmed by {waits} questions");
    assert!((2..=16).contains(&waits), "{waits} questions for 64 appends");
    log.close().await;
}

/// What nobody follows any more is not listened to.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_is_left_when_nobody_follows_any_more() {
    let server = Server::start().await;
    let log = hasty(&server, Level::Home).await;
    let (one, other) = (stream("one"), stream("other"));
    let [channel, stays] = [&one, &other].map(|name| Keys::of(name).channel(0));
    let listened = async || -> Vec<String> {
        let mut channels: Vec<String> =
            server.ask(&["PUBSUB", "SHARDCHANNELS", "evergate*"]).await.expect("tells");
        channels.sort();
        channels
    };
    let mut both = vec![channel.clone(), stays.clone()];
    both.sort();
    let (tail, second) = (log.follow(&one).await.expect("follows"), log.follow(&one).await.expect("follows"));
    let _stays = log.follow(&other).await.expect("follows");
    assert_eq!(listened().await, both);
    let heard: (String, i64) = server.ask(&["PUBSUB", "SHARDNUMSUB", &channel]).await.expect("tells");
    assert_eq!(heard, (channel.clone(), 1), "two followers are one listener");

    drop(tail);
    let compared = async || -> u64 {
        let told: String = server.ask(&["INFO", "commandstats"]).await.expect("tells");
        let asked = super::super::checks::field(&told, "cmdstat_fcall_ro").expect("it compares");
        asked.trim_start_matches("calls=").split(',').next().expect("a count").parse().expect("a number")
    };
    let before = compared().await;
    until("it had time to leave", || async { compared().await > before + 4 }).await;
    assert_eq!(listened().await, both, "somebody still follows");
    drop(second);
    until("it left", || async { listened().await == [stays.clone()] }).await;
    let heard: (String, i64) = server.ask(&["PUBSUB", "SHARDNUMSUB", &channel]).await.expect("tells");
    assert_eq!(heard, (channel, 0));

    // And it is listened to again as soon as somebody comes.
    let mut again = log.follow(&one).await.expect("follows");
    assert_eq!(listened().await, both);
    log.append(&one, vec![EventDraft::new("x")]).await.expect("appends");
    let heard = tokio::time::timeout(PATIENCE, again.next()).await.expect("hears");
    assert!(matches!(heard, TailItem::Events(_)), "{heard:?}");
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_dies_takes_nothing_confirmed_with_it() {
    let primary = Server::start().await;
    let replica = primary.replica().await;
    let log = hasty(&primary, Level::Replicated).await;
    let (name, ledger) = (stream("promoted"), Arc::<Ledger>::default());
    let (follower, following) = Follower::start(&log, &name).await;
    let mut tasks = JoinSet::new();
    for writer in 0..16 {
        let (log, name, ledger) = (Arc::clone(&log), name.clone(), Arc::clone(&ledger));
        tasks.spawn(async move {
            for seq in 1.. {
                let draft = numbered(&format!("w{writer}"), seq);
                let data = draft.data.clone();
                match log.append(&name, vec![draft]).await {
                    Ok(placed) => ledger.note(placed[0].offset, data),
                    Err(_) => return,
                }
            }
        });
    }
    until("a lot is acknowledged", || async { ledger.len() >= 500 }).await;
    primary.kill();
    tasks.join_all().await;
    let _: String = replica.ask(&["REPLICAOF", "NO", "ONE"]).await.expect("promotes");
    let next = replica.replica().await;

    let promoted = hasty(&replica, Level::Replicated).await;
    let shown: Vec<_> = follower.seen.lock().iter().map(|event| (event.offset, event.data.clone())).collect();
    for writer in 0..16 {
        // Everybody goes on where it was: what was unknown turns out either way, once.
        let newest = ledger
            .0
            .lock()
            .values()
            .filter_map(|data| data.strip_prefix(&format!("w{writer}/"))?.parse::<u64>().ok())
            .max();
        for seq in newest.unwrap_or(0) + 1..newest.unwrap_or(0) + 4 {
            let draft = numbered(&format!("w{writer}"), seq);
            let data = draft.data.clone();
            ledger.note(publish(&promoted, &name, draft).await, data);
        }
    }
    ledger.judge(&replica, &name).await;
    // And nobody was shown what never was.
    let stored: BTreeMap<_, _> = oracle(&replica, &name).await.into_iter().collect();
    for (offset, data) in shown {
        let event = stored.get(&offset.to_string()).expect("what was shown is there");
        assert!(event.ends_with(&format!("\n{data}")));
    }
    log.close().await;
    promoted.close().await;
    following.await.expect("no panic");
    drop(next);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_streams_are_open_again_within_a_moment() {
    let server = Server::start_with(&["--appendonly", "yes", "--appendfsync", "everysec"]).await;
    let log = hasty(&server, Level::Home).await;
    let names: Vec<_> = (0..10_000).map(|n| stream(&format!("s{n}"))).collect();
    let append_all = async |seq| {
        let mut tasks = JoinSet::new();
        for names in names.chunks(100) {
            let (log, names) = (Arc::clone(&log), names.to_vec());
            tasks.spawn(async move {
                for name in names {
                    publish(&log, &name, numbered("p", seq)).await;
                }
            });
        }
        tasks.join_all().await;
    };
    append_all(1).await;
    let _: String = server.ask(&["FUNCTION", "FLUSH"]).await.expect("flushes");
    let begun = std::time::Instant::now();
    append_all(2).await;
    println!("10,000 streams sealed and appended to in {:?}", begun.elapsed());
    assert_eq!(log.status(&names[9_999]).await.expect("status").tail.seq.get(), 2);
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_trimmed_by_hand_says_what_survives() {
    let server = Server::start().await;
    let log = server.log(Level::Home).await;
    let name = stream("cut");
    let last =
        log.append(&name, (0..20).map(|_| EventDraft::new("x")).collect()).await.expect("appends")[19].offset;
    let _: i64 = server.ask(&["XTRIM", &Keys::of(&name).log(), "MAXLEN", "=", "5"]).await.expect("trims");
    match log.read(&name, Offset::BEGINNING, ALL).await.expect("reads") {
        Page::Gap(gap) => {
            assert_eq!((gap.reason, gap.lost, gap.cursor.seq.get()), (GapReason::Trimmed, Some(15), 15));
        }
        other => panic!("{other:?}"),
    }
    let _: i64 = server.ask(&["XTRIM", &Keys::of(&name).log(), "MAXLEN", "=", "0"]).await.expect("trims");
    match log.read(&name, Offset::new(last.epoch, Seq::new(15).expect("fits")), ALL).await.expect("reads") {
        Page::Gap(gap) => assert_eq!((gap.lost, gap.cursor), (Some(5), last)),
        other => panic!("{other:?}"),
    }
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appending_keeps_streams_within_their_bounds() {
    let server = Server::start().await;
    let keep = Retention { events: Some(100), ..Retention::FOREVER };
    let mut policies = StreamPolicies::open(keep);
    policies.named.insert(stream("bytes"), Retention { bytes: Some(100_000), ..Retention::FOREVER });
    let log = log(server.options(Level::Home), policies, Arc::new(ManualClock::at(UnixMillis::new(1)))).await;
    for n in 0..200 {
        let batch = |length: usize| (0..10).map(|_| EventDraft::new("x".repeat(length))).collect();
        log.append(&stream("events"), batch(1)).await.expect("appends");
        log.append(&stream("bytes"), batch(200)).await.expect("appends");
        let events = log.status(&stream("events")).await.expect("status");
        let kept = |status: &StreamStatus| status.tail.seq.get() - status.floor.seq.get();
        let many = kept(&events);
        assert!(many <= 100 + 16 + 10 + 10, "{many} events are kept");
        assert!(n < 10 || many >= 100);
        let bytes = log.status(&stream("bytes")).await.expect("status");
        assert!(bytes.bytes <= 100_000 + 2 * 12_500 + 2_000, "{} bytes are kept", bytes.bytes);
        // And the rest is really gone.
        for (name, many) in [("events", many), ("bytes", kept(&bytes))] {
            let log = Keys::of(&stream(name)).log();
            let stored: u64 = server.ask(&["XLEN", &log]).await.expect("counts");
            assert!((many..many + NODE_ENTRIES).contains(&stored), "{stored} are stored of {many} {name}");
        }
    }
    log.close().await;
}
