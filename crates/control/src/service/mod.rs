//! What the other nodes of a cluster, and its operators, ask of a control node.
//!
//! ```text
//!   Watch ─▶ Feed: the view, then what is new, how loaded nodes are, or that nothing is
//!   Lease ─▶ Lessees: who has said when that it is there ── Report ──▶ the leader's Keeper: lost, back
//!   Admin ─▶ commands, in an operator's name
//! ```

mod admin;
mod control;
mod feed;
mod keeper;
mod lessees;

pub use admin::AdminToken;
pub use keeper::{Keeper, Services};
