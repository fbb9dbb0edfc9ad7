//! HTTP/2: one task per connection, over the same cursors.
//!
//! ```text
//!   socket ⇄ Gated ⇄ h2 ── request ──▶ exchange ── answer ──▶ h2
//!                     ▲                    │ event stream
//!                     └──── Stream ◀── Bundle (fanout): all event streams of the connection
//! ```
//! [`connection`] owns it all and takes turns: what the socket took makes room for what is sent next, so a
//! connection that stalls holds a turn's bytes and no more ([`gate`]); what came is counted where it does nothing
//! ([`FrameMeter`](evergate_domain::FrameMeter)). Requests meet the same router as over
//! HTTP/1.1 ([`exchange`]); an event stream is left to the [`Bundle`](evergate_fanout::Bundle), which sends
//! only what its client gave room for ([`outlet`]).

mod connection;
mod exchange;
mod gate;
mod limits;
mod lost;
mod outlet;
mod upload;

pub(super) use connection::serve;
