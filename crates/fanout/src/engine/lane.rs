//! One stream in one shard: who follows it here, and the runs they share.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::Arc;

use bytes::Bytes;
use evergate_domain::{Offset, SlowReader};
use slab::Slab;

use crate::engine::chunk::Chunk;
use crate::engine::inbox::Listener;
use crate::feed::Feed;
use crate::gzip::{Deflater, Encoding, Part};
use crate::ring::Taken;
use crate::subscriber::Profile;

/// Bytes of one run: about 64 small events, which cost one send like a single one.
pub(super) const RUN_BYTES: usize = 16 << 10;

/// Runs kept during a sweep. Where there are more, followers hardly share them anyway.
const RUNS_MAX: usize = 128;

/// A stream, its followers in this shard, and what they have in common.
pub(super) struct Lane {
    pub(super) feed: Arc<Feed>,
    pub(super) listener: Arc<Listener>,
    /// What is done about followers that lie too far behind.
    pub(super) slow_reader: SlowReader,
    /// Slots of the connections, in no order.
    pub(super) followers: Vec<usize>,
    profiles: Slab<(Arc<Profile>, usize)>,
    numbers: HashMap<Arc<Profile>, usize>,
}

/// What everybody with the same cursor and profile is sent next. Made once, sent many times.
#[derive(Debug)]
pub(super) struct Run {
    /// One chunk; empty if nothing of it was wanted.
    pub(super) bytes: Bytes,
    /// What it adds to the sum of a compressed body.
    pub(super) part: Option<Part>,
    /// The cursor after it.
    pub(super) to: Offset,
    /// Events passed over since the last one that was wanted; with an empty run, all of them.
    pub(super) passed: u32,
}

/// What a look at the ring found for a cursor.
pub(super) enum Look<'a> {
    Run(&'a Run),
    AtHead,
    /// The ring no longer reaches back to it.
    Behind,
}

/// The runs of one sweep, by cursor and profile. Mostly there is one; with a filter for everybody
/// there are as many as followers.
#[derive(Default)]
pub(super) struct Runs(HashMap<(Offset, usize), Run>);

impl Lane {
    pub(super) fn new(feed: Arc<Feed>, listener: Arc<Listener>, slow_reader: SlowReader) -> Self {
        feed.listen(Arc::clone(&listener));
        Self {
            feed,
            listener,
            slow_reader,
            followers: Vec::new(),
            profiles: Slab::new(),
            numbers: HashMap::new(),
        }
    }

    /// The number of a profile in this lane, shared with those who have the same.
    pub(super) fn enter(&mut self, profile: Profile) -> usize {
        if let Some(&number) = self.numbers.get(&profile) {
            self.profiles[number].1 += 1;
            return number;
        }
        let profile = Arc::new(profile);
        let number = self.profiles.insert((Arc::clone(&profile), 1));
        self.numbers.insert(profile, number);
        number
    }

    pub(super) fn leave(&mut self, number: usize) {
        let (profile, users) = &mut self.profiles[number];
        *users -= 1;
        if *users == 0 {
            self.numbers.remove(profile);
            self.profiles.remove(number);
        }
    }

    pub(super) fn profile(&self, number: usize) -> &Profile {
        &self.profiles[number].0
    }

    /// How many events a cursor lies behind the head.
    pub(super) fn lag(&self, cursor: Offset) -> u64 {
        self.feed.ring().read().head().seq.get().saturating_sub(cursor.seq.get())
    }

    /// What comes next for this cursor and profile.
    pub(super) fn look<'a>(
        &self,
        runs: &'a mut Runs,
        from: Offset,
        profile: usize,
        deflater: &Deflater,
    ) -> Look<'a> {
        if runs.0.len() >= RUNS_MAX {
            runs.0.clear();
        }
        let runs = match runs.0.entry((from, profile)) {
            Entry::Occupied(made) => return Look::Run(made.into_mut()),
            Entry::Vacant(runs) => runs,
        };
        let taken = {
            let ring = self.feed.ring().read();
            if ring.holds(from) { ring.after(from.seq, RUN_BYTES) } else { Taken::Behind }
        };
        let frames = match taken {
            Taken::Frames(frames) => frames,
            Taken::AtHead => return Look::AtHead,
            Taken::Behind => return Look::Behind,
        };
        let wanted = self.profile(profile);
        let name = &wanted.streams.names()[0];
        let mut shown = Vec::with_capacity(frames.len());
        let (mut to, mut passed, mut part) = (from, 0, None);
        for frame in &frames {
            to = frame.offset();
            if wanted.filter.matches(frame.event().key.as_ref()) {
                shown.push(match wanted.encoding {
                    Encoding::Identity => frame.encoded(name, wanted.framing).whole(),
                    Encoding::Gzip => {
                        let deflated = frame.deflated(name, wanted.framing, true, deflater);
                        part = Some(part.unwrap_or(Part::NOTHING).then(deflated.part()));
                        deflated.bytes()
                    }
                });
                passed = 0;
            } else {
                passed += 1;
            }
        }
        let mut chunk = Chunk::new(shown.iter().map(|frame| frame.len()).sum());
        for frame in shown {
            chunk.put(frame);
        }
        Look::Run(runs.insert(Run { bytes: chunk.finish(), part, to, passed }))
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.feed.unlisten(&self.listener);
    }
}
