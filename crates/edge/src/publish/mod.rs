//! Publishing: many transports, one road to the log.
//!
//! A transport turns what arrived into a [`Submission`] and gives it to the [`Publisher`], which
//! alone decides whether it goes to the log. What can be wrong is a [`PublishError`], with one
//! table of what each transport answers for it. Nothing here knows of subscribers.

mod error;
mod fault;
mod ingest;
mod producers;
mod publisher;
mod sender;
mod submission;

mod grpc;
mod http;

#[cfg(feature = "fuzzing")]
pub mod fuzzing;
#[cfg(test)]
mod testing;

use error::PublishError;
use fault::{Faults, Naming, Part};
use publisher::Transport;
pub(crate) use sender::Sender;
use submission::{Admitted, RawEvent, RawProducer, Submission};

pub(crate) use grpc::{Place, serve_grpc};
pub(crate) use http::publish as publish_http;
pub use producers::{ProducerBinding, ProducerBindings};
pub(crate) use publisher::Publisher;
