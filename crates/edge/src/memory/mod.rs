//! What is done while the process runs short of memory, so that nobody else has to end it.
//!
//! ```text
//!   gauge ─▶ Budget ─▶ Level ─▶ new streams are refused, rings and replay shrink
//!                  └─▶ streams to end: the newest without a token first
//!                          └─▶ at last publishes are refused
//! ```
//! The budget decides, purely; what it decides is carried out by the edge's own chores.

mod budget;
mod gauge;
mod shortage;

pub(crate) use budget::{Budget, Level, Step};
pub use gauge::{MemoryGauge, MemoryLimit};
pub(crate) use shortage::Shortage;
