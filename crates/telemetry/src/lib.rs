//! Traces: which are kept, what their spans say, and how they leave the process.
//!
//! A [`Tracer`] decides about a trace when it arrives and takes finished spans; it never waits, and without
//! a collector it is a `None`. The [`Exporter`] is the one task that speaks with the collector. Between the
//! two lies a bounded queue, so that a collector that stalls, or is away, costs spans and nothing else.
//! There is no span that is being written: what is traced keeps a few bytes, and makes its span at its end.

mod exporter;
mod sampling;
mod span;
mod tracer;

pub use exporter::{Exporter, Settings, StartError, start};
pub use sampling::{Brought, Sampling};
pub use span::{Attribute, Attributes, Parent, Side, Span};
pub use tracer::Tracer;
