//! Who published what lately, so that a retry finds its first attempt.
//!
//! Per producer the last [`WINDOW`] sequences are remembered as runs: stretches in which producer
//! sequence and offset rise together. A producer that numbers without holes and is alone in its
//! stream costs one run.

use std::collections::{BTreeMap, HashMap, VecDeque};

use evergate_domain::{Offset, ProducerId, Seq};

/// Sequences per producer within which a retry is recognised: more than the largest batch.
pub const WINDOW: u64 = 1024;

/// Producers remembered per stream. The one that appended least recently is forgotten first; that
/// is the limit of idempotence.
pub const PRODUCERS_MAX: usize = 10_000;

/// A stretch of one producer's events that follow each other in the log too.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// The producer's sequence of the first event.
    pub first: Seq,
    /// How many events.
    pub count: u64,
    /// The offset of the first event.
    pub offset: Offset,
}

impl Run {
    fn last(&self) -> Seq {
        self.first.plus(self.count - 1)
    }

    fn find(&self, seq: Seq) -> Option<Offset> {
        let at = seq.get().checked_sub(self.first.get())?;
        (at < self.count).then(|| Offset::new(self.offset.epoch, self.offset.seq.plus(at)))
    }

    fn continued_by(&self, seq: Seq, offset: Offset) -> bool {
        seq == self.first.plus(self.count)
            && offset == Offset::new(self.offset.epoch, self.offset.seq.plus(self.count))
    }
}

/// What a producer's sequence is to the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    New,
    Duplicate(Offset),
    TooOld { newest: Seq },
}

/// The runs of one producer in one stream, oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Window(VecDeque<Run>);

impl Window {
    pub(crate) fn judge(&self, seq: Seq) -> Verdict {
        let Some(newest) = self.0.back().map(Run::last) else { return Verdict::New };
        if seq > newest {
            return Verdict::New;
        }
        // The newest runs are the likely ones: a retry follows its first attempt closely.
        match self.0.iter().rev().find_map(|run| run.find(seq)) {
            Some(offset) => Verdict::Duplicate(offset),
            None => Verdict::TooOld { newest },
        }
    }

    /// Notes a new event; `seq` must be above all earlier ones.
    pub(crate) fn push(&mut self, seq: Seq, offset: Offset) {
        match self.0.back_mut() {
            Some(run) if run.continued_by(seq, offset) => run.count += 1,
            last => {
                debug_assert!(last.is_none_or(|run| run.last() < seq));
                self.0.push_back(Run { first: seq, count: 1, offset });
            }
        }
        while self.0.front().is_some_and(|run| run.last().get() + WINDOW <= seq.get()) {
            self.0.pop_front();
        }
    }

    fn newest_offset(&self) -> Offset {
        self.0.back().map_or(Offset::BEGINNING, |run| {
            Offset::new(run.offset.epoch, run.offset.seq.plus(run.count - 1))
        })
    }

    /// The first sequences of all its runs.
    pub(crate) fn firsts(&self) -> impl Iterator<Item = Seq> {
        self.0.iter().map(|run| run.first)
    }

    /// The runs that an earlier state of this window had and this one has not: they fell out at
    /// the front, which is the only place where runs go.
    pub(crate) fn dropped_since<'a>(&'a self, before: Option<&'a Self>) -> impl Iterator<Item = Seq> + 'a {
        let kept_from = self.0.front().map(|run| run.first);
        let before = before.into_iter().flat_map(Self::firsts);
        before.take_while(move |&first| kept_from.is_none_or(|kept| first < kept))
    }

    /// The runs that are new or longer than in an earlier state of this window: the last ones,
    /// because only the last run ever grows.
    pub(crate) fn written_since<'a>(
        &'a self,
        before: Option<&'a Self>,
    ) -> impl Iterator<Item = &'a Run> + 'a {
        let known = before.and_then(|before| before.0.back());
        let stored = move |run: &Run| known.is_some_and(|known| run.last() <= known.last());
        self.0.iter().rev().take_while(move |run| !stored(run))
    }
}

/// The producers of one stream.
#[derive(Debug, Default)]
pub struct ProducerTable {
    windows: HashMap<ProducerId, Window>,
    /// By the newest offset of each, which is the order of appending.
    by_age: BTreeMap<Offset, ProducerId>,
}

impl ProducerTable {
    /// A table from stored runs: of each producer, ascending.
    #[must_use]
    pub fn restore(runs: impl IntoIterator<Item = (ProducerId, Run)>) -> Self {
        let mut table = Self::default();
        for (producer, run) in runs {
            table.windows.entry(producer).or_default().0.push_back(run);
        }
        for (producer, window) in &table.windows {
            table.by_age.insert(window.newest_offset(), producer.clone());
        }
        table
    }

    pub(crate) fn window(&self, producer: &ProducerId) -> Option<&Window> {
        self.windows.get(producer)
    }

    /// Replaces a producer's window by a later one. Returns the producer that had to be forgotten
    /// for it, if any, with what was known of it.
    pub(crate) fn replace(&mut self, producer: &ProducerId, window: Window) -> Option<(ProducerId, Window)> {
        let newest = window.newest_offset();
        if let Some(before) = self.windows.insert(producer.clone(), window) {
            self.by_age.remove(&before.newest_offset());
        }
        self.by_age.insert(newest, producer.clone());
        if self.windows.len() <= PRODUCERS_MAX {
            return None;
        }
        let (_, oldest) = self.by_age.pop_first().expect("as many as there are windows");
        let window = self.windows.remove(&oldest)?;
        Some((oldest, window))
    }

    /// How many producers are remembered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.windows.len()
    }

    /// Whether none is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.windows.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seq(n: u64) -> Seq {
        Seq::new(n).expect("fits")
    }

    fn at(n: u64) -> Offset {
        Offset::new(evergate_domain::Epoch::new(1).expect("fits"), seq(n))
    }

    fn producer(n: usize) -> ProducerId {
        ProducerId::new(&format!("p{n}")).expect("valid")
    }

    #[test]
    fn a_producer_alone_and_without_holes_is_one_run() {
        let mut window = Window::default();
        for n in 1..=1000 {
            window.push(seq(n), at(n));
        }
        assert_eq!(window.0.len(), 1);
        assert_eq!(window.judge(seq(1)), Verdict::Duplicate(at(1)));
        assert_eq!(window.judge(seq(1001)), Verdict::New);
    }

    #[test]
    fn a_hole_below_the_newest_is_refused_for_ever() {
        let mut window = Window::default();
        window.push(seq(1), at(1));
        window.push(seq(5), at(2));
        assert_eq!(window.judge(seq(3)), Verdict::TooOld { newest: seq(5) });
        assert_eq!(window.judge(seq(5)), Verdict::Duplicate(at(2)));
    }

    #[test]
    fn the_least_recently_appending_producer_is_forgotten_first() {
        let mut table = ProducerTable::default();
        let mut offset = 0;
        let mut publish = |table: &mut ProducerTable, n: usize| {
            offset += 1;
            let mut window = table.window(&producer(n)).cloned().unwrap_or_default();
            window.push(seq(offset), at(offset));
            table.replace(&producer(n), window).map(|(forgotten, _)| forgotten)
        };
        for n in 0..PRODUCERS_MAX {
            assert_eq!(publish(&mut table, n), None);
        }
        assert_eq!(publish(&mut table, 0), None);
        assert_eq!(publish(&mut table, PRODUCERS_MAX), Some(producer(1)));
        assert_eq!(table.len(), PRODUCERS_MAX);
    }

    proptest! {
        /// Against the naive memory of everything: whatever lies within the window is recognised.
        #[test]
        fn the_window_agrees_with_a_memory_of_everything(steps in prop::collection::vec((1u64..400, 1u64..3), 1..200), probe in 0u64..1500) {
            let mut window = Window::default();
            let mut all = HashMap::new();
            let (mut newest, mut offset) = (0, 0);
            for (step, stride) in steps {
                newest += if step > 390 { step } else { 1 };
                offset += stride;
                window.push(seq(newest), at(offset));
                all.insert(newest, at(offset));
            }
            let wanted = newest.saturating_sub(probe);
            match (all.get(&wanted), probe < WINDOW) {
                (Some(&known), true) => prop_assert_eq!(window.judge(seq(wanted)), Verdict::Duplicate(known)),
                // Just beyond the window it may still be known, but never wrongly.
                (Some(&known), false) => {
                    let verdict = window.judge(seq(wanted));
                    let refused = verdict == Verdict::TooOld { newest: seq(newest) };
                    prop_assert!(refused || verdict == Verdict::Duplicate(known));
                }
                (None, _) => prop_assert_eq!(window.judge(seq(wanted)), Verdict::TooOld { newest: seq(newest) }),
            }
            prop_assert!(window.0.len() as u64 <= WINDOW);
        }

        /// A store that is only told the changes holds the same runs as the window.
        #[test]
        fn the_changes_alone_rebuild_the_window(commits in prop::collection::vec(prop::collection::vec((1u64..700, 1u64..3), 1..30), 1..30)) {
            let mut stored = BTreeMap::new();
            let mut window = Window::default();
            let (mut newest, mut offset) = (0, 0);
            for commit in commits {
                let before = window.clone();
                for (step, stride) in commit {
                    newest += if step > 600 { step } else { 1 };
                    offset += stride;
                    window.push(seq(newest), at(offset));
                }
                for first in window.dropped_since(Some(&before)) {
                    prop_assert!(stored.remove(&first).is_some());
                }
                for run in window.written_since(Some(&before)) {
                    stored.insert(run.first, *run);
                }
                prop_assert!(stored.values().eq(window.0.iter()));
            }
        }
    }
}
