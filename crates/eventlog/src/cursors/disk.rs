//! Cursors in one file, beside the durable log.
//!
//! One thread writes, and one transaction takes all that waits: however many clients come at once,
//! they share a sync of the disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use async_trait::async_trait;
use evergate_domain::{CursorKey, StoredCursor};
use parking_lot::Mutex;
use redb::{Database, DatabaseError, ReadableTable as _, Table, TableDefinition};
use tokio::sync::{mpsc, oneshot};

use super::{
    CursorStore, CursorStoreError, CursorWrite, Only, TakeOver, Wish, Written, judge, taken_if, taken_over,
};
use crate::clock::day;
use crate::{BackendError, Clock};

/// From a key's field to the day of the last touch (big-endian) and the cursor.
const CURSORS: TableDefinition<'_, [u8; 16], &[u8]> = TableDefinition::new("cursors/1");

/// Calls that wait for the writer. When it is full, callers wait.
const QUEUE: usize = 4096;
/// Calls of one transaction.
const GROUP: usize = 1024;
/// Memory for the file's pages: cursors of some hundred thousand clients fit.
const CACHE_BYTES: usize = 16 << 20;

/// Why the file of cursors cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum CursorFileError {
    /// Another process has it open.
    #[error("{} is in use by another process", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// It cannot be read, or not as what it should be.
    #[error(
        "{} cannot be opened ({why}); if it is damaged, remove it: clients that bring no position then begin as new ones",
        path.display()
    )]
    Unusable {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
}

/// The store in a file. Ended by [`close`](CursorStore::close).
pub struct DiskCursors {
    queue: Mutex<Option<mpsc::Sender<Call>>>,
    writer: Mutex<Option<JoinHandle<()>>>,
}

/// A call with the way back for its answer.
enum Call {
    TakeOver(CursorKey, TakeOver, oneshot::Sender<Option<StoredCursor>>),
    TakeIf(CursorKey, TakeOver, Only, oneshot::Sender<Wish>),
    Look(CursorKey, oneshot::Sender<Option<StoredCursor>>),
    Write(Vec<CursorWrite>, oneshot::Sender<Vec<Written>>),
    Expire(oneshot::Sender<()>),
}

/// An answer, sent only after the transaction that it came from is safe.
enum Answer {
    TakeOver(Option<StoredCursor>, oneshot::Sender<Option<StoredCursor>>),
    TakeIf(Wish, oneshot::Sender<Wish>),
    Look(Option<StoredCursor>, oneshot::Sender<Option<StoredCursor>>),
    Write(Vec<Written>, oneshot::Sender<Vec<Written>>),
    Expire(oneshot::Sender<()>),
}

impl DiskCursors {
    /// Opens the file, or makes it. Blocks while a file that was not closed is mended.
    pub fn open(path: &Path, clock: Arc<dyn Clock>) -> Result<Self, CursorFileError> {
        let unusable = |why: String| CursorFileError::Unusable { path: path.to_owned(), why };
        let database = open(path).map_err(|error| {
            if matches!(error, DatabaseError::DatabaseAlreadyOpen) {
                CursorFileError::Locked { path: path.to_owned() }
            } else {
                unusable(error.to_string())
            }
        })?;
        let (queue, calls) = mpsc::channel(QUEUE);
        let file = path.to_owned();
        let writer = std::thread::Builder::new()
            .name("cursors".into())
            .spawn(move || work(&file, database, &*clock, calls))
            .map_err(|error| unusable(error.to_string()))?;
        Ok(Self { queue: Mutex::new(Some(queue)), writer: Mutex::new(Some(writer)) })
    }

    async fn ask<T>(&self, call: impl FnOnce(oneshot::Sender<T>) -> Call) -> Result<T, CursorStoreError> {
        let queue = self.queue.lock().clone().ok_or(CursorStoreError::Closed)?;
        let (answer, answered) = oneshot::channel();
        queue.send(call(answer)).await.map_err(|_| CursorStoreError::Closed)?;
        // Dropped unanswered when the transaction failed; the writer has logged why.
        answered.await.map_err(|_| {
            CursorStoreError::Unavailable(BackendError::message("the file of cursors cannot be written"))
        })
    }
}

#[async_trait]
impl CursorStore for DiskCursors {
    async fn take_over(
        &self,
        key: &CursorKey,
        take: TakeOver,
    ) -> Result<Option<StoredCursor>, CursorStoreError> {
        self.ask(|answer| Call::TakeOver(key.clone(), take, answer)).await
    }

    async fn take_if(&self, key: &CursorKey, take: TakeOver, only: Only) -> Result<Wish, CursorStoreError> {
        self.ask(|answer| Call::TakeIf(key.clone(), take, only, answer)).await
    }

    /// Behind what is waiting to be written.
    async fn look(&self, key: &CursorKey) -> Result<Option<StoredCursor>, CursorStoreError> {
        self.ask(|answer| Call::Look(key.clone(), answer)).await
    }

    /// One transaction: all of it, or none.
    async fn write(&self, batch: &[CursorWrite]) -> Vec<Result<Written, CursorStoreError>> {
        match self.ask(|answer| Call::Write(batch.to_vec(), answer)).await {
            Ok(written) => written.into_iter().map(Ok).collect(),
            Err(error) => vec![Err(error); batch.len()],
        }
    }

    async fn expire(&self) -> Result<(), CursorStoreError> {
        self.ask(Call::Expire).await
    }

    async fn close(&self) {
        drop(self.queue.lock().take());
        let Some(writer) = self.writer.lock().take() else { return };
        if tokio::task::spawn_blocking(move || writer.join()).await.is_err() {
            tracing::error!("the writer of cursors failed");
        }
    }
}

fn open(path: &Path) -> Result<Database, DatabaseError> {
    Database::builder().set_cache_size(CACHE_BYTES).create(path)
}

/// Takes calls until nobody can make any more. A database that failed once refuses everything after,
/// so it is opened anew for the next calls.
fn work(path: &Path, database: Database, clock: &dyn Clock, mut calls: mpsc::Receiver<Call>) {
    let mut database = Some(database);
    let mut group = Vec::with_capacity(GROUP);
    while calls.blocking_recv_many(&mut group, GROUP) > 0 {
        let opened = match database.take() {
            Some(database) => Ok(database),
            None => open(path).map_err(redb::Error::from),
        };
        let done = opened.and_then(|database| {
            let answers = transact(&database, day(clock.now()), group.drain(..))?;
            Ok((database, answers))
        });
        match done {
            Ok((usable, answers)) => {
                database = Some(usable);
                answers.into_iter().for_each(Answer::send);
            }
            Err(error) => {
                tracing::warn!(%error, "cursors could not be kept");
                // Unanswered, which tells their callers.
                group.clear();
            }
        }
    }
}

fn transact(
    database: &Database,
    today: u64,
    calls: impl Iterator<Item = Call>,
) -> Result<Vec<Answer>, redb::Error> {
    let transaction = database.begin_write()?;
    let mut answers = Vec::new();
    {
        let mut table = transaction.open_table(CURSORS)?;
        for call in calls {
            answers.push(perform(&mut table, today, call)?);
        }
    }
    transaction.commit()?;
    Ok(answers)
}

type Cursors<'t> = Table<'t, [u8; 16], &'static [u8]>;

fn perform(table: &mut Cursors<'_>, today: u64, call: Call) -> Result<Answer, redb::Error> {
    Ok(match call {
        Call::TakeOver(key, take, answer) => {
            let next = taken_over(kept(table, &key)?.as_ref(), &take);
            keep(table, &key, today, &next)?;
            Answer::TakeOver(super::answer(next), answer)
        }
        Call::TakeIf(key, take, only, answer) => {
            let (wish, next) = taken_if(kept(table, &key)?.as_ref(), &take, only);
            if let Some(next) = next {
                keep(table, &key, today, &next)?;
            }
            Answer::TakeIf(wish, answer)
        }
        Call::Look(key, answer) => Answer::Look(kept(table, &key)?, answer),
        Call::Write(batch, answer) => {
            let mut written = Vec::with_capacity(batch.len());
            for write in &batch {
                let (what, next) = judge(kept(table, &write.key)?.as_ref(), write);
                if let Some(next) = next {
                    keep(table, &write.key, today, &next)?;
                }
                written.push(what);
            }
            Answer::Write(written, answer)
        }
        Call::Expire(answer) => {
            table.retain(|_, value| touched(value).is_some_and(|day| day + 1 >= today))?;
            Answer::Expire(answer)
        }
    })
}

impl Answer {
    fn send(self) {
        // Whoever asked may have gone.
        match self {
            Self::TakeOver(kept, answer) => drop(answer.send(kept)),
            Self::TakeIf(wish, answer) => drop(answer.send(wish)),
            Self::Look(kept, answer) => drop(answer.send(kept)),
            Self::Write(written, answer) => drop(answer.send(written)),
            Self::Expire(answer) => drop(answer.send(())),
        }
    }
}

fn kept(table: &Cursors<'_>, key: &CursorKey) -> Result<Option<StoredCursor>, redb::Error> {
    let value = table.get(key.field())?;
    Ok(value.and_then(|value| StoredCursor::from_bytes(value.value().get(8..)?)))
}

fn keep(
    table: &mut Cursors<'_>,
    key: &CursorKey,
    today: u64,
    cursor: &StoredCursor,
) -> Result<(), redb::Error> {
    let mut value = today.to_be_bytes().to_vec();
    value.extend_from_slice(&cursor.to_bytes());
    table.insert(key.field(), value.as_slice())?;
    Ok(())
}

fn touched(value: &[u8]) -> Option<u64> {
    value.first_chunk().map(|day| u64::from_be_bytes(*day))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cursors::conformance::{Subject, suite};

    struct File(tempfile::TempDir);

    impl File {
        fn new() -> Self {
            Self(tempfile::tempdir().expect("a directory"))
        }

        fn path(&self) -> PathBuf {
            self.0.path().join("cursors.redb")
        }
    }

    #[async_trait]
    impl Subject for File {
        async fn open(&self, clock: Arc<dyn Clock>) -> Arc<dyn CursorStore> {
            Arc::new(DiskCursors::open(&self.path(), clock).expect("opens"))
        }

        fn durable(&self) -> bool {
            true
        }
    }

    suite!(File::new());

    #[test]
    fn a_file_that_is_in_use_or_is_none_is_told_apart() {
        let clock: Arc<dyn Clock> = Arc::new(crate::SystemClock);
        let file = File::new();
        let held = DiskCursors::open(&file.path(), Arc::clone(&clock)).expect("opens");
        assert!(matches!(
            DiskCursors::open(&file.path(), Arc::clone(&clock)),
            Err(CursorFileError::Locked { .. })
        ));
        drop(held);
        let other = file.0.path().join("other");
        std::fs::write(&other, vec![b'x'; 8192]).expect("written");
        let error = DiskCursors::open(&other, clock).err().expect("no cursors");
        assert!(error.to_string().contains("remove it"), "{error}");
    }
}
