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
    /// Bytes of a frame that a crash left incomplete.
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
    // The file with the last frame so far, and those after it, with where their frames end.
    let mut ends = vec![];
    for (number, path) in &files {
        let bytes = std::fs::read(path)?;
        let damaged = |what: String| Damage::Damaged(format!("{}: {what}", path.display()));
        // What was reserved and never written is zeros; no frame ends in so many.
        let written = bytes.iter().rposition(|&byte| byte != 0).map_or(0, |end| end + 1);
        let mut position = 0;
        if bytes.starts_with(&file_header(*number)) {
            position = FILE_HEADER_BYTES;
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
                ends.clear();
                before = Some(frame.group);
                replayed.last_group = replayed.last_group.max(frame.group);
                replayed.bytes += frame.length() as u64;
                position += frame.length();
            }
        }
        let rest = bytes.get(position..written).unwrap_or_default();
        if let Some(later) = frame::find_after(rest, before.unwrap_or(tabled)) {
            let lost = format!("damaged at byte {position}, but group {} stands after it", later.group);
            return Err(damaged(lost));
        }
        replayed.torn_bytes += rest.len() as u64;
        ends.push((path, position));
    }
    for (path, end) in ends {
        repair(path, end)?;
    }
    Ok(replayed)
}

/// Makes the last frame the end of its file. Gives back the room that was reserved, too.
fn repair(path: &Path, end: usize) -> io::Result<()> {
    if end <= FILE_HEADER_BYTES {
        return std::fs::remove_file(path);
    }
    let file = File::options().write(true).open(path)?;
    file.set_len(end as u64)?;
    file.sync_all()
}
