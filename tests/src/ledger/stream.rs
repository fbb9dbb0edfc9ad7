//! One stream, as far as the world outside knows it.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::lost_tails::LostTails;
use super::verdict::Fault;
use crate::offset::Offset;

/// What was said about a stream. Texts are their digests.
#[derive(Debug, Default)]
pub(super) struct Stream {
    /// Texts that were sent, so that they may appear.
    pub(super) attempted: BTreeSet<u64>,
    /// By producer and its number.
    pub(super) authored: BTreeMap<(String, u64), u64>,
    pub(super) acknowledged: BTreeMap<Offset, u64>,
    /// Texts that must never appear.
    pub(super) refused: BTreeSet<u64>,
    /// The one digest ever seen at an offset, by anybody.
    pub(super) seen: BTreeMap<Offset, u64>,
    /// The one offset at which a text was ever seen.
    pub(super) places: HashMap<u64, Offset>,
    /// What may be missing: from, up to but without.
    pub(super) removed: Vec<(Offset, Offset)>,
    /// Whether a crash may cut off its end.
    pub(super) may_lose: bool,
}

impl Stream {
    /// Whether everything from `from` up to but without `until` that anybody knows of is gone.
    pub(super) fn is_gone(&self, from: Offset, until: Offset) -> bool {
        let gone = |offset: &Offset| self.removed.iter().any(|&(from, until)| (from..until).contains(offset));
        self.seen.range(from..until.max(from)).all(|(offset, _)| gone(offset))
    }

    /// What crashes cut off, where they may.
    pub(super) fn lost_tails(&self) -> LostTails {
        if self.may_lose { LostTails::of(self.seen.keys()) } else { LostTails::default() }
    }

    /// What is wrong with the stream, whoever reads it.
    pub(super) fn judge(&self, name: &str, tails: &LostTails, faults: &mut Vec<Fault>) {
        // Sequences are dense, across epochs too.
        let stands: Vec<Offset> = self.seen.keys().copied().filter(|&at| !tails.is_cut(at)).collect();
        for (&before, &after) in stands.iter().zip(stands.iter().skip(1)) {
            if after.seq <= before.seq {
                faults.push(Fault::Fork(name.to_owned(), before, after));
            } else if after.seq != before.seq + 1 && !self.removed_between(before, after) {
                faults.push(Fault::Hole(name.to_owned(), before.plus(1)));
            }
        }
        let phantoms = self.seen.iter().filter(|(_, digest)| self.refused.contains(digest));
        faults.extend(phantoms.map(|(&offset, _)| Fault::Phantom(name.to_owned(), offset)));
        let mut last: Option<(&str, Offset)> = None;
        for ((producer, _), digest) in &self.authored {
            let Some(&place) = self.places.get(digest) else { continue };
            if last.is_some_and(|(before, offset)| before == producer && offset > place) {
                faults.push(Fault::Shuffled(name.to_owned(), producer.clone(), place));
            }
            last = Some((producer, place));
        }
    }

    /// Whether what nobody saw between two places is known to be gone.
    fn removed_between(&self, before: Offset, after: Offset) -> bool {
        self.removed.iter().any(|&(from, until)| from <= before.plus(1) && until >= after)
    }
}
