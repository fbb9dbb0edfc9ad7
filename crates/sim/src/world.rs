//! Time goes by, a step at a time.

use evergate_domain::cluster::{
    ClusterSettings, Command, LeaseTable, Load, Proposal, Unbalanced, View, beat_ms,
};
use evergate_domain::{RegionName, UnixMillis};
use fastrand::Rng;

use crate::control::{Control, News};
use crate::edge::Edge;
use crate::faults::Faults;
use crate::invariants::{Invariants, Violation};

const CONTROLS: usize = 3;
const EDGES: usize = 7;
const STEP_MS: u64 = 50;
/// Until then things go wrong.
const FAULTY_MS: u64 = 40_000;
/// A control node that could not report for so long lets its leases go.
const REPORT_PATIENCE_MS: u64 = 800;
const REPORT_EVERY_MS: u64 = 200;
/// An edge that was not answered for so long tries another control node.
const EDGE_PATIENCE_MS: u64 = 600;

/// What a run came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// Commands that were agreed on.
    pub commands: usize,
    /// The last view's version.
    pub version: u64,
    /// How often a node was lost.
    pub losses: usize,
    /// How often somebody led who had not led before.
    pub elections: usize,
}

pub(crate) struct World {
    pub(crate) now_ms: u64,
    rng: Rng,
    pub(crate) controls: Vec<Control>,
    pub(crate) edges: Vec<Edge>,
    pub(crate) faults: Faults,
    log: Vec<Proposal>,
    pub(crate) leader: Option<usize>,
    election_ms: u64,
    elections: usize,
    pub(crate) settings: ClusterSettings,
}

/// Runs a cluster by a seed, and says what it came to, or what was violated.
pub fn run(seed: u64) -> Result<Report, Violation> {
    let settings =
        ClusterSettings { hysteresis_ms: 5_000, rebalance_after_ms: 2_000, ..ClusterSettings::default() };
    let mut world = World {
        now_ms: 0,
        rng: Rng::with_seed(seed),
        controls: (0..CONTROLS).map(|_| Control::up()).collect(),
        edges: (0..EDGES).map(Edge::new).collect(),
        faults: Faults::default(),
        log: Vec::new(),
        leader: None,
        election_ms: 0,
        elections: 0,
        settings,
    };
    let mut invariants = Invariants::default();
    world.agree(Command::RaiseFormat(2));
    world.agree(Command::SetSettings(settings));
    while world.now_ms < FAULTY_MS {
        world.disturb();
        world.step();
        invariants.check(&world)?;
    }
    world.heal();
    let until_ms = world.now_ms + u64::from(settings.lease_ms + settings.hysteresis_ms) + 25_000;
    while world.now_ms < until_ms {
        world.step();
        invariants.check(&world)?;
    }
    invariants.check_end(&world)?;
    let losses = world.log.iter().filter(|proposal| matches!(proposal.command, Command::Lost { .. })).count();
    Ok(Report {
        commands: world.log.len(),
        version: world.controls[0].state.view().version(),
        losses,
        elections: world.elections,
    })
}

impl World {
    /// The newest state that anybody has taken.
    pub(crate) fn newest(&self) -> &View {
        let newest = self.controls.iter().max_by_key(|control| control.applied);
        newest.expect("there are control nodes").state.view()
    }

    fn step(&mut self) {
        self.now_ms += STEP_MS;
        self.elect();
        self.follow_log();
        for edge in 0..EDGES {
            self.run_edge(edge);
        }
        for control in 0..CONTROLS {
            self.report(control);
        }
        self.judge();
    }

    /// Whether a control node reaches a majority, itself included.
    fn has_majority(&self, control: usize) -> bool {
        let reaches = |other: &usize| {
            self.controls[*other].is_up
                && (*other == control || self.faults.answers(control, *other, self.now_ms))
        };
        self.controls[control].is_up && (0..CONTROLS).filter(reaches).count() * 2 > CONTROLS
    }

    fn elect(&mut self) {
        if self.leader.is_some_and(|leader| self.has_majority(leader)) {
            return;
        }
        if let Some(old) = self.leader.take() {
            self.controls[old].leases = None;
            self.election_ms = self.now_ms + self.rng.u64(1_500..3_000);
        }
        if self.now_ms < self.election_ms {
            return;
        }
        // Only somebody who can have all that was agreed on leads.
        let candidates: Vec<_> = (0..CONTROLS).filter(|control| self.has_majority(*control)).collect();
        if candidates.is_empty() {
            return;
        }
        let leader = candidates[self.rng.usize(..candidates.len())];
        self.controls[leader].catch_up(&self.log, self.log.len());
        let leases = LeaseTable::begin(self.controls[leader].state.view(), self.now_ms);
        self.controls[leader].leases = Some(leases);
        self.controls[leader].unbalanced = Unbalanced::default();
        self.leader = Some(leader);
        self.elections += 1;
    }

    /// The leader appends; everybody else gets it later.
    fn agree(&mut self, command: Command) {
        let at = UnixMillis::new(self.now_ms);
        self.log.push(Proposal { by: "sim".to_owned(), at, command });
        if let Some(leader) = self.leader {
            self.controls[leader].catch_up(&self.log, self.log.len());
        }
    }

    /// Whether a command of a control node gets to the log.
    fn propose(&mut self, control: usize, command: Command) -> bool {
        let Some(leader) = self.leader else { return false };
        let reaches = control == leader || self.faults.answers(control, leader, self.now_ms);
        if reaches && self.has_majority(leader) {
            self.agree(command);
        }
        reaches
    }

    fn follow_log(&mut self) {
        for control in 0..CONTROLS {
            let Some(leader) = self.leader else { return };
            if self.controls[control].is_up && self.faults.passes(leader, control, self.now_ms) {
                let behind = self.log.len() - self.controls[control].applied;
                let to = self.log.len() - if self.rng.u8(..4) == 0 { behind.min(2) } else { 0 };
                self.controls[control].catch_up(&self.log, to);
            }
        }
    }

    fn run_edge(&mut self, number: usize) {
        let edge = &mut self.edges[number];
        if !edge.is_up {
            return;
        }
        let control = edge.control;
        let answers =
            self.controls[control].is_up && self.faults.answers(control, CONTROLS + number, self.now_ms);
        if !answers {
            edge.is_joined = false;
            let since = *edge.silent_since_ms.get_or_insert(self.now_ms);
            if self.now_ms - since >= EDGE_PATIENCE_MS {
                edge.control = self.rng.usize(..CONTROLS);
                edge.silent_since_ms = None;
            }
            return;
        }
        edge.silent_since_ms = None;
        if self.now_ms >= edge.beat_ms {
            edge.beat_ms = self.now_ms + u64::from(beat_ms(&self.settings));
            self.beat(number, control);
        }
        self.follow_view(number, control);
        self.drain(number, control);
        self.rebalance(number, control);
    }

    fn beat(&mut self, number: usize, control: usize) {
        let edge = &self.edges[number];
        let has_lease =
            self.controls[control].lessees.get(&edge.name).is_some_and(|(run, _)| *run == edge.incarnation);
        if !(edge.is_joined && has_lease) {
            let join = Command::Join(Box::new(edge.facts()));
            if !self.propose(control, join) {
                // Nobody to agree with here: another may know somebody.
                self.edges[number].control = self.rng.usize(..CONTROLS);
                return;
            }
        }
        let edge = &mut self.edges[number];
        edge.is_joined = true;
        self.controls[control].lessees.insert(edge.name.clone(), (edge.incarnation, self.now_ms));
    }

    fn follow_view(&mut self, number: usize, control: usize) {
        // A message is lost with its connection, and the next one starts from what the edge has.
        if self.rng.u8(..8) == 0 {
            return;
        }
        let edge = &mut self.edges[number];
        match self.controls[control].news(&edge.view) {
            News::None => {}
            News::Whole(view) => edge.take(*view),
            News::Deltas(deltas) => {
                for delta in deltas {
                    let skipped = self.rng.u8(..16) == 0;
                    match edge.view.follow(&delta) {
                        Ok(view) if !skipped => edge.take(view),
                        // A hole: it asks for all of it next time, or goes on from there.
                        Ok(_) | Err(_) => break,
                    }
                }
            }
        }
    }

    fn drain(&mut self, number: usize, control: usize) {
        let edge = &mut self.edges[number];
        let runs = edge.view.drains().get(&edge.name).is_some_and(|drain| drain.running);
        if !runs {
            edge.drained_at_ms = None;
            return;
        }
        let at = *edge.drained_at_ms.get_or_insert(self.now_ms + self.rng.u64(500..3_000));
        if self.now_ms >= at {
            let drained = Command::Drained { node: edge.name.clone(), incarnation: edge.incarnation };
            self.propose(control, drained);
        }
    }

    /// Says that it is done until it is heard, for what it says may be lost.
    fn rebalance(&mut self, number: usize, control: usize) {
        let edge = &mut self.edges[number];
        let is_meant =
            edge.view.nodes().get(&edge.name).is_some_and(|node| node.incarnation == edge.incarnation);
        let asked = edge.view.rebalance().filter(|plan| is_meant && plan.left.contains(&edge.name));
        let Some(plan) = asked.map(|plan| plan.plan) else {
            edge.moved_at_ms = None;
            return;
        };
        let at = match edge.moved_at_ms {
            Some((known, at)) if known == plan => at,
            Some(_) | None => self.now_ms + self.rng.u64(0..3_000),
        };
        edge.moved_at_ms = Some((plan, at));
        if self.now_ms >= at && self.rng.u8(..8) == 0 {
            let (node, incarnation) = (edge.name.clone(), edge.incarnation);
            self.propose(control, Command::Rebalanced { node, incarnation, plan });
        }
    }

    fn report(&mut self, control: usize) {
        if !self.controls[control].is_up || !self.now_ms.is_multiple_of(REPORT_EVERY_MS) {
            return;
        }
        let reached = self
            .leader
            .filter(|leader| *leader == control || self.faults.answers(control, *leader, self.now_ms));
        let Some(leader) = reached else {
            if self.now_ms - self.controls[control].reported_ms >= REPORT_PATIENCE_MS {
                self.controls[control].lessees.clear();
            }
            return;
        };
        self.controls[control].reported_ms = self.now_ms;
        let lessees = self.controls[control].lessees.clone();
        let settings = self.settings;
        let Some(leases) = &mut self.controls[leader].leases else { return };
        for (node, (incarnation, at_ms)) in lessees {
            leases.hear(&node, incarnation, at_ms, Load::default(), &settings);
        }
    }

    fn judge(&mut self) {
        let Some(leader) = self.leader else { return };
        let now_ms = self.now_ms;
        let Control { state, leases, unbalanced, .. } = &mut self.controls[leader];
        let due = leases.as_mut().map(|leases| leases.due(state.view(), now_ms)).unwrap_or_default();
        let balance = unbalanced.due(state.view(), now_ms);
        for command in due.into_iter().chain(balance) {
            self.propose(leader, command);
        }
    }

    fn disturb(&mut self) {
        let until_ms = self.now_ms + self.rng.u64(100..8_000);
        let party = |rng: &mut Rng| rng.usize(..CONTROLS + EDGES);
        match self.rng.u16(..1_000) {
            0..12 => {
                let (from, to) = (party(&mut self.rng), self.rng.usize(..CONTROLS));
                self.faults.cut(from, to, until_ms);
            }
            12..24 => {
                let (from, to) = (self.rng.usize(..CONTROLS), party(&mut self.rng));
                self.faults.cut(from, to, until_ms);
                self.faults.cut(to, from, until_ms);
            }
            24..28 => {
                let control = self.rng.usize(..CONTROLS);
                self.controls[control].crash();
            }
            28..36 => {
                let control = self.rng.usize(..CONTROLS);
                self.controls[control].is_up = true;
            }
            36..44 => {
                let edge = self.rng.usize(..EDGES);
                self.edges[edge].stop();
            }
            44..56 => {
                let edge = self.rng.usize(..EDGES);
                if !self.edges[edge].is_up {
                    self.edges[edge].start();
                }
            }
            56..64 => {
                let (edge, force) = (self.rng.usize(..EDGES), self.rng.u8(..8) == 0);
                let (node, control) = (self.edges[edge].name.clone(), self.rng.usize(..CONTROLS));
                self.propose(control, Command::Drain { node, force });
            }
            64..70 => {
                let (edge, control) = (self.rng.usize(..EDGES), self.rng.usize(..CONTROLS));
                let node = self.edges[edge].name.clone();
                self.propose(control, Command::Undrain(node));
            }
            70..74 => {
                // As planned: it says so, and ends.
                let edge = self.rng.usize(..EDGES);
                let (node, incarnation) = (self.edges[edge].name.clone(), self.edges[edge].incarnation);
                let control = self.edges[edge].control;
                if self.edges[edge].is_up
                    && self.propose(control, Command::Leave { node: node.clone(), incarnation })
                {
                    self.controls[control].lessees.remove(&node);
                    self.edges[edge].stop();
                }
            }
            74..82 => {
                let region = RegionName::new(["eu", "us"][self.rng.usize(..2)]).expect("a name");
                let control = self.rng.usize(..CONTROLS);
                self.propose(control, Command::Rebalance(region));
            }
            82..84 => {
                let region = RegionName::new(["eu", "us"][self.rng.usize(..2)]).expect("a name");
                let control = self.rng.usize(..CONTROLS);
                self.propose(control, Command::CancelRebalance(region));
            }
            _ => {}
        }
    }

    fn heal(&mut self) {
        self.faults.heal();
        self.controls.iter_mut().for_each(|control| control.is_up = true);
    }
}
