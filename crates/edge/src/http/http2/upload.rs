//! A request's body.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::RecvStream;
use http_body::{Body, Frame};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::PollSemaphore;

/// Bytes that every request may send.
const SMALL: usize = 64 << 10;

/// Requests of one connection that may send more, at once. Others wait, which holds up nobody with less:
/// a connection has as many requests as it may have streams, and each of them is kept until it is whole.
const LARGE_MAX: usize = 8;

/// The requests of one connection with large bodies.
#[derive(Debug, Clone)]
pub(super) struct Uploads(Arc<Semaphore>);

/// What a client sends after its head. Room for more is given as it is read.
pub(super) struct Upload {
    body: RecvStream,
    read: usize,
    large: PollSemaphore,
    permit: Option<OwnedSemaphorePermit>,
}

impl Uploads {
    pub(super) fn new() -> Self {
        Self(Arc::new(Semaphore::new(LARGE_MAX)))
    }

    pub(super) fn of(&self, body: RecvStream) -> Upload {
        Upload { body, read: 0, large: PollSemaphore::new(Arc::clone(&self.0)), permit: None }
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        if self.read >= SMALL && self.permit.is_none() {
            self.permit = ready!(self.large.poll_acquire(cx));
        }
        let Some(data) = ready!(self.body.poll_data(cx)) else { return Poll::Ready(None) };
        let frame = data.and_then(|data| {
            self.read += data.len();
            self.body.flow_control().release_capacity(data.len())?;
            Ok(Frame::data(data))
        });
        Poll::Ready(Some(frame))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }
}
