//! Messages of `evergate.control.v1`, made of the domain's types and read back into them.

mod change;
mod command;
mod kept;
mod node;
mod policy;
mod snapshot;

pub use change::{decode_delta, decode_view, encode_delta, encode_view};
pub use command::{
    decode_command, decode_proposal, encode_answer, encode_command, encode_malformed, encode_proposal,
};
pub use kept::{KeptError, decode_kept, encode_kept};
pub use node::{decode_node, encode_node};
pub use snapshot::{decode_snapshot, encode_audit, encode_snapshot};

/// A message holds what cannot be. The sender's mistake, or a newer sender's word.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("malformed message: {what}: {why}")]
pub struct DecodeError {
    /// Which part.
    pub what: &'static str,
    /// What is wrong with it.
    pub why: String,
}

impl DecodeError {
    fn new(what: &'static str, why: &(impl ToString + ?Sized)) -> Self {
        Self { what, why: why.to_string() }
    }

    /// A part without which the message says nothing, or one of which this binary knows nothing.
    fn absent(what: &'static str) -> Self {
        Self::new(what, "is absent, or of a kind that is not known here")
    }
}

/// A name or number as the domain checks it.
fn checked<T, E: ToString>(what: &'static str, value: Result<T, E>) -> Result<T, DecodeError> {
    value.map_err(|error| DecodeError::new(what, &error))
}

/// Text of which the empty one stands for none.
fn text_or_none(text: &str) -> Option<&str> {
    Some(text).filter(|text| !text.is_empty())
}

/// A number that the wire has more room for than there is.
fn narrow<T>(what: &'static str, number: impl TryInto<T> + ToString + Copy) -> Result<T, DecodeError> {
    number.try_into().map_err(|_| DecodeError::new(what, &format!("{} is too large", number.to_string())))
}

#[cfg(test)]
mod tests;
