//! Reading a body that may not be larger than it should be.

use std::fmt::Display;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bytes::Buf as _;
use http::{HeaderMap, StatusCode, header};
use http_body::Body;
use http_body_util::BodyExt as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::problem::{FieldError, Problem};

/// Room that is made before the first byte has come, whatever the sender says is coming.
const FIRST_BYTES_MAX: u64 = 64 * 1024;

/// How long a body may take. Whoever trickles one holds a connection with it.
const TIME_MAX: Duration = Duration::from_secs(30);

/// A body may be as large as this without waiting for anything.
const SMALL: usize = 64 * 1024;

/// A body, and its place among the large ones, for as long as it is in memory.
#[derive(Debug)]
pub(super) struct Whole {
    pub(super) bytes: Vec<u8>,
    pub(super) _place: Option<OwnedSemaphorePermit>,
}

/// The whole body, in time. Nothing of it is stored before it is whole. One that turns out to be large waits
/// until it is among the so many `large` ones that may be in memory at once.
pub(super) async fn read<B>(
    headers: &HeaderMap,
    body: B,
    max: usize,
    large: &Arc<Semaphore>,
) -> Result<Whole, Problem>
where
    B: Body,
    B::Error: Display,
{
    tokio::time::timeout(TIME_MAX, read_all(headers, body, max, large)).await.unwrap_or_else(|_| {
        Err(Problem::new(
            StatusCode::REQUEST_TIMEOUT,
            "body-timeout",
            "The request took too long",
            format!("the body was not whole after {} s; nothing was stored", TIME_MAX.as_secs()),
        ))
    })
}

/// One that says that it is larger than `max` is refused before it is read; one
/// that turns out to be, with the first byte too many.
async fn read_all<B>(
    headers: &HeaderMap,
    body: B,
    max: usize,
    large: &Arc<Semaphore>,
) -> Result<Whole, Problem>
where
    B: Body,
    B::Error: Display,
{
    let announced = content_length(headers).max(body.size_hint().lower());
    if announced > max as u64 {
        return Err(too_large(max));
    }
    let mut bytes = Vec::with_capacity(usize::try_from(announced.min(FIRST_BYTES_MAX)).unwrap_or(0));
    let mut place = None;
    let mut body = pin!(body);
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| {
            Problem::bad_request(vec![FieldError::new("body", format!("ended early: {error}"))])
        })?;
        // Trailers say nothing to us.
        let Ok(mut data) = frame.into_data() else { continue };
        if data.remaining() > max - bytes.len() {
            return Err(too_large(max));
        }
        while data.has_remaining() {
            let chunk = data.chunk();
            bytes.extend_from_slice(chunk);
            let read = chunk.len();
            data.advance(read);
        }
        if bytes.len() > SMALL && place.is_none() {
            // What follows waits with its sender.
            place = Some(Arc::clone(large).acquire_owned().await.expect("never closed"));
        }
    }
    Ok(Whole { bytes, _place: place })
}

fn content_length(headers: &HeaderMap) -> u64 {
    headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok()).unwrap_or(0)
}

fn too_large(max: usize) -> Problem {
    let detail = format!("more than {max} bytes, the most that events within the limits can take");
    Problem::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        "too-large",
        "The request is too large",
        format!("body: {detail}"),
    )
    .with_errors(vec![FieldError::new("body", detail)])
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http_body::Frame;
    use http_body_util::StreamBody;

    fn large(places: usize) -> Arc<Semaphore> {
        Arc::new(Semaphore::new(places))
    }

    #[tokio::test(start_paused = true)]
    async fn large_bodies_take_turns_and_small_ones_do_not_wait_for_them() {
        let full = |bytes: usize| http_body_util::Full::new(Bytes::from(vec![b'x'; bytes]));
        let (places, none) = (large(1), HeaderMap::new());
        let held = read(&none, full(SMALL + 1), 1 << 20, &places).await.expect("its turn");
        let small = read(&none, full(SMALL), 1 << 20, &places).await.expect("no turn is needed");
        assert_eq!(small.bytes.len(), SMALL);
        let late =
            read(&none, full(SMALL + 1), 1 << 20, &places).await.expect_err("the other one is not done");
        assert_eq!(late.code(), "body-timeout");
        drop(held);
        read(&none, full(SMALL + 1), 1 << 20, &places).await.expect("its turn");
    }

    #[tokio::test(start_paused = true)]
    async fn a_body_that_trickles_for_ever_is_let_go() {
        let trickle = futures_util::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            Some((Ok::<_, std::io::Error>(Frame::data(Bytes::from_static(b"x"))), ()))
        });
        let refused = read(&HeaderMap::new(), StreamBody::new(trickle), 1 << 20, &large(1))
            .await
            .expect_err("too slow");
        assert_eq!((refused.status(), refused.code()), (StatusCode::REQUEST_TIMEOUT, "body-timeout"));
    }
}
