//! The log is killed, again and again, at any moment, and never loses what it acknowledged.
//!
//! The test runs itself as another process that appends and tells on its standard output what was
//! acknowledged, kills it, and looks at what is on disk.

#![expect(clippy::wildcard_enum_match_arm, reason = "a test expects one answer and shows any other")]

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use evergate_domain::{
    Epoch, Event, EventDraft, Offset, ProducerId, ProducerSeq, Retention, Seq, Start, StreamName,
    StreamPolicies,
};
use evergate_eventlog::{DiskLog, DiskOptions, EventLog, Page, ReadLimit, SystemClock};

const ROUNDS: u32 = 40;
const STREAMS: [&str; 3] = ["one", "two", "trimmed"];
const PRODUCERS: [&str; 3] = ["p", "q", "r"];
/// What `trimmed` keeps.
const KEEP: u64 = 100;
/// More than the writer has under way for one producer and stream.
const RETRIED: u64 = 20;

const DIR: &str = "EVERGATE_KILL_DIR";
const FROM: &str = "EVERGATE_KILL_FROM";

/// The next sequence of each producer in each stream.
type Position = BTreeMap<(String, String), u64>;

fn open(dir: &Path) -> DiskLog {
    let mut policies = StreamPolicies::open(Retention::FOREVER);
    let keep = Retention { events: Some(KEEP), ..Retention::FOREVER };
    policies.named.insert(stream("trimmed"), keep);
    // Small, so that the kills hit the changes between files and the tables being written too.
    let options = DiskOptions { journal_bytes: 64 << 10, ..DiskOptions::new(dir) };
    DiskLog::open(&options, Arc::new(policies), Arc::new(SystemClock)).expect("the log opens after a kill")
}

fn stream(name: &str) -> StreamName {
    StreamName::new(name).expect("valid")
}

fn seq(n: u64) -> Seq {
    Seq::new(n).expect("fits")
}

/// Follows from who publishes what where, so that whoever reads it can tell whether it is right.
fn content(stream: &str, producer: &str, n: u64) -> String {
    let length = usize::try_from(n * 7_919 % 3_000).expect("small");
    format!("{stream}/{producer}/{n}/{}", "x".repeat(length))
}

fn draft(stream: &str, producer: &str, n: u64) -> EventDraft {
    let id = ProducerId::new(producer).expect("valid");
    EventDraft {
        producer: Some(ProducerSeq { id, seq: seq(n) }),
        ..EventDraft::new(content(stream, producer, n))
    }
}

#[test]
fn nothing_acknowledged_is_lost_to_kills() {
    let dir = tempfile::tempdir().expect("a directory");
    let seed = std::env::var("EVERGATE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("repeat with EVERGATE_SEED={seed}");
    let mut random = fastrand::Rng::with_seed(seed);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut ledger = Ledger::default();
    for round in 0..ROUNDS {
        // A few are killed while they open the log.
        let acknowledged = if random.u32(0..5) == 0 { 0 } else { random.usize(1..60) };
        let lifetime = Duration::from_micros(random.u64(0..60_000));
        ledger.note(&writer(dir.path(), &ledger.position, acknowledged, lifetime));
        runtime.block_on(async {
            let log = open(dir.path());
            ledger.check(&log, round).await;
            ledger.retry(&log).await;
            ledger.check(&log, round).await;
            // Half the time the next one finds the log as a kill left it, here too.
            if random.bool() {
                log.close().await;
            }
        });
    }
    assert!(ledger.acknowledged.len() > 500, "it was killed before it did anything");
}

/// What the log has said, over all rounds.
#[derive(Default)]
struct Ledger {
    acknowledged: HashMap<(String, String, u64), Offset>,
    position: Position,
    epoch: Epoch,
}

impl Ledger {
    fn note(&mut self, lines: &[String]) {
        for line in lines {
            let words: Vec<_> = line.split(' ').collect();
            let [stream, producer, n, offset] = words[..] else { panic!("told {line:?}") };
            let (n, offset) = (n.parse().expect("a number"), offset.parse().expect("an offset"));
            self.acknowledge(stream, producer, n, offset);
        }
    }

    fn acknowledge(&mut self, stream: &str, producer: &str, n: u64, offset: Offset) {
        let next = self.position.entry((stream.to_owned(), producer.to_owned())).or_insert(1);
        *next = (*next).max(n + 1);
        let before = self.acknowledged.insert((stream.to_owned(), producer.to_owned(), n), offset);
        assert!(
            before.is_none_or(|before| before == offset),
            "{stream} {producer} {n} was acknowledged twice"
        );
    }

    /// Everything acknowledged is there, where it was said to be, once and as it was sent; and
    /// nothing is in between.
    async fn check(&mut self, log: &DiskLog, round: u32) {
        let mut there: HashMap<(String, String, u64), Offset> = HashMap::new();
        let mut floors = HashMap::new();
        for name in STREAMS {
            let (floor, events) = read_all(log, name).await;
            for (at, event) in events.iter().enumerate() {
                let expected = floor.plus(at as u64 + 1);
                assert_eq!(event.offset.seq, expected, "round {round}: {name} has a hole");
                let producer = event.producer.as_ref().expect("sent with one");
                let (id, n) = (producer.id.as_str().to_owned(), producer.seq.get());
                assert!(event.data == content(name, &id, n), "round {round}: {name} {id} {n} changed");
                let before = there.insert((name.to_owned(), id, n), event.offset);
                assert_eq!(before, None, "round {round}: {name} has an event twice");
            }
            floors.insert(name, floor);
        }
        for (event, offset) in &self.acknowledged {
            let trimmed = offset.seq <= floors[event.0.as_str()];
            assert!(
                trimmed || there.get(event) == Some(offset),
                "round {round}: {event:?} at {offset} is lost"
            );
        }
    }

    /// Sends again, as a publisher would, whatever may have been under way, and more.
    async fn retry(&mut self, log: &DiskLog) {
        let nowhere = log.locate(&stream("nowhere"), Start::Latest).await.expect("locates");
        assert!(nowhere.epoch > self.epoch, "the epoch did not rise");
        self.epoch = nowhere.epoch;
        for name in STREAMS {
            for producer in PRODUCERS {
                let next = self.position.get(&(name.to_owned(), producer.to_owned())).copied().unwrap_or(1);
                let batch = (next..next + RETRIED).map(|n| draft(name, producer, n)).collect();
                let placed = log.append(&stream(name), batch).await.expect("appends");
                for (n, placed) in (next..).zip(placed) {
                    self.acknowledge(name, producer, n, placed.offset);
                }
            }
        }
    }
}

async fn read_all(log: &DiskLog, name: &str) -> (Seq, Vec<Arc<Event>>) {
    let floor = log.status(&stream(name)).await.expect("status").floor;
    assert!(name == "trimmed" || floor.seq == Seq::ZERO);
    let all = ReadLimit { events: usize::MAX, bytes: u64::MAX };
    match log.read(&stream(name), floor, all).await.expect("reads") {
        Page::Events { events, at_end: true } => (floor.seq, events),
        other => panic!("not all, but {other:?}"),
    }
}

/// Runs the writer until it has told so many acknowledgements and for a while longer, or, if none
/// is asked for, just for the while; then kills it. Answers all it told.
fn writer(dir: &Path, from: &Position, acknowledgements: usize, lifetime: Duration) -> Vec<String> {
    let from: Vec<_> =
        from.iter().map(|((stream, producer), n)| format!("{stream} {producer} {n}")).collect();
    let mut child = Command::new(std::env::current_exe().expect("this file"))
        .args(["--exact", "append_until_killed", "--ignored", "--nocapture", "--test-threads=1"])
        .env(DIR, dir)
        .env(FROM, from.join("\n"))
        .stdout(Stdio::piped())
        .spawn()
        .expect("runs itself");
    let (told, heard) = mpsc::channel();
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let listener = std::thread::spawn(move || {
        // The last line may be cut by the kill; only whole lines count.
        for line in output.split(b'\n').map_while(Result::ok) {
            let line = String::from_utf8(line).expect("text");
            if let Some(line) = line.strip_prefix("ACK ").and_then(|line| line.strip_suffix(" .")) {
                told.send(line.to_owned()).expect("heard");
            }
        }
    });
    let mut lines: Vec<_> = heard.iter().take(acknowledgements).collect();
    assert_eq!(lines.len(), acknowledgements, "it ended by itself: {:?}", child.try_wait());
    std::thread::sleep(lifetime);
    kill(&mut child);
    listener.join().expect("no panic");
    lines.extend(heard.iter());
    lines
}

fn kill(child: &mut Child) {
    use std::os::unix::process::ExitStatusExt as _;
    child.kill().expect("kills");
    let status = child.wait().expect("ended");
    assert_eq!(status.signal(), Some(9), "it ended by itself: {status}");
}

#[test]
#[ignore = "the process that the other test kills"]
fn append_until_killed() {
    let Some(dir) = std::env::var_os(DIR) else { return };
    let mut from = Position::new();
    for line in std::env::var(FROM).expect("told").lines() {
        let words: Vec<_> = line.split(' ').collect();
        from.insert((words[0].into(), words[1].into()), words[2].parse().expect("a number"));
    }
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let log = Arc::new(open(Path::new(&dir)));
        let mut tasks = tokio::task::JoinSet::new();
        for producer in PRODUCERS {
            tasks.spawn(publish(Arc::clone(&log), producer, from.clone()));
        }
        tasks.join_all().await;
    });
}

/// Publishes to all streams in turn, one batch at a time, for ever.
async fn publish(log: Arc<DiskLog>, producer: &str, mut position: Position) {
    for name in STREAMS.iter().copied().cycle() {
        let next = position.entry((name.to_owned(), producer.to_owned())).or_insert(1);
        let batch: Vec<_> = (0..fastrand::u64(1..8)).map(|i| draft(name, producer, *next + i)).collect();
        let placed = log.append(&stream(name), batch).await.expect("appends");
        let mut told = String::new();
        for placed in placed {
            told += &format!("ACK {name} {producer} {next} {} .\n", placed.offset);
            *next += 1;
        }
        std::io::stdout().write_all(told.as_bytes()).expect("heard");
    }
}
