//! What openraft is told of ours, and how its words are written down.

pub(crate) mod coding;
pub(crate) mod types;
