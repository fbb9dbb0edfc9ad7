//! Connections that want the same, and where each of them stands.

use std::collections::HashMap;
use std::ops::{Index, IndexMut};
use std::sync::Arc;

use evergate_domain::{Cursor, Offset};
use slab::Slab;

use crate::engine::lanes::Lanes;
use crate::profile::Profile;

/// The connections of a shard that follow the same streams in the same way. Those of them that stand
/// at the same place are sent the same bytes.
pub(crate) struct Group {
    pub(crate) profile: Arc<Profile>,
    /// The lanes of its streams, in their order.
    pub(crate) lanes: Box<[u32]>,
    /// Slots of the connections, in no order.
    pub(crate) followers: Vec<u32>,
    /// Where they stand, in the followers' order: of each as many as there are streams.
    offsets: Vec<Offset>,
    /// Of each stream, from where on nothing was for this group, as far as its lane has asked. Empty if all
    /// of everything is.
    quiet_from: Box<[Offset]>,
}

impl Group {
    /// Whether it wants only some keys of some stream.
    pub(crate) fn is_keyed(&self) -> bool {
        !self.quiet_from.is_empty()
    }

    /// Its lane has asked up to here, and all followers have been looked at.
    pub(crate) fn asked(&mut self, lane: u32, to: Offset) {
        for (quiet_from, _) in
            self.quiet_from.iter_mut().zip(self.lanes.iter()).filter(|(_, of)| **of == lane)
        {
            *quiet_from = to;
        }
    }

    /// Moves a follower over events of which it is known that none is for it: up to where each lane has
    /// asked. Gives how many they were.
    pub(crate) fn settle(&mut self, place: u32, swept: impl Fn(u32) -> Offset) -> u32 {
        let streams = self.lanes.len();
        let offsets = &mut self.offsets[place as usize * streams..][..streams];
        let mut passed = 0;
        for (stream, (at, quiet_from)) in offsets.iter_mut().zip(self.quiet_from.iter()).enumerate() {
            let swept = swept(self.lanes[stream]);
            if !self.profile.filters[stream].is_all() && *quiet_from <= *at && *at < swept {
                passed += swept.seq.get().saturating_sub(at.seq.get());
                *at = swept;
            }
        }
        u32::try_from(passed).unwrap_or(u32::MAX)
    }

    /// Where a follower stands in each of the streams.
    pub(crate) fn at(&self, place: u32) -> &[Offset] {
        let streams = self.lanes.len();
        &self.offsets[place as usize * streams..][..streams]
    }

    pub(crate) fn cursor(&self, place: u32) -> Cursor {
        Cursor::new(&self.profile.streams, self.at(place).to_vec())
    }

    pub(crate) fn move_to(&mut self, place: u32, to: &Cursor) {
        let streams = self.lanes.len();
        self.offsets[place as usize * streams..][..streams].copy_from_slice(to.offsets());
    }

    /// Takes a connection in and gives its place.
    pub(crate) fn enter(&mut self, slot: u32, cursor: &Cursor) -> u32 {
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
pub(crate) struct Groups {
    all: Slab<Group>,
    numbers: HashMap<Arc<Profile>, u32>,
}

impl Groups {
    /// The group with this profile and these lanes: the one that is there, or a new one that nobody is in
    /// yet.
    pub(crate) fn of(&mut self, profile: &Arc<Profile>, numbers: &[u32], lanes: &mut Lanes) -> u32 {
        let streams = numbers.iter().zip(&*profile.filters);
        // Also where there is such a group already.
        let heads = streams.map(|(&lane, filter)| lanes[lane as usize].expect(filter)).collect();
        self.find(profile, numbers).unwrap_or_else(|| {
            let group = self.begin(Arc::clone(profile), numbers, heads);
            for (&lane, filter) in numbers.iter().zip(&*profile.filters) {
                lanes[lane as usize].groups.enter(group, filter);
            }
            group
        })
    }

    /// Lets a connection go from its group, and the group from its lanes if it was the last. Gives the one
    /// that has its place now.
    pub(crate) fn leave(&mut self, number: u32, place: u32, lanes: &mut Lanes) -> Option<u32> {
        let moved = self[number].leave(place);
        if let Some(gone) = self.take_if_empty(number) {
            for (&lane, filter) in gone.lanes.iter().zip(&*gone.profile.filters) {
                lanes.leave(lane, number, filter);
            }
        }
        moved
    }

    /// The group with this profile and these lanes, if there is one.
    pub(super) fn find(&self, profile: &Profile, lanes: &[u32]) -> Option<u32> {
        let number = *self.numbers.get(profile)?;
        // A stream's feed may have been begun anew, and its lane with it.
        (*self[number].lanes == *lanes).then_some(number)
    }

    /// Begins a group that nobody is in yet. `heads` are those of its streams.
    pub(super) fn begin(&mut self, profile: Arc<Profile>, lanes: &[u32], heads: Vec<Offset>) -> u32 {
        let keyed = profile.filters.iter().any(|filter| !filter.is_all());
        let group = Group {
            quiet_from: if keyed { heads.into() } else { Box::default() },
            profile: Arc::clone(&profile),
            lanes: lanes.into(),
            followers: Vec::new(),
            offsets: Vec::new(),
        };
        let number = u32::try_from(self.all.insert(group)).expect("no more than there are descriptors");
        self.numbers.insert(profile, number);
        number
    }

    /// Takes a group away that nobody is in any more.
    pub(super) fn take_if_empty(&mut self, number: u32) -> Option<Group> {
        if !self[number].followers.is_empty() {
            return None;
        }
        let gone = self.all.remove(number as usize);
        if self.numbers.get(&gone.profile) == Some(&number) {
            self.numbers.remove(&gone.profile);
        }
        Some(gone)
    }

    pub(crate) fn get(&self, number: u32) -> Option<&Group> {
        self.all.get(number as usize)
    }

    pub(crate) fn get_mut(&mut self, number: u32) -> Option<&mut Group> {
        self.all.get_mut(number as usize)
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

    use evergate_domain::{KeyFilter, KeyPattern, StreamName, StreamSet};

    use super::*;
    use crate::frame::Framing;
    use crate::gzip::Encoding;
    use crate::subscriber::HeartbeatKind;

    fn profile(names: &[&str], pattern: Option<&str>) -> Arc<Profile> {
        let names = names.iter().map(|name| StreamName::new(name).expect("valid")).collect();
        let streams = StreamSet::new(names).expect("some");
        let mut filters = vec![KeyFilter::all(); streams.names().len()];
        filters[0] = pattern.into_iter().map(|text| KeyPattern::parse(text).expect("valid")).collect();
        Arc::new(Profile {
            filters: filters.into(),
            streams,
            framing: Framing::Plain,
            encoding: Encoding::Identity,
            heartbeat: (Duration::from_secs(15), HeartbeatKind::Comment),
        })
    }

    #[test]
    fn whoever_leaves_takes_its_own_position_along() {
        let profile = profile(&["a", "b"], None);
        let cursor = |a: &str, b: &str| {
            Cursor::new(&profile.streams, [a, b].map(|text| text.parse().expect("valid")).to_vec())
        };
        let mut groups = Groups::default();
        let number = groups.begin(Arc::clone(&profile), &[7, 3], Vec::new());
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
        assert!(groups.take_if_empty(number).is_none());
        groups[number].leave(0);
        assert!(groups.take_if_empty(number).is_some_and(|gone| *gone.lanes == [7, 3]));
        assert_eq!(groups.find(&profile, &[7, 3]), None);
    }

    #[test]
    fn a_quiet_follower_is_moved_on_by_what_is_known_and_no_further() {
        let profile = profile(&["a", "b"], Some("x"));
        let at = |a: &str, b: &str| {
            Cursor::new(&profile.streams, [a, b].map(|text| text.parse().expect("valid")).to_vec())
        };
        let offset = |text: &str| text.parse::<Offset>().expect("valid");
        let mut groups = Groups::default();
        let heads = vec![offset("1-5"), offset("1-5")];
        let number = groups.begin(Arc::clone(&profile), &[7, 3], heads);
        let group = &mut groups[number];
        let mut moved = |from: &Cursor, swept: &str| {
            let place = group.enter(0, from);
            let passed = group.settle(place, |_| offset(swept));
            let to = group.cursor(place);
            group.leave(place);
            (to, passed)
        };
        // The other stream has no filter, so every event is owed.
        assert_eq!(moved(&at("1-5", "1-5"), "1-9"), (at("1-9", "1-5"), 4));
        assert_eq!(moved(&at("1-6", "1-5"), "4-9"), (at("4-9", "1-5"), 3));
        // Something may be for those who stand further back.
        assert_eq!(moved(&at("1-4", "1-5"), "1-9"), (at("1-4", "1-5"), 0));
        // It is there already, or beyond, or in a later epoch.
        assert_eq!(moved(&at("1-9", "1-5"), "1-9"), (at("1-9", "1-5"), 0));
        assert_eq!(moved(&at("2-7", "1-5"), "1-9"), (at("2-7", "1-5"), 0));
        group.asked(7, offset("1-8"));
        group.asked(3, offset("1-9"));
        let mut moved = |from: &Cursor| {
            let place = group.enter(0, from);
            group.settle(place, |_| offset("1-9"))
        };
        assert_eq!((moved(&at("1-7", "1-9")), moved(&at("1-8", "1-9"))), (0, 1));
    }
}
