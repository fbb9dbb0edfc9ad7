//! One stream in one shard.

use std::sync::Arc;

use evergate_domain::{Offset, SlowReader};

use crate::engine::inbox::Listener;
use crate::feed::Feed;

/// A stream, and the groups that follow it in this shard.
pub(super) struct Lane {
    pub(super) feed: Arc<Feed>,
    pub(super) listener: Arc<Listener>,
    /// What is done about followers that lie too far behind.
    pub(super) slow_reader: SlowReader,
    /// Numbers of the groups, in no order.
    pub(super) groups: Vec<u32>,
}

impl Lane {
    pub(super) fn new(feed: Arc<Feed>, listener: Arc<Listener>, slow_reader: SlowReader) -> Self {
        feed.listen(Arc::clone(&listener));
        Self { feed, listener, slow_reader, groups: Vec::new() }
    }

    pub(super) fn leave(&mut self, group: u32) {
        if let Some(place) = self.groups.iter().position(|&other| other == group) {
            self.groups.swap_remove(place);
        }
    }

    /// How many events a cursor lies behind the head.
    pub(super) fn lag(&self, cursor: Offset) -> u64 {
        self.feed.ring().read().head().seq.get().saturating_sub(cursor.seq.get())
    }
}

impl Drop for Lane {
    fn drop(&mut self) {
        self.feed.unlisten(&self.listener);
    }
}
