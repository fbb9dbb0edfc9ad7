//! The journal: what makes an append durable.
//!
//! Numbered files, each a short header and then frames, one per group commit. A frame is written
//! and synced before the next one is begun, so whatever a crash leaves behind, only the last frame
//! of all can be incomplete, and that one was never acknowledged. Everything else that
//! does not read back is damage, and is told as such instead of being cut off in silence: the
//! frames count the groups without holes.
//!
//! A file is deleted once the tables hold durably what it holds. Files are never reused.

mod frame;
mod media;
mod replay;

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};

pub(super) use frame::Frame;
#[cfg(test)]
pub(super) use frame::HEADER_BYTES as FRAME_HEADER_BYTES;
pub(super) use media::{CreateMedia, Media, files as file_media};
pub(super) use replay::{Damage, replay};

const FILE_MAGIC: [u8; 8] = *b"EVGJRNL1";
const FILE_HEADER_BYTES: usize = 16;
const EXTENSION: &str = "journal";

/// The file that is being written.
pub(super) struct Journal {
    media: Box<dyn Media>,
    number: u64,
    position: u64,
    capacity: u64,
}

/// Why a frame was not written.
#[derive(Debug)]
pub(super) enum WriteError {
    /// It is not there, provably: the file was cut back to where it was, and the cut is on the
    /// device.
    Undone(io::Error),
    /// It may be there or not. What the device holds can be found out only by reading it anew,
    /// after whatever the system still had in memory is gone.
    Unknown(io::Error),
}

impl Journal {
    /// Begins a file. Nothing is there afterwards if it fails.
    pub(super) fn create(dir: &Path, number: u64, capacity: u64, media: &CreateMedia) -> io::Result<Self> {
        let path = path(dir, number);
        let begin = || {
            let mut media = media(&path, capacity)?;
            media.write_at(0, &file_header(number))?;
            media.sync()?;
            File::open(dir)?.sync_all()?;
            Ok(media)
        };
        match begin() {
            Ok(media) => Ok(Self { media, number, position: FILE_HEADER_BYTES as u64, capacity }),
            Err(error) => {
                // A file that stays is empty; it would be passed over when the log is opened.
                let _ = std::fs::remove_file(&path);
                Err(error)
            }
        }
    }

    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) fn capacity(&self) -> u64 {
        self.capacity
    }

    /// Whether a frame of this length still fits.
    pub(super) fn has_room_for(&self, frame: &Frame) -> bool {
        self.position + frame.as_bytes().len() as u64 <= self.capacity
    }

    /// Writes a frame. It is durable when this returns `Ok`.
    pub(super) fn write(&mut self, frame: &Frame) -> Result<(), WriteError> {
        if let Err(error) = self.media.write_at(self.position, frame.as_bytes()) {
            return Err(match self.media.cut(self.position) {
                Ok(()) => WriteError::Undone(error),
                Err(_) => WriteError::Unknown(error),
            });
        }
        // A failed sync is never repeated: the system may have dropped what it could not write,
        // and the next sync would report success.
        self.media.sync().map_err(WriteError::Unknown)?;
        self.position += frame.as_bytes().len() as u64;
        Ok(())
    }
}

/// The room a file needs for a frame, if no ordinary file has it.
pub(super) fn capacity_for(frame: &Frame) -> u64 {
    (FILE_HEADER_BYTES + frame.as_bytes().len()) as u64
}

/// Deletes all files up to this one.
pub(super) fn delete_up_to(dir: &Path, number: u64) -> io::Result<()> {
    for (found, path) in list(dir)? {
        if found <= number {
            std::fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// How many bytes all files take.
pub(super) fn bytes(dir: &Path) -> io::Result<u64> {
    list(dir)?.into_iter().map(|(_, path)| Ok(path.metadata()?.len())).sum()
}

fn path(dir: &Path, number: u64) -> PathBuf {
    dir.join(format!("{number:016}.{EXTENSION}"))
}

/// The files there are, in order.
fn list(dir: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = vec![];
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == EXTENSION) {
            let number = path.file_stem().and_then(|stem| stem.to_str()).and_then(|stem| stem.parse().ok());
            files.extend(number.map(|number| (number, path)));
        }
    }
    files.sort();
    Ok(files)
}

fn file_header(number: u64) -> [u8; FILE_HEADER_BYTES] {
    let mut header = [0; FILE_HEADER_BYTES];
    header[..8].copy_from_slice(&FILE_MAGIC);
    header[8..].copy_from_slice(&number.to_le_bytes());
    header
}

#[cfg(test)]
mod tests;
