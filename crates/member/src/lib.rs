//! A node's side of the control plane: the lease it holds, the view it follows, and how what a cluster
//! agrees on is written down and sent.
//!
//! The words and rules are `evergate_domain::cluster`'s, the messages `evergate.control.v1`; here is what
//! leads from the one to the other, for everybody who sends or reads them. What is read is checked: a
//! message that holds anything that cannot be is refused as a whole.

mod client;
mod codec;

pub use client::{Member, MemberSettings, Placement, Voice, channel};
pub use codec::{
    DecodeError, KeptError, decode_command, decode_delta, decode_kept, decode_node, decode_proposal,
    decode_snapshot, decode_view, encode_answer, encode_audit, encode_command, encode_delta, encode_kept,
    encode_malformed, encode_node, encode_proposal, encode_snapshot, encode_view,
};
