//! The one snapshot of a node: a file that is replaced as a whole.
//!
//! ```text
//!   "evergate raft snapshot 1\n" · length of the head, u32 · head · length of the state, u64 · state · CRC-32C
//! ```
//! The head is a `SnapshotMeta` of `evergate.raft.v1`; numbers are big-endian; the checksum is of all
//! before it.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use evergate_folder::replace;
use evergate_proto::raft::v1 as pb;
use parking_lot::Mutex;
use prost::Message as _;

use super::error::OpenError;
use super::folder::Folder;
use crate::raft::coding;
use crate::raft::types::{Image, LogId, Snapshot, SnapshotMeta};

const TITLE: &[u8] = b"evergate raft snapshot 1\n";
/// All titles begin so; one of another version is told from one that is none.
const TITLE_START: &[u8] = b"evergate raft snapshot ";

/// The snapshot. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Snapshots(Arc<Inner>);

struct Inner {
    path: PathBuf,
    /// Held while the file is replaced: a snapshot that was begun earlier never replaces a later one.
    replacing: Mutex<()>,
    /// What the file has. Changed only by who holds the other.
    current: Mutex<Option<Stored>>,
    _folder: Arc<Folder>,
}

/// A snapshot with what it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) meta: SnapshotMeta,
    pub(crate) image: Image,
}

impl Stored {
    fn last(&self) -> Option<&LogId> {
        self.meta.last_log_id.as_ref()
    }
}

impl From<Stored> for Snapshot {
    fn from(stored: Stored) -> Self {
        Self { meta: stored.meta, snapshot: Box::new(stored.image) }
    }
}

impl Snapshots {
    /// Reads the snapshot of the folder, if it has one. Formats up to `format_read` are understood.
    pub(crate) fn open(folder: &Arc<Folder>, format_read: u32) -> Result<Self, OpenError> {
        let path = folder.snapshot();
        let current = match std::fs::read(&path) {
            Ok(bytes) => Some(decode(&bytes).map_err(|fault| match fault {
                Fault::Damaged(what) => folder.damaged(format!("its snapshot: {what}")),
                Fault::Newer(found) => newer(folder, "the snapshot's file", found, 1),
            })?),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(folder.io(error)),
        };
        if let Some(stored) = &current
            && stored.image.format > format_read
        {
            return Err(newer(
                folder,
                "the snapshot's state",
                stored.image.format.into(),
                format_read.into(),
            ));
        }
        let inner = Inner {
            path,
            replacing: Mutex::new(()),
            current: Mutex::new(current),
            _folder: Arc::clone(folder),
        };
        Ok(Self(Arc::new(inner)))
    }

    /// The format of its state; 0 if there is none.
    pub(crate) fn format(&self) -> u32 {
        self.0.current.lock().as_ref().map_or(0, |stored| stored.image.format)
    }

    pub(crate) fn current(&self) -> Option<Stored> {
        self.0.current.lock().clone()
    }

    /// Keeps a snapshot in place of an earlier one, and answers the one that is kept: a later one stays.
    /// Blocks until it is safe.
    pub(crate) fn keep(&self, snapshot: Stored) -> io::Result<Stored> {
        let _replacing = self.0.replacing.lock();
        if let Some(kept) = self.current()
            && kept.last() > snapshot.last()
        {
            return Ok(kept);
        }
        replace(&self.0.path, &encode(&snapshot))?;
        *self.0.current.lock() = Some(snapshot.clone());
        Ok(snapshot)
    }
}

fn newer(folder: &Folder, what: &'static str, found: u64, known: u64) -> OpenError {
    OpenError::Newer { dir: folder.dir().to_owned(), what, found, known }
}

fn encode(snapshot: &Stored) -> Vec<u8> {
    let head = coding::from_meta(&snapshot.meta, snapshot.image.format).encode_to_vec();
    let head_bytes = u32::try_from(head.len()).expect("some members' names are less than 4 GiB");
    let mut bytes = TITLE.to_vec();
    bytes.extend_from_slice(&head_bytes.to_be_bytes());
    bytes.extend_from_slice(&head);
    bytes.extend_from_slice(&(snapshot.image.bytes.len() as u64).to_be_bytes());
    bytes.extend_from_slice(&snapshot.image.bytes);
    bytes.extend_from_slice(&crc32c::crc32c(&bytes).to_be_bytes());
    bytes
}

#[derive(Debug, PartialEq, Eq)]
enum Fault {
    Damaged(&'static str),
    Newer(u64),
}

fn decode(bytes: &[u8]) -> Result<Stored, Fault> {
    let Some(rest) = bytes.strip_prefix(TITLE) else {
        let version =
            bytes.strip_prefix(TITLE_START).and_then(|rest| rest.split(|byte| *byte == b'\n').next());
        let version =
            version.and_then(|text| std::str::from_utf8(text).ok()).and_then(|text| text.parse().ok());
        return Err(version
            .filter(|version| *version > 1)
            .map_or(Fault::Damaged("it is none"), Fault::Newer));
    };
    let short = Fault::Damaged("it is cut off");
    let (body, sum) = rest.split_last_chunk().ok_or(short)?;
    if crc32c::crc32c(&bytes[..bytes.len() - 4]) != u32::from_be_bytes(*sum) {
        return Err(Fault::Damaged("its checksum is another"));
    }
    parts(body).ok_or(Fault::Damaged("its head makes no sense"))
}

fn parts(body: &[u8]) -> Option<Stored> {
    let (length, rest) = body.split_first_chunk()?;
    let (head, rest) = rest.split_at_checked(u32::from_be_bytes(*length) as usize)?;
    let (length, state) = rest.split_first_chunk()?;
    if u64::from_be_bytes(*length) != state.len() as u64 {
        return None;
    }
    let head = pb::SnapshotMeta::decode(head).ok()?;
    let format = head.format;
    let meta = coding::to_meta(head).ok()?;
    Some(Stored { meta, image: Image { format, bytes: Arc::new(state.to_vec()) } })
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::CommittedLeaderId;

    fn snapshot(index: u64) -> Stored {
        let last = LogId::new(CommittedLeaderId::new(2, 1), index);
        let meta =
            SnapshotMeta { last_log_id: Some(last), snapshot_id: index.to_string(), ..Default::default() };
        Stored { meta, image: Image { format: 1, bytes: Arc::new(vec![7; 100]) } }
    }

    fn folder(dir: &tempfile::TempDir) -> Arc<Folder> {
        Arc::new(Folder::open(dir.path()).expect("opens"))
    }

    #[test]
    fn a_snapshot_comes_back_and_no_earlier_one_replaces_it() {
        let dir = tempfile::tempdir().expect("a folder");
        let opened = folder(&dir);
        let snapshots = Snapshots::open(&opened, 1).expect("none yet");
        assert_eq!(snapshots.current(), None);
        assert_eq!(snapshots.keep(snapshot(5)).expect("kept"), snapshot(5));
        assert_eq!(snapshots.keep(snapshot(4)).expect("not needed"), snapshot(5));
        assert_eq!(Snapshots::open(&opened, 1).expect("there").current(), Some(snapshot(5)));
        snapshots.keep(snapshot(6)).expect("kept");
        assert_eq!(Snapshots::open(&opened, 1).expect("there").current(), Some(snapshot(6)));
        assert!(matches!(Snapshots::open(&opened, 0), Err(OpenError::Newer { .. })), "its state is newer");
    }

    #[test]
    fn a_file_that_is_torn_foreign_or_newer_is_told_apart() {
        let whole = encode(&snapshot(5));
        assert_eq!(decode(&whole), Ok(snapshot(5)));
        for end in 0..whole.len() {
            assert!(matches!(decode(&whole[..end]), Err(Fault::Damaged(_))), "cut at {end}");
        }
        for bit in 0..whole.len() * 8 {
            let mut changed = whole.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&changed).is_err(), "bit {bit}");
        }
        let mut newer = b"evergate raft snapshot 12\n".to_vec();
        newer.extend_from_slice(b"whatever");
        assert_eq!(decode(&newer), Err(Fault::Newer(12)));
    }

    #[test]
    fn half_a_replacement_replaces_nothing() {
        let dir = tempfile::tempdir().expect("a folder");
        let opened = folder(&dir);
        Snapshots::open(&opened, 1).expect("opens").keep(snapshot(5)).expect("kept");
        std::fs::write(dir.path().join("snapshot.new"), &encode(&snapshot(9))[..20]).expect("written");
        assert_eq!(Snapshots::open(&opened, 1).expect("opens").current(), Some(snapshot(5)));
    }
}
