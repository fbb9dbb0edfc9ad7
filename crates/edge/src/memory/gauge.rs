//! How much there is, and how much of it is taken.

use std::fmt;
use std::num::NonZeroU64;
use std::sync::Arc;

/// Tells how much is taken.
pub trait MemoryGauge: fmt::Debug + Send + Sync {
    /// Bytes that cannot be had back without ending something; `None` if that cannot be told now. Asked
    /// a few times a second.
    fn used(&self) -> Option<u64>;
}

/// What this process may take.
#[derive(Debug, Clone)]
pub struct MemoryLimit {
    /// Bytes; `None` for as much as there is.
    pub bytes_max: Option<NonZeroU64>,
    /// What is taken of it.
    pub gauge: Arc<dyn MemoryGauge>,
}
