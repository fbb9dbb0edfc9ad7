//! What has moved and is not written yet.

use std::collections::HashMap;

use evergate_domain::{Claim, CursorKey, PackedCursor};
use evergate_eventlog::{CursorWrite, Move};

/// The newest move of each cursor. Bounded: beyond the bound hints are dropped, and the cursors stay
/// where they are, further back.
pub(super) struct Waiting {
    moves: HashMap<CursorKey, Waits>,
    max: usize,
}

/// One move that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Waits {
    pub(super) claim: Claim,
    /// Empty if there is nothing to say but that the connection has ended.
    pub(super) position: PackedCursor,
    pub(super) by: Move,
    /// Whether the connection has ended.
    pub(super) last: bool,
}

impl Waits {
    pub(super) fn new(claim: Claim, position: PackedCursor, by: Move) -> Self {
        Self { claim, position, by, last: false }
    }

    /// The end of a connection that stood here.
    pub(super) fn last(claim: Claim, position: Option<PackedCursor>) -> Self {
        Self { claim, position: position.unwrap_or_default(), by: Move::Hint, last: true }
    }

    pub(super) fn of(self, key: CursorKey) -> CursorWrite {
        let Self { claim, position, by, last } = self;
        CursorWrite { key, claim, position, by, last }
    }
}

impl Waiting {
    pub(super) fn new(max: usize) -> Self {
        Self { moves: HashMap::new(), max }
    }

    /// The newest move of a cursor is the one that counts, but a hint never hides an acknowledgement.
    pub(super) fn put(&mut self, key: &CursorKey, new: Waits) {
        let full = self.moves.len() >= self.max;
        match self.moves.get_mut(key) {
            Some(old) if old.claim == new.claim => {
                old.last |= new.last;
                let hidden = old.by == Move::Acknowledgement && new.by == Move::Hint;
                if !hidden && !new.position.is_empty() {
                    (old.position, old.by) = (new.position, new.by);
                }
            }
            Some(old) => *old = new,
            None if full && new.by == Move::Hint => {
                metrics::counter!("evergate_cursor_hints_dropped_total").increment(1);
            }
            None => drop(self.moves.insert(key.clone(), new)),
        }
    }

    /// What could not be written waits on, unless something newer of another connection does by now.
    pub(super) fn put_back(&mut self, write: CursorWrite) {
        let CursorWrite { key, claim, position, by, last } = write;
        match self.moves.get_mut(&key) {
            Some(newer) if newer.claim == claim => {
                let hides = by == Move::Acknowledgement && newer.by == Move::Hint;
                if hides || newer.position.is_empty() {
                    (newer.position, newer.by) = (position, by);
                }
            }
            Some(_) => {}
            None => drop(self.moves.insert(key, Waits { claim, position, by, last })),
        }
    }

    pub(super) fn get(&self, key: &CursorKey) -> Option<&Waits> {
        self.moves.get(key)
    }

    pub(super) fn remove(&mut self, key: &CursorKey) {
        self.moves.remove(key);
    }

    /// Everything, in the order in which it is written with the fewest calls: a bucket at a time.
    /// Scattered over all batches, each costs three times as much.
    pub(super) fn take(&mut self) -> Vec<CursorWrite> {
        let moves = std::mem::take(&mut self.moves);
        let mut writes: Vec<_> = moves.into_iter().map(|(key, waits)| waits.of(key)).collect();
        writes.sort_unstable_by(|a, b| a.key.service_and_bucket().cmp(&b.key.service_and_bucket()));
        writes
    }

    pub(super) fn len(&self) -> usize {
        self.moves.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evergate_domain::{ClientId, KeyFilter, StreamName, StreamSet};

    fn key(client: &str) -> CursorKey {
        let streams = StreamSet::new(vec![StreamName::new("s").expect("valid")]).expect("one");
        CursorKey::new(&ClientId::new(client).expect("valid"), &streams, &[KeyFilter::all()])
    }

    fn at(place: u8) -> PackedCursor {
        PackedCursor::from_bytes(&[place])
    }

    fn waits(place: u8, by: Move) -> Waits {
        Waits::new(Claim::new(1), at(place), by)
    }

    #[test]
    fn no_hint_and_no_end_hides_an_acknowledgement() {
        let mut waiting = Waiting::new(8);
        let key = key("a");
        waiting.put(&key, waits(1, Move::Hint));
        waiting.put(&key, waits(2, Move::Acknowledgement));
        waiting.put(&key, waits(3, Move::Hint));
        waiting.put(&key, Waits::last(Claim::new(1), Some(at(3))));
        let expected = Waits { last: true, ..waits(2, Move::Acknowledgement) };
        assert_eq!(waiting.get(&key), Some(&expected));
    }

    #[test]
    fn what_comes_back_goes_before_what_came_meanwhile() {
        let mut waiting = Waiting::new(8);
        let (a, b, c) = (key("a"), key("b"), key("c"));
        waiting.put(&a, waits(1, Move::Hint));
        waiting.put(&b, waits(1, Move::Acknowledgement));
        waiting.put(&c, waits(1, Move::Hint));
        let failed = waiting.take();
        waiting.put(&a, waits(2, Move::Hint));
        waiting.put(&b, Waits::last(Claim::new(1), None));
        waiting.put(&c, Waits { claim: Claim::new(2), ..waits(9, Move::Hint) });
        failed.into_iter().for_each(|write| waiting.put_back(write));
        assert_eq!(waiting.get(&a), Some(&waits(2, Move::Hint)));
        let expected = Waits { last: true, ..waits(1, Move::Acknowledgement) };
        assert_eq!(waiting.get(&b), Some(&expected));
        assert_eq!(waiting.get(&c).map(|waits| waits.claim), Some(Claim::new(2)));
    }

    #[test]
    fn beyond_the_bound_only_acknowledgements_are_taken() {
        let mut waiting = Waiting::new(1);
        waiting.put(&key("a"), waits(1, Move::Hint));
        waiting.put(&key("b"), waits(1, Move::Hint));
        waiting.put(&key("c"), waits(1, Move::Acknowledgement));
        waiting.put(&key("a"), waits(2, Move::Hint));
        assert_eq!(waiting.len(), 2);
        assert_eq!(waiting.get(&key("a")), Some(&waits(2, Move::Hint)));
    }
}
