//! What a bundle knows of the connection it belongs to.

use std::task::Context;

use bytes::Bytes;

/// One subscriber's way to its client, on a connection that carries many. None of this waits.
pub trait Outlet: Send + 'static {
    /// How many of `wanted` bytes it takes now; `None` if the client has gone. Wakes through `cx` once the
    /// client has gone, or there is more room than was asked for and not given.
    fn room(&mut self, wanted: usize, cx: &mut Context<'_>) -> Option<usize>;

    /// Takes bytes there is room for. `last` says that they complete the body, which they may do without
    /// being any.
    fn send(&mut self, bytes: Bytes, last: bool);

    /// Ends the stream so that the client sees that it was cut. What it was sent may be lost.
    fn reset(self);
}
