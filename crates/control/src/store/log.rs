//! The vote and the log, in one database file.

use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use evergate_proto::raft::v1 as pb;
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{LogState, OptionalSend, RaftLogReader};
use prost::Message;
use redb::{
    Database, Durability, ReadableDatabase as _, ReadableTable as _, TableDefinition, WriteTransaction,
};

use super::error::OpenError;
use super::folder::Folder;
use super::rows;
use crate::raft::coding;
use crate::raft::types::{Entry, LogId, NodeId, StorageError, StorageIoError, Types, Vote};

/// Entries by their index.
const ENTRIES: TableDefinition<'_, u64, &[u8]> = TableDefinition::new("entries/1");
/// All else, by the names below.
const FACTS: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("facts/1");

const IDENTITY: &str = "identity";
const VOTE: &str = "vote";
const PURGED: &str = "purged";
const COMMITTED: &str = "committed";
/// The newest format that any command ever had, big-endian.
const FORMAT: &str = "format";

/// Memory for the file's pages. The log is short: it is purged behind snapshots.
const CACHE_BYTES: usize = 16 << 20;
/// Entries that are read at once for a member end with the one that reaches this.
const READ_BYTES: usize = 4 << 20;

/// Who a folder is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) cluster: String,
    pub(crate) id: NodeId,
    pub(crate) incarnation: u64,
}

/// The log. Clones are the same log.
#[derive(Clone)]
pub(crate) struct LogStore(Arc<Inner>);

struct Inner {
    database: Database,
    identity: Identity,
    /// What [`FORMAT`] says.
    format: AtomicU32,
    // Last: let go of when nothing here can touch the folder any more.
    _folder: Arc<Folder>,
}

impl LogStore {
    /// Opens the log of this node, or makes one if the folder is new, and looks at every page and every
    /// entry once. Formats up to `format_read` are understood.
    pub(crate) fn open(
        folder: &Arc<Folder>,
        cluster: &str,
        id: NodeId,
        format_read: u32,
    ) -> Result<Self, OpenError> {
        // The database panics over a page that makes no sense.
        let opening = AssertUnwindSafe(|| Self::examined(folder, cluster, id, format_read));
        let opened = std::panic::catch_unwind(opening);
        opened.unwrap_or_else(|_| Err(folder.damaged("its log has a page that makes no sense")))
    }

    fn examined(
        folder: &Arc<Folder>,
        cluster: &str,
        id: NodeId,
        format_read: u32,
    ) -> Result<Self, OpenError> {
        let mut database = match Database::builder().set_cache_size(CACHE_BYTES).create(folder.log()) {
            Ok(database) => database,
            Err(error) => return Err(refused(folder, error.into())),
        };
        match database.check_integrity() {
            Ok(true) => {}
            // A repair goes back to what was before.
            Ok(false) => return Err(folder.damaged("its log has a page with another checksum")),
            Err(error) => return Err(refused(folder, error.into())),
        }
        let identity = identify(&database, cluster, id).map_err(|error| refused(folder, error))?;
        if identity.id != id || identity.cluster != cluster {
            return Err(OpenError::Other {
                dir: folder.dir().to_owned(),
                found_id: identity.id,
                found_cluster: identity.cluster,
                id,
                cluster: cluster.to_owned(),
            });
        }
        let format = format(&database).map_err(|error| refused(folder, error))?;
        if format > format_read {
            return Err(OpenError::Newer {
                dir: folder.dir().to_owned(),
                what: "commands",
                found: format.into(),
                known: format_read.into(),
            });
        }
        if let Some(what) = examine(&database).map_err(|error| refused(folder, error))? {
            return Err(folder.damaged(what));
        }
        let format = AtomicU32::new(format);
        Ok(Self(Arc::new(Inner { database, identity, format, _folder: Arc::clone(folder) })))
    }

    pub(crate) fn identity(&self) -> &Identity {
        &self.0.identity
    }

    /// The newest format that any command in this log ever had.
    pub(crate) fn format(&self) -> u32 {
        self.0.format.load(Ordering::Relaxed)
    }

    /// The last entry that was purged.
    pub(crate) fn purged(&self) -> Result<Option<LogId>, redb::Error> {
        Ok(self.fact::<pb::LogId>(PURGED)?.map(coding::to_log_id))
    }

    fn fact<M: Message + Default>(&self, name: &str) -> Result<Option<M>, redb::Error> {
        let reading = self.0.database.begin_read()?;
        let table = reading.open_table(FACTS)?;
        let Some(value) = table.get(name)? else { return Ok(None) };
        M::decode(value.value()).map(Some).map_err(|_| redb::Error::Corrupted(format!("its {name}")))
    }

    /// Changes the file in one transaction, which is synced when this returns. It is not given up when
    /// the caller is.
    async fn write(
        &self,
        change: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error> + Send + 'static,
    ) -> Result<(), redb::Error> {
        self.transact(Durability::Immediate, change).await
    }

    async fn transact(
        &self,
        durability: Durability,
        change: impl FnOnce(&WriteTransaction) -> Result<(), redb::Error> + Send + 'static,
    ) -> Result<(), redb::Error> {
        let inner = Arc::clone(&self.0);
        let writing = tokio::task::spawn_blocking(move || {
            let begun = Instant::now();
            let mut transaction = inner.database.begin_write()?;
            transaction.set_durability(durability)?;
            change(&transaction)?;
            transaction.commit()?;
            if matches!(durability, Durability::Immediate) {
                metrics::histogram!("evergate_raft_fsync_seconds").record(begun.elapsed().as_secs_f64());
            }
            Ok(())
        });
        writing.await.unwrap_or_else(|error| Err(redb::Error::Io(io::Error::other(error))))
    }

    async fn set(&self, name: &'static str, value: impl Message) -> Result<(), redb::Error> {
        let value = value.encode_to_vec();
        self.write(move |transaction| {
            transaction.open_table(FACTS)?.insert(name, value.as_slice())?;
            Ok(())
        })
        .await
    }

    /// The entries of the range, in order, until they have `bytes`; at least one, if there is any.
    #[expect(clippy::result_large_err, reason = "openraft's own type")]
    fn entries(&self, range: impl RangeBounds<u64>, bytes: usize) -> Result<Vec<Entry>, StorageError> {
        let failed = |error: redb::Error| StorageIoError::read_logs(&error);
        let reading = self.0.database.begin_read().map_err(|error| failed(error.into()))?;
        let table = reading.open_table(ENTRIES).map_err(|error| failed(error.into()))?;
        let mut entries = Vec::new();
        let mut size = 0;
        for row in table.range(own(&range)).map_err(|error| failed(error.into()))? {
            let (index, row) = row.map_err(|error| failed(error.into()))?;
            let entry = rows::decode(row.value())
                .map_err(|error| StorageIoError::read_log_at_index(index.value(), &error))?;
            entries.push(entry);
            size += row.value().len();
            if size >= bytes {
                break;
            }
        }
        Ok(entries)
    }
}

/// Whether the system refused, or the content makes no sense.
fn refused(folder: &Folder, error: redb::Error) -> OpenError {
    const CONTENT: [io::ErrorKind; 2] = [io::ErrorKind::InvalidData, io::ErrorKind::UnexpectedEof];
    if matches!(error, redb::Error::DatabaseAlreadyOpen) {
        return OpenError::Locked { dir: folder.dir().to_owned() };
    }
    if let redb::Error::Io(error) = error {
        return if CONTENT.contains(&error.kind()) {
            folder.damaged(format!("its log: {error}"))
        } else {
            folder.io(error)
        };
    }
    folder.damaged(format!("its log: {error}"))
}

fn own(range: &impl RangeBounds<u64>) -> (std::ops::Bound<u64>, std::ops::Bound<u64>) {
    (range.start_bound().cloned(), range.end_bound().cloned())
}

/// Reads who the folder is; a new one becomes this node, under an incarnation that never was.
fn identify(database: &Database, cluster: &str, id: NodeId) -> Result<Identity, redb::Error> {
    let transaction = database.begin_write()?;
    transaction.open_table(ENTRIES)?;
    let identity = {
        let mut facts = transaction.open_table(FACTS)?;
        let known = facts.get(IDENTITY)?.map(|value| pb::NodeInfo::decode(value.value()));
        match known {
            Some(Ok(info)) => info,
            Some(Err(_)) => return Err(redb::Error::Corrupted("its identity".to_owned())),
            None => {
                let random =
                    getrandom::u64().map_err(|error| redb::Error::Io(io::Error::other(error.to_string())))?;
                let incarnation = random.max(1);
                let info =
                    pb::NodeInfo { cluster: cluster.to_owned(), id, incarnation, ..Default::default() };
                facts.insert(IDENTITY, info.encode_to_vec().as_slice())?;
                info
            }
        }
    };
    transaction.commit()?;
    Ok(Identity { cluster: identity.cluster, id: identity.id, incarnation: identity.incarnation })
}

fn format(database: &Database) -> Result<u32, redb::Error> {
    let reading = database.begin_read()?;
    let facts = reading.open_table(FACTS)?;
    let Some(value) = facts.get(FORMAT)? else { return Ok(0) };
    let format = value.value().try_into().map(u32::from_be_bytes);
    format.map_err(|_| redb::Error::Corrupted("its format".to_owned()))
}

/// What is wrong with the log, if anything: a hole, or an entry that cannot be read.
fn examine(database: &Database) -> Result<Option<String>, redb::Error> {
    let reading = database.begin_read()?;
    let facts = reading.open_table(FACTS)?;
    let purged = facts.get(PURGED)?.map(|value| pb::LogId::decode(value.value()));
    let mut expected = match purged {
        None => 0,
        Some(Ok(purged)) => purged.index + 1,
        Some(Err(_)) => return Ok(Some("where its log begins".to_owned())),
    };
    for row in reading.open_table(ENTRIES)?.iter()? {
        let (index, row) = row?;
        if index.value() != expected {
            return Ok(Some(format!("its log has entry {} where {expected} belongs", index.value())));
        }
        match rows::decode(row.value()) {
            Ok(entry) if entry.log_id.index == expected => expected += 1,
            Ok(entry) => {
                return Ok(Some(format!(
                    "entry {expected} of its log says that it is {}",
                    entry.log_id.index
                )));
            }
            Err(error) => return Ok(Some(format!("entry {expected} of its log: {error}"))),
        }
    }
    Ok(None)
}

impl RaftLogReader<Types> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry>, StorageError> {
        self.entries(range, usize::MAX)
    }

    /// As many as one message carries.
    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, StorageError> {
        self.entries(start..end, READ_BYTES)
    }
}

impl RaftLogStorage<Types> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<Types>, StorageError> {
        let failed = |error: redb::Error| StorageIoError::read_logs(&error);
        let last_purged_log_id = self.purged().map_err(failed)?;
        let reading = self.0.database.begin_read().map_err(|error| failed(error.into()))?;
        let table = reading.open_table(ENTRIES).map_err(|error| failed(error.into()))?;
        let last = table.last().map_err(|error| failed(error.into()))?;
        let last = last.map(|(_, row)| rows::decode(row.value())).transpose();
        let last = last.map_err(|error| StorageIoError::read_logs(&error))?;
        let last_log_id = last.map(|entry| entry.log_id).or(last_purged_log_id);
        Ok(LogState { last_purged_log_id, last_log_id })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), StorageError> {
        let saved = self.set(VOTE, coding::from_vote(vote)).await;
        saved.map_err(|error| StorageIoError::write_vote(&error).into())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, StorageError> {
        let vote = self.fact::<pb::VoteState>(VOTE);
        let vote = vote.map_err(|error| StorageIoError::read_vote(&error))?;
        Ok(vote.map(coding::to_vote))
    }

    /// Not synced by itself: it goes to the disk with what is written next. Lost, it costs a restarted
    /// node the wait until a leader tells it again.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), StorageError> {
        let Some(committed) = committed else { return Ok(()) };
        let value = coding::from_log_id(&committed).encode_to_vec();
        let saved = self.transact(Durability::None, move |transaction| {
            transaction.open_table(FACTS)?.insert(COMMITTED, value.as_slice())?;
            Ok(())
        });
        saved.await.map_err(|error| StorageIoError::write(&error).into())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, StorageError> {
        let committed = self.fact::<pb::LogId>(COMMITTED);
        let committed = committed.map_err(|error| StorageIoError::read(&error))?;
        Ok(committed.map(coding::to_log_id))
    }

    async fn append<I>(&mut self, entries: I, callback: LogFlushed<Types>) -> Result<(), StorageError>
    where
        I: IntoIterator<Item = Entry> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut format = self.format();
        let mut written = Vec::new();
        for entry in entries {
            let index = entry.log_id.index;
            let (row, of_row) = rows::encode(entry);
            format = format.max(of_row);
            written.push((index, row));
        }
        let newer = (format > self.format()).then_some(format);
        let appended = self.write(move |transaction| {
            let mut table = transaction.open_table(ENTRIES)?;
            for (index, row) in &written {
                table.insert(index, row.as_slice())?;
            }
            if let Some(format) = newer {
                transaction.open_table(FACTS)?.insert(FORMAT, format.to_be_bytes().as_slice())?;
            }
            Ok(())
        });
        appended.await.map_err(|error| StorageIoError::write_logs(&error))?;
        self.0.format.fetch_max(format, Ordering::Relaxed);
        callback.log_io_completed(Ok(()));
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let truncated = self.write(move |transaction| {
            transaction.open_table(ENTRIES)?.retain_in(log_id.index.., |_, _| false)?;
            Ok(())
        });
        truncated.await.map_err(|error| StorageIoError::write_logs(&error).into())
    }

    async fn purge(&mut self, log_id: LogId) -> Result<(), StorageError> {
        let value = coding::from_log_id(&log_id).encode_to_vec();
        let purged = self.write(move |transaction| {
            transaction.open_table(FACTS)?.insert(PURGED, value.as_slice())?;
            transaction.open_table(ENTRIES)?.retain_in(..=log_id.index, |_, _| false)?;
            Ok(())
        });
        purged.await.map_err(|error| StorageIoError::write_logs(&error).into())
    }
}
