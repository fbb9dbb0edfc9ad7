//! One stream in one shard, or bundle.

use std::sync::Arc;

use evergate_domain::{Epoch, KeyFilter, NUMBER_MAX, Offset, Seq, SlowReader};

use crate::engine::inbox::Listener;
use crate::engine::index::Index;
use crate::feed::Feed;
use crate::ring::Taken;

/// A stream, and the groups that follow it there.
///
/// Groups that want some keys only are not looked at for events with others. That leaves their followers
/// where they stood, so each group remembers from where on nothing was for it (`Group::quiet_from`), and
/// the lane up to where it has asked (`swept`): whoever stands in between may be moved to `swept` at any
/// time, and is, before anybody asks for its position.
///
/// ```text
///        the group's last event          nobody was asked yet whose what follows is
///                 │                                    │
///   ──────●───────●───────────────────────────────○────┼──────────▶ head
///   still owed ◀──┤ quiet_from … may be moved on …     ┤ swept
/// ```
pub(crate) struct Lane {
    pub(crate) feed: Arc<Feed>,
    pub(crate) listener: Arc<Listener>,
    /// What is done about followers that lie too far behind.
    pub(crate) slow_reader: SlowReader,
    pub(crate) groups: Index,
    /// Up to here it was asked for whom the events are. Kept only while somebody wants some keys.
    swept: Offset,
    /// The history in which that was: how often the ring had been reset.
    resets: u64,
    /// Where all groups were last looked at; `None` if they are to be at the next event.
    called: Option<Offset>,
}

/// Behind every position.
const NOWHERE: Offset = match (Epoch::new(NUMBER_MAX), Seq::new(NUMBER_MAX)) {
    (Some(epoch), Some(seq)) => Offset { epoch, seq },
    (None, _) | (_, None) => panic!("the largest number is one"),
};

/// For whom there is something to do.
pub(crate) struct Due {
    /// How many of the groups want everything; they come first.
    pub(crate) all: usize,
    /// Up to where that is known then.
    to: Offset,
    /// From where on nothing is for those of the others that were looked at.
    pub(crate) quiet_from: Offset,
}

impl Lane {
    pub(crate) fn new(feed: Arc<Feed>, listener: Arc<Listener>, slow_reader: SlowReader) -> Self {
        feed.listen(Arc::clone(&listener));
        let (head, resets) = {
            let ring = feed.ring().read();
            (ring.head(), ring.resets())
        };
        let groups = Index::default();
        Self { feed, listener, slow_reader, groups, swept: head, resets, called: Some(head) }
    }

    /// Before one is let in: from where on nothing is for it, as far as is known.
    pub(crate) fn expect(&mut self, filter: &KeyFilter) -> Offset {
        if filter.is_all() {
            return Offset::default();
        }
        let ring = self.feed.ring().read();
        let head = ring.head();
        if self.groups.keyed().is_empty() {
            (self.swept, self.resets, self.called) = (head, ring.resets(), Some(head));
        } else if self.resets != ring.resets() || !ring.holds(self.swept) {
            // It may come from another history than those who are here. Nobody is moved on until they have
            // all been looked at.
            self.swept = Offset::default();
        }
        head
    }

    /// Up to where followers may be moved that stand where nothing is for them.
    pub(crate) fn swept(&self) -> Offset {
        self.swept
    }

    /// Collects the groups that have something to get, and all of them each time so many events have come.
    pub(crate) fn due(&mut self, call_after: u64, groups: &mut Vec<u32>) -> Due {
        groups.clear();
        groups.extend_from_slice(self.groups.all());
        let all = groups.len();
        if self.groups.keyed().is_empty() {
            return Due { all, to: self.swept, quiet_from: self.swept };
        }
        let ring = self.feed.ring().read();
        let reset = ring.resets() != self.resets;
        let known = !reset && ring.holds(self.swept);
        let news = if known { ring.after(self.swept.seq, usize::MAX) } else { Taken::Behind };
        let (head, resets) = (ring.head(), ring.resets());
        drop(ring);
        let frames = match news {
            Taken::Frames(frames) => frames,
            Taken::AtHead => return Due { all, to: self.swept, quiet_from: self.swept },
            Taken::Behind => {
                // Whoever something is for finds it, or that it must ask the log. After a reset that must
                // be told, so whoever cannot be told now is not moved on; everybody else is at the
                // first event of the new history.
                groups.extend_from_slice(self.groups.keyed());
                self.resets = resets;
                self.called = (!reset).then_some(head);
                return Due { all, to: head, quiet_from: if reset { NOWHERE } else { head } };
            }
        };
        for key in frames.iter().filter_map(|frame| frame.event().key.as_ref()) {
            self.groups.find(key, groups);
        }
        groups[all..].sort_unstable();
        groups.dedup();
        let to = frames.last().map_or(self.swept, |frame| frame.offset());
        let quiet_for = |called: Offset| to.seq.get().saturating_sub(called.seq.get());
        if self.called.is_none_or(|called| quiet_for(called) >= call_after) {
            groups.truncate(all);
            groups.extend_from_slice(self.groups.keyed());
            self.called = Some(to);
        }
        Due { all, to, quiet_from: to }
    }

    /// Everybody who was due has been looked at.
    pub(crate) fn done(&mut self, due: &Due) {
        self.swept = due.to;
    }

    /// How many events a cursor lies behind the head.
    pub(crate) fn lag(&self, cursor: Offset) -> u64 {
        self.feed.ring().read().head().seq.get().saturating_sub(cursor.seq.get())
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.feed.unlisten(&self.listener);
    }
}

#[cfg(test)]
mod tests;
