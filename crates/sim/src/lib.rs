//! A cluster in one thread: the very rules by which nodes agree, hold leases, follow views and place
//! clients, with everything around them (time, links, crashes, elections) made up from a seed.
//!
//! ```text
//!   edges ── beats ──▶ control nodes ── reports ──▶ the leader ── commands ──▶ the log ──▶ every State
//!     ▲                     │                                                                  │
//!     └──── deltas, views ──┘◀─────────────────────────────────────────────────────────────────┘
//! ```
//! How the log itself is agreed on is not simulated here: it is one list, to which a leader that reaches a
//! majority appends, and of which every control node has a part. After a while all faults heal, and what
//! should then come right is checked too.

mod control;
mod edge;
mod faults;
mod invariants;
mod world;

pub use invariants::Violation;
pub use world::{Report, run};
