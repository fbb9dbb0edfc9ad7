//! An event stream's way out.

use std::task::Context;

use bytes::Bytes;
use evergate_fanout::Outlet;
use h2::{Reason, SendStream};

/// The sending half of a stream. It reserves what it is about to send and nothing else, so that one whose
/// window is shut holds none of the connection's.
pub(super) struct Stream(pub(super) SendStream<Bytes>);

impl Outlet for Stream {
    fn room(&mut self, wanted: usize, cx: &mut Context<'_>) -> Option<usize> {
        let room = if wanted == 0 {
            0
        } else {
            self.0.reserve_capacity(wanted);
            self.0.capacity().min(wanted)
        };
        // Wakes for more room as well: a stream has one waker for both.
        self.0.poll_reset(cx).is_pending().then_some(room)
    }

    fn send(&mut self, bytes: Bytes, last: bool) {
        if let Err(error) = self.0.send_data(bytes, last) {
            // The client reset it a moment ago, and the bundle is about to hear of it.
            tracing::debug!(%error, "an event stream took nothing more");
        }
    }

    fn reset(mut self) {
        self.0.send_reset(Reason::CANCEL);
    }
}
