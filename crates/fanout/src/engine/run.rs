//! What those who stand at the same place are sent next: made once, sent many times.

use std::sync::Arc;

use bytes::Bytes;
use evergate_domain::{Cursor, Offset};

use crate::engine::chunk;
use crate::engine::group::Group;
use crate::engine::lanes::Lanes;
use crate::figures::Shown;
use crate::gzip::{Deflater, Part};
use crate::output::Output;
use crate::ring::Taken;
use crate::session::Session;

/// Bytes of one run: about 64 small events, which cost one send like a single one.
pub(crate) const RUN_BYTES: usize = 16 << 10;

/// Runs kept of one group. Where there are more, its followers hardly share them anyway.
const RUNS_MAX: usize = 32;

/// What stands around what is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Packing {
    /// An HTTP/1.1 chunk.
    #[default]
    Chunk,
    /// Nothing: whoever sends it has a framing of its own.
    Bare,
}

/// What everybody of a group with the same position is sent next.
#[derive(Debug)]
pub(crate) struct Run {
    from: Box<[Offset]>,
    turn: u8,
    /// As it is sent; empty if nothing of it was wanted.
    pub(crate) bytes: Bytes,
    /// What it adds to the sum of a compressed body.
    pub(crate) part: Option<Part>,
    /// The position after it.
    pub(crate) to: Cursor,
    /// The stream whose turn it is then.
    pub(crate) next_turn: u8,
    /// Events passed over since the last one that was wanted; with an empty run, all of them.
    pub(crate) passed: u32,
    /// The events it shows.
    pub(crate) shown: Option<Shown>,
}

/// What a look at the rings found for a position.
pub(crate) enum Look<'a> {
    Run(&'a Run),
    AtHead,
    /// A ring no longer reaches back to it.
    Behind,
}

/// The runs of one sweep, of the group that was looked at last. Mostly there is one. Made after the marks
/// of the lanes that are swept were cleared.
#[derive(Default)]
pub(crate) struct Runs {
    packing: Packing,
    of: Option<u32>,
    made: Vec<Run>,
    /// Where there was nothing more. What came since has marked its lane again.
    head: Vec<Offset>,
}

impl Runs {
    /// None yet, and each to be packed so.
    pub(crate) fn packed(packing: Packing) -> Self {
        Self { packing, ..Self::default() }
    }

    /// What comes next for a follower of a group, given as its number and itself. Its streams take
    /// turns, so that a busy one does not starve the others.
    pub(crate) fn look(
        &mut self,
        (number, group): (u32, &Group),
        from: &[Offset],
        turn: u8,
        lanes: &Lanes,
        deflater: &Arc<Deflater>,
    ) -> Look<'_> {
        if self.of != Some(number) || self.made.len() >= RUNS_MAX {
            self.of = Some(number);
            self.made.clear();
            self.head.clear();
        }
        if self.head == from {
            return Look::AtHead;
        }
        let made = self.made.iter().position(|run| run.turn == turn && *run.from == *from);
        if let Some(at) = made {
            return Look::Run(&self.made[at]);
        }
        match make(group, from, turn, lanes, deflater, self.packing) {
            Ok(Some(run)) => {
                self.made.push(run);
                Look::Run(&self.made[self.made.len() - 1])
            }
            Ok(None) => {
                self.head.clear();
                self.head.extend_from_slice(from);
                Look::AtHead
            }
            Err(Behind) => Look::Behind,
        }
    }
}

struct Behind;

/// `None` if there is nothing to run over.
fn make(
    group: &Group,
    from: &[Offset],
    turn: u8,
    lanes: &Lanes,
    deflater: &Arc<Deflater>,
    packing: Packing,
) -> Result<Option<Run>, Behind> {
    let mut taken = Vec::with_capacity(from.len());
    for stream in (usize::from(turn)..from.len()).chain(0..usize::from(turn)) {
        let ring = lanes[group.lanes[stream] as usize].feed.ring().read();
        let frames =
            if ring.holds(from[stream]) { ring.after(from[stream].seq, RUN_BYTES) } else { Taken::Behind };
        match frames {
            Taken::Frames(frames) => taken.push((stream, frames)),
            Taken::AtHead => {}
            Taken::Behind => return Err(Behind),
        }
    }
    if taken.is_empty() {
        return Ok(None);
    }
    let cursor = Cursor::new(&group.profile.streams, from.to_vec());
    let mut session = Session::new(Arc::clone(&group.profile), cursor, 0, u32::MAX);
    let mut out = Output::for_many(group.profile.encoding, deflater);
    let mut next_turn = turn;
    for (stream, frames) in taken {
        if out.len() >= RUN_BYTES {
            break;
        }
        session.run(stream, &frames, &mut out);
        next_turn = u8::try_from((stream + 1) % from.len()).expect("few streams");
    }
    Ok(Some(Run {
        from: from.into(),
        turn,
        part: out.part(),
        shown: out.take_shown(),
        bytes: match packing {
            Packing::Chunk => chunk::of(&out.take()),
            Packing::Bare => out.take(),
        },
        passed: session.unseen(),
        to: session.into_cursor(),
        next_turn,
    }))
}
