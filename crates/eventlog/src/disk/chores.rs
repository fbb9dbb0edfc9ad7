//! What has to be done to the tables in the background, and the two threads that do it.
//!
//! One writes sealed memory out and deletes the journal files that are thereby done with; appends
//! wait for it when it falls behind. The other merges files, which nobody waits for. Neither can
//! lose anything: what is not written out is in the journal, and what is not merged is merely
//! larger than it needs to be. So both try again when they fail, for as long as it takes.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use evergate_domain::Seq;
use parking_lot::{Condvar, Mutex};

use super::journal::{self, CreateMedia, Journal};
use super::rows::StreamId;
use super::space::FreeBytes;
use super::tables::{FILE_BYTES, Tables};

/// Sealed parts that may wait to be written out before appends wait for them.
const SEALED_MAX: usize = 2;
/// How long a failed chore rests.
const REST: Duration = Duration::from_secs(1);
/// The most that one merge reads, and so the most room it needs: a few files of one level and what
/// they overlap in the next.
const MERGE_BYTES: u64 = 12 * FILE_BYTES;
/// Dead bytes in the tables that are worth rewriting all of them, if they are as many as the live.
const DEAD_BYTES: u64 = 8 * FILE_BYTES;

/// What is to be done. Shared by those who ask and those who do.
#[derive(Default)]
pub(super) struct Chores {
    todo: Mutex<Todo>,
    changed: Condvar,
}

#[derive(Default)]
struct Todo {
    /// Sealed parts not written out yet, and the last journal file that belongs to them.
    sealed: usize,
    sealed_file: u64,
    /// Why the last attempt to write them out failed.
    flush_error: Option<String>,
    /// The journal file that will be needed next, and that file once it is begun.
    next_file: Option<u64>,
    begun: Option<Journal>,
    merge: bool,
    rewrite: bool,
    drop_files: HashMap<StreamId, Seq>,
    stop: bool,
}

impl Chores {
    /// Waits until another part may be sealed. Answers why that will not be soon, if so.
    pub(super) fn wait_for_flush(&self) -> Result<(), String> {
        let mut todo = self.todo.lock();
        while todo.sealed >= SEALED_MAX {
            if let Some(error) = &todo.flush_error {
                return Err(error.clone());
            }
            self.changed.wait(&mut todo);
        }
        Ok(())
    }

    /// Another part was sealed; the journal up to this file belongs to it and those before.
    pub(super) fn sealed(&self, journal_file: u64) {
        self.tell(|todo| {
            todo.sealed += 1;
            todo.sealed_file = journal_file;
        });
    }

    /// Asks for a journal file to be begun, so that nobody has to wait for it when it is needed.
    pub(super) fn begin_file(&self, number: u64) {
        self.tell(|todo| todo.next_file = Some(number));
    }

    /// The journal file, if it was begun.
    pub(super) fn take_file(&self, number: u64) -> Option<Journal> {
        let mut todo = self.todo.lock();
        // Whoever takes it begins it himself otherwise; two must not.
        todo.next_file = None;
        todo.begun.take().filter(|journal| journal.number() == number)
    }

    /// The stream's floor has risen by so much that whole files may be done with.
    pub(super) fn drop_files(&self, stream: StreamId, floor: Seq) {
        self.tell(|todo| {
            todo.drop_files.insert(stream, floor);
        });
    }

    /// Only so many bytes of events are kept, though the tables hold more.
    pub(super) fn live_bytes(&self, live: u64, held: u64) {
        if held.saturating_sub(live) > live.max(DEAD_BYTES) {
            self.tell(|todo| todo.rewrite = true);
        }
    }

    /// Tells both threads to end; what is left undone will be done when the log is opened again.
    pub(super) fn stop(&self) {
        self.tell(|todo| {
            todo.stop = true;
            todo.flush_error.get_or_insert_with(|| "the log is shutting down".into());
        });
    }

    fn tell(&self, change: impl FnOnce(&mut Todo)) {
        change(&mut self.todo.lock());
        self.changed.notify_all();
    }
}

/// Does the chores.
pub(super) struct Housekeeper {
    pub(super) chores: Arc<Chores>,
    pub(super) tables: Arc<Tables>,
    pub(super) dir: PathBuf,
    pub(super) journal: PathBuf,
    pub(super) journal_bytes: u64,
    pub(super) media: CreateMedia,
    pub(super) free_bytes: FreeBytes,
}

impl Housekeeper {
    /// Starts both threads. Whoever has the handles ends them by [`Chores::stop`] and waits.
    pub(super) fn start(self, threads: &mut Vec<JoinHandle<()>>) -> std::io::Result<()> {
        let keeper = Arc::new(self);
        let start = |name: &str, work: fn(&Self)| {
            let keeper = Arc::clone(&keeper);
            std::thread::Builder::new().name(name.into()).spawn(move || {
                let _told = TellIfDead(&keeper.chores);
                work(&keeper);
            })
        };
        keeper.measure();
        threads.push(start("log-flush", Self::flush_all)?);
        threads.push(start("log-merge", Self::merge_all)?);
        Ok(())
    }

    fn flush_all(&self) {
        let mut todo = self.chores.todo.lock();
        while !todo.stop {
            if let Some(number) = todo.next_file.take() {
                // Under the lock: it takes some milliseconds, and who needs the file meanwhile
                // would wait for the device as long. If it fails, who needs it will find out why.
                todo.begun = Journal::create(&self.journal, number, self.journal_bytes, &self.media).ok();
            }
            if todo.sealed == 0 {
                self.chores.changed.wait(&mut todo);
                continue;
            }
            let (sealed, file) = (todo.sealed, todo.sealed_file);
            drop(todo);
            let done = self.flush(sealed, file);
            self.measure();
            todo = self.chores.todo.lock();
            match done {
                Ok(()) => {
                    todo.sealed -= sealed;
                    todo.merge = true;
                    if !todo.stop {
                        todo.flush_error = None;
                    }
                    self.chores.changed.notify_all();
                }
                Err(error) => {
                    if todo.flush_error.is_none() {
                        tracing::warn!(error, "cannot write out the event log's memory; trying on");
                    }
                    todo.flush_error.get_or_insert(error);
                    self.chores.changed.notify_all();
                    self.rest(&mut todo);
                }
            }
        }
    }

    fn flush(&self, sealed: usize, file: u64) -> Result<(), String> {
        // An attempt that runs out of room leaves an incomplete file behind until the log is
        // opened again, so it is not made without need.
        self.has_room(self.journal_bytes * (sealed as u64 + 1))?;
        self.tables.flush().map_err(|error| error.to_string())?;
        journal::delete_up_to(&self.journal, file).map_err(|error| error.to_string())
    }

    fn merge_all(&self) {
        let mut todo = self.chores.todo.lock();
        // What an earlier process left undone.
        todo.merge = true;
        let mut failed_before = false;
        while !todo.stop {
            let (merge, rewrite) = (todo.merge, todo.rewrite);
            let mut drops = std::mem::take(&mut todo.drop_files);
            if !merge && !rewrite && drops.is_empty() {
                self.chores.changed.wait(&mut todo);
                continue;
            }
            (todo.merge, todo.rewrite) = (false, false);
            drop(todo);
            let done = self.tidy(merge, rewrite, &mut drops);
            self.measure();
            todo = self.chores.todo.lock();
            let failed = done.is_err();
            match done {
                Ok(more) => todo.merge |= more,
                Err(error) => {
                    if !todo.stop && !failed_before {
                        tracing::warn!(error, "cannot merge the event log's tables; trying on");
                    }
                    (todo.merge, todo.rewrite) = (true, todo.rewrite | rewrite);
                    for (stream, floor) in drops {
                        todo.drop_files.entry(stream).or_insert(floor);
                    }
                    self.rest(&mut todo);
                }
            }
            failed_before = failed;
        }
    }

    /// One step of everything; `drops` keeps what is not done. Whether there may be more to do.
    fn tidy(&self, merge: bool, rewrite: bool, drops: &mut HashMap<StreamId, Seq>) -> Result<bool, String> {
        // First what gives room, then what needs it.
        while let Some((&stream, &floor)) = drops.iter().next() {
            self.tables.drop_files(stream, floor).map_err(|error| error.to_string())?;
            drops.remove(&stream);
        }
        if rewrite {
            self.has_room(self.tables.event_bytes())?;
            self.tables.rewrite_events().map_err(|error| error.to_string())?;
        }
        if merge {
            self.has_room(self.tables.disk_bytes().min(MERGE_BYTES))?;
            return self.tables.merge().map_err(|error| error.to_string());
        }
        Ok(false)
    }

    fn has_room(&self, bytes: u64) -> Result<(), String> {
        match (self.free_bytes)(&self.dir) {
            Ok(free) if free >= bytes => Ok(()),
            Ok(free) => {
                Err(format!("{bytes} bytes are needed and {free} are free in {}", self.dir.display()))
            }
            Err(error) => Err(error.to_string()),
        }
    }

    fn rest(&self, todo: &mut parking_lot::MutexGuard<'_, Todo>) {
        if !todo.stop {
            self.chores.changed.wait_for(todo, REST);
        }
    }

    fn measure(&self) {
        let bytes = self.tables.disk_bytes() + journal_bytes(&self.journal);
        metrics::gauge!("evergate_log_disk_bytes").set(bytes as f64);
    }
}

fn journal_bytes(dir: &Path) -> u64 {
    journal::bytes(dir).unwrap_or(0)
}

/// A thread that died of our own mistake must not leave appends waiting for it.
struct TellIfDead<'a>(&'a Chores);

impl Drop for TellIfDead<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.tell(|todo| {
                todo.flush_error.get_or_insert_with(|| "the log's housekeeping broke down".into());
            });
        }
    }
}
