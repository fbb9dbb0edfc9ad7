//! The frame: one group commit in the journal.
//!
//! ```text
//!   magic  length  group  checksum  payload
//!    4 B     4 B    8 B      4 B    length B
//! ```
//! Numbers are little-endian; the checksum (CRC32C) covers everything but magic and itself.

const MAGIC: [u8; 4] = *b"EvFr";

/// Bytes before the payload.
pub(in crate::disk) const HEADER_BYTES: usize = 20;

/// A frame that is being written.
#[derive(Debug)]
pub(in crate::disk) struct Frame(Vec<u8>);

impl Frame {
    /// A frame whose payload will have about this many bytes.
    pub(in crate::disk) fn with_capacity(bytes: usize) -> Self {
        let mut out = Vec::with_capacity(HEADER_BYTES + bytes);
        out.resize(HEADER_BYTES, 0);
        Self(out)
    }

    /// Where the payload is appended.
    pub(in crate::disk) fn payload(&mut self) -> &mut Vec<u8> {
        &mut self.0
    }

    /// Completes the frame as this group. `None` if the payload is 4 GiB or more.
    pub(in crate::disk) fn seal(mut self, group: u64) -> Option<Self> {
        let length = u32::try_from(self.0.len() - HEADER_BYTES).ok()?;
        let sum = checksum(length, group, &self.0[HEADER_BYTES..]);
        self.0[..4].copy_from_slice(&MAGIC);
        self.0[4..8].copy_from_slice(&length.to_le_bytes());
        self.0[8..16].copy_from_slice(&group.to_le_bytes());
        self.0[16..20].copy_from_slice(&sum.to_le_bytes());
        Some(self)
    }

    pub(in crate::disk) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A frame that was found whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Whole<'a> {
    pub(super) group: u64,
    pub(super) payload: &'a [u8],
}

impl Whole<'_> {
    /// Bytes of the whole frame.
    pub(super) fn length(&self) -> usize {
        HEADER_BYTES + self.payload.len()
    }
}

/// The frame at the front of `bytes`, if there is a whole one with the right checksum.
pub(super) fn first(bytes: &[u8]) -> Option<Whole<'_>> {
    let (header, rest) = bytes.split_at_checked(HEADER_BYTES)?;
    if header[..4] != MAGIC {
        return None;
    }
    let length = u32::from_le_bytes(header[4..8].try_into().ok()?);
    let group = u64::from_le_bytes(header[8..16].try_into().ok()?);
    let sum = u32::from_le_bytes(header[16..20].try_into().ok()?);
    let payload = rest.get(..usize::try_from(length).ok()?)?;
    (checksum(length, group, payload) == sum).then_some(Whole { group, payload })
}

/// The first whole frame anywhere in `bytes` of a group after `after`.
pub(super) fn find_after(bytes: &[u8], after: u64) -> Option<Whole<'_>> {
    let starts = bytes.windows(MAGIC.len()).enumerate().filter(|(_, window)| **window == MAGIC);
    starts.filter_map(|(at, _)| first(&bytes[at..])).find(|frame| frame.group > after)
}

fn checksum(length: u32, group: u64, payload: &[u8]) -> u32 {
    let sum = crc32c::crc32c(&length.to_le_bytes());
    crc32c::crc32c_append(crc32c::crc32c_append(sum, &group.to_le_bytes()), payload)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(group: u64, payload: &[u8]) -> Vec<u8> {
        let mut frame = Frame::with_capacity(payload.len());
        frame.payload().extend_from_slice(payload);
        frame.seal(group).expect("small").as_bytes().to_vec()
    }

    #[test]
    fn every_changed_bit_and_every_cut_is_found() {
        let whole = frame(7, b"payload");
        assert_eq!(first(&whole), Some(Whole { group: 7, payload: b"payload" }));
        for at in 0..whole.len() * 8 {
            let mut changed = whole.clone();
            changed[at / 8] ^= 1 << (at % 8);
            assert_eq!(first(&changed), None, "bit {at}");
        }
        for length in 0..whole.len() {
            assert_eq!(first(&whole[..length]), None);
        }
        assert_eq!(first(&[0; 64]), None);
    }

    #[test]
    fn a_later_frame_is_found_behind_rubbish() {
        let mut bytes = b"EvFrEvFrEvF".to_vec();
        bytes.extend(frame(7, b"seven"));
        bytes.extend(frame(8, b"eight"));
        assert_eq!(find_after(&bytes, 6).map(|frame| frame.group), Some(7));
        assert_eq!(find_after(&bytes, 7).map(|frame| frame.group), Some(8));
        assert_eq!(find_after(&bytes, 8), None);
    }
}
