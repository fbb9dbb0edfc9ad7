//! Which primary holds which keys. Pure.

use super::super::address::Address;
use super::super::hash_slot::{HASH_SLOTS, HashSlot};
use super::super::keys::Slot;

/// Stands for no primary at all.
const NOBODY: u16 = u16::MAX;

/// A primary for every hash slot, except where there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Layout {
    primaries: Vec<Address>,
    owners: Vec<u16>,
}

impl Layout {
    /// Servers without a cluster: the remainder of the hash slot says which, in their order.
    pub(crate) fn divided(primaries: Vec<Address>) -> Self {
        let many = primaries.len().max(1);
        let owners = (0..HASH_SLOTS).map(|slot| (slot % many) as u16).collect();
        Self { primaries, owners }
    }

    /// A cluster: ranges of hash slots, first and last, each with its primary.
    pub(crate) fn of_ranges(ranges: &[(u16, u16, Address)]) -> Self {
        // In an order that does not depend on who was asked, so that layouts can be compared.
        let mut primaries: Vec<Address> = ranges.iter().map(|(_, _, address)| address.clone()).collect();
        primaries.sort();
        primaries.dedup();
        let mut owners = vec![NOBODY; HASH_SLOTS];
        for (first, last, address) in ranges {
            let index = primaries.binary_search(address).map_or(NOBODY, |index| index as u16);
            for owner in owners.iter_mut().take(usize::from(*last) + 1).skip(usize::from(*first)) {
                *owner = index;
            }
        }
        Self { primaries, owners }
    }

    /// Who holds this hash slot.
    pub(crate) fn owner(&self, at: HashSlot) -> Option<&Address> {
        self.primaries.get(usize::from(self.owners[at.index()]))
    }

    /// Notes that one hash slot is somewhere else.
    pub(crate) fn give(&mut self, at: HashSlot, to: &Address) {
        let index = self.primaries.iter().position(|known| known == to).unwrap_or_else(|| {
            self.primaries.push(to.clone());
            self.primaries.len() - 1
        });
        self.owners[at.index()] = u16::try_from(index).unwrap_or(NOBODY);
    }

    pub(crate) fn primaries(&self) -> &[Address] {
        &self.primaries
    }

    /// The log's slots that lie with this primary.
    pub(crate) fn slots_of(&self, address: &Address) -> Vec<Slot> {
        Slot::all().into_iter().filter(|slot| self.owner(slot.hash_slot()) == Some(address)).collect()
    }

    /// How many of the log's slots lie nowhere.
    pub(crate) fn orphans(&self) -> usize {
        Slot::all().iter().filter(|slot| self.owner(slot.hash_slot()).is_none()).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(port: u16) -> Address {
        Address::new("h", port)
    }

    #[test]
    fn servers_without_a_cluster_share_everything() {
        let layout = Layout::divided((1..=3).map(address).collect());
        assert_eq!(layout.orphans(), 0);
        let sizes: Vec<_> = layout.primaries().iter().map(|at| layout.slots_of(at).len()).collect();
        // Part of the stored layout: another rule would look for streams where they are not.
        assert_eq!(sizes, [87, 86, 83]);
        assert_eq!(layout.owner(HashSlot::of("foo")), Some(&address(1 + 12_182 % 3)));
    }

    #[test]
    fn a_cluster_is_its_ranges() {
        let ranges = [(0, 99, address(2)), (200, 16_383, address(1)), (150, 150, address(2))];
        let layout = Layout::of_ranges(&ranges);
        let at = |n| layout.owner(HashSlot::new(n).expect("is one")).map(Address::port);
        assert_eq!(
            [at(0), at(99), at(100), at(150), at(151), at(16_383)],
            [Some(2), Some(2), None, Some(2), None, Some(1)]
        );
        let mut other = ranges.to_vec();
        other.reverse();
        assert_eq!(Layout::of_ranges(&other), layout);
    }

    #[test]
    fn one_hash_slot_moves() {
        let mut layout = Layout::of_ranges(&[(0, 16_383, address(1))]);
        let at = HashSlot::of("foo");
        layout.give(at, &address(7));
        assert_eq!(layout.owner(at), Some(&address(7)));
        assert_eq!(layout.owner(HashSlot::of("bar")), Some(&address(1)));
        assert_eq!(layout.primaries().len(), 2);
    }
}
