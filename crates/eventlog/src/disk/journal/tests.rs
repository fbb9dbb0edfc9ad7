//! What a crash, a bad disk and a careless hand leave behind, and what becomes of it.

use super::replay::Replayed;
use super::*;

struct Fixture {
    dir: tempfile::TempDir,
    groups: u64,
}

impl Fixture {
    fn new() -> Self {
        Self { dir: tempfile::tempdir().expect("a directory"), groups: 0 }
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A file with this many frames of 10,000 bytes each.
    fn file(&mut self, number: u64, frames: u64) -> Journal {
        let mut journal = Journal::create(self.dir(), number, 1 << 20, &file_media()).expect("created");
        for _ in 0..frames {
            self.groups += 1;
            journal.write(&frame(self.groups)).expect("written");
        }
        journal
    }

    fn replay(&self) -> Result<(Vec<u64>, Replayed), Damage> {
        self.replay_after(0)
    }

    fn replay_after(&self, tabled: u64) -> Result<(Vec<u64>, Replayed), Damage> {
        let mut groups = vec![];
        let replayed = replay(self.dir(), tabled, |group, payload| {
            groups.push(group);
            payload == content(group)
        })?;
        Ok((groups, replayed))
    }

    fn damaged(&self) -> String {
        match self.replay() {
            Err(Damage::Damaged(what)) => what,
            other => panic!("not found: {other:?}"),
        }
    }

    fn change(&self, number: u64, change: impl FnOnce(&mut Vec<u8>)) {
        let path = path(self.dir(), number);
        let mut bytes = std::fs::read(&path).expect("read");
        change(&mut bytes);
        std::fs::write(&path, bytes).expect("written");
    }
}

fn content(group: u64) -> Vec<u8> {
    vec![group as u8 | 1; 10_000]
}

fn frame(group: u64) -> Frame {
    let mut frame = Frame::with_capacity(10_000);
    frame.payload().extend(content(group));
    frame.seal(group).expect("small")
}

/// Where a frame stands in its file, from 0.
fn at(frame: usize) -> usize {
    FILE_HEADER_BYTES + frame * (FRAME_HEADER_BYTES + 10_000)
}

#[test]
fn what_was_written_is_read_and_nothing_else() {
    let mut journal = Fixture::new();
    journal.file(1, 3);
    journal.file(2, 2);
    let (groups, replayed) = journal.replay().expect("whole");
    assert_eq!(groups, [1, 2, 3, 4, 5]);
    let bytes = 5 * (FRAME_HEADER_BYTES + 10_000) as u64;
    assert_eq!(replayed, Replayed { last_group: 5, last_file: 2, files: 2, bytes, torn_bytes: 0 });
    // The reserved room of the last file was given back, and it reads the same again.
    assert_eq!(path(journal.dir(), 2).metadata().expect("there").len(), at(2) as u64);
    assert_eq!(journal.replay().expect("whole").0, [1, 2, 3, 4, 5]);
}

#[test]
fn an_empty_journal_goes_on_from_the_tables() {
    let journal = Fixture::new();
    assert_eq!(journal.replay_after(41).expect("empty").1.last_group, 41);
}

/// A crash of the machine may have written any of the last frame's pages and not the others.
#[test]
fn an_incomplete_last_frame_is_cut_off_whatever_part_of_it_is_there() {
    for missing in 0..4 {
        let mut journal = Fixture::new();
        journal.file(1, 3);
        journal.change(1, |bytes| {
            let from = at(2) + missing * 2_500;
            bytes[from..from + 2_500].fill(0);
        });
        let (groups, replayed) = journal.replay().expect("repaired");
        assert_eq!(groups, [1, 2], "quarter {missing}");
        assert!(replayed.torn_bytes > 0);
        // Repaired is repaired: what comes next reads on without a trace of it.
        journal.groups = 2;
        journal.file(2, 1);
        assert_eq!(journal.replay().expect("whole").0, [1, 2, 3]);
    }
}

#[test]
fn a_file_cut_anywhere_in_its_last_frame_loses_that_frame_only() {
    for length in (at(1) + 1..at(2)).step_by(997) {
        let mut journal = Fixture::new();
        journal.file(1, 2);
        journal.change(1, |bytes| bytes.truncate(length));
        assert_eq!(journal.replay().expect("repaired").0, [1]);
    }
}

/// The next file is begun ahead of time, so the incomplete frame may not be in the last one.
#[test]
fn files_that_hold_no_frame_yet_are_done_away_with() {
    for leftover in [&b""[..], &[0; 4096], &FILE_MAGIC[..5], &file_header(2)] {
        let mut journal = Fixture::new();
        journal.file(1, 2);
        journal.change(1, |bytes| bytes[at(1) + 5_000] = 0);
        std::fs::write(path(journal.dir(), 2), leftover).expect("written");
        let (groups, replayed) = journal.replay().expect("passed over");
        assert_eq!((groups, replayed.last_file), (vec![1], 2));
        assert!(replayed.torn_bytes > 0);
        assert!(!path(journal.dir(), 2).exists());
        assert_eq!(path(journal.dir(), 1).metadata().expect("there").len(), at(1) as u64);
    }
}

#[test]
fn a_damaged_header_with_frames_behind_it_is_told() {
    let mut journal = Fixture::new();
    journal.file(1, 2);
    journal.change(1, |bytes| bytes[3] ^= 1);
    assert!(journal.damaged().contains("group 1 stands after it"));
}

/// The opposite of a torn end: bytes that changed under an acknowledged group must never make it,
/// and all that follow it, go without a word.
#[test]
fn damage_before_a_later_frame_is_told() {
    for byte in [at(0), at(0) + 5, at(0) + 17, at(0) + 5_000, at(1) - 1] {
        let mut journal = Fixture::new();
        journal.file(1, 3);
        journal.change(1, |bytes| bytes[byte] ^= 8);
        assert!(journal.damaged().contains("group 2 stands after it"), "byte {byte}");
    }
}

#[test]
fn damage_at_the_end_of_an_earlier_file_is_told() {
    let mut journal = Fixture::new();
    journal.file(1, 2);
    journal.file(2, 1);
    journal.change(1, |bytes| bytes[at(1) + 100] ^= 1);
    assert!(journal.damaged().contains("group 3 where 2 should be"));
}

#[test]
fn a_missing_file_is_told() {
    for missing in [1, 2] {
        let mut journal = Fixture::new();
        journal.file(1, 2);
        journal.file(2, 2);
        journal.file(3, 2);
        std::fs::remove_file(path(journal.dir(), missing)).expect("removed");
        assert!(journal.damaged().contains("should be"), "file {missing}");
    }
    // Unless the tables hold what it held.
    let mut journal = Fixture::new();
    journal.file(1, 2);
    journal.file(2, 2);
    delete_up_to(journal.dir(), 1).expect("deleted");
    assert_eq!(journal.replay_after(2).expect("whole").0, [3, 4]);
    assert_eq!(journal.replay_after(3).expect("whole").0, [3, 4]);
}

/// Fails as told, and remembers what reached it.
struct Flaky {
    fail_write: bool,
    fail_sync: bool,
    fail_cut: bool,
    cut: Option<u64>,
}

impl Media for std::sync::Arc<std::sync::Mutex<Flaky>> {
    fn write_at(&mut self, _: u64, _: &[u8]) -> io::Result<()> {
        fail(self.lock().expect("sound").fail_write)
    }

    fn sync(&mut self) -> io::Result<()> {
        fail(self.lock().expect("sound").fail_sync)
    }

    fn cut(&mut self, at: u64) -> io::Result<()> {
        let mut flaky = self.lock().expect("sound");
        flaky.cut = Some(at);
        fail(flaky.fail_cut)
    }
}

fn fail(fail: bool) -> io::Result<()> {
    if fail { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
}

#[test]
fn a_failed_write_is_undone_or_unknown_and_a_failed_sync_always_unknown() {
    let flaky = Flaky { fail_write: false, fail_sync: false, fail_cut: false, cut: None };
    let flaky = std::sync::Arc::new(std::sync::Mutex::new(flaky));
    let media: CreateMedia = {
        let flaky = std::sync::Arc::clone(&flaky);
        std::sync::Arc::new(move |_, _| Ok(Box::new(std::sync::Arc::clone(&flaky))))
    };
    let dir = tempfile::tempdir().expect("a directory");
    let mut journal = Journal::create(dir.path(), 1, 1 << 20, &media).expect("created");
    journal.write(&frame(1)).expect("written");

    flaky.lock().expect("sound").fail_write = true;
    assert!(matches!(journal.write(&frame(2)), Err(WriteError::Undone(_))));
    assert_eq!(flaky.lock().expect("sound").cut, Some(at(1) as u64), "back to the end of group 1");
    flaky.lock().expect("sound").fail_cut = true;
    assert!(matches!(journal.write(&frame(2)), Err(WriteError::Unknown(_))));

    *flaky.lock().expect("sound") = Flaky { fail_write: false, fail_sync: true, fail_cut: false, cut: None };
    assert!(matches!(journal.write(&frame(2)), Err(WriteError::Unknown(_))));
    assert_eq!(flaky.lock().expect("sound").cut, None, "a failed sync proves nothing, so nothing is cut");
}
