//! Where things are in Redis: slots, keys and channels.
//!
//! A stream belongs to one of 256 slots, and all keys of a slot share one hash tag, so that a
//! function may touch them together on a cluster too. The rule is part of the stored format: it
//! must never change.

use std::fmt;
use std::sync::LazyLock;

use evergate_domain::StreamName;

use super::hash_slot::HashSlot;

/// How many slots there are.
pub(super) const SLOTS: usize = 256;

/// One of the 256 slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(super) struct Slot(u8);

impl Slot {
    /// The slot of a stream: the low byte of the CRC-32C of its name.
    pub(super) fn of(stream: &StreamName) -> Self {
        Self(crc32c::crc32c(stream.as_str().as_bytes()).to_le_bytes()[0])
    }

    pub(super) fn all() -> Vec<Self> {
        (0..=u8::MAX).map(Self).collect()
    }

    pub(super) fn index(self) -> usize {
        usize::from(self.0)
    }

    pub(super) fn number(self) -> u8 {
        self.0
    }

    /// Where Redis puts everything of this slot.
    pub(super) fn hash_slot(self) -> HashSlot {
        static HASH_SLOTS: LazyLock<Vec<HashSlot>> =
            LazyLock::new(|| Slot::all().iter().map(|slot| HashSlot::of(&slot.record())).collect());
        HASH_SLOTS[self.index()]
    }

    /// Who trims the slot's streams, for a while.
    pub(super) fn trimmer(self) -> String {
        format!("evergate:{{{self}}}:trimmer")
    }

    /// On a cluster, the key held on to while the library is loaded.
    pub(super) fn library(self) -> String {
        format!("evergate:{{{self}}}:library:1")
    }

    /// The slot's record: fence, token and epochs.
    pub(super) fn record(self) -> String {
        format!("evergate:{{{self}}}:slot")
    }

    /// The names of its streams.
    pub(super) fn streams(self) -> String {
        format!("evergate:{{{self}}}:streams")
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The keys of one stream.
#[derive(Debug, Clone)]
pub(super) struct Keys {
    pub(super) slot: Slot,
    stream: StreamName,
}

impl Keys {
    pub(super) fn of(stream: &StreamName) -> Self {
        Self { slot: Slot::of(stream), stream: stream.clone() }
    }

    pub(super) fn stream(&self) -> &StreamName {
        &self.stream
    }

    fn key(&self, kind: &str) -> String {
        format!("evergate:{{{}}}:{kind}:{}", self.slot, self.stream)
    }

    pub(super) fn meta(&self) -> String {
        self.key("meta")
    }

    pub(super) fn log(&self) -> String {
        self.key("log")
    }

    pub(super) fn index(&self) -> String {
        self.key("index")
    }

    pub(super) fn producers(&self) -> String {
        self.key("producers")
    }

    pub(super) fn recent(&self) -> String {
        self.key("recent")
    }

    /// The live channel. Channels are shared by all databases of a server, keys are not, so any but
    /// database 0 has its own prefix.
    pub(super) fn channel(&self, database: u32) -> String {
        match database {
            0 => self.key("live"),
            n => format!("evergate@{n}:{{{}}}:live:{}", self.slot, self.stream),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(name: &str) -> StreamName {
        StreamName::new(name).expect("valid")
    }

    #[test]
    fn the_slot_of_a_name_never_changes() {
        let slots = ["quote", "news", "a", "b.c:d-e_f", "123456789"].map(|name| Slot::of(&stream(name)).0);
        // The last is the check value of CRC-32C, e3069283.
        assert_eq!(slots[4], 0x83);
        assert_eq!(slots, [237, 173, 48, 85, 131]);
    }

    #[test]
    fn names_spread_over_all_slots() {
        let mut used = [0u32; SLOTS];
        for n in 0..10_000 {
            used[Slot::of(&stream(&format!("stream-{n}"))).index()] += 1;
        }
        assert!(used.iter().all(|&n| (10..90).contains(&n)), "{used:?}");
    }

    #[test]
    fn keys_of_a_stream_share_its_slots_tag() {
        let keys = Keys::of(&stream("123456789"));
        assert_eq!(keys.slot.record(), "evergate:{131}:slot");
        assert_eq!(keys.log(), "evergate:{131}:log:123456789");
        assert_eq!(keys.channel(0), "evergate:{131}:live:123456789");
        assert_eq!(keys.channel(3), "evergate@3:{131}:live:123456789");
    }
}
