//! HTTP: from an accepted socket to an event stream.
//!
//! In reading order: [`server`] accepts when [`door`] lets it, [`peer`] knows who comes, [`connection`] speaks the protocol, [`router`] finds the
//! handler, [`wanted`] reads what a subscriber asks for, [`stream`] answers with an event stream. Over
//! HTTP/1.1 the socket is then taken back from the parser ([`carrier`]) and given to the engine. Over
//! HTTP/2 ([`http2`]) the connection's own task drives all its event streams.

pub(crate) mod server;

mod door;

mod forwarded;
mod peer;
mod proxy_header;

mod connection;
mod context;
mod router;

mod accept_encoding;
mod answer;
mod cors;
mod trace;

mod acks;
mod affinity;
mod carrier;
mod demo;
mod early;
mod http2;
mod kept;
mod leases;
mod limits;
mod looks;
mod patient;
mod ping;
mod query;
pub(crate) mod registry;
mod stream;
pub(crate) mod tally;
mod tokens;
mod wanted;
mod wire;

pub(crate) use context::Context;
pub(crate) use peer::Peer;
pub(crate) use query::Query;
pub(crate) use registry::Stray;
pub(crate) use wanted::key_of;
