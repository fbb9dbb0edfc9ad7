//! A group of processes, what they were told, and the ledger of what they answered.

use std::collections::{BTreeMap, HashMap};
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use evergate_tests::network::Network;
use rustix::process::{Pid, Signal, kill_process};

use super::node::SETTINGS;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Short, so that tests are; and long enough for two processors that do much else.
const TIMING: &str = "heartbeat=150\nelection_min=800\nelection_max=1600\npropose=4000";

/// A group.
pub(crate) struct Cluster {
    nodes: BTreeMap<u64, Node>,
    seeds: String,
    ledger: Ledger,
    pub(crate) network: Option<Network>,
    pub(crate) snapshot_entries: u64,
    /// The formats of commands that nodes read and write which are started from now on.
    pub(crate) format: &'static str,
    /// How words begin: with `n` those that need all that a node reads.
    pub(crate) word_begins: char,
    /// How long words are, at least.
    pub(crate) word_bytes: usize,
    home: tempfile::TempDir,
    appended: u64,
}

/// A node, running or not.
struct Node {
    address: String,
    dir: PathBuf,
    launcher: Vec<String>,
    process: Option<Process>,
}

/// What came of every word that was ever appended.
#[derive(Debug, Default)]
struct Ledger {
    /// Its place, as it was told.
    acknowledged: BTreeMap<String, usize>,
    refused: Vec<String>,
    unknown: Vec<String>,
}

/// A node's process, killed when dropped.
struct Process {
    child: Child,
    input: ChildStdin,
    answers: Arc<Mutex<HashMap<u64, Sender<String>>>>,
    told: Receiver<String>,
    calls: u64,
}

/// What a node says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) role: String,
    pub(crate) term: u64,
    pub(crate) leader: u64,
    pub(crate) applied: u64,
    pub(crate) last: u64,
    pub(crate) snapshot: u64,
    pub(crate) voters: Vec<u64>,
    pub(crate) learners: Vec<u64>,
}

impl Cluster {
    /// Nodes 1 to `count`, none of them started.
    pub(crate) fn of(count: u64) -> Self {
        Self::new(count, None)
    }

    /// The same, each in a network namespace of its own.
    pub(crate) fn networked(count: u64) -> Result<Self, String> {
        Ok(Self::new(count, Some(Network::lay(count)?)))
    }

    fn new(count: u64, network: Option<Network>) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let mut cluster = Self {
            nodes: BTreeMap::new(),
            seeds: String::new(),
            ledger: Ledger::default(),
            network,
            snapshot_entries: 1000,
            format: "1",
            word_begins: 'w',
            word_bytes: 0,
            home,
            appended: 0,
        };
        for id in 1..=count {
            cluster.place(id);
        }
        let seeds = cluster.nodes.iter().map(|(id, node)| format!("{id}:{}", node.address));
        cluster.seeds = seeds.collect::<Vec<_>>().join(",");
        cluster
    }

    /// `count` nodes that run, with a leader.
    pub(crate) fn running(count: u64) -> Self {
        Self::of(count).up()
    }

    /// Starts all nodes, and waits for a leader.
    pub(crate) fn up(mut self) -> Self {
        for id in self.ids() {
            self.start(id);
        }
        self.leader();
        self
    }

    /// A node that is not started, with a folder of its own.
    pub(crate) fn place(&mut self, id: u64) -> String {
        let (address, launcher) = match &self.network {
            Some(network) => (format!("{}:7000", network.address(id)), network.launcher(id)),
            None => (free_address(), Vec::new()),
        };
        let dir = self.home.path().join(format!("node-{id}"));
        let node = Node { address: address.clone(), dir, launcher, process: None };
        self.nodes.insert(id, node);
        address
    }

    pub(crate) fn ids(&self) -> Vec<u64> {
        self.nodes.keys().copied().collect()
    }

    pub(crate) fn address(&self, id: u64) -> String {
        self.nodes[&id].address.clone()
    }

    /// Keeps the node's folder elsewhere, where only a process with this launcher comes.
    pub(crate) fn house(&mut self, id: u64, dir: PathBuf, launcher: &[String]) {
        let node = self.nodes.get_mut(&id).expect("placed");
        node.dir = dir;
        node.launcher = launcher.to_vec();
    }

    /// What the nodes are told of their peers, in the words of the settings.
    pub(crate) fn tell_peers(&mut self, seeds: &str) {
        self.seeds = seeds.to_owned();
    }

    pub(crate) fn peers(&self) -> String {
        self.seeds.clone()
    }

    /// Starts a node and waits until it listens.
    pub(crate) fn start(&mut self, id: u64) {
        self.launch(id, "test", &self.peers());
        let said = self.said(id);
        assert_eq!(said, "up", "node {id}");
    }

    /// Starts a node, whatever becomes of it.
    pub(crate) fn launch(&mut self, id: u64, cluster: &str, seeds: &str) {
        let (snapshot_entries, format) = (self.snapshot_entries, self.format);
        let node = self.nodes.get_mut(&id).expect("placed");
        assert!(node.process.is_none(), "node {id} runs");
        let settings = format!(
            "cluster={cluster}\nformat={format}\nid={id}\ndir={}\naddress={}\nseeds={seeds}\nsnapshot_entries={snapshot_entries}\n{TIMING}",
            node.dir.display(),
            node.address,
        );
        node.process = Some(Process::run(&node.launcher, &settings));
    }

    /// The next thing that a node says by itself: `up`, `stopped`, or `failed` and why.
    pub(crate) fn said(&mut self, id: u64) -> String {
        let process = self.process(id);
        process.told.recv_timeout(PATIENCE).unwrap_or_else(|error| panic!("node {id} says nothing: {error}"))
    }

    /// What a node has said by itself meanwhile, if anything.
    pub(crate) fn heard(&mut self, id: u64) -> Option<String> {
        self.process(id).told.try_recv().ok()
    }

    fn process(&mut self, id: u64) -> &mut Process {
        self.nodes.get_mut(&id).expect("placed").process.as_mut().expect("runs")
    }

    pub(crate) fn runs(&self, id: u64) -> bool {
        self.nodes[&id].process.is_some()
    }

    pub(crate) fn signal(&mut self, id: u64, signal: Signal) {
        let pid = Pid::from_child(&self.process(id).child);
        kill_process(pid, signal).expect("it runs");
    }

    /// SIGKILL.
    pub(crate) fn kill(&mut self, id: u64) {
        self.nodes.get_mut(&id).expect("placed").process = None;
    }

    /// Asks a node to end in order.
    pub(crate) fn stop(&mut self, id: u64) {
        self.process(id).write("quit");
        assert_eq!(self.said(id), "stopped", "node {id}");
        self.kill(id);
    }

    /// Takes a node's folder away.
    pub(crate) fn wipe(&mut self, id: u64) {
        assert!(!self.runs(id), "node {id} runs");
        std::fs::remove_dir_all(&self.nodes[&id].dir).expect("it is there");
    }

    /// A node that is no more.
    pub(crate) fn forget(&mut self, id: u64) {
        self.nodes.remove(&id);
    }

    /// Calls a node and waits for its answer.
    pub(crate) fn call(&mut self, id: u64, call: &str) -> String {
        self.try_call(id, call).unwrap_or_else(|| panic!("node {id} does not answer {call:?}"))
    }

    fn try_call(&mut self, id: u64, call: &str) -> Option<String> {
        let answer = self.process(id).call(call);
        answer.recv_timeout(PATIENCE).ok()
    }

    pub(crate) fn see(&mut self, id: u64) -> Seen {
        let answer = self.call(id, "status");
        let words: Vec<_> = answer.split(' ').collect();
        let number = |at: usize| words[at].parse().expect("a number");
        let list = |at: usize| {
            let ids = words[at][1..].split('+').filter(|id| !id.is_empty());
            ids.map(|id| id.parse().expect("a number")).collect()
        };
        Seen {
            role: words[1].to_owned(),
            term: number(2),
            leader: number(3),
            applied: number(4),
            last: number(5),
            snapshot: number(6),
            voters: list(7),
            learners: list(8),
        }
    }

    /// Waits until what is asked is so.
    pub(crate) fn wait(&mut self, what: &str, mut so: impl FnMut(&mut Self) -> bool) {
        let begun = Instant::now();
        while !so(self) {
            assert!(begun.elapsed() < PATIENCE, "{what} does not come; {}", self.overview());
            std::thread::sleep(LOOK_EVERY);
        }
    }

    fn overview(&mut self) -> String {
        let running: Vec<_> = self.ids().into_iter().filter(|id| self.runs(*id)).collect();
        let seen = running.into_iter().map(|id| {
            let answer = self.process(id).call("status").recv_timeout(Duration::from_secs(1));
            format!("node {id}: {answer:?}")
        });
        seen.collect::<Vec<_>>().join("; ")
    }

    /// Waits until all nodes that run know the same leader, which says so too.
    pub(crate) fn leader(&mut self) -> u64 {
        let all: Vec<_> = self.ids().into_iter().filter(|id| self.runs(*id)).collect();
        self.leader_of(&all)
    }

    /// The same, of some of the nodes.
    #[expect(clippy::print_stdout, reason = "shown when a test fails, or when asked")]
    pub(crate) fn leader_of(&mut self, nodes: &[u64]) -> u64 {
        let begun = Instant::now();
        let mut leader = 0;
        self.wait("a leader", |cluster| {
            let seen: BTreeMap<_, _> = nodes.iter().map(|id| (*id, cluster.see(*id))).collect();
            leader = seen[&nodes[0]].leader;
            let Some(leading) = seen.get(&leader).filter(|seen| seen.role == "leader") else { return false };
            seen.values().all(|seen| (seen.leader, seen.term) == (leader, leading.term))
        });
        println!("node {leader} leads after {:?}", begun.elapsed());
        leader
    }

    /// Appends so many words through a node, many at a time, and notes what came of each.
    pub(crate) fn append(&mut self, through: u64, count: u64) {
        let calls: Vec<_> = (0..count).map(|_| self.begin(through)).collect();
        for (word, answer) in calls {
            self.note(&word, answer.recv_timeout(PATIENCE).ok().as_deref());
        }
    }

    /// Appends words until so many were acknowledged.
    pub(crate) fn append_for_sure(&mut self, through: u64, count: usize) {
        let before = self.ledger.acknowledged.len();
        self.wait("enough acknowledgements", |cluster| {
            cluster.append(through, 10);
            cluster.ledger.acknowledged.len() >= before + count
        });
    }

    /// Begins to append a word: its answer comes later, if at all.
    pub(crate) fn begin(&mut self, through: u64) -> (String, Receiver<String>) {
        self.appended += 1;
        let word = format!("{:-<1$}", format!("{}{}", self.word_begins, self.appended), self.word_bytes);
        let answer = self.process(through).call(&format!("append {word}"));
        (word, answer)
    }

    /// Notes what came of a word.
    pub(crate) fn note(&mut self, word: &str, answer: Option<&str>) -> Option<String> {
        match answer.map(|answer| answer.split_once(' ').expect("a word and more")) {
            Some(("ok", place)) => {
                let place = place.parse().expect("a number");
                assert!(self.ledger.acknowledged.insert(word.to_owned(), place).is_none());
                None
            }
            Some(("no", why)) => {
                self.ledger.refused.push(word.to_owned());
                Some(why.to_owned())
            }
            Some(_) | None => {
                self.ledger.unknown.push(word.to_owned());
                None
            }
        }
    }

    pub(crate) fn words(&mut self, id: u64) -> Vec<String> {
        let answer = self.call(id, "words");
        let list = answer.strip_prefix("ok ").unwrap_or_default();
        list.split(',').filter(|word| !word.is_empty()).map(str::to_owned).collect()
    }

    pub(crate) fn count(&mut self, id: u64) -> usize {
        let answer = self.call(id, "count");
        answer.strip_prefix("ok ").and_then(|count| count.parse().ok()).expect("a number")
    }

    /// Compares what all running nodes have now: one history, of which some know more.
    pub(crate) fn agree(&mut self) {
        let running: Vec<_> = self.ids().into_iter().filter(|id| self.runs(*id)).collect();
        let mut histories: Vec<_> = running.into_iter().map(|id| (self.words(id), id)).collect();
        histories.sort_by_key(|(words, _)| words.len());
        for pair in histories.windows(2) {
            let ((short, a), (long, b)) = (&pair[0], &pair[1]);
            assert!(long.starts_with(short), "nodes {a} and {b} have another history");
        }
    }

    /// The judge. All nodes run again, and nothing disturbs them.
    #[expect(clippy::print_stdout, reason = "shown when a test fails, or when asked")]
    pub(crate) fn judge(&mut self) {
        self.leader();
        let running: Vec<_> = self.ids().into_iter().filter(|id| self.runs(*id)).collect();
        // One more, so that all that is to come has come when it is there.
        self.append_for_sure(running[0], 1);
        let most = self.ledger.acknowledged.values().max().copied().expect("one at least");
        self.wait("everything on every node", |cluster| running.iter().all(|id| cluster.count(*id) >= most));
        self.agree();
        for id in running {
            let words = self.words(id);
            for (word, place) in &self.ledger.acknowledged {
                assert_eq!(words.get(place - 1), Some(word), "node {id} lost what was acknowledged");
            }
            let mut times = HashMap::<&str, u32>::new();
            words.iter().for_each(|word| *times.entry(word).or_default() += 1);
            assert!(times.values().all(|times| *times == 1), "node {id} has something twice");
            for word in &self.ledger.refused {
                assert!(!times.contains_key(word.as_str()), "node {id} has {word}, which was refused");
            }
        }
        let Ledger { acknowledged, refused, unknown } = &self.ledger;
        println!("{} acknowledged, {} refused, {} unknown", acknowledged.len(), refused.len(), unknown.len());
    }
}

impl Process {
    fn run(launcher: &[String], settings: &str) -> Self {
        let this = std::env::current_exe().expect("this file");
        let mut words = launcher.to_vec();
        // Whatever becomes of the test, it goes with it.
        words.extend(["setpriv", "--pdeathsig", "KILL", "--"].map(str::to_owned));
        let mut child = Command::new(&words[0])
            .args(&words[1..])
            .arg(this)
            .args(["--exact", "node::node", "--ignored", "--nocapture", "--test-threads=1"])
            .env(SETTINGS, settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("runs itself");
        let output = BufReader::new(child.stdout.take().expect("piped"));
        let input = child.stdin.take().expect("piped");
        let answers = Arc::new(Mutex::new(HashMap::<u64, Sender<String>>::new()));
        let (tell, told) = mpsc::channel();
        let waiting = Arc::clone(&answers);
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // The test harness of the child says things of its own.
                let Some((_, line)) = line.split_once('\x1e') else { continue };
                let number =
                    line.split_once(' ').and_then(|(number, rest)| Some((number.parse().ok()?, rest)));
                match number {
                    Some((number, rest)) => {
                        let sender = waiting.lock().expect("no panic").remove(&number);
                        if let Some(sender) = sender {
                            let _ = sender.send(rest.to_owned());
                        }
                    }
                    None => drop(tell.send(line.to_owned())),
                }
            }
            // Nobody answers any more.
            waiting.lock().expect("no panic").clear();
        });
        Self { child, input, answers, told, calls: 0 }
    }

    fn call(&mut self, call: &str) -> Receiver<String> {
        self.calls += 1;
        let (send, receive) = mpsc::channel();
        self.answers.lock().expect("no panic").insert(self.calls, send);
        let line = format!("{} {call}", self.calls);
        if !self.write(&line) {
            // It has ended, and there will be no answer.
            self.answers.lock().expect("no panic").clear();
        }
        receive
    }

    fn write(&mut self, line: &str) -> bool {
        self.input.write_all(format!("{line}\n").as_bytes()).is_ok()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A port that nobody has now. It is asked for again and again if somebody takes it meanwhile.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").to_string()
}
