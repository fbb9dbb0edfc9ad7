//! The commit protocol as a pure model: three servers, three processes, random faults between any
//! two steps. What it says holds for the protocol, not for the code; the fault tests judge that.
//!
//! ```text
//!   process:   append ──▶ WAIT ──▶ commit ──▶ answer          (a fault may fall on every arrow)
//!   server:    primary ── crash, hand-over, restart ──▶ replica ── promotion ──▶ primary
//! ```
//! Every rule can be left out, and then random schedules must find a violation: a rule whose loss
//! nobody notices is no rule, or the model does not see what it is for.

use std::collections::{BTreeMap, HashMap, VecDeque};

use fastrand::Rng;

const SERVERS: usize = 3;
const PROCESSES: usize = 3;
const PRODUCERS: u64 = 3;
const STEPS: usize = 400;
/// With every rule, this many schedules find nothing.
const SCHEDULES: u64 = 20_000;
/// Without one of them, this many find something; the rarest takes about 1,300.
const MUTANT_SCHEDULES: u64 = 40_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rule {
    /// A gate is shut when `master_replid` is another than when it was opened.
    GateKnowsReplid,
    /// A gate is shut by a restart.
    GateIsVolatile,
    /// An opening begins an epoch that never was.
    OpeningRaisesEpoch,
    /// Nothing is appended while the gate is shut.
    AppendIsGuarded,
    /// The number that WAIT answers is looked at.
    WaitIsCounted,
    /// As many replicas must confirm as may be promoted.
    AllReplicasConfirm,
    /// Append, WAIT and commit go over one connection.
    OneConnection,
    /// A duplicate that is not committed is not answered.
    DuplicatesWait,
    /// And makes its call write, so that WAIT has something to wait for.
    DuplicatesWrite,
    /// What was appended before is found again.
    Deduplication,
    /// What is confirmed is what was written before, and no more is committed.
    CommitIsBounded,
    /// Only what is committed is shown.
    CommittedIsShown,
}

const RULES: [Rule; 12] = [
    Rule::GateKnowsReplid,
    Rule::GateIsVolatile,
    Rule::OpeningRaisesEpoch,
    Rule::AppendIsGuarded,
    Rule::WaitIsCounted,
    Rule::AllReplicasConfirm,
    Rule::OneConnection,
    Rule::DuplicatesWait,
    Rule::DuplicatesWrite,
    Rule::Deduplication,
    Rule::CommitIsBounded,
    Rule::CommittedIsShown,
];

/// A producer's event.
type Value = (u64, u64);
/// Epoch and sequence.
type At = (u64, usize);

/// What lies in Redis, and is replicated.
#[derive(Debug, Clone, Default)]
struct Data {
    fence: u64,
    token: u64,
    /// The stream: sequences are places in it, from 1.
    entries: Vec<(u64, Value)>,
    hwm: usize,
}

#[derive(Debug, Default)]
struct Server {
    up: bool,
    primary: bool,
    data: Data,
    replid: u64,
    /// Writes so far.
    offset: u64,
    /// Token to epoch and replid: in the process' memory only.
    gates: HashMap<u64, (u64, u64)>,
    follows: Option<usize>,
    /// Writes that are under way to it.
    queue: VecDeque<Data>,
    /// What it was a few writes ago, newest last.
    past: VecDeque<Data>,
}

#[derive(Debug, Clone, Copy, Default)]
struct Process {
    server: usize,
    /// Counts its connections.
    connection: u64,
    /// The server's offset after the last write over this connection.
    written: u64,
    /// The gate as it knows it.
    epoch: u64,
    token: u64,
}

#[derive(Debug, Clone, Copy)]
enum Stage {
    Append,
    /// Where the event stands, and the tail then.
    Wait {
        at: At,
        tail: usize,
    },
    Commit {
        at: At,
        tail: usize,
    },
}

#[derive(Debug, Clone, Copy)]
struct Call {
    process: usize,
    /// None asks only that what lies there be committed.
    value: Option<Value>,
    connection: u64,
    /// The gate under which it was appended.
    gate: (u64, u64),
    stage: Stage,
}

/// What a request came to.
enum Answer {
    Next(Stage),
    Acknowledged(At),
    /// Not executed, or unknown: the producer says it again.
    Failed,
}

struct Model {
    rng: Rng,
    without: Option<Rule>,
    replicated: bool,
    servers: Vec<Server>,
    /// Whom Sentinel calls the primary.
    elected: usize,
    processes: [Process; PROCESSES],
    calls: Vec<Call>,
    /// The sequence each producer is at.
    at: Vec<u64>,
    /// Epochs, tokens and replids that never were.
    fresh: u64,
    /// What was acknowledged or shown, and must never mean anything else.
    known: BTreeMap<At, Value>,
    violation: Option<String>,
    traffic: Traffic,
}

/// What happened, so that a model in which nothing does is noticed.
#[derive(Debug, Clone, Copy, Default)]
struct Traffic {
    acknowledged: u64,
    duplicates: u64,
    short_counts: u64,
    openings: u64,
    promotions: u64,
}

impl Model {
    fn new(seed: u64, replicated: bool, without: Option<Rule>) -> Self {
        let mut model = Self {
            rng: Rng::with_seed(seed),
            without,
            replicated,
            servers: (0..SERVERS).map(|_| Server { up: true, ..Server::default() }).collect(),
            elected: 0,
            processes: Default::default(),
            calls: vec![],
            at: vec![1; PRODUCERS as usize],
            fresh: 0,
            known: BTreeMap::new(),
            violation: None,
            traffic: Traffic::default(),
        };
        model.servers[0].primary = true;
        model.servers[0].replid = model.fresh();
        for replica in 1..SERVERS {
            model.resync(replica, 0);
        }
        model
    }

    fn keeps(&self, rule: Rule) -> bool {
        self.without != Some(rule)
    }

    fn fresh(&mut self) -> u64 {
        self.fresh += 1;
        self.fresh
    }

    fn run(mut self) -> (Option<String>, Traffic) {
        for _ in 0..STEPS {
            self.step();
            if self.violation.is_some() {
                return (self.violation, self.traffic);
            }
        }
        self.settle();
        (self.violation, self.traffic)
    }

    fn step(&mut self) {
        match self.rng.u32(0..100) {
            0..50 => self.advance(),
            50..62 => self.publish(),
            62..78 => self.replicate(),
            78..84 => self.show(),
            84..87 => self.call(None),
            87..89 => self.reconnect(),
            89..90 => self.process_dies(),
            90..91 => self.primary_dies(),
            91..93 => self.hand_over(),
            93..94 => self.restart_in_place(),
            _ => self.come_back(),
        }
    }

    // ------------------------------------------------------------------------------- processes

    fn publish(&mut self) {
        let producer = self.rng.u64(0..PRODUCERS);
        self.call(Some((producer, self.at[producer as usize])));
    }

    /// Through any process: a retry may meet its first attempt, which is still under way elsewhere.
    fn call(&mut self, value: Option<Value>) {
        if self.calls.len() < 6 {
            let process = self.rng.usize(0..PROCESSES);
            let (connection, gate) = (self.processes[process].connection, (0, 0));
            self.calls.push(Call { process, value, connection, gate, stage: Stage::Append });
        }
    }

    fn advance(&mut self) {
        if self.calls.is_empty() {
            return;
        }
        let index = self.rng.usize(0..self.calls.len());
        let mut call = self.calls.swap_remove(index);
        let process = call.process;
        if !self.servers[self.processes[process].server].up {
            return self.connect(process);
        }
        let first = matches!(call.stage, Stage::Append);
        if call.connection != self.processes[process].connection {
            if !first && self.keeps(Rule::OneConnection) {
                return;
            }
            call.connection = self.processes[process].connection;
        }
        let answer = match call.stage {
            Stage::Append => self.append(&mut call),
            Stage::Wait { at, tail } => self.wait(process, at, tail),
            Stage::Commit { at, tail } => self.commit(&call, at, tail),
        };
        // It took effect, and nobody learns of it.
        if self.rng.u32(0..100) < 6 {
            return self.connect(process);
        }
        match answer {
            Answer::Next(stage) => self.calls.push(Call { stage, ..call }),
            Answer::Failed => {}
            Answer::Acknowledged(at) => {
                if let Some(value) = call.value {
                    self.traffic.acknowledged += 1;
                    self.note(at, value);
                    let current = &mut self.at[value.0 as usize];
                    *current = (*current).max(value.1 + 1);
                }
            }
        }
    }

    /// A new connection: to whom Sentinel names, or to who still takes itself for the primary.
    fn connect(&mut self, process: usize) {
        let server = self.rng.usize(0..SERVERS);
        let takes = self.servers[server].up && self.servers[server].primary;
        let it = &mut self.processes[process];
        it.server = if takes { server } else { self.elected };
        it.connection += 1;
        it.written = 0;
    }

    fn reconnect(&mut self) {
        let process = self.rng.usize(0..PROCESSES);
        self.connect(process);
    }

    fn process_dies(&mut self) {
        let process = self.rng.usize(0..PROCESSES);
        self.calls.retain(|call| call.process != process);
        self.processes[process] =
            Process { connection: self.processes[process].connection, ..Default::default() };
        self.connect(process);
    }

    // --------------------------------------------------------------------------- the functions

    fn is_open(&self, server: usize) -> bool {
        let server = &self.servers[server];
        server.gates.get(&server.data.token).is_some_and(|&(epoch, replid)| {
            epoch == server.data.fence && (replid == server.replid || !self.keeps(Rule::GateKnowsReplid))
        })
    }

    fn append(&mut self, call: &mut Call) -> Answer {
        let process = call.process;
        let server = self.processes[process].server;
        if !self.servers[server].primary {
            self.connect(process);
            return Answer::Failed;
        }
        let never = self.servers[server].data.fence == 0;
        if !self.is_open(server) && (never || self.keeps(Rule::AppendIsGuarded)) {
            self.open(process);
            return Answer::Next(Stage::Append);
        }
        let data = &self.servers[server].data;
        (self.processes[process].epoch, self.processes[process].token) = (data.fence, data.token);
        call.gate = (data.fence, data.token);
        let mut data = data.clone();
        let found = call.value.and_then(|value| {
            let place = data.entries.iter().position(|(_, known)| *known == value);
            place.filter(|_| self.keeps(Rule::Deduplication)).map(|place| (data.entries[place].0, place + 1))
        });
        let newest = data.entries.iter().filter(|(_, known)| Some(known.0) == call.value.map(|it| it.0));
        let newest = newest.map(|(_, known)| known.1).max().unwrap_or(0);
        let at = match (call.value, found) {
            (None, _) => (data.fence, data.hwm + 1),
            (Some(_), Some(at)) => at,
            (Some(value), None) => {
                if value.1 <= newest && self.keeps(Rule::Deduplication) {
                    return Answer::Failed;
                }
                data.entries.push((data.fence, value));
                (data.fence, data.entries.len())
            }
        };
        self.traffic.duplicates += u64::from(found.is_some());
        let (new, tail) = (found.is_none() && call.value.is_some(), data.entries.len());
        if !self.replicated {
            data.hwm = tail;
        }
        if new || (tail > data.hwm && at.1 > data.hwm && self.keeps(Rule::DuplicatesWrite)) {
            self.write(server, data.clone());
            self.processes[process].written = self.servers[server].offset;
        }
        let answered = at.1 <= data.hwm || (found.is_some() && !self.keeps(Rule::DuplicatesWait));
        if tail == data.hwm && call.value.is_none() {
            return Answer::Failed;
        }
        if answered { Answer::Acknowledged(at) } else { Answer::Next(Stage::Wait { at, tail }) }
    }

    /// One compare-and-set: whoever comes second finds it open.
    fn open(&mut self, process: usize) {
        let server = self.processes[process].server;
        let mut data = self.servers[server].data.clone();
        self.traffic.openings += 1;
        let (epoch, token) = (self.fresh(), self.fresh());
        let raised = self.keeps(Rule::OpeningRaisesEpoch) || data.fence == 0;
        data.fence = if raised { epoch } else { data.fence };
        data.token = token;
        let (fence, replid) = (data.fence, self.servers[server].replid);
        self.servers[server].gates.insert(token, (fence, replid));
        self.write(server, data);
        self.processes[process].written = self.servers[server].offset;
    }

    fn wait(&mut self, process: usize, at: At, tail: usize) -> Answer {
        let Process { server, written, .. } = self.processes[process];
        if !self.servers[server].primary {
            return Answer::Failed;
        }
        let confirmed = self
            .servers
            .iter()
            .filter(|replica| replica.up && replica.follows == Some(server) && replica.offset >= written);
        let wanted = if self.keeps(Rule::AllReplicasConfirm) { SERVERS - 1 } else { 1 };
        let enough = confirmed.count() >= wanted || !self.keeps(Rule::WaitIsCounted);
        self.traffic.short_counts += u64::from(!enough);
        if enough { Answer::Next(Stage::Commit { at, tail }) } else { Answer::Failed }
    }

    fn commit(&mut self, call: &Call, at: At, tail: usize) -> Answer {
        let server = self.processes[call.process].server;
        if !self.servers[server].primary {
            return Answer::Failed;
        }
        let mut data = self.servers[server].data.clone();
        let guarded = self.is_open(server) && call.gate == (data.fence, data.token);
        if !guarded {
            return Answer::Failed;
        }
        let mark = if self.keeps(Rule::CommitIsBounded) { tail } else { data.entries.len() };
        let mark = mark.min(data.entries.len());
        if mark > data.hwm {
            data.hwm = mark;
            self.write(server, data);
        }
        Answer::Acknowledged(at)
    }

    // ----------------------------------------------------------------------------- the servers

    fn write(&mut self, server: usize, data: Data) {
        for replica in self.servers.iter_mut().filter(|replica| replica.follows == Some(server)) {
            replica.queue.push_back(data.clone());
        }
        let it = &mut self.servers[server];
        it.offset += 1;
        it.past.push_back(std::mem::replace(&mut it.data, data));
        if it.past.len() > 4 {
            it.past.pop_front();
        }
    }

    fn replicate(&mut self) {
        let replica = self.rng.usize(0..SERVERS);
        let it = &mut self.servers[replica];
        if let Some(data) = it.queue.pop_front().filter(|_| it.up) {
            it.data = data;
            it.offset += 1;
        }
    }

    /// What it held is thrown away; what only its process knew stays. Who followed it follows nobody.
    fn resync(&mut self, replica: usize, primary: usize) {
        for follower in self.servers.iter_mut().filter(|it| it.follows == Some(replica)) {
            follower.follows = None;
            follower.queue.clear();
        }
        let (data, replid) = (self.servers[primary].data.clone(), self.servers[primary].replid);
        let offset = self.servers[primary].offset;
        let it = &mut self.servers[replica];
        *it = Server {
            up: true,
            data,
            replid,
            offset,
            follows: Some(primary),
            gates: std::mem::take(&mut it.gates),
            ..Server::default()
        };
    }

    /// Makes a replica the primary. Sentinel takes the one that is furthest; of those equal, any.
    fn promote(&mut self, old: usize) -> bool {
        let replicas =
            (0..SERVERS).filter(|&at| self.servers[at].up && self.servers[at].follows == Some(old));
        let Some(best) = replicas.max_by_key(|&at| (self.servers[at].offset, self.rng.u32(..))) else {
            return false;
        };
        self.traffic.promotions += 1;
        let replid = self.fresh();
        let it = &mut self.servers[best];
        (it.primary, it.follows, it.replid) = (true, None, replid);
        it.queue.clear();
        self.elected = best;
        true
    }

    fn primary_dies(&mut self) {
        let old = self.elected;
        if self.promote(old) {
            self.dies(old);
        }
    }

    fn dies(&mut self, server: usize) {
        let it = &mut self.servers[server];
        (it.up, it.primary, it.follows) = (false, false, None);
        self.forget_gates(server);
        self.cut(server);
    }

    fn forget_gates(&mut self, server: usize) {
        if self.keeps(Rule::GateIsVolatile) {
            self.servers[server].gates.clear();
        }
    }

    /// Connections end with the process they lead to.
    fn cut(&mut self, server: usize) {
        for process in 0..PROCESSES {
            if self.processes[process].server == server {
                self.connect(process);
            }
        }
    }

    /// On purpose, or because nobody hears from it: the old one does not know yet, and whoever has a
    /// connection goes on using it.
    fn hand_over(&mut self) {
        let old = self.elected;
        self.promote(old);
    }

    /// Faster than anybody notices. At HOME the newest writes may be gone.
    fn restart_in_place(&mut self) {
        let server = self.elected;
        if !self.replicated {
            for _ in 0..self.rng.usize(0..4) {
                if let Some(data) = self.servers[server].past.pop_back() {
                    self.servers[server].data = data;
                }
            }
        }
        // Depending on what it read when it started.
        if self.rng.bool() {
            self.servers[server].replid = self.fresh();
        }
        self.forget_gates(server);
        self.cut(server);
        for replica in 0..SERVERS {
            if self.servers[replica].follows == Some(server) {
                self.resync(replica, server);
            }
        }
    }

    /// Somebody who was away, or follows nobody, becomes a replica of the elected one.
    fn come_back(&mut self) {
        let server = self.rng.usize(0..SERVERS);
        let elected = self.elected;
        if server != elected && self.servers[server].follows != Some(elected) {
            self.resync(server, elected);
        }
    }

    // --------------------------------------------------------------------------- what must hold

    /// A subscriber reads from anybody who takes itself for the primary.
    fn show(&mut self) {
        let server = self.rng.usize(0..SERVERS);
        if !self.servers[server].up || !self.servers[server].primary {
            return;
        }
        let data = self.servers[server].data.clone();
        let shown = if self.keeps(Rule::CommittedIsShown) { data.hwm } else { data.entries.len() };
        for (place, (epoch, value)) in data.entries.iter().take(shown).enumerate() {
            self.note((*epoch, place + 1), *value);
        }
    }

    /// No offset ever means two things.
    fn note(&mut self, at: At, value: Value) {
        if let Some(before) = self.known.insert(at, value).filter(|before| *before != value) {
            self.violation = Some(format!("{at:?} was {before:?} and is {value:?}"));
        }
    }

    /// All faults heal, and the log is looked at.
    fn settle(&mut self) {
        let entries = &self.servers[self.elected].data.entries;
        let mut newest: HashMap<u64, u64> = HashMap::new();
        for (_, (producer, seq)) in entries {
            if newest.insert(*producer, *seq).is_some_and(|before| before >= *seq) {
                self.violation = Some(format!("{seq} of {producer} is there twice, or late"));
                return;
            }
        }
        if self.replicated {
            for (&(epoch, seq), value) in &self.known {
                if entries.get(seq - 1) != Some(&(epoch, *value)) {
                    self.violation = Some(format!("{value:?} was known as {epoch}-{seq} and is lost"));
                    return;
                }
            }
        }
    }
}

/// Half of the schedules are at HOME.
fn schedule(seed: u64, without: Option<Rule>) -> (Option<String>, Traffic) {
    Model::new(seed, seed.is_multiple_of(2), without).run()
}

#[test]
fn with_every_rule_nothing_is_lost_doubled_or_renamed() {
    let mut all = Traffic::default();
    for seed in 0..SCHEDULES {
        let (violation, traffic) = schedule(seed, None);
        assert_eq!(violation, None, "schedule {seed}");
        all.acknowledged += traffic.acknowledged;
        all.duplicates += traffic.duplicates;
        all.short_counts += traffic.short_counts;
        all.openings += traffic.openings;
        all.promotions += traffic.promotions;
    }
    let Traffic { acknowledged, duplicates, short_counts, openings, promotions } = all;
    let each = [acknowledged, duplicates, short_counts, openings, promotions];
    assert!(each.iter().all(|&many| many > SCHEDULES), "too little happens: {all:?}");
}

#[test]
fn without_any_one_rule_something_is() {
    for rule in RULES {
        let found = (0..MUTANT_SCHEDULES).find(|&seed| schedule(seed, Some(rule)).0.is_some());
        assert!(found.is_some(), "{rule:?} may be left out, and {MUTANT_SCHEDULES} schedules find nothing");
    }
}
