//! Reading the journal back when the log is opened.

use std::fs::File;
use std::io;
use std::path::Path;

use super::{FILE_HEADER_BYTES, file_header, frame, list};

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::disk) struct Replayed {
    /// The last group there is, in the journal or in the tables.
    pub(in crate::disk) last_group: u64,
    /// The highest file number in use.
    pub(in crate::disk) last_file: u64,
    /// How many files there are.
    pub(in crate::disk) files: usize,
    /// Bytes of all frames.
    pub(in crate::disk) bytes: u64,
    /// Bytes of a last frame that a crash left incomplete, and that were cut off.
    pub(in crate::disk) torn_bytes: u64,
}

/// Why the journal cannot be read back.
#[derive(Debug, thiserror::Error)]
pub(in crate::disk) enum Damage {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error("{0}")]
    Damaged(String),
}

/// Reads every frame in order, hands it to `apply`, and repairs the end.
///
/// `tabled` is the last group the tables hold: the journal has to go on from there at the latest.
/// `apply` answers whether it understood the payload.
pub(in crate::disk) fn replay(
    dir: &Path,
    tabled: u64,
    mut apply: impl FnMut(u64, &[u8]) -> bool,
) -> Result<Replayed, Damage> {
    let files = list(dir)?;
    let mut replayed = Replayed {
        last_group: tabled,
        last_file: files.last().map_or(0, |(number, _)| *number),
        files: files.len(),
        bytes: 0,
        torn_bytes: 0,
    };
    // The group of the frame before, once there is one.
    let mut before = None;
    for (at, (number, path)) in files.iter().enumerate() {
        let bytes = std::fs::read(path)?;
        let last = at + 1 == files.len();
        let damaged = |what: String| Damage::Damaged(format!("{}: {what}", path.display()));
        if !bytes.starts_with(&file_header(*number)) {
            // A crash while the file was begun, before anything was written to it.
            if last && frame::find_after(&bytes, before.unwrap_or(tabled)).is_none() {
                std::fs::remove_file(path)?;
                continue;
            }
            return Err(damaged("the header is damaged".into()));
        }
        let mut position = FILE_HEADER_BYTES;
        while let Some(frame) = frame::first(&bytes[position..]) {
            let fits = match before {
                Some(before) => frame.group == before + 1,
                None => frame.group <= tabled + 1,
            };
            if !fits {
                let expected = before.unwrap_or(tabled) + 1;
                return Err(damaged(format!("group {} where {expected} should be", frame.group)));
            }
            if !apply(frame.group, frame.payload) {
                return Err(damaged(format!("group {} is not understood", frame.group)));
            }
            before = Some(frame.group);
            replayed.last_group = replayed.last_group.max(frame.group);
            replayed.bytes += frame.length() as u64;
            position += frame.length();
        }
        // What was reserved and never written is zeros; frames never end in so many.
        let written = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |end| end + 1);
        let rest = &bytes[position.min(written)..written];
        if let Some(later) = frame::find_after(rest, before.unwrap_or(tabled)) {
            let lost = format!("damaged at byte {position}, but group {} stands after it", later.group);
            return Err(damaged(lost));
        }
        if last {
            replayed.torn_bytes = rest.len() as u64;
            // Gives back the room that was reserved, too.
            let file = File::options().write(true).open(path)?;
            file.set_len(position as u64)?;
            file.sync_all()?;
        }
    }
    Ok(replayed)
}
