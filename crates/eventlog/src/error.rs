//! What can go wrong, whose fault it is, and whether to try again.

use std::sync::Arc;
use std::time::Duration;

use evergate_domain::{Level, ProducerId, Seq, StreamName};

/// Whether trying again can help.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Retry {
    /// The same call will fail again.
    Never,
    /// Later, with the same producer sequence.
    After(Duration),
}

/// What the storage below said.
#[derive(Debug, Clone, thiserror::Error)]
#[error(transparent)]
pub struct BackendError(Arc<dyn std::error::Error + Send + Sync>);

impl BackendError {
    /// Wraps the storage's own error.
    pub fn new(error: impl std::error::Error + Send + Sync + 'static) -> Self {
        Self(Arc::new(error))
    }

    /// An error that has only words.
    #[must_use]
    pub fn message(text: impl Into<String>) -> Self {
        #[derive(Debug, thiserror::Error)]
        #[error("{0}")]
        struct Message(String);
        Self::new(Message(text.into()))
    }
}

/// Why a batch was not appended. Nothing of it was, unless the variant says that this is unknown.
#[derive(Debug, Clone, thiserror::Error)]
pub enum AppendError {
    /// The producer went back further than the log remembers: neither a duplicate nor new.
    #[error(
        "event {index}: sequence {seq} of producer {producer} is unknown and not above {newest}, its newest here"
    )]
    SequenceTooOld {
        /// Which event of the batch, from 0.
        index: usize,
        /// The producer.
        producer: ProducerId,
        /// The sequence it sent.
        seq: Seq,
        /// The newest sequence the log has of it.
        newest: Seq,
    },
    /// The stream was made at a lower level than is configured for it, and keeps that. Nothing was
    /// appended.
    #[error("the stream {stream} was made at {}, and {} is configured", made.as_str(), configured.as_str())]
    OtherLevel {
        /// The stream.
        stream: StreamName,
        /// What it was made at.
        made: Level,
        /// What its events should be.
        configured: Level,
    },
    /// There is no room. Reads go on; appends will again when there is.
    #[error("the log is full: {0}")]
    Full(String),
    /// The storage failed; whether the batch took effect is unknown.
    #[error("the log is unavailable")]
    Unavailable(#[source] BackendError),
    /// The log is being closed.
    #[error("the log is shutting down")]
    Closed,
}

impl AppendError {
    /// Whether the same batch may succeed later.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::SequenceTooOld { .. } | Self::OtherLevel { .. } => Retry::Never,
            Self::Full(_) => Retry::After(Duration::from_secs(5)),
            Self::Unavailable(_) | Self::Closed => Retry::After(Duration::from_secs(1)),
        }
    }
}

/// Why the log could not be read.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    /// The storage failed.
    #[error("the log is unavailable")]
    Unavailable(#[source] BackendError),
    /// An entry does not match its checksum: it was damaged where it is stored.
    #[error("event {seq} of stream {stream} is damaged in the log")]
    Damaged {
        /// The stream.
        stream: String,
        /// The event.
        seq: Seq,
    },
    /// The log is being closed.
    #[error("the log is shutting down")]
    Closed,
}

impl ReadError {
    /// Whether the same read may succeed later.
    #[must_use]
    pub fn retry(&self) -> Retry {
        match self {
            Self::Damaged { .. } => Retry::Never,
            Self::Unavailable(_) | Self::Closed => Retry::After(Duration::from_secs(1)),
        }
    }
}
