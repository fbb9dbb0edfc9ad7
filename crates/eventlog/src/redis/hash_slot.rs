//! Redis' own division of keys: one of 16,384 hash slots, by the key's hash tag.
//!
//! A cluster gives every hash slot to one primary. Several servers without a cluster are divided by
//! the same number, so that one rule says where any key is, on any deployment. The rule is Redis'
//! and part of the stored layout: it must never change.

/// How many hash slots there are.
pub(crate) const HASH_SLOTS: usize = 16_384;

/// One of the hash slots.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct HashSlot(u16);

impl HashSlot {
    /// The hash slot of a key: of what stands between its first `{` and the next `}`, if anything
    /// does, else of all of it.
    pub(crate) fn of(key: &str) -> Self {
        let tag = key.split_once('{').and_then(|(_, rest)| rest.split_once('}')).map(|(tag, _)| tag);
        let hashed = tag.filter(|tag| !tag.is_empty()).unwrap_or(key);
        Self(crc16(hashed.as_bytes()) % HASH_SLOTS as u16)
    }

    /// The one with this number, if there is one.
    #[cfg(test)]
    pub(crate) fn new(number: u16) -> Option<Self> {
        (usize::from(number) < HASH_SLOTS).then_some(Self(number))
    }

    pub(crate) fn index(self) -> usize {
        usize::from(self.0)
    }
}

/// CRC-16/XMODEM.
fn crc16(bytes: &[u8]) -> u16 {
    bytes.iter().fold(0, |crc, &byte| {
        (0..8).fold(
            crc ^ u16::from(byte) << 8,
            |crc: u16, _| {
                if crc & 0x8000 == 0 { crc << 1 } else { crc << 1 ^ 0x1021 }
            },
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_slots_are_those_of_redis() {
        // The check value of CRC-16/XMODEM, then answers of CLUSTER KEYSLOT.
        assert_eq!(crc16(b"123456789"), 0x31c3);
        for (key, slot) in [
            ("123456789", 12_739),
            ("foo", 12_182),
            ("{foo}bar", 12_182),
            ("a{foo}{bar}", 12_182),
            ("foo{}{bar}", 8_363),
            ("foo{{bar}}zap", 4_015),
            ("evergate:{237}:log:quote", HashSlot::of("237").0),
        ] {
            assert_eq!(HashSlot::of(key), HashSlot(slot), "{key}");
        }
    }
}
