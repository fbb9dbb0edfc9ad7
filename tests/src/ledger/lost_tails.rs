//! The ends of a stream that a crash cut off: what was seen there before something else stood there.

use std::collections::BTreeMap;

use crate::offset::Offset;

/// Where the epochs of a stream begin, and what they cut off.
#[derive(Debug, Default)]
pub(super) struct LostTails {
    /// The lowest sequence that was seen in each epoch.
    first: BTreeMap<u64, u64>,
    /// How many events each epoch cut off, of those that cut off any.
    lost: BTreeMap<u64, usize>,
}

impl LostTails {
    /// Of all that was ever seen of a stream.
    pub(super) fn of<'a>(seen: impl Iterator<Item = &'a Offset> + Clone) -> Self {
        let mut tails = Self::default();
        for at in seen.clone() {
            let first = tails.first.entry(at.epoch).or_insert(at.seq);
            *first = at.seq.min(*first);
        }
        for at in seen {
            if let Some(epoch) = tails.cut_by(*at) {
                *tails.lost.entry(epoch).or_default() += 1;
            }
        }
        tails
    }

    /// The epoch that began at or below this place, after what was seen there.
    fn cut_by(&self, at: Offset) -> Option<u64> {
        let mut later = self.first.range(at.epoch + 1..);
        later.find(|&(_, &first)| first <= at.seq).map(|(&epoch, _)| epoch)
    }

    /// Whether what was seen at this place is there no more.
    pub(super) fn is_cut(&self, at: Offset) -> bool {
        self.cut_by(at).is_some()
    }

    /// How many events were cut off.
    pub(super) fn lost(&self) -> usize {
        self.lost.values().sum()
    }

    /// Where the epochs begin that cut something off.
    pub(super) fn cuts(&self) -> impl Iterator<Item = Offset> {
        self.lost.keys().map(|&epoch| Offset::new(epoch, self.first[&epoch]))
    }

    /// Whether anything was lost on the way from a place to another.
    pub(super) fn is_lost_between(&self, from: Offset, to: Offset) -> bool {
        from.epoch < to.epoch && self.lost.range(from.epoch + 1..=to.epoch).next().is_some()
    }
}
