//! A model of whom a lane has looked at, and where everybody stands: random events, histories that end and
//! begin anew, followers whose sockets are full, who read from the log, come and go. Whoever is looked at only
//! when something is for it must stand where it would stand if it had been looked at each time, and be sent
//! the same.

use std::sync::Arc;

use evergate_domain::{
    Cursor, EventDraft, Key, KeyFilter, KeyPattern, Offset, Retention, SlowReader, StreamName,
    StreamPolicies, StreamSet, UnixMillis,
};
use evergate_eventlog::{MemoryLog, SystemClock};
use fastrand::Rng;
use slab::Slab;

use super::Lane;
use crate::config::HubConfig;
use crate::engine::group::Groups;
use crate::engine::inbox::Inbox;
use crate::feed::{Common, Feed};
use crate::frame::{Frame, Framing};
use crate::gzip::Encoding;
use crate::profile::Profile;
use crate::ring::Taken;
use crate::subscriber::HeartbeatKind;

const LANE: u32 = 0;
const KEYS: [Option<&str>; 6] = [None, Some("a"), Some("ab"), Some("b"), Some("c"), Some("z")];
const FILTERS: [&[&str]; 7] = [&[], &["a"], &["a*"], &["b", "c"], &["*"], &["none"], &["ab", "z"]];

/// In which order followers are looked at and the lane learns of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Manner {
    /// A shard: all at once.
    Sweep,
    /// A bundle: each when it is its turn.
    Turns,
}

/// One follower, and beside it another that is looked at each time.
struct Follower {
    wants: KeyFilter,
    profile: Arc<Profile>,
    whereabouts: Whereabouts,
    blocked: bool,
    /// Whether it is to be looked at, in turns.
    due: bool,
    begun: Offset,
    got: Vec<Offset>,
    gaps: usize,
    /// Where it would stand, and how many gaps it would have been told of.
    other: (Offset, usize),
}

#[derive(Clone, Copy)]
enum Whereabouts {
    Here {
        group: u32,
        place: u32,
    },
    /// It reads from the log, and stands here.
    Away(Offset),
    /// It was caught up when it set out, and is on its way.
    Coming(Offset),
}

struct Model {
    random: Rng,
    manner: Manner,
    feed: Arc<Feed>,
    lane: Lane,
    groups: Groups,
    followers: Slab<Follower>,
    /// The events of the present history.
    history: Vec<(Offset, Option<&'static str>)>,
    epoch: u64,
    begin: Offset,
    streams: StreamSet,
    settled: usize,
    /// Whether nothing is published while a sweep lets others run.
    quiet: bool,
}

impl Model {
    async fn new(seed: u64, manner: Manner) -> Self {
        let policies = Arc::new(StreamPolicies::open(Retention::FOREVER));
        let log = Arc::new(MemoryLog::new(policies, Arc::new(SystemClock)));
        let config = HubConfig { ring_events: 12, ..HubConfig::default() };
        let name = StreamName::new("s").expect("valid");
        let feed = Feed::start(&Common::new(log, config), name.clone()).await.expect("follows");
        let begin = "3-7".parse().expect("an offset");
        feed.ring().write().reset(begin);
        let listener = Arc::<Inbox>::default().listener(0);
        Self {
            random: Rng::with_seed(seed),
            manner,
            lane: Lane::new(Arc::clone(&feed), listener, SlowReader::CatchUp),
            feed,
            groups: Groups::default(),
            followers: Slab::new(),
            history: Vec::new(),
            epoch: 3,
            begin,
            streams: StreamSet::new(vec![name]).expect("one"),
            settled: 0,
            quiet: false,
        }
    }

    fn head(&self) -> Offset {
        self.history.last().map_or(self.begin, |(offset, _)| *offset)
    }

    fn publish(&mut self) {
        let key = KEYS[self.random.usize(0..KEYS.len())];
        let seq = self.head().seq.plus(1).get();
        let offset: Offset = format!("{}-{seq}", self.epoch).parse().expect("an offset");
        let draft = EventDraft { key: key.map(|key| Key::new(key).expect("valid")), ..EventDraft::new("x") };
        let event = Arc::new(draft.placed(offset, UnixMillis::new(0)));
        self.feed.ring().write().push(Arc::new(Frame::new(event)));
        self.history.push((offset, key));
    }

    /// The last few events are lost, and another epoch begins behind them.
    fn fail_over(&mut self) {
        let lost = self.random.usize(0..4).min(self.history.len());
        self.history.truncate(self.history.len() - lost);
        self.epoch += 1;
        let base = self.head();
        self.feed.ring().write().reset(base);
        for _ in 0..self.random.usize(0..3) {
            self.publish();
        }
    }

    /// Whether this is a position of the present history.
    fn is_known(&self, at: Offset) -> bool {
        at == self.begin || self.history.iter().any(|(offset, _)| *offset == at)
    }

    /// What the log says for this position: whether there is a gap, and what is for the follower until now.
    fn read(&self, at: Offset, wants: &KeyFilter) -> (bool, Vec<Offset>) {
        let gap = !self.is_known(at);
        // All that a lost position has in common with the present history: what is of its own epoch or before.
        let from = if gap {
            self.history.iter().map(|(offset, _)| *offset).rfind(|offset| *offset <= at).unwrap_or(self.begin)
        } else {
            at
        };
        let later = self.history.iter().filter(|(offset, _)| *offset > from);
        let wanted =
            later.filter(|(_, key)| wants.matches(key.map(|key| Key::new(key).expect("valid")).as_ref()));
        (gap, wanted.map(|(offset, _)| *offset).collect())
    }

    fn come(&mut self) {
        let patterns = FILTERS[self.random.usize(0..FILTERS.len())];
        let wants: KeyFilter =
            patterns.iter().map(|pattern| KeyPattern::parse(pattern).expect("valid")).collect();
        let profile = Profile {
            streams: self.streams.clone(),
            filters: [wants.clone()].into(),
            framing: Framing::Plain,
            encoding: Encoding::Identity,
            heartbeat: (std::time::Duration::from_secs(1), HeartbeatKind::Comment),
        };
        let back = self.random.usize(0..=self.history.len().min(20));
        let at = self.history.iter().rev().nth(back).map_or(self.begin, |(offset, _)| *offset);
        self.followers.insert(Follower {
            wants,
            profile: Arc::new(profile),
            whereabouts: Whereabouts::Away(at),
            blocked: false,
            due: false,
            begun: at,
            got: Vec::new(),
            gaps: 0,
            other: (at, 0),
        });
    }

    /// One that is away reads on, and sets out if a ring has what it is owed next.
    fn read_on(&mut self, slot: usize) {
        let Follower { whereabouts: Whereabouts::Away(at), wants, .. } = &self.followers[slot] else {
            return;
        };
        let (gap, wanted) = self.read(*at, wants);
        let head = self.head();
        let follower = &mut self.followers[slot];
        follower.gaps += usize::from(gap);
        follower.got.extend(wanted);
        follower.whereabouts = Whereabouts::Coming(head);
    }

    fn arrive(&mut self, slot: usize) {
        let Whereabouts::Coming(at) = self.followers[slot].whereabouts else { return };
        let profile = Arc::clone(&self.followers[slot].profile);
        let head = self.lane.expect(&profile.filters[0]);
        let group = self.groups.find(&profile, &[LANE]).unwrap_or_else(|| {
            let group = self.groups.begin(Arc::clone(&profile), &[LANE], vec![head]);
            self.lane.groups.enter(group, &profile.filters[0]);
            group
        });
        let cursor = Cursor::new(&self.streams, vec![at]);
        let place = self.groups[group].enter(u32::try_from(slot).expect("few"), &cursor);
        self.followers[slot].whereabouts = Whereabouts::Here { group, place };
        self.followers[slot].due = true;
        if self.manner == Manner::Sweep {
            self.advance(slot);
        }
    }

    fn settle(&mut self, slot: usize) {
        let Whereabouts::Here { group, place } = self.followers[slot].whereabouts else { return };
        if self.groups[group].is_keyed() {
            let swept = self.lane.swept();
            self.settled += self.groups[group].settle(place, |_| swept) as usize;
        }
    }

    fn position(&self, slot: usize) -> Offset {
        match self.followers[slot].whereabouts {
            Whereabouts::Here { group, place } => self.groups[group].at(place)[0],
            Whereabouts::Away(at) | Whereabouts::Coming(at) => at,
        }
    }

    fn leave(&mut self, slot: usize) {
        self.settle(slot);
        let at = self.position(slot);
        let Whereabouts::Here { group, place } = self.followers[slot].whereabouts else { return };
        if let Some(moved) = self.groups[group].leave(place) {
            self.followers[moved as usize].whereabouts = Whereabouts::Here { group, place };
        }
        if let Some(gone) = self.groups.take_if_empty(group) {
            self.lane.groups.leave(group, &gone.profile.filters[0]);
        }
        self.followers[slot].whereabouts = Whereabouts::Away(at);
    }

    /// Looks at one: sends it what the ring has for it.
    fn advance(&mut self, slot: usize) {
        self.settle(slot);
        if self.followers[slot].blocked {
            return;
        }
        self.followers[slot].due = false;
        for _ in 0..8 {
            let Whereabouts::Here { group, place } = self.followers[slot].whereabouts else { return };
            let at = self.position(slot);
            let taken = {
                let ring = self.feed.ring().read();
                let bytes = self.random.usize(1..300);
                if ring.holds(at) { ring.after(at.seq, bytes) } else { Taken::Behind }
            };
            match taken {
                Taken::Frames(frames) => {
                    let follower = &mut self.followers[slot];
                    let wanted =
                        frames.iter().filter(|frame| follower.wants.matches(frame.event().key.as_ref()));
                    follower.got.extend(wanted.map(|frame| frame.offset()));
                    let to = frames.last().expect("at least one").offset();
                    self.groups[group].move_to(place, &Cursor::new(&self.streams, vec![to]));
                    if self.random.u32(0..12) == 0 {
                        self.followers[slot].blocked = true;
                        return;
                    }
                }
                Taken::AtHead => return,
                Taken::Behind => return self.leave(slot),
            }
        }
        self.followers[slot].due = true;
    }

    fn sweep(&mut self) {
        let mut groups = Vec::new();
        let due = self.lane.due(self.random.u64(5..40), &mut groups);
        for &group in &groups {
            let mut at = 0;
            while let Some(&slot) = self.groups.get(group).and_then(|group| group.followers.get(at)) {
                let slot = slot as usize;
                if self.manner == Manner::Sweep {
                    self.advance(slot);
                    if !self.quiet && self.random.u32(0..30) == 0 {
                        // A sweep lets others run.
                        self.publish();
                    }
                } else {
                    self.settle(slot);
                    self.followers[slot].due = true;
                }
                at += usize::from(matches!(self.followers[slot].whereabouts, Whereabouts::Here { .. }));
            }
        }
        for &group in &groups[due.all..] {
            if let Some(group) = self.groups.get_mut(group) {
                group.asked(LANE, due.quiet_from);
            }
        }
        self.lane.done(&due);
    }

    /// Looks at everybody who is due, until nobody is.
    fn all_turns(&mut self) {
        while let Some(slot) = self
            .followers
            .iter()
            .find(|(_, one)| one.due && !one.blocked && one.is_here())
            .map(|(slot, _)| slot)
        {
            self.advance(slot);
        }
    }

    /// Everybody has been looked at since the last event.
    fn compare(&mut self) {
        self.quiet = true;
        self.sweep();
        self.all_turns();
        self.quiet = false;
        let (head, swept) = (self.head(), self.lane.swept());
        for slot in self.followers.iter().map(|(slot, _)| slot).collect::<Vec<_>>() {
            self.settle(slot);
            let at = self.position(slot);
            let follower = &self.followers[slot];
            if follower.is_here() && !follower.blocked {
                let keyed = !follower.wants.is_all();
                assert!(at == head, "{at} of {head}, swept {swept}, keyed {keyed}");
            }
            self.is_owed_nothing_before(slot, at);
        }
    }

    /// Of the present history it was sent what it wants up to where it stands, once and in order.
    fn is_owed_nothing_before(&self, slot: usize, at: Offset) {
        let follower = &self.followers[slot];
        if !self.is_known(at) || !self.is_known(follower.begun) {
            // The log is going to tell it.
            return;
        }
        let (_, wanted) = self.read(follower.begun, &follower.wants);
        let wanted: Vec<_> = wanted.into_iter().filter(|offset| *offset <= at).collect();
        let of_this_history = follower.got.iter().filter(|offset| self.is_known(**offset));
        assert_eq!(of_this_history.copied().collect::<Vec<_>>(), wanted, "up to {at}");
    }

    /// What would become of one that is looked at each time: it stands at the head, and is told of what was
    /// lost.
    fn other_is_looked_at(&mut self) {
        let head = self.head();
        let known: Vec<_> =
            self.followers.iter().map(|(slot, one)| (slot, self.is_known(one.other.0))).collect();
        for (slot, known) in known {
            let (at, gaps) = &mut self.followers[slot].other;
            *gaps += usize::from(!known);
            *at = head;
        }
    }

    fn step(&mut self) {
        let slots: Vec<_> = self.followers.iter().map(|(slot, _)| slot).collect();
        let any = |random: &mut Rng| (!slots.is_empty()).then(|| slots[random.usize(0..slots.len())]);
        let one = any(&mut self.random);
        match (self.random.u32(0..100), one) {
            (0..35, _) => self.publish(),
            (35..37, _) => self.fail_over(),
            (37..45, _) if self.followers.len() < 25 => self.come(),
            (45..55, Some(slot)) => self.read_on(slot),
            (55..65, Some(slot)) => self.arrive(slot),
            (65..67, Some(slot)) => self.followers[slot].blocked = true,
            (67..72, Some(slot)) if self.followers[slot].is_here() => {
                self.followers[slot].blocked = false;
                self.advance(slot);
            }
            (72..75, Some(slot)) => {
                // Its heartbeat, or the place that is kept for it.
                self.settle(slot);
                self.is_owed_nothing_before(slot, self.position(slot));
            }
            (75..76, Some(slot)) => {
                self.leave(slot);
                self.followers.remove(slot);
            }
            (76..82, Some(slot)) if self.followers[slot].due => self.advance(slot),
            _ => self.sweep(),
        }
    }
}

impl Follower {
    fn is_here(&self) -> bool {
        matches!(self.whereabouts, Whereabouts::Here { .. })
    }
}

fn seeds() -> impl Iterator<Item = u64> {
    let given = std::env::var("EVERGATE_SEED").ok().and_then(|seed| seed.parse().ok());
    let first = given.unwrap_or_else(|| fastrand::u64(..));
    println!("repeat with EVERGATE_SEED={first} cargo test -p evergate-fanout --lib lane");
    (0..if given.is_some() { 1 } else { 200 }).map(move |n| first.wrapping_add(n))
}

#[tokio::test]
async fn whoever_is_not_looked_at_is_owed_nothing_and_stands_where_everybody_does() {
    for manner in [Manner::Sweep, Manner::Turns] {
        let mut settled = 0;
        for seed in seeds() {
            println!("{manner:?} {seed}");
            let mut model = Model::new(seed, manner).await;
            for n in 0..400 {
                model.step();
                if n % 40 == 39 {
                    model.compare();
                }
            }
            // At last everybody takes everything, and comes back.
            for slot in model.followers.iter().map(|(slot, _)| slot).collect::<Vec<_>>() {
                model.followers[slot].blocked = false;
                model.advance(slot);
                model.read_on(slot);
                model.arrive(slot);
            }
            model.compare();
            settled += model.settled;
        }
        assert!(settled > 200, "hardly anybody was passed over: {settled}");
    }
}

/// Gaps are told to exactly those who would have been told if everybody was looked at each time.
#[tokio::test]
async fn whoever_stood_on_a_lost_tail_is_told_and_nobody_else() {
    for manner in [Manner::Sweep, Manner::Turns] {
        let mut told = 0;
        for seed in seeds() {
            println!("{manner:?} {seed}");
            let mut model = Model::new(seed, manner).await;
            for _ in 0..12 {
                model.come();
            }
            for _ in 0..60 {
                model.all_unblocked();
                model.other_is_looked_at();
                for (_, follower) in &model.followers {
                    assert_eq!(follower.gaps, follower.other.1, "{:?} at {}", manner, follower.other.0);
                }
                match model.random.u32(0..4) {
                    0 => model.fail_over(),
                    _ => (0..model.random.usize(1..6)).for_each(|_| model.publish()),
                }
            }
            told += model.followers.iter().map(|(_, follower)| follower.gaps).sum::<usize>();
        }
        assert!(told > 100, "hardly anybody was told: {told}");
    }
}

impl Model {
    /// Everybody is brought up to date, by way of the log where it takes that.
    fn all_unblocked(&mut self) {
        self.quiet = true;
        for _ in 0..4 {
            self.sweep();
            for slot in self.followers.iter().map(|(slot, _)| slot).collect::<Vec<_>>() {
                self.read_on(slot);
                self.arrive(slot);
                while std::mem::take(&mut self.followers[slot].blocked) || self.followers[slot].due {
                    self.advance(slot);
                }
            }
        }
        self.quiet = false;
        assert!(self.followers.iter().all(|(_, one)| one.is_here() && !one.blocked));
    }
}
