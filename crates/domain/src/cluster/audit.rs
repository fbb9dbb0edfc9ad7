//! Who changed what.

use std::collections::VecDeque;

use crate::UnixMillis;

/// How many changes are remembered.
pub const AUDIT_MAX: usize = 1_000;

/// How much of a change is written down, in bytes.
const WHAT_BYTES_MAX: usize = 256;

/// A change that was made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// The view's version that came of it.
    pub version: u64,
    /// When it was asked for, by the clock of whoever brought it.
    pub at: UnixMillis,
    /// Who asked for it.
    pub by: String,
    /// What it was, in words.
    pub what: String,
}

/// The newest changes, the oldest first; beyond [`AUDIT_MAX`] the oldest are forgotten.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Audit(VecDeque<AuditEntry>);

impl Audit {
    /// From what was remembered, of which the newest count.
    #[must_use]
    pub fn from_entries(entries: impl IntoIterator<Item = AuditEntry>) -> Self {
        let mut audit = Self::default();
        entries.into_iter().for_each(|entry| audit.note(entry));
        audit
    }

    /// The changes.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &AuditEntry> {
        self.0.iter()
    }

    pub(super) fn note(&mut self, mut entry: AuditEntry) {
        let end = entry.what.floor_char_boundary(WHAT_BYTES_MAX);
        entry.what.truncate(end);
        if self.0.len() == AUDIT_MAX {
            self.0.pop_front();
        }
        self.0.push_back(entry);
    }
}
