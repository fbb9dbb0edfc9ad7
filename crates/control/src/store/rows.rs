//! Rows of the log: a checksum, and the entry as a message.
//!
//! The database below has checksums of its own, which it looks at only after a crash. Ours is looked at
//! with every reading: what a disk lost since is an error, not an entry.

use evergate_proto::raft::v1 as pb;
use prost::Message as _;

use crate::raft::coding::{self, Malformed};
use crate::raft::types::Entry;

/// What a row holds, and the format of its commands; 0 if it has none.
pub(super) fn encode(entry: Entry) -> (Vec<u8>, u32) {
    let entry = coding::from_entry(entry);
    let format = match &entry.payload {
        Some(pb::entry::Payload::Batch(batch)) => batch.format,
        Some(pb::entry::Payload::Membership(_)) | None => 0,
    };
    let mut row = vec![0; 4];
    entry.encode(&mut row).expect("a vector grows");
    let sum = crc32c::crc32c(&row[4..]);
    row[..4].copy_from_slice(&sum.to_be_bytes());
    (row, format)
}

pub(super) fn decode(row: &[u8]) -> Result<Entry, Malformed> {
    let (sum, message) = row.split_first_chunk().ok_or(Malformed("a row of the log"))?;
    if crc32c::crc32c(message) != u32::from_be_bytes(*sum) {
        return Err(Malformed("the checksum of a row"));
    }
    coding::to_entry(pb::Entry::decode(message).map_err(|_| Malformed("a row of the log"))?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::EntryPayload;

    #[test]
    fn no_bit_of_a_row_changes_unnoticed() {
        let batch = pb::Batch { format: 2, commands: vec![b"one".to_vec(), b"two".to_vec()] };
        let entry = Entry { payload: EntryPayload::Normal(batch), ..Entry::default() };
        let (row, format) = encode(entry.clone());
        assert_eq!(format, 2);
        assert!(decode(&row).expect("whole").payload == entry.payload);
        for bit in 0..row.len() * 8 {
            let mut changed = row.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&changed).is_err(), "bit {bit}");
        }
        for end in 0..row.len() {
            assert!(decode(&row[..end]).is_err(), "cut at {end}");
        }
    }
}
