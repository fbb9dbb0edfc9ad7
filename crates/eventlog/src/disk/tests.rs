//! The contract, and what only a log on disk can go through.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test expects one answer and shows any other")]

use std::path::Path;
use std::sync::Mutex as StdMutex;
use std::sync::atomic::AtomicU32;
use std::time::{Duration, Instant};

use evergate_domain::{Event, ProducerId, ProducerSeq, Retention, Seq, UnixMillis};

use super::journal::{CreateMedia, Media, file_media};
use super::*;
use crate::conformance::{self, Subject};
use crate::{ManualClock, TailItem};

/// A log in a directory of its own.
struct Disk {
    dir: tempfile::TempDir,
    journal_bytes: u64,
}

impl Disk {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory"), journal_bytes: 16 << 20 }
    }

    /// With journal files so small that every few appends go through all the storage has: sealing,
    /// writing out, merging, and leaving out what is below the floor.
    fn restless() -> Self {
        Self { journal_bytes: 4 << 10, ..Self::new() }
    }

    fn options(&self) -> DiskOptions {
        DiskOptions { journal_bytes: self.journal_bytes, ..DiskOptions::new(self.dir.path()) }
    }

    fn try_start(&self, system: System, keep: Retention) -> Result<DiskLog, OpenError> {
        let clock = ManualClock::at(UnixMillis::new(1_700_000_000_000));
        DiskLog::open_on(system, &self.options(), Arc::new(StreamPolicies::open(keep)), Arc::new(clock))
    }

    fn start(&self) -> DiskLog {
        self.try_start(System::default(), Retention::FOREVER).expect("opens")
    }
}

#[async_trait]
impl Subject for Disk {
    async fn open(&self, policies: StreamPolicies, clock: Arc<dyn Clock>) -> Arc<dyn EventLog> {
        Arc::new(DiskLog::open(&self.options(), Arc::new(policies), clock).expect("opens"))
    }

    fn durable(&self) -> bool {
        true
    }

    async fn reopen(&self, policies: StreamPolicies, clock: Arc<dyn Clock>) -> Arc<dyn EventLog> {
        self.open(policies, clock).await
    }
}

mod contract {
    use super::*;
    conformance::suite!(Disk::new());
}

mod contract_without_rest {
    use super::*;
    conformance::suite!(Disk::restless());
}

const ALL: ReadLimit = ReadLimit { events: usize::MAX, bytes: u64::MAX };

fn stream(name: &str) -> StreamName {
    StreamName::new(name).expect("valid")
}

fn produced(seq: u64) -> EventDraft {
    let id = ProducerId::new("p").expect("valid");
    let producer = Some(ProducerSeq { id, seq: Seq::new(seq).expect("fits") });
    EventDraft { producer, ..EventDraft::new(format!("event number {seq}")) }
}

async fn events(log: &DiskLog, name: &StreamName, after: Offset) -> Vec<Arc<Event>> {
    match log.read(name, after, ALL).await.expect("reads") {
        Page::Events { events, .. } => events,
        other => panic!("no events but {other:?}"),
    }
}

async fn data(log: &DiskLog, name: &StreamName) -> Vec<String> {
    events(log, name, Offset::BEGINNING).await.iter().map(|event| event.data.clone()).collect()
}

/// Waits for the housekeeping, which nothing else waits for.
async fn eventually(what: &str, mut happens: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !happens() {
        assert!(begun.elapsed() < Duration::from_secs(30), "{what} never came");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(dir).expect("there").map(|entry| entry.expect("read").path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

fn table_files(disk: &Disk) -> Vec<std::path::PathBuf> {
    files(&disk.dir.path().join("events/tables"))
}

fn find(bytes: &[u8], text: &str) -> Option<usize> {
    bytes.windows(text.len()).position(|window| window == text.as_bytes())
}

#[tokio::test]
async fn a_log_that_is_open_is_not_opened_again() {
    let disk = Disk::new();
    let log = disk.start();
    let again = disk.try_start(System::default(), Retention::FOREVER);
    assert!(matches!(again, Err(OpenError::Locked { .. })));
    log.close().await;
    disk.start().close().await;
    drop(log);
}

#[tokio::test]
async fn a_log_that_is_dropped_unclosed_keeps_everything() {
    let disk = Disk::new();
    let log = disk.start();
    log.append(&stream("s"), vec![produced(1)]).await.expect("appends");
    drop(log);
    assert_eq!(data(&disk.start(), &stream("s")).await, ["event number 1"]);
}

#[tokio::test]
async fn closing_waits_for_no_append_that_nobody_polls() {
    let disk = Disk::new();
    let log = disk.start();
    let name = stream("s");
    let mut append = std::pin::pin!(log.append(&name, vec![produced(1)]));
    tokio::select! {
        biased;
        _ = &mut append => {}
        () = std::future::ready(()) => {}
    }
    log.close().await;
    // It was in the queue before the log was closed, so it is done.
    append.await.expect("appended");
    assert_eq!(data(&disk.start(), &name).await.len(), 1);
}

#[tokio::test]
async fn a_follower_stays_when_its_stream_is_let_go_of_by_everybody_else() {
    let disk = Disk::restless();
    let log = disk.start();
    let mut tail = log.follow(&stream("followed")).await.expect("follows");
    for n in 0..50 {
        log.append(&stream(&format!("other-{n}")), vec![produced(1)]).await.expect("appends");
        log.status(&stream(&format!("unborn-{n}"))).await.expect("status");
    }
    log.append(&stream("followed"), vec![produced(1)]).await.expect("appends");
    match tail.next().await {
        TailItem::Events(events) => assert_eq!(events[0].data, "event number 1"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn more_streams_at_once_than_are_kept_in_memory() {
    let disk = Disk::restless();
    let log = Arc::new(disk.start());
    let mut tasks = tokio::task::JoinSet::new();
    for task in 0..30 {
        let log = Arc::clone(&log);
        tasks.spawn(async move {
            let name = stream(&format!("s{task}"));
            for seq in 1..=10 {
                let placed = log.append(&name, vec![produced(seq)]).await.expect("appends");
                assert_eq!(placed[0].offset.seq.get(), seq);
            }
            let again = log.append(&name, vec![produced(4)]).await.expect("known");
            assert!(again[0].duplicate && again[0].offset.seq.get() == 4);
            assert_eq!(data(&log, &name).await.len(), 10);
        });
    }
    tasks.join_all().await;
}

#[tokio::test]
async fn a_stream_born_after_a_restart_is_a_stream_of_its_own() {
    let disk = Disk::new();
    for name in ["a", "b", "c"] {
        let log = disk.start();
        log.append(&stream(name), vec![EventDraft::new(name)]).await.expect("appends");
        log.close().await;
    }
    // One that is known before another and stored after it, its first batch being refused.
    let log = disk.start();
    let refused = log.append(&stream("d"), vec![produced(5), produced(3)]).await;
    assert!(matches!(refused, Err(AppendError::SequenceTooOld { .. })));
    for name in ["e", "d"] {
        log.append(&stream(name), vec![EventDraft::new(name)]).await.expect("appends");
    }
    log.close().await;
    let log = disk.start();
    log.append(&stream("f"), vec![EventDraft::new("f")]).await.expect("appends");
    for name in ["a", "b", "c", "d", "e", "f"] {
        assert_eq!(data(&log, &stream(name)).await, [name]);
    }
}

#[tokio::test]
async fn an_append_keeps_its_stream_to_count_and_bytes_by_itself() {
    let small = |n: u64| EventDraft::new(format!("{n:010}"));
    for keep in [
        Retention { events: Some(10), ..Retention::FOREVER },
        Retention { bytes: Some(100), ..Retention::FOREVER },
    ] {
        let disk = Disk::new();
        let log = disk.try_start(System::default(), keep).expect("opens");
        // The new floor lies in the batch itself, then in an earlier one.
        for (count, total) in [(25, 25), (3, 28)] {
            log.append(&stream("s"), (0..count).map(small).collect()).await.expect("appends");
            let status = log.status(&stream("s")).await.expect("status");
            assert_eq!((status.floor.seq.get(), status.bytes), (total - 10, 100));
        }
    }
}

/// Tells a file system with so many bytes free.
fn free_bytes() -> (Arc<StdMutex<u64>>, System) {
    let free = Arc::new(StdMutex::new(u64::MAX));
    let told = Arc::clone(&free);
    let system =
        System { free_bytes: Arc::new(move |_| Ok(*told.lock().expect("sound"))), ..System::default() };
    (free, system)
}

#[tokio::test]
async fn a_full_disk_refuses_appends_and_nothing_else() {
    let disk = Disk::new();
    let (free, system) = free_bytes();
    let keep = Retention { events: Some(3), ..Retention::FOREVER };
    let log = disk.try_start(system.clone(), keep).expect("opens");
    let name = stream("s");
    let placed = log.append(&name, vec![produced(1), produced(2)]).await.expect("appends");

    *free.lock().expect("sound") = disk.options().reserve_bytes - 1;
    match log.append(&name, vec![produced(3)]).await {
        Err(error @ AppendError::Full(_)) => assert!(error.to_string().contains("are reserved"), "{error}"),
        other => panic!("taken: {other:?}"),
    }
    assert_eq!(data(&log, &name).await.len(), 2);
    // What the log has already needs no room.
    let again = log.append(&name, vec![produced(2)]).await.expect("known");
    assert_eq!(again, [Placed { duplicate: true, ..placed[1] }]);
    log.trim().await.expect("trims");

    // It can be opened full, too.
    log.close().await;
    let log = disk.try_start(system, keep).expect("opens");
    assert_eq!(data(&log, &name).await.len(), 2);
    assert!(matches!(log.append(&name, vec![produced(3)]).await, Err(AppendError::Full(_))));

    *free.lock().expect("sound") = u64::MAX;
    let next = log.append(&name, vec![produced(3)]).await.expect("appends again");
    assert_eq!((next[0].offset.seq.get(), next[0].duplicate), (3, false));
    assert!(next[0].offset.epoch > placed[0].offset.epoch);
}

#[tokio::test]
async fn no_room_to_write_memory_out_refuses_appends_until_there_is() {
    let disk = Disk::restless();
    let (free, system) = free_bytes();
    let log = DiskLog::open_on(
        system,
        &DiskOptions { reserve_bytes: 0, ..disk.options() },
        Arc::new(StreamPolicies::open(Retention::FOREVER)),
        Arc::new(ManualClock::default()),
    )
    .expect("opens");
    *free.lock().expect("sound") = 0;
    let name = stream("s");
    let mut acknowledged = 0;
    let refused = loop {
        match log.append(&name, vec![produced(acknowledged + 1)]).await {
            Ok(_) => acknowledged += 1,
            Err(error) => break error,
        }
        assert!(acknowledged < 10_000, "memory grows without end");
    };
    assert!(matches!(refused, AppendError::Full(_)), "{refused:?}");
    assert_eq!(data(&log, &name).await.len() as u64, acknowledged);

    *free.lock().expect("sound") = u64::MAX;
    let begun = Instant::now();
    while let Err(error) = log.append(&name, vec![produced(acknowledged + 1)]).await {
        assert!(matches!(error, AppendError::Full(_)), "{error:?}");
        assert!(begun.elapsed() < Duration::from_secs(30), "it never went on");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(data(&log, &name).await.len() as u64, acknowledged + 1);
}

/// A device that does something else before it syncs.
struct Device<F>(Box<dyn Media>, F);

impl<F: Fn() -> std::io::Result<()> + Send> Media for Device<F> {
    fn write_at(&mut self, at: u64, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_at(at, bytes)
    }

    fn sync(&mut self) -> std::io::Result<()> {
        (self.1)()?;
        self.0.sync()
    }

    fn cut(&mut self, at: u64) -> std::io::Result<()> {
        self.0.cut(at)
    }
}

fn before_sync(before: impl Fn() -> std::io::Result<()> + Clone + Send + Sync + 'static) -> System {
    let media: CreateMedia =
        Arc::new(move |path, bytes| Ok(Box::new(Device(file_media()(path, bytes)?, before.clone()))));
    System { media, ..System::default() }
}

#[tokio::test]
#[expect(clippy::await_holding_lock, reason = "what the lock holds up is a thread of the log")]
async fn nothing_is_shown_or_acknowledged_before_it_is_synced() {
    let disk = Disk::new();
    // Whoever holds the gate holds up the device; the count is of those it holds up.
    let gate = Arc::new(StdMutex::new(()));
    let held_up = Arc::new(AtomicU32::new(0));
    let system = {
        let (gate, held_up) = (Arc::clone(&gate), Arc::clone(&held_up));
        before_sync(move || {
            held_up.fetch_add(1, Ordering::SeqCst);
            drop(gate.lock().expect("sound"));
            Ok(())
        })
    };
    let log = Arc::new(disk.try_start(system, Retention::FOREVER).expect("opens"));
    let name = stream("s");
    log.append(&name, vec![produced(1)]).await.expect("appends");
    let mut tail = log.follow(&name).await.expect("follows");

    let before = held_up.load(Ordering::SeqCst);
    let held = gate.lock().expect("sound");
    let append = tokio::spawn({
        let (log, name) = (Arc::clone(&log), name.clone());
        async move { log.append(&name, vec![produced(2)]).await }
    });
    eventually("the sync", || held_up.load(Ordering::SeqCst) > before).await;
    // It is written, and the device has not said that it has it.
    assert!(!append.is_finished());
    assert_eq!(data(&log, &name).await, ["event number 1"]);
    assert_eq!(log.status(&name).await.expect("status").tail, tail.start());
    tokio::select! {
        biased;
        item = tail.next() => panic!("shown: {item:?}"),
        () = std::future::ready(()) => {}
    }
    drop(held);
    append.await.expect("no panic").expect("appends");
    assert_eq!(data(&log, &name).await.len(), 2);
    assert!(matches!(tail.next().await, TailItem::Events(_)));

    // Nor does a stream show it that is looked at for the first time meanwhile.
    let (before, name) = (held_up.load(Ordering::SeqCst), stream("fresh"));
    let held = gate.lock().expect("sound");
    let append = tokio::spawn({
        let (log, name) = (Arc::clone(&log), name.clone());
        async move { log.append(&name, vec![produced(1)]).await }
    });
    eventually("the sync", || held_up.load(Ordering::SeqCst) > before).await;
    assert_eq!(log.status(&name).await.expect("status").tail.seq, Seq::ZERO);
    drop(held);
    append.await.expect("no panic").expect("appends");
    assert_eq!(data(&log, &name).await, ["event number 1"]);
}

#[tokio::test]
async fn after_a_failed_sync_the_log_is_read_only_until_it_is_opened_anew() {
    let disk = Disk::new();
    let failing = Arc::new(AtomicBool::new(false));
    let fail = Arc::clone(&failing);
    let system = before_sync(move || match fail.load(Ordering::SeqCst) {
        true => Err(std::io::Error::other("the device is gone")),
        false => Ok(()),
    });
    let log = disk.try_start(system, Retention::FOREVER).expect("opens");
    let name = stream("s");
    log.append(&name, vec![produced(1)]).await.expect("appends");
    let mut tail = log.follow(&name).await.expect("follows");

    failing.store(true, Ordering::SeqCst);
    let batch = vec![produced(2), produced(3)];
    assert!(matches!(log.append(&name, batch.clone()).await, Err(AppendError::Unavailable(_))));
    // The device seems well again, but what it holds is not known any more.
    failing.store(false, Ordering::SeqCst);
    assert!(matches!(log.append(&name, batch.clone()).await, Err(AppendError::Unavailable(_))));
    assert_eq!(data(&log, &name).await.len(), 1, "nobody sees what may never have been");
    log.close().await;
    assert!(matches!(tail.next().await, TailItem::Closed));

    // A retry finds out: each event is there once, whether it had reached the device or not.
    let log = disk.start();
    let placed = log.append(&name, batch).await.expect("appends");
    assert_eq!(placed.iter().map(|placed| placed.offset.seq.get()).collect::<Vec<_>>(), [2, 3]);
    let expected: Vec<_> = (1..=3).map(|n| format!("event number {n}")).collect();
    assert_eq!(data(&log, &name).await, expected);
}

#[tokio::test]
async fn a_damaged_event_is_told_and_its_neighbours_are_read() {
    let disk = Disk::restless();
    let log = disk.start();
    let name = stream("s");
    for seq in 1..=400 {
        log.append(&name, vec![produced(seq)]).await.expect("appends");
    }
    let holds = |path: &Path| find(&std::fs::read(path).unwrap_or_default(), "event number 42");
    eventually("a table with the event", || table_files(&disk).iter().any(|path| holds(path).is_some()))
        .await;
    log.close().await;

    for path in table_files(&disk) {
        let mut bytes = std::fs::read(&path).expect("read");
        if let Some(at) = holds(&path) {
            bytes[at] ^= 1;
            std::fs::write(&path, bytes).expect("written");
        }
    }
    let log = disk.start();
    match log.read(&name, Offset::BEGINNING, ALL).await {
        // The whole block that the event is in cannot be trusted.
        Err(ReadError::Damaged { stream, seq }) => {
            assert_eq!(stream, "s");
            assert!((1..=42).contains(&seq.get()), "{seq}");
        }
        other => panic!("not told: {other:?}"),
    }
    let tail = log.status(&name).await.expect("status").tail;
    let after = Offset::new(tail.epoch, Seq::new(395).expect("fits"));
    assert_eq!(events(&log, &name, after).await.len(), 5);
    log.append(&name, vec![produced(401)]).await.expect("appends");
}

#[tokio::test]
async fn damage_in_the_journal_is_told_and_not_cut_off() {
    let disk = Disk::new();
    let log = disk.start();
    for seq in 1..=10 {
        log.append(&stream("s"), vec![produced(seq)]).await.expect("appends");
    }
    log.close().await;
    let journal = files(&disk.dir.path().join("journal"));
    let (path, mut bytes, at) = journal
        .iter()
        .find_map(|path| {
            let bytes = std::fs::read(path).expect("read");
            let at = find(&bytes, "event number 5")?;
            Some((path, bytes, at))
        })
        .expect("in the journal");
    bytes[at] ^= 1;
    std::fs::write(path, &bytes).expect("written");
    match disk.try_start(System::default(), Retention::FOREVER) {
        Err(error @ OpenError::Damaged { .. }) => {
            assert!(error.to_string().contains("stands after it"), "{error}");
        }
        Err(error) => panic!("told otherwise: {error}"),
        Ok(_) => panic!("opened"),
    }
    // Nothing was cut: with the byte as it was, everything is there.
    bytes[at] ^= 1;
    std::fs::write(path, &bytes).expect("written");
    assert_eq!(data(&disk.start(), &stream("s")).await.len(), 10);
}

#[tokio::test]
async fn what_is_below_the_floor_leaves_the_disk() {
    for streams in [1, 20] {
        let disk = Disk { journal_bytes: 256 << 10, ..Disk::new() };
        let keep = Retention { events: Some(20), ..Retention::FOREVER };
        let log = disk.try_start(System::default(), keep).expect("opens");
        let payload = "x".repeat(1000);
        for n in 0..100 {
            let batch = vec![EventDraft::new(payload.as_str()); 40];
            log.append(&stream(&format!("s{}", n % streams)), batch).await.expect("appends");
        }
        // 4 MB came in. What stays: 20 events a stream, and less than the dead bytes that are worth
        // a rewrite (512 KiB here), in tables and what is on its way there.
        let size =
            || table_files(&disk).iter().map(|path| path.metadata().map_or(0, |m| m.len())).sum::<u64>();
        let begun = Instant::now();
        while size() > 1 << 20 {
            log.trim().await.expect("trims");
            assert!(begun.elapsed() < Duration::from_secs(30), "{} bytes stay", size());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        for n in 0..streams {
            let status = log.status(&stream(&format!("s{n}"))).await.expect("status");
            let floor = status.floor;
            assert_eq!(events(&log, &stream(&format!("s{n}")), floor).await.len(), 20);
            assert_eq!(status.bytes, 20 * 1000);
        }
    }
}
