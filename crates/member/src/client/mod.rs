//! A node in its cluster: it says that it is there, and follows what is agreed on.
//!
//! ```text
//!   Member ─┬─▶ Follower ── Watch ──▶ any control node ──▶ Placement: view, rings, loads
//!           └─▶ Holder ──── Lease ──▶ any control node
//! ```
//! A control node that is gone, says nothing or knows no leader is left for the next one; meanwhile the
//! last placement stands.

mod connect;
mod follow;
mod lease;
mod member;
mod opening;
mod placement;

pub use connect::channel;
pub use member::{Member, MemberSettings, Voice};
pub use placement::Placement;
