//! Openraft's own suite, and what becomes of folders that are not as they were left.

use std::path::Path;
use std::sync::Arc;

use evergate_proto::raft::v1::Batch;
use openraft::EntryPayload;
use openraft::storage::{RaftLogStorage as _, RaftLogStorageExt as _, RaftStateMachine as _};
use openraft::testing::{StoreBuilder, Suite};
use openraft::{RaftLogReader as _, RaftSnapshotBuilder as _};

use super::state::StateStore;
use super::*;
use crate::machine::testing::Sum;
use crate::raft::types::{Entry, LogId, StorageError, Types, Vote};

struct Builder;

impl StoreBuilder<Types, LogStore, StateStore<Sum>, tempfile::TempDir> for Builder {
    async fn build(&self) -> Result<(tempfile::TempDir, LogStore, StateStore<Sum>), StorageError> {
        let dir = tempfile::tempdir().expect("a folder");
        let (log, shared) = open(dir.path()).expect("opens");
        Ok((dir, log, shared.store()))
    }
}

fn open(dir: &Path) -> Result<(LogStore, Arc<Shared<Sum>>), OpenError> {
    let folder = Arc::new(Folder::open(dir)?);
    let log = LogStore::open(&folder, "test", 1, Sum::READ)?;
    let purged = log.purged().expect("readable");
    let shared = Shared::open(&folder, Sum::default(), purged)?;
    Ok((log, shared))
}

#[test]
fn the_suite_of_openraft_passes() {
    Suite::test_all(Builder).expect("as openraft wants it");
}

fn id(index: u64) -> LogId {
    openraft::testing::log_id(1, 1, index)
}

fn command(index: u64, command: &[u8]) -> Entry {
    let batch = Batch { format: 1, commands: vec![command.to_vec()] };
    Entry { log_id: id(index), payload: EntryPayload::Normal(batch) }
}

/// A folder with a vote, entries up to 4, a snapshot of the first three, purged up to 1.
async fn fill(dir: &Path) {
    let (mut log, shared) = open(dir).expect("opens");
    let mut store = shared.store();
    log.save_vote(&Vote::new_committed(1, 1)).await.expect("saved");
    let entries: Vec<_> = (0..5).map(|index| command(index, &[index as u8])).collect();
    log.blocking_append(entries.clone()).await.expect("appended");
    store.apply(entries.into_iter().take(4)).await.expect("applied");
    store.build_snapshot().await.expect("built");
    log.purge(id(1)).await.expect("purged");
}

#[tokio::test]
async fn all_is_there_after_a_restart() {
    let dir = tempfile::tempdir().expect("a folder");
    fill(dir.path()).await;
    let (mut log, shared) = open(dir.path()).expect("opens again");
    assert_eq!(log.read_vote().await.expect("read"), Some(Vote::new_committed(1, 1)));
    let state = log.get_log_state().await.expect("read");
    assert_eq!((state.last_purged_log_id, state.last_log_id), (Some(id(1)), Some(id(4))));
    let left = log.try_get_log_entries(..).await.expect("read");
    assert_eq!(left.iter().map(|entry| entry.log_id.index).collect::<Vec<_>>(), [2, 3, 4]);
    // 0 + 1 + 2 + 3, as the snapshot has it.
    assert_eq!(shared.read(|sum, applied| (sum.total(), applied)), (6, 3));
    assert_eq!(log.format(), 1);
}

#[tokio::test]
async fn an_incarnation_is_drawn_once_for_a_folder() {
    let (one, other) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let drawn = |dir: &Path| open(dir).expect("opens").0.identity().incarnation;
    let first = drawn(one.path());
    assert_eq!(drawn(one.path()), first);
    assert_ne!(drawn(other.path()), first);
}

#[tokio::test]
async fn a_folder_is_refused_in_one_sentence_if_it_is_not_this_nodes() {
    let dir = tempfile::tempdir().expect("a folder");
    fill(dir.path()).await;
    let try_as = |cluster: &str, id, read| {
        let folder = Arc::new(Folder::open(dir.path())?);
        LogStore::open(&folder, cluster, id, read).map(drop)
    };
    for (cluster, id, read, says) in [
        ("test", 2, 1, "belongs to node 1 of cluster \"test\", and this is node 2"),
        ("other", 1, 1, "and this is node 1 of cluster \"other\""),
        ("test", 1, 0, "has format 1 of commands; this version reads formats up to 0"),
    ] {
        let error = try_as(cluster, id, read).expect_err("not this one").to_string();
        assert!(error.contains(says), "{error}");
    }
    try_as("test", 1, 1).expect("this one");
    let held = Folder::open(dir.path()).expect("free");
    assert!(matches!(try_as("test", 1, 1), Err(OpenError::Locked { .. })));
    drop(held);
    std::fs::write(dir.path().join("FORMAT"), "evergate control node, format 2\n").expect("written");
    assert!(matches!(try_as("test", 1, 1), Err(OpenError::Newer { found: 2, .. })));
    let foreign = tempfile::tempdir().expect("a folder");
    std::fs::write(foreign.path().join("thesis.tex"), "").expect("written");
    assert!(matches!(Folder::open(foreign.path()), Err(OpenError::Foreign { .. })));
}

/// Cut and overwritten anywhere, a log opens as what it was, or is refused as damaged: it is never
/// another log, and nothing panics.
#[tokio::test]
async fn a_torn_log_is_refused_or_whole() {
    let dir = tempfile::tempdir().expect("a folder");
    fill(dir.path()).await;
    let file = dir.path().join("raft.redb");
    let whole = std::fs::read(&file).expect("read");
    let mut refused = 0;
    let mut check = |bytes: &[u8], how: String| {
        std::fs::write(&file, bytes).expect("written");
        match open(dir.path()) {
            Ok((log, shared)) => {
                assert_eq!(log.purged().expect("read"), Some(id(1)), "{how}");
                assert_eq!(shared.read(|sum, _| sum.total()), 6, "{how}");
            }
            Err(OpenError::Damaged { .. }) => refused += 1,
            Err(error) => panic!("{how}: {error}"),
        }
    };
    for end in [1, 100, 4096, whole.len() / 2, whole.len() - 1] {
        check(&whole[..end], format!("cut at {end}"));
    }
    for at in (0..whole.len()).step_by(1021) {
        let mut changed = whole.clone();
        let end = (at + 64).min(changed.len());
        changed[at..end].fill(0xA5);
        check(&changed, format!("overwritten at {at}"));
    }
    assert!(refused > 0, "nothing of it mattered");
}

#[tokio::test]
async fn a_log_without_its_snapshot_or_the_other_way_round_is_refused() {
    let dir = tempfile::tempdir().expect("a folder");
    fill(dir.path()).await;
    std::fs::rename(dir.path().join("snapshot"), dir.path().join("aside")).expect("renamed");
    assert!(matches!(open(dir.path()), Err(OpenError::Damaged { .. })));
}
