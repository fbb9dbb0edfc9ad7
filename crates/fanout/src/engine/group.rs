//! Connections that want the same, and where each of them stands.

use std::collections::HashMap;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

use evergate_domain::{Cursor, Offset};
use slab::Slab;

use crate::profile::Profile;

/// The connections of a shard that follow the same streams in the same way. Those of them that stand
/// at the same place are sent the same bytes.
pub(super) struct Group {
    pub(super) profile: Arc<Profile>,
    /// The lanes of its streams, in their order.
    pub(super) lanes: Box<[u32]>,
    /// Slots of the connections, in no order.
    pub(super) followers: Vec<u32>,
    /// Where they stand, in the followers' order: of each as many as there are streams.
    offsets: Vec<Offset>,
}

impl Group {
    /// Where a follower stands in each of the streams.
    pub(super) fn at(&self, place: u32) -> &[Offset] {
        let streams = self.lanes.len();
        &self.offsets[place as usize * streams..][..streams]
    }

    pub(super) fn cursor(&self, place: u32) -> Cursor {
        Cursor::new(&self.profile.streams, self.at(place).to_vec())
    }

    pub(super) fn move_to(&mut self, place: u32, to: &Cursor) {
        let streams = self.lanes.len();
        self.offsets[place as usize * streams..][..streams].copy_from_slice(to.offsets());
    }

    /// Takes a connection in and gives its place.
    pub(super) fn enter(&mut self, slot: u32, cursor: &Cursor) -> u32 {
        if self.followers.is_empty() {
            // Many groups stay with one.
            self.followers.reserve_exact(1);
            self.offsets.reserve_exact(self.lanes.len());
        }
        let place = u32::try_from(self.followers.len()).expect("no more than there are descriptors");
        self.followers.push(slot);
        self.offsets.extend_from_slice(cursor.offsets());
        place
    }

    /// Lets a connection go. Gives the one that has its place now.
    pub(super) fn leave(&mut self, place: u32) -> Option<u32> {
        let (last, streams) = (self.followers.len() - 1, self.lanes.len());
        self.offsets.copy_within(last * streams.., place as usize * streams);
        self.offsets.truncate(last * streams);
        self.followers.swap_remove(place as usize);
        self.followers.get(place as usize).copied()
    }
}

/// The groups of a shard, by number.
#[derive(Default)]
pub(super) struct Groups {
    all: Slab<Group>,
    numbers: HashMap<Arc<Profile>, u32>,
}

impl Groups {
    /// The group with this profile and these lanes, if there is one.
    pub(super) fn find(&self, profile: &Profile, lanes: &[u32]) -> Option<u32> {
        let number = *self.numbers.get(profile)?;
        // A stream's feed may have been begun anew, and its lane with it.
        (*self[number].lanes == *lanes).then_some(number)
    }

    /// Begins a group that nobody is in yet.
    pub(super) fn begin(&mut self, profile: Arc<Profile>, lanes: &[u32]) -> u32 {
        let group = Group {
            profile: Arc::clone(&profile),
            lanes: lanes.into(),
            followers: Vec::new(),
            offsets: Vec::new(),
        };
        let number = u32::try_from(self.all.insert(group)).expect("no more than there are descriptors");
        self.numbers.insert(profile, number);
        number
    }

    /// Drops a group that nobody is in any more, and gives its lanes.
    pub(super) fn drop_if_empty(&mut self, number: u32) -> Option<Box<[u32]>> {
        if !self[number].followers.is_empty() {
            return None;
        }
        let gone = self.all.remove(number as usize);
        if self.numbers.get(&gone.profile) == Some(&number) {
            self.numbers.remove(&gone.profile);
        }
        Some(gone.lanes)
    }

    pub(super) fn get(&self, number: u32) -> Option<&Group> {
        self.all.get(number as usize)
    }
}

impl Index<u32> for Groups {
    type Output = Group;

    fn index(&self, number: u32) -> &Group {
        &self.all[number as usize]
    }
}

impl IndexMut<u32> for Groups {
    fn index_mut(&mut self, number: u32) -> &mut Group {
        &mut self.all[number as usize]
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use evergate_domain::{KeyFilter, StreamName, StreamSet};

    use super::*;
    use crate::frame::Framing;
    use crate::gzip::Encoding;
    use crate::subscriber::HeartbeatKind;

    fn profile(names: &[&str]) -> Arc<Profile> {
        let names = names.iter().map(|name| StreamName::new(name).expect("valid")).collect();
        let streams = StreamSet::new(names).expect("some");
        Arc::new(Profile {
            filters: vec![KeyFilter::all(); streams.names().len()],
            streams,
            framing: Framing::Plain,
            encoding: Encoding::Identity,
            heartbeat: (Duration::from_secs(15), HeartbeatKind::Comment),
        })
    }

    #[test]
    fn whoever_leaves_takes_its_own_position_along() {
        let profile = profile(&["a", "b"]);
        let cursor = |a: &str, b: &str| {
            Cursor::new(&profile.streams, [a, b].map(|text| text.parse().expect("valid")).to_vec())
        };
        let mut groups = Groups::default();
        let number = groups.begin(Arc::clone(&profile), &[7, 3]);
        assert_eq!(groups.find(&profile, &[7, 3]), Some(number));
        assert_eq!(groups.find(&profile, &[7, 4]), None, "a lane begun anew is another one");
        let group = &mut groups[number];
        for (slot, seq) in [(10, "1-1"), (11, "1-2"), (12, "1-3")] {
            group.enter(slot, &cursor(seq, "2-9"));
        }
        group.move_to(2, &cursor("1-4", "2-8"));
        assert_eq!(group.leave(0), Some(12));
        assert_eq!(group.cursor(0), cursor("1-4", "2-8"));
        assert_eq!(group.cursor(1), cursor("1-2", "2-9"));
        assert_eq!(group.leave(1), None, "the last one leaves no hole");
        assert_eq!(groups.drop_if_empty(number), None);
        groups[number].leave(0);
        assert_eq!(groups.drop_if_empty(number).as_deref(), Some(&[7, 3][..]));
        assert_eq!(groups.find(&profile, &[7, 3]), None);
    }
}
