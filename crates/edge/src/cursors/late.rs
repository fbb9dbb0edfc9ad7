//! Connections that began while the store did not answer, and how they come to their places.
//!
//! ```text
//!   store away ──▶ Waiting ── it answers, nobody holds the place ──▶ Behind ── all passed ──▶ (as any other)
//!                     └ somebody does: asked again, ever more rarely
//! ```

use std::collections::HashMap;

use evergate_domain::{Claim, Cursor, CursorKey, Offset, PackedCursor, StreamSet};
use evergate_eventlog::{Move, TakeOver};

/// Flushes between two tries for a place that somebody holds, at the most.
const PAUSE_MAX: u64 = 64;

/// Those that have no claim to what they move yet, or stand behind what was kept. Pure: turns are
/// handed in.
#[derive(Default)]
pub(super) struct Late(HashMap<CursorKey, State>);

enum State {
    Waiting(Waiting),
    /// It has its place, and this was kept there. The hints of a connection move nothing backwards.
    Behind(PackedCursor, StreamSet),
}

struct Waiting {
    take: TakeOver,
    streams: StreamSet,
    /// The newest that its client has said or taken since.
    moved: Option<(PackedCursor, Move)>,
    tries: u32,
    /// The turn at which it is tried again.
    at: u64,
}

impl Late {
    /// A connection that could not take its place over.
    pub(super) fn wait(&mut self, key: CursorKey, take: TakeOver, streams: StreamSet) {
        let waiting = Waiting { take, streams, moved: None, tries: 0, at: 0 };
        self.0.insert(key, State::Waiting(waiting));
    }

    /// Nothing is known of this place any more. True if it was waited for.
    pub(super) fn forget(&mut self, key: &CursorKey) -> bool {
        matches!(self.0.remove(key), Some(State::Waiting(_)))
    }

    /// A connection's move: what of it is to be written now, if anything.
    pub(super) fn moved(
        &mut self,
        key: &CursorKey,
        position: PackedCursor,
        by: Move,
    ) -> Option<PackedCursor> {
        match self.0.get_mut(key) {
            None => Some(position),
            Some(State::Waiting(waiting)) => {
                let hidden = matches!(waiting.moved, Some((_, Move::Acknowledgement))) && by == Move::Hint;
                if !hidden {
                    waiting.moved = Some((position, by));
                }
                None
            }
            Some(State::Behind(kept, streams)) => {
                let furthest = match by {
                    // What a client says itself stands.
                    Move::Acknowledgement => None,
                    Move::Hint => furthest(streams, kept, &position),
                };
                match furthest {
                    Some(furthest) if furthest != position => Some(furthest),
                    Some(_) | None => {
                        self.0.remove(key);
                        Some(position)
                    }
                }
            }
        }
    }

    /// Those to try at this turn, and no more than `max`.
    pub(super) fn due(&self, turn: u64, max: usize) -> Vec<CursorKey> {
        let waiting = self.0.iter().filter(|(_, state)| match state {
            State::Waiting(waiting) => waiting.at <= turn,
            State::Behind(..) => false,
        });
        waiting.map(|(key, _)| key.clone()).take(max).collect()
    }

    /// What to ask the store for.
    pub(super) fn wish(&self, key: &CursorKey) -> Option<TakeOver> {
        match self.0.get(key)? {
            State::Waiting(waiting) => Some(waiting.take.clone()),
            State::Behind(..) => None,
        }
    }

    /// Somebody holds it.
    pub(super) fn held(&mut self, key: &CursorKey, claim: Claim, turn: u64) {
        if let Some(State::Waiting(waiting)) = self.0.get_mut(key)
            && waiting.take.claim == claim
        {
            waiting.at =
                turn + 1_u64.checked_shl(waiting.tries).map_or(PAUSE_MAX, |pause| pause.min(PAUSE_MAX));
            waiting.tries += 1;
        }
    }

    /// It is this connection's now, and this is kept. Gives what it has moved meanwhile.
    pub(super) fn taken(
        &mut self,
        key: &CursorKey,
        kept: Option<PackedCursor>,
    ) -> Option<(PackedCursor, Move)> {
        let Some(State::Waiting(waiting)) = self.0.remove(key) else { return None };
        if let Some(kept) = kept {
            self.0.insert(key.clone(), State::Behind(kept, waiting.streams));
        }
        let (position, by) = waiting.moved?;
        Some((self.moved(key, position, by)?, by))
    }

    /// How many have no place yet.
    pub(super) fn waiting(&self) -> usize {
        self.0.values().filter(|state| matches!(state, State::Waiting(_))).count()
    }
}

/// In each stream the later of two positions. `None` if one of them is no cursor over these streams.
fn furthest(streams: &StreamSet, a: &PackedCursor, b: &PackedCursor) -> Option<PackedCursor> {
    let (a, b) = (a.unpack(streams).ok()?, b.unpack(streams).ok()?);
    let later = |(a, b): (&Offset, &Offset)| *a.max(b);
    let offsets = a.offsets().iter().zip(b.offsets()).map(later).collect();
    Some(Cursor::new(streams, offsets).pack())
}

#[cfg(test)]
mod tests {
    use super::*;
    use evergate_domain::{ClientId, KeyFilter, StreamName};

    fn streams() -> StreamSet {
        let name = |name| StreamName::new(name).expect("valid");
        StreamSet::new(vec![name("a"), name("b")]).expect("two")
    }

    fn key() -> CursorKey {
        let all = [KeyFilter::all(), KeyFilter::all()];
        CursorKey::new(&ClientId::new("c").expect("valid"), &streams(), &all)
    }

    fn at(a: u64, b: u64) -> PackedCursor {
        let offset = |seq: u64| format!("1-{seq}").parse().expect("an offset");
        Cursor::new(&streams(), vec![offset(a), offset(b)]).pack()
    }

    fn waiting() -> Late {
        let mut late = Late::default();
        let take = TakeOver { claim: Claim::new(7), position: Some(at(1, 1)), acknowledges: false };
        late.wait(key(), take, streams());
        late
    }

    #[test]
    fn what_is_held_is_asked_for_ever_more_rarely() {
        let mut late = waiting();
        let (mut tried, mut turns) = (Vec::new(), 0..400);
        for turn in &mut turns {
            if !late.due(turn, 9).is_empty() {
                tried.push(turn);
                late.held(&key(), Claim::new(7), turn);
            }
        }
        assert_eq!(tried, [0, 1, 3, 7, 15, 31, 63, 127, 191, 255, 319, 383]);
        assert!(late.due(u64::MAX, 0).is_empty());
        assert!(late.forget(&key()) && late.due(u64::MAX, 9).is_empty());
    }

    #[test]
    fn a_hint_moves_no_stream_backwards() {
        let mut late = waiting();
        assert_eq!(late.moved(&key(), at(3, 3), Move::Hint), None);
        assert_eq!(late.taken(&key(), Some(at(5, 2))), Some((at(5, 3), Move::Hint)));
        assert_eq!(late.moved(&key(), at(4, 6), Move::Hint), Some(at(5, 6)));
        assert_eq!(late.moved(&key(), at(5, 7), Move::Hint), Some(at(5, 7)), "it is by all");
        assert_eq!(late.moved(&key(), at(4, 7), Move::Hint), Some(at(4, 7)), "as any other");
    }

    #[test]
    fn an_acknowledgement_stands_and_no_hint_hides_it() {
        let mut late = waiting();
        assert_eq!(late.moved(&key(), at(3, 3), Move::Acknowledgement), None);
        assert_eq!(late.moved(&key(), at(9, 9), Move::Hint), None);
        assert_eq!(late.taken(&key(), Some(at(5, 5))), Some((at(3, 3), Move::Acknowledgement)));
        assert_eq!(late.waiting(), 0);
    }

    #[test]
    fn one_that_has_moved_nothing_writes_nothing() {
        let mut late = waiting();
        assert_eq!(late.waiting(), 1);
        assert_eq!(late.taken(&key(), None), None);
        assert_eq!(late.moved(&key(), at(2, 2), Move::Hint), Some(at(2, 2)));
    }
}
