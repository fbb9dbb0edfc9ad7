//! What goes wrong: links that are cut one way or both, nodes that die.

use std::collections::BTreeMap;

/// A party: control nodes first, then edges.
pub(crate) type Party = usize;

/// What is broken now, and until when.
#[derive(Default)]
pub(crate) struct Faults {
    /// From, to.
    cuts: BTreeMap<(Party, Party), u64>,
}

impl Faults {
    /// Cuts one direction of a link.
    pub(crate) fn cut(&mut self, from: Party, to: Party, until_ms: u64) {
        self.cuts.insert((from, to), until_ms);
    }

    /// Whether something sent now arrives.
    pub(crate) fn passes(&self, from: Party, to: Party, now_ms: u64) -> bool {
        self.cuts.get(&(from, to)).is_none_or(|until| *until <= now_ms)
    }

    /// Whether a question is answered.
    pub(crate) fn answers(&self, one: Party, other: Party, now_ms: u64) -> bool {
        self.passes(one, other, now_ms) && self.passes(other, one, now_ms)
    }

    /// Everything works again.
    pub(crate) fn heal(&mut self) {
        self.cuts.clear();
    }
}
