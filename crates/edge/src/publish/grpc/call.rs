//! One `PublishStream` call: reads while there is room in its window, appends, answers in order.

use std::iter::repeat_n;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use evergate_domain::{EventDraft, StreamName, TraceParent};
use evergate_eventlog::Retry;
use evergate_proto::publish::v1 as proto;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, Stream, StreamExt as _};
use proto::publish_stream_response::Result as Outcome;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::{Code, Status};

use super::lanes::{Answer, Lanes, Receipt};
use super::wire;
use crate::publish::publisher::Refusal;
use crate::publish::{Admitted, Naming, PublishError, Publisher, Sender, Transport};

/// The answers of a call. Dropping it ends the call: what is under way in the log may still take
/// effect, but nobody is told.
pub(super) struct Answers {
    answers: mpsc::Receiver<(Place, proto::PublishStreamResponse)>,
    /// Gives the final status. `None` once it was given.
    task: Option<AbortOnDropHandle<Result<(), Status>>>,
}

/// A place in the call's window, held from before a request is read until its answer is taken by the
/// transport. A client that does not read its answers so comes to a halt by itself.
type Place = OwnedSemaphorePermit;

/// Goes through the lanes with a request.
struct Tag {
    place: Place,
    correlation: u64,
    arrived: Instant,
}

struct Call<R> {
    publisher: Publisher,
    sender: Sender,
    requests: R,
    trace: Option<TraceParent>,
    stopping: CancellationToken,
    window: Arc<Semaphore>,
    /// The place of the request that is read next.
    place: Option<Place>,
    lanes: Lanes<Tag>,
    /// Never full: it has room for the whole window, and each answer in it holds a place.
    answers: mpsc::Sender<(Place, proto::PublishStreamResponse)>,
}

/// Opens a call. It ends when `requests` has ended and all is answered; when `stopping` says so it
/// reads no more, answers what it has read, and ends with UNAVAILABLE.
pub(super) fn open<R>(
    publisher: Publisher,
    sender: Sender,
    requests: R,
    trace: Option<TraceParent>,
    stopping: CancellationToken,
) -> Answers
where
    R: Stream<Item = Result<proto::PublishStreamRequest, Status>> + Unpin + Send + 'static,
{
    let limits = publisher.limits();
    let window = limits.stream_window.max(1);
    let (answered, receiver) = mpsc::channel(window);
    let call = Call {
        publisher,
        sender,
        requests,
        trace,
        stopping,
        window: Arc::new(Semaphore::new(window)),
        place: None,
        lanes: Lanes::new(limits),
        answers: answered,
    };
    Answers { answers: receiver, task: Some(AbortOnDropHandle::new(tokio::spawn(call.run()))) }
}

impl<R> Call<R>
where
    R: Stream<Item = Result<proto::PublishStreamRequest, Status>> + Unpin,
{
    async fn run(mut self) -> Result<(), Status> {
        let stopping = self.stopping.clone();
        let mut appends = FuturesUnordered::new();
        // Why no more is read, once that is so: the status at the end.
        let mut end = None;
        loop {
            // What is here already is read first, so that it goes to the log together.
            while end.is_none() && self.has_room() {
                let Some(item) = self.next().now_or_never() else { break };
                end = self.take(item);
            }
            while let Some(batch) = self.lanes.next_batch() {
                let (stream, events, receipt) = batch.split();
                let publisher = self.publisher.clone();
                appends.push(async move { (receipt, append_each(&publisher, &stream, events).await) });
            }
            while let Some((tag, answer)) = self.lanes.pop_answer() {
                self.answer(tag, answer);
            }
            if self.lanes.is_empty()
                && let Some(end) = end
            {
                return end;
            }
            let room = end.is_none() && self.has_room();
            tokio::select! {
                biased;
                () = stopping.cancelled(), if end.is_none() => {
                    end = Some(Err(PublishError::stopping().into_status(Naming::Event)));
                }
                Some((receipt, answers)) = appends.next(), if !appends.is_empty() => {
                    let overrun = self.settle(receipt, answers);
                    end = end.or(overrun);
                }
                item = self.next(), if room => end = self.take(item),
            }
        }
    }

    /// Whether more may be read: the window counts requests, this counts their bytes. A batch may be
    /// under way and another gather behind it.
    fn has_room(&self) -> bool {
        self.lanes.bytes() < 2 * self.publisher.limits().batch_bytes_max as u64
    }

    /// The next request with its place. Cancel-safe: a place once taken is kept for the next time.
    async fn next(&mut self) -> Option<Result<(Place, proto::PublishStreamRequest), Status>> {
        if self.place.is_none() {
            self.place = Arc::clone(&self.window).acquire_owned().await.ok();
        }
        let request = self.requests.next().await?;
        let place = self.place.take().expect("the window is never closed, so it gave a place above");
        Some(request.map(|request| (place, request)))
    }

    /// Takes what was read; says the status with which to end, if that was the end.
    fn take(
        &mut self,
        item: Option<Result<(Place, proto::PublishStreamRequest), Status>>,
    ) -> Option<Result<(), Status>> {
        let (place, request) = match item {
            None => return Some(Ok(())),
            Some(Err(status)) => return Some(Err(status)),
            Some(Ok(read)) => read,
        };
        let tag = Tag { place, correlation: request.correlation, arrived: Instant::now() };
        let submission = wire::single(&request.stream, request.event, request.level, self.trace.as_ref());
        let admitted = self
            .publisher
            .charge(&self.sender, 1)
            .and_then(|_| self.publisher.admit(&self.sender, submission));
        match admitted {
            Ok(Admitted { stream, mut events, allowance: _ }) => {
                let event = events.pop().expect("the one that was submitted");
                debug_assert!(events.is_empty());
                self.lanes.accept(tag, stream, event);
            }
            Err(error) => self.lanes.refuse(tag, error),
        }
        None
    }

    fn settle(&mut self, receipt: Receipt, answers: Vec<Answer>) -> Option<Result<(), Status>> {
        self.lanes.settle(receipt, answers);
        // Each must be remembered until it goes back, so there is an end to how many there may be.
        (self.lanes.held() > self.publisher.limits().stream_window).then(|| {
            Err(Status::new(Code::Unavailable, "too many producers have events that were not taken"))
        })
    }

    fn answer(&self, tag: Tag, answer: Answer) {
        let counted = match &answer {
            Ok(placed) => Ok(std::slice::from_ref(placed)),
            Err(error) => Err(Refusal { events: 1, word: error.word() }),
        };
        self.publisher.count(Transport::GrpcStream, tag.arrived, counted);
        let outcome = match answer {
            Ok(placed) => Outcome::Published(wire::published(placed)),
            Err(error) => Outcome::Refused(error.into_refused()),
        };
        let response = proto::PublishStreamResponse { correlation: tag.correlation, result: Some(outcome) };
        // It can only fail if the client is gone, and then this task is about to be aborted.
        let sent = self.answers.try_send((tag.place, response));
        debug_assert!(!matches!(sent, Err(mpsc::error::TrySendError::Full(_))));
    }
}

/// Appends events of one stream so that each gets the answer it would have got alone.
///
/// They go together. If the log refuses one of them, it has taken none: then what is before that
/// one goes again, that one goes alone, and the rest goes together. A failure of the log itself is
/// everybody's answer from there on.
async fn append_each(publisher: &Publisher, stream: &StreamName, mut rest: Vec<EventDraft>) -> Vec<Answer> {
    let mut answers = Vec::with_capacity(rest.len());
    // The event that made the log refuse, as its place in `rest`.
    let mut suspect: Option<usize> = None;
    while !rest.is_empty() {
        let count = suspect.map_or(rest.len(), |index| index.max(1));
        let attempt: Vec<_> = rest.drain(..count).collect();
        // Only a producer's sequence can be refused, and one event alone needs no second attempt.
        let splits = count > 1 && attempt.iter().any(|event| event.producer.is_some());
        let copy = if splits { attempt.clone() } else { Vec::new() };
        match publisher.append(stream, attempt).await {
            Ok(placed) => {
                answers.extend(placed.into_iter().map(Ok));
                suspect = suspect.filter(|index| *index > 0).map(|_| 0);
            }
            Err(error) if matches!(error.retry(), Retry::After(_)) => {
                answers.extend(repeat_n(Err(error), count + rest.len()));
                return answers;
            }
            Err(error) if splits => {
                // Always before the end of the attempt, so the next one is smaller.
                suspect = Some(error.index().min(count - 1));
                rest.splice(..0, copy);
            }
            Err(error) => {
                answers.extend(repeat_n(Err(error), count));
                suspect = None;
            }
        }
    }
    answers
}

impl Stream for Answers {
    type Item = Result<proto::PublishStreamResponse, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some((_place, response)) = ready!(self.answers.poll_recv(context)) {
            return Poll::Ready(Some(Ok(response)));
        }
        let Some(task) = self.task.as_mut() else { return Poll::Ready(None) };
        let end = ready!(Pin::new(task).poll(context));
        self.task = None;
        Poll::Ready(match end {
            Ok(Ok(())) => None,
            Ok(Err(status)) => Some(Err(status)),
            Err(error) => {
                tracing::error!(%error, "a PublishStream call failed");
                Some(Err(Status::internal("the call failed; repeat what has no answer")))
            }
        })
    }
}
