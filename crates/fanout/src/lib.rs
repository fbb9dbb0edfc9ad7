//! Fan-out: from one log to many subscribers, each of which is a cursor and nothing more.
//!
//! The write path, in reading order: a log's tail feeds a stream's `Feed`, which puts each
//! event once into its `Ring` and rings a bell; every [`Subscriber`] then takes what lies
//! between its cursor and the ring's head, or, where the ring does not reach back far enough, a
//! page of the log that it shares with everybody who needs it (`replay`). What goes on the wire
//! is decided by a pure session.
//!
//! There is no queue per subscriber. A slow one has a cursor that lies further back, and that is
//! all it costs. The writer never waits for anybody.
//!
//! This crate knows nothing of HTTP but chunks and gzip: it takes a request in its own words and
//! yields bytes.

mod config;
mod gzip;

mod exemplars;
mod figures;
mod frame;
mod output;

mod feed;
mod replay;
mod ring;

mod profile;
mod retries;
mod session;

mod bundle;
mod engine;

mod hub;
mod subscriber;
mod traced;

pub use bundle::{Bundle, Entrant, Outlet};
pub use config::HubConfig;
pub use engine::{Engine, Farewell, Guard, Handover};
pub use exemplars::{Exemplar, TraceId};
pub use figures::{DELIVERY_BOUNDS, Deliveries};
pub use frame::Framing;
pub use gzip::Encoding;
pub use hub::{Hub, SubscribeError};
pub use retries::Retries;
pub use subscriber::{Begin, End, HeartbeatKind, Next, Opening, SubscribeRequest, Subscriber};
