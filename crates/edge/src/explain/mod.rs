//! Why a client did or did not get an event, as far as it can be known here.
//!
//! ```text
//!   log: is it there, trimmed, not committed? ──┐
//!   open streams of this name on this edge ─────┼▶ judge ──▶ one answer for each, in words
//!   or else the place that is kept for it ──────┘
//! ```
//! Nothing is kept for it but what a client with a name costs anyway, and where its stream began. There is no
//! record of single deliveries: what a client has is told from how far it has come.

mod explainer;
mod facts;
mod kept;
mod subscription;
mod verdict;

pub use explainer::{ExplainError, Explainer};
pub use facts::EventState;
pub use subscription::Subscription;
pub use verdict::{Explanation, Verdict};

pub(crate) use facts::{Began, Open};
