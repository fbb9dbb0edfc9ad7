//! The storage of a log: tables that are read by anybody, and the one hand that writes.
//!
//! ```text
//!   commit ─▶ journal (synced) ─▶ tables in memory ──seal──▶ files ──merge──▶ fewer files
//!                                        └──────── read from everywhere ────────┘
//! ```

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use super::chores::{Chores, Housekeeper};
use super::error::OpenError;
use super::group::Group;
use super::journal::{self, CreateMedia, Journal, WriteError};
use super::layout::Layout;
use super::options::DiskOptions;
use super::space::FreeBytes;
use super::tables::Tables;
use crate::BackendError;

/// Journal files that lie there from earlier starts before they are done away with.
const OLD_FILES_MAX: usize = 16;

/// What is read from, by any number of threads.
pub(super) struct Store {
    pub(super) tables: Arc<Tables>,
    pub(super) chores: Arc<Chores>,
    // Last, so that the directory is let go of only when nothing here can touch it any more.
    _layout: Arc<Layout>,
}

/// The one that writes.
pub(super) struct Committer {
    tables: Arc<Tables>,
    chores: Arc<Chores>,
    media: CreateMedia,
    free_bytes: FreeBytes,
    reserve_bytes: u64,
    journal_bytes: u64,
    /// Begun with the first commit.
    journal: Option<Journal>,
    last_file: u64,
    last_group: u64,
    /// What the journal held when the log was opened is better written out soon.
    seal_soon: bool,
    /// After a write whose outcome is unknown, nothing may be written any more.
    broken: Option<BackendError>,
    layout: Arc<Layout>,
}

/// Why a group was not committed.
#[derive(Debug, Clone)]
pub(super) enum CommitError {
    /// There is no room. Nothing of it took effect.
    Full(String),
    /// The storage refused. Nothing of it took effect.
    Refused(BackendError),
    /// Whether it took effect is unknown, and will be until the log is opened anew.
    Unknown(BackendError),
}

/// What the system provides, so that tests can provide something worse.
#[derive(Clone)]
pub(super) struct System {
    pub(super) media: CreateMedia,
    pub(super) free_bytes: FreeBytes,
}

impl Default for System {
    fn default() -> Self {
        Self { media: journal::file_media(), free_bytes: super::space::file_system() }
    }
}

/// A storage that was opened; nothing of it runs yet.
pub(super) struct Opened {
    pub(super) store: Store,
    pub(super) committer: Committer,
    pub(super) housekeeper: Housekeeper,
}

/// Ends the housekeeping. Keeps nothing of the storage alive.
#[derive(Clone)]
pub(super) struct Stopper {
    chores: Arc<Chores>,
    merges: Arc<AtomicBool>,
}

impl Stopper {
    /// Tells the threads to end; whoever has their handles waits.
    pub(super) fn stop(&self) {
        self.merges.store(true, Ordering::Relaxed);
        self.chores.stop();
    }
}

/// Opens the storage and repairs the end of its journal.
pub(super) fn open(options: &DiskOptions, system: System) -> Result<Opened, OpenError> {
    let dir = &options.dir;
    let io = |source| OpenError::Io { dir: dir.clone(), source };
    let damaged = |what: String| OpenError::Damaged { dir: dir.clone(), what };
    let layout = Arc::new(Layout::open(dir)?);
    let tables = match Tables::open(&layout.state(), &layout.events(), options.cache_bytes) {
        Ok(tables) => Arc::new(tables),
        Err(lsm_tree::Error::Io(error)) => return Err(io(error)),
        Err(error) => return Err(damaged(format!("its tables: {error}"))),
    };
    let tabled = tables.last_group();
    let replayed = journal::replay(&layout.journal(), tabled, |group, rows| tables.replay(group, rows));
    let replayed = replayed.map_err(|error| match error {
        journal::Damage::Io(error) => io(error),
        journal::Damage::Damaged(what) => damaged(what),
    })?;
    if replayed.torn_bytes > 0 {
        tracing::info!(
            bytes = replayed.torn_bytes,
            "cut an incomplete write, never acknowledged, off the event log"
        );
    }

    let chores = Arc::new(Chores::default());
    let housekeeper = Housekeeper {
        chores: Arc::clone(&chores),
        tables: Arc::clone(&tables),
        dir: dir.clone(),
        journal: layout.journal(),
        journal_bytes: options.journal_bytes,
        media: Arc::clone(&system.media),
        free_bytes: Arc::clone(&system.free_bytes),
    };
    let committer = Committer {
        tables: Arc::clone(&tables),
        chores: Arc::clone(&chores),
        media: system.media,
        free_bytes: system.free_bytes,
        reserve_bytes: options.reserve_bytes,
        journal_bytes: options.journal_bytes,
        journal: None,
        last_file: replayed.last_file,
        last_group: replayed.last_group,
        seal_soon: replayed.bytes >= options.journal_bytes / 2 || replayed.files > OLD_FILES_MAX,
        broken: None,
        layout: Arc::clone(&layout),
    };
    Ok(Opened { store: Store { tables, chores, _layout: layout }, committer, housekeeper })
}

impl Store {
    pub(super) fn stopper(&self) -> Stopper {
        Stopper { chores: Arc::clone(&self.chores), merges: self.tables.stop_merges() }
    }
}

impl Committer {
    /// Whether appends may go on as far as space goes; if not, why.
    pub(super) fn check_room(&self) -> Result<(), String> {
        let dir = self.layout.dir();
        match (self.free_bytes)(dir) {
            Ok(free) if free < self.reserve_bytes => Err(format!(
                "{free} bytes are free in {}, and {} are reserved",
                dir.display(),
                self.reserve_bytes
            )),
            // A file system that does not say what it has is taken to have something.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// Makes a group durable, then readable. Waits for the tables' housekeeping if that is behind.
    pub(super) fn commit(&mut self, group: &Group) -> Result<(), CommitError> {
        if let Some(error) = &self.broken {
            return Err(CommitError::Unknown(error.clone()));
        }
        let number = self.last_group + 1;
        let Some(frame) = group.frame(number) else {
            return Err(CommitError::Refused(BackendError::message("the batch has 4 GiB or more")));
        };
        let journal = match &mut self.journal {
            Some(journal) if journal.has_room_for(&frame) => journal,
            Some(_) | None => self.next_file(self.journal_bytes.max(journal::capacity_for(&frame)))?,
        };
        let begun = Instant::now();
        match journal.write(&frame) {
            Ok(()) => {}
            Err(WriteError::Undone(error)) => return Err(refused(error)),
            Err(WriteError::Unknown(error)) => {
                tracing::error!(
                    error = &error as &dyn std::error::Error,
                    "the event log takes no more appends: a write failed with unknown outcome; restart to find out"
                );
                metrics::gauge!("evergate_log_read_only").set(1.0);
                let error = BackendError::new(error);
                self.broken = Some(error.clone());
                return Err(CommitError::Unknown(error));
            }
        }
        metrics::histogram!("evergate_log_fsync_seconds").record(begun.elapsed().as_secs_f64());
        metrics::histogram!("evergate_log_group_events").record(group.event_count() as f64);
        self.last_group = number;
        self.tables.apply(number, group);
        Ok(())
    }

    /// Seals what is in memory and begins the next journal file.
    fn next_file(&mut self, capacity: u64) -> Result<&mut Journal, CommitError> {
        self.chores.wait_for_flush().map_err(CommitError::Full)?;
        let number = self.last_file + 1;
        let begun = self.chores.take_file(number).filter(|journal| journal.capacity() >= capacity);
        let journal = match begun {
            Some(journal) => journal,
            None => {
                Journal::create(&self.layout.journal(), number, capacity, &self.media).map_err(refused)?
            }
        };
        if self.journal.is_some() || self.seal_soon {
            self.tables.seal();
            self.chores.sealed(self.last_file);
            self.seal_soon = false;
        }
        self.last_file = number;
        self.chores.begin_file(number + 1);
        Ok(self.journal.insert(journal))
    }
}

fn refused(error: io::Error) -> CommitError {
    const FULL: [io::ErrorKind; 3] =
        [io::ErrorKind::StorageFull, io::ErrorKind::QuotaExceeded, io::ErrorKind::FileTooLarge];
    if FULL.contains(&error.kind()) {
        CommitError::Full(error.to_string())
    } else {
        CommitError::Refused(BackendError::new(error))
    }
}
