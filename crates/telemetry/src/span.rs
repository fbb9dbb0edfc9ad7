//! A span that is over.

use std::borrow::Cow;
use std::time::SystemTime;

use evergate_domain::TraceParent;

/// What happened from when to when, in which trace.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    /// What happened.
    pub name: &'static str,
    /// For whom.
    pub side: Side,
    /// Its trace and its own id.
    pub own: TraceParent,
    /// The span that it is a part of, if there is one.
    pub parent: Option<Parent>,
    /// When it began.
    pub begun: SystemTime,
    /// When it ended.
    pub ended: SystemTime,
    /// What else is known.
    pub attributes: Attributes,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// The span of which another is a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parent {
    /// Its id.
    pub id: [u8; 8],
    /// Whether another process made it.
    pub remote: bool,
}

/// For whom a span happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Whoever called this process.
    Server,
    /// Whoever reads what was sent off with it.
    Producer,
    /// Whoever sent what arrived with it.
    Consumer,
    /// The process itself.
    Internal,
}

/// Names and values.
pub type Attributes = Vec<(&'static str, Attribute)>;

/// The value of an attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Attribute {
    /// A word or a few.
    Text(Cow<'static, str>),
    /// A number.
    Count(u64),
    /// A yes or a no.
    Switch(bool),
}

impl From<&'static str> for Attribute {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<String> for Attribute {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<u64> for Attribute {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<usize> for Attribute {
    fn from(count: usize) -> Self {
        Self::Count(count as u64)
    }
}

impl From<bool> for Attribute {
    fn from(on: bool) -> Self {
        Self::Switch(on)
    }
}

impl Parent {
    /// The one that another process made.
    #[must_use]
    pub fn remote(of: &TraceParent) -> Self {
        Self { id: of.span_id(), remote: true }
    }

    /// One of this process.
    #[must_use]
    pub fn here(of: &TraceParent) -> Self {
        Self { id: of.span_id(), remote: false }
    }
}
