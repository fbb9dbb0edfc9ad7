//! Why a client did or did not get an event, as far as it can be known here.
//!
//! ```text
//!   log: is it there, trimmed, not committed? ──┐
//!   open streams of this name on this edge ─────┴▶ judge ──▶ one answer for each, in words
//! ```
//! Nothing is kept for it but what a client with a name costs anyway, and where its stream began. There is no
//! record of single deliveries: what a client has is told from how far it has come.

mod explainer;
mod facts;
mod verdict;

pub use explainer::{ExplainError, Explainer};
pub use facts::EventState;
pub use verdict::{Explanation, Verdict};

pub(crate) use facts::{Began, Open};
