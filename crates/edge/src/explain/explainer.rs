//! Gathers what is known, and answers.

use std::sync::Weak;

use evergate_domain::{Claim, ClientId, Offset, StreamName};
use evergate_eventlog::{CursorStoreError, EventLog, ReadError};

use super::facts::look_up;
use super::kept::Kept;
use super::subscription::Subscription;
use super::verdict::{Explanation, Question, is_open, judge};
use crate::http::Context;

/// Answers why a client did or did not get an event. Cheap to clone; keeps nothing alive.
#[derive(Clone)]
pub struct Explainer {
    context: Weak<Context>,
    log: Weak<dyn EventLog>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// A cursor names no event: the question makes no sense.
    #[error("{0} is before the first event")]
    NoEvent(Offset),
    /// The log does not answer. A retry may help.
    #[error("the log cannot be asked")]
    Log(#[from] ReadError),
    /// The places that are kept cannot be asked for. A retry may help.
    #[error("the kept places cannot be asked for")]
    Places(#[from] CursorStoreError),
    /// The stream moved under the question each time. A retry may help.
    #[error("the stream moves faster than it can be asked")]
    Moving,
    /// The edge has ended.
    #[error("the edge has ended")]
    Ended,
}

impl Explainer {
    pub(crate) fn new(context: Weak<Context>, log: Weak<dyn EventLog>) -> Self {
        Self { context, log }
    }

    /// One answer for each open stream of the client that could have brought it the event, or else one for all, by
    /// the place that is kept for a subscription of its, which has to be of that stream.
    pub async fn explain(
        &self,
        client: &ClientId,
        stream: &StreamName,
        subscription: &Subscription,
        event: Offset,
    ) -> Result<Vec<Explanation>, ExplainError> {
        let context = self.context.upgrade().ok_or(ExplainError::Ended)?;
        let log = self.log.upgrade().ok_or(ExplainError::Ended)?;
        if event.seq.get() == 0 {
            return Err(ExplainError::NoEvent(event));
        }
        // First: what has come meanwhile must not be taken for missing.
        let state = look_up(&log, stream, event).await?.ok_or(ExplainError::Moving)?;
        let open: Vec<_> =
            context.streams.of_client(client).iter().filter_map(|place| place.open()).collect();
        let at = subscription.streams().position(stream).expect("it is made for this stream");
        let kept = if is_open(stream, &open) {
            None
        } else {
            context.cursors.look(&subscription.key(client)).await?
        };
        let kept = kept.and_then(|kept| {
            // One that makes no sense, or has not begun, is no place.
            let cursor = kept.position.unpack(subscription.streams()).ok()?;
            let held = kept.claim != Claim::NOBODY;
            Some(Kept { at: cursor.offsets()[at], acknowledged: kept.acknowledged, held })
        });
        let filter = subscription.filter(at);
        Ok(judge(&Question { client, stream, event }, &state, &open, (kept.as_ref(), filter)))
    }
}
