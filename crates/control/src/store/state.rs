//! The machine with its place in the log, fed by Raft.

use std::sync::Arc;

use evergate_proto::raft::v1::Batch;
use openraft::storage::RaftStateMachine;
use openraft::{AnyError, EntryPayload, OptionalSend, RaftSnapshotBuilder};
use parking_lot::Mutex;
use tokio::sync::watch;

use super::error::OpenError;
use super::folder::Folder;
use super::snapshots::{Snapshots, Stored};
use crate::machine::{Machine, RestoreError};
use crate::raft::types::{
    Entry, Image, LogId, Snapshot, SnapshotMeta, StorageError, StorageIoError, StoredMembership, Types,
};

/// The machine, shared between Raft, which feeds it, and those who read it. A lock is held for one batch
/// of commands, or one look.
pub(crate) struct Shared<M> {
    state: Mutex<State<M>>,
    snapshots: Snapshots,
    applied: watch::Sender<u64>,
}

struct State<M> {
    machine: M,
    last: Option<LogId>,
    membership: StoredMembership,
}

/// What Raft is given: the machine, to be fed.
pub(crate) struct StateStore<M>(Arc<Shared<M>>);

impl<M> Clone for StateStore<M> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

/// Commands of a format that this program cannot read. The group's nodes tell each other what they read,
/// so this is only seen by one that was put back to an earlier version.
#[derive(Debug, thiserror::Error)]
#[error(
    "the group's commands have format {found}, and this version reads formats up to {known}: bring it up to date"
)]
struct TooNew {
    found: u32,
    known: u32,
}

impl<M: Machine> Shared<M> {
    /// A machine as the folder's snapshot has it, or as it is given if there is none. `purged` is where
    /// the log begins.
    pub(crate) fn open(
        folder: &Arc<Folder>,
        mut machine: M,
        purged: Option<LogId>,
    ) -> Result<Arc<Self>, OpenError> {
        let snapshots = Snapshots::open(folder, M::FORMAT_READ)?;
        let (mut last, mut membership) = (None, StoredMembership::default());
        if let Some(stored) = snapshots.current() {
            let restored = machine.restore(&stored.image.bytes);
            restored.map_err(|RestoreError(what)| folder.damaged(format!("its snapshot: {what}")))?;
            last = stored.meta.last_log_id;
            membership = stored.meta.last_membership;
        }
        if purged > last {
            return Err(folder.damaged("the snapshot is gone that its log begins behind"));
        }
        let applied = watch::Sender::new(last.map_or(0, |last| last.index));
        Ok(Arc::new(Self { state: Mutex::new(State { machine, last, membership }), snapshots, applied }))
    }

    /// Looks at the machine, and at the index of the last entry that it has taken. The look has to be
    /// short: commands wait for it.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&M, u64) -> T) -> T {
        let state = self.state.lock();
        look(&state.machine, state.last.map_or(0, |last| last.index))
    }

    /// The index of the last entry that the machine has taken, as it changes.
    pub(crate) fn applied(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    pub(crate) fn snapshots(&self) -> &Snapshots {
        &self.snapshots
    }

    pub(crate) fn store(self: &Arc<Self>) -> StateStore<M> {
        StateStore(Arc::clone(self))
    }

    fn snapshot(&self) -> Stored {
        let state = self.state.lock();
        let last = state.last;
        let name = last.map_or_else(|| "empty".to_owned(), |last| last.to_string());
        Stored {
            meta: SnapshotMeta {
                last_log_id: last,
                last_membership: state.membership.clone(),
                snapshot_id: name,
            },
            image: Image { format: state.machine.format(), bytes: Arc::new(state.machine.snapshot()) },
        }
    }

    async fn keep(&self, stored: Stored) -> Result<Stored, StorageError> {
        let signature = stored.meta.signature();
        let snapshots = self.snapshots.clone();
        let keeping = tokio::task::spawn_blocking(move || snapshots.keep(stored)).await;
        let kept = keeping.map_err(std::io::Error::other).and_then(|kept| kept);
        kept.map_err(|error| StorageIoError::write_snapshot(Some(signature), &error).into())
    }
}

impl<M: Machine> State<M> {
    #[expect(clippy::result_large_err, reason = "openraft's own type")]
    fn apply(&mut self, entry: Entry) -> Result<Vec<Vec<u8>>, StorageError> {
        let answers = match entry.payload {
            EntryPayload::Blank => Vec::new(),
            EntryPayload::Normal(Batch { format, commands }) => {
                if format > M::FORMAT_READ {
                    let error = TooNew { found: format, known: M::FORMAT_READ };
                    return Err(StorageIoError::apply(entry.log_id, &error).into());
                }
                commands.iter().map(|command| self.machine.apply(command)).collect()
            }
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership);
                Vec::new()
            }
        };
        self.last = Some(entry.log_id);
        Ok(answers)
    }
}

impl<M: Machine> RaftSnapshotBuilder<Types> for StateStore<M> {
    async fn build_snapshot(&mut self) -> Result<Snapshot, StorageError> {
        let stored = self.0.snapshot();
        Ok(self.0.keep(stored).await?.into())
    }
}

impl<M: Machine> RaftStateMachine<Types> for StateStore<M> {
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), StorageError> {
        let state = self.0.state.lock();
        Ok((state.last, state.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Vec<Vec<u8>>>, StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut answers = Vec::new();
        for entry in entries {
            let index = entry.log_id.index;
            answers.push(self.0.state.lock().apply(entry)?);
            self.0.applied.send_replace(index);
        }
        Ok(answers)
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Image>, StorageError> {
        Ok(Box::default())
    }

    /// The machine first: what it cannot take in never replaces what it could. The log is purged behind
    /// the snapshot only after this.
    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: Box<Image>,
    ) -> Result<(), StorageError> {
        let failed = |error| StorageIoError::read_snapshot(Some(meta.signature()), error);
        if snapshot.format > M::FORMAT_READ {
            let error = TooNew { found: snapshot.format, known: M::FORMAT_READ };
            return Err(failed(AnyError::new(&error)).into());
        }
        let index = {
            let mut state = self.0.state.lock();
            state.machine.restore(&snapshot.bytes).map_err(|error| failed(AnyError::new(&error)))?;
            state.last = meta.last_log_id;
            state.membership = meta.last_membership.clone();
            state.last.map_or(0, |last| last.index)
        };
        self.0.applied.send_replace(index);
        self.0.keep(Stored { meta: meta.clone(), image: *snapshot }).await?;
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, StorageError> {
        Ok(self.0.snapshots.current().map(Snapshot::from))
    }
}
