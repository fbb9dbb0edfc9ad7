//! The newest events of a stream, in memory.

use std::collections::VecDeque;
use std::sync::Arc;

use evergate_domain::{Offset, Seq};

use crate::frame::Frame;

/// A dense row of frames from just after `base` to `head`. Bounded in events and bytes: what is
/// oldest falls out, whoever may still have wanted it.
#[derive(Debug)]
pub(crate) struct Ring {
    base: Offset,
    frames: VecDeque<Arc<Frame>>,
    bytes: u64,
    events_max: usize,
    bytes_max: u64,
    /// Whether what comes next may not follow: only the log can tell.
    halted: bool,
    /// How often that was said.
    lags: u64,
    /// How often another history began.
    resets: u64,
}

/// What a ring has for a cursor.
#[derive(Debug)]
pub(crate) enum Taken {
    /// The next frames.
    Frames(Vec<Arc<Frame>>),
    /// Nothing yet: the cursor is at the head.
    AtHead,
    /// The ring cannot tell: ask the log.
    Behind,
}

impl Ring {
    pub(crate) fn new(base: Offset, events_max: usize, bytes_max: u64) -> Self {
        Self {
            base,
            frames: VecDeque::new(),
            bytes: 0,
            events_max: events_max.max(1),
            bytes_max,
            halted: false,
            lags: 0,
            resets: 0,
        }
    }

    /// The position just before the oldest frame.
    pub(crate) fn base(&self) -> Offset {
        self.base
    }

    pub(crate) fn head(&self) -> Offset {
        self.frames.back().map_or(self.base, |frame| frame.offset())
    }

    /// What is handed in from now on is not to be trusted, until the log was asked.
    pub(crate) fn halt(&mut self) {
        self.halted = true;
        self.lags += 1;
    }

    pub(crate) fn is_halted(&self) -> bool {
        self.halted
    }

    /// How often the ring was halted.
    pub(crate) fn lags(&self) -> u64 {
        self.lags
    }

    /// The log was asked, and read to its end, since the ring was halted for the `lags`th time. False
    /// if it was halted again meanwhile.
    pub(crate) fn go_on(&mut self, lags: u64) -> bool {
        self.halted &= self.lags != lags;
        !self.halted
    }

    /// Appends the next frame.
    ///
    /// # Panics
    /// If it is not the next one: whoever feeds the ring repairs holes first.
    pub(crate) fn push(&mut self, frame: Arc<Frame>) {
        assert_eq!(frame.offset().seq, self.head().seq.plus(1), "a ring has no holes");
        self.bytes += frame.event().bytes();
        self.frames.push_back(frame);
        while self.frames.len() > self.events_max || (self.bytes > self.bytes_max && self.frames.len() > 1) {
            self.drop_oldest();
        }
    }

    /// Lets go of everything up to `floor`: retention removed it from the log.
    pub(crate) fn trim(&mut self, floor: Seq) {
        while self.frames.front().is_some_and(|frame| frame.offset().seq <= floor) {
            self.drop_oldest();
        }
    }

    fn drop_oldest(&mut self) {
        if let Some(oldest) = self.frames.pop_front() {
            self.bytes -= oldest.event().bytes();
            self.base = oldest.offset();
        }
    }

    /// Keeps only a part of what it may: one of so many.
    pub(crate) fn shrink(&mut self, parts: u32) {
        let events_max = (self.events_max / parts as usize).max(1);
        let bytes_max = self.bytes_max / u64::from(parts);
        while self.frames.len() > events_max || (self.bytes > bytes_max && self.frames.len() > 1) {
            self.drop_oldest();
        }
        if self.frames.capacity() > 4 * self.frames.len().max(16) {
            self.frames.shrink_to_fit();
        }
    }

    /// Begins again at `base`: what the ring held is no longer the stream's history.
    pub(crate) fn reset(&mut self, base: Offset) {
        self.frames.clear();
        self.bytes = 0;
        self.base = base;
        self.resets += 1;
    }

    /// How often the ring was reset.
    pub(crate) fn resets(&self) -> u64 {
        self.resets
    }

    /// The full offset of a sequence that the ring still knows.
    pub(crate) fn offset_at(&self, seq: Seq) -> Option<Offset> {
        if seq == self.base.seq {
            return Some(self.base);
        }
        let index = self.index_after(seq.before())?;
        self.frames.get(index).map(|frame| frame.offset())
    }

    /// Whether the cursor is exactly a position of this ring, epoch and sequence, and so of the stream's
    /// history. Nothing less will do: a sequence alone, even one that the log has just confirmed, may
    /// stand on the other side of a failover, and passing from it to the ring would hide what was lost.
    pub(crate) fn holds(&self, cursor: Offset) -> bool {
        self.offset_at(cursor.seq) == Some(cursor)
    }

    /// The frames after a sequence that is known to be on the stream's history, up to `bytes_max`
    /// but at least one.
    pub(crate) fn after(&self, seq: Seq, bytes_max: usize) -> Taken {
        if seq >= self.head().seq {
            return Taken::AtHead;
        }
        let Some(from) = self.index_after(seq) else { return Taken::Behind };
        let mut bytes = 0;
        let frames = self
            .frames
            .range(from..)
            .take_while(|frame| {
                let more = bytes < bytes_max as u64;
                bytes += frame.event().bytes() + 32;
                more
            })
            .cloned();
        Taken::Frames(frames.collect())
    }

    fn index_after(&self, seq: Seq) -> Option<usize> {
        seq.get().checked_sub(self.base.seq.get()).and_then(|at| usize::try_from(at).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evergate_domain::{EventDraft, UnixMillis};

    fn offset(text: &str) -> Offset {
        text.parse().expect("valid")
    }

    fn frame(text: &str, data: &str) -> Arc<Frame> {
        let event = EventDraft::new(data).placed(offset(text), UnixMillis::new(0));
        Arc::new(Frame::new(Arc::new(event)))
    }

    fn taken(ring: &Ring, seq: u64, bytes: usize) -> Vec<u64> {
        match ring.after(Seq::new(seq).expect("fits"), bytes) {
            Taken::Frames(frames) => frames.iter().map(|f| f.offset().seq.get()).collect(),
            Taken::AtHead => vec![],
            Taken::Behind => vec![0],
        }
    }

    #[test]
    fn the_oldest_falls_out_by_count_and_by_bytes() {
        let mut ring = Ring::new(offset("1-0"), 3, 1000);
        for n in 1..=5 {
            ring.push(frame(&format!("1-{n}"), "x"));
        }
        assert_eq!(taken(&ring, 2, 1000), [3, 4, 5]);
        assert_eq!(taken(&ring, 1, 1000), [0], "behind");
        assert!(taken(&ring, 5, 1000).is_empty(), "at the head");
        ring.push(frame("1-6", &"x".repeat(2000)));
        assert_eq!(taken(&ring, 5, 1), [6], "one event always stays");
        assert_eq!(taken(&ring, 4, 1000), [0]);
    }

    #[test]
    fn what_retention_removed_is_let_go() {
        let mut ring = Ring::new(offset("1-0"), 10, 1000);
        for n in 1..=5 {
            ring.push(frame(&format!("1-{n}"), "x"));
        }
        ring.trim(Seq::new(3).expect("fits"));
        assert!(!ring.holds(offset("1-2")) && ring.holds(offset("1-3")));
        assert_eq!(taken(&ring, 3, 1000), [4, 5]);
        ring.trim(Seq::new(9).expect("fits"));
        assert_eq!(ring.head(), offset("1-5"));
    }

    #[test]
    fn a_cursor_is_held_only_if_its_epoch_matches_too() {
        let mut ring = Ring::new(offset("1-2"), 10, 1000);
        ring.push(frame("1-3", "x"));
        ring.push(frame("4-4", "x"));
        for held in ["1-2", "1-3", "4-4"] {
            assert!(ring.holds(offset(held)), "{held}");
        }
        for foreign in ["1-1", "1-4", "4-3", "4-5", "2-2", "0-0"] {
            assert!(!ring.holds(offset(foreign)), "{foreign}");
        }
    }

    #[test]
    #[should_panic(expected = "a ring has no holes")]
    fn a_hole_is_our_own_mistake() {
        Ring::new(offset("1-0"), 3, 1000).push(frame("1-2", "x"));
    }
}
