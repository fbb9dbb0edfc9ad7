//! The streams that somebody follows in one shard, or bundle.

use std::collections::HashMap;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

use evergate_domain::{KeyFilter, SlowReaders, StreamName};
use slab::Slab;

use crate::engine::inbox::Inbox;
use crate::engine::lane::Lane;
use crate::feed::Feed;

/// Lanes, by number. Each is there as long as a group follows it.
#[derive(Default)]
pub(crate) struct Lanes {
    all: Slab<Lane>,
    by_name: HashMap<StreamName, usize>,
}

impl Lanes {
    /// The lane of a feed: the one that is there, or a new one, which is heard of in the inbox.
    ///
    /// Its policy is what holds now, for everybody who follows it: a policy may change as long as a busy stream is
    /// followed, which may be for ever.
    pub(crate) fn of(&mut self, feed: Arc<Feed>, inbox: &Arc<Inbox>, slow: &SlowReaders) -> u32 {
        let known = self.by_name.get(feed.name()).copied();
        // A feed that was given up and begun anew is another one, even of the same stream.
        if let Some(lane) = known.filter(|&lane| Arc::ptr_eq(&self.all[lane].feed, &feed)) {
            self.all[lane].slow_reader = slow.of(feed.name());
            return small(lane);
        }
        let name = feed.name().clone();
        let entry = self.all.vacant_entry();
        let number = entry.key();
        let slow_reader = slow.of(&name);
        entry.insert(Lane::new(feed, inbox.listener(number), slow_reader));
        self.by_name.insert(name, number);
        small(number)
    }

    pub(crate) fn get(&self, number: usize) -> Option<&Lane> {
        self.all.get(number)
    }

    pub(crate) fn get_mut(&mut self, number: usize) -> Option<&mut Lane> {
        self.all.get_mut(number)
    }

    /// A group has gone, and its lane with it if no other follows.
    pub(super) fn leave(&mut self, number: u32, group: u32, filter: &KeyFilter) {
        let number = number as usize;
        let lane = &mut self.all[number];
        lane.groups.leave(group, filter);
        if lane.groups.is_empty() {
            let gone = self.all.remove(number);
            if self.by_name.get(gone.feed.name()) == Some(&number) {
                self.by_name.remove(gone.feed.name());
            }
        }
    }
}

impl Index<usize> for Lanes {
    type Output = Lane;

    fn index(&self, number: usize) -> &Lane {
        &self.all[number]
    }
}

impl IndexMut<usize> for Lanes {
    fn index_mut(&mut self, number: usize) -> &mut Lane {
        &mut self.all[number]
    }
}

fn small(number: usize) -> u32 {
    u32::try_from(number).expect("no more than there are descriptors")
}
