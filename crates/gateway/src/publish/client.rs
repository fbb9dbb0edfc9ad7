//! Publishing over gRPC: opens calls, feeds them, and goes on after every failure that may pass.

use std::time::{Duration, Instant};

use evergate_proto::publish::v1::publisher_client::PublisherClient;
use evergate_proto::publish::v1::{
    PublishRequest, PublishResponse, PublishStreamRequest, PublishStreamResponse,
};
use evergate_tls::Connector;
use tokio::sync::mpsc;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};

use super::args::{Plan, What};
use super::draft::{Draft, LineFormat};
use super::output::Output;
use super::patience::Patience;
use super::pipeline::{Answered, Numbering, Pipeline};
use super::refusal::Refusal;
use super::source::{self, Line};
use crate::dial::Dialer;

const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How long the server may leave an event unanswered before the attempt counts as failed.
const ANSWER_MAX: Duration = Duration::from_secs(15);
/// How often a quiet connection is asked whether it is still there, and how long it may think.
const KEEP_ALIVE: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));

/// Publishes everything there is. The error is a sentence for the user.
pub(crate) async fn publish(plan: Plan, dialer: &Dialer, output: &mut Output) -> Result<(), String> {
    let patience = Patience::new(plan.give_up, fastrand::u64(..), Instant::now());
    let client = PublisherClient::new(channel(&plan.server, dialer)?);
    let numbering = Numbering { stream: plan.stream, producer: plan.producer, next_seq: plan.first_seq };
    match plan.what {
        What::One(draft) => publish_one(client, numbering, draft, patience, output).await,
        What::Lines(format) => {
            let lines = Lines { format, input: Some(source::lines()), failure: None };
            let pipeline = Pipeline::new(numbering, plan.window);
            Publishing { client, pipeline, lines, patience, output }.run().await
        }
    }
}

/// A channel that connects with the first call, and again after every loss.
fn channel(server: &str, dialer: &Dialer) -> Result<Channel, String> {
    let (interval, timeout) = KEEP_ALIVE;
    let endpoint = Endpoint::from_shared(server.to_owned())
        .and_then(|endpoint| endpoint.user_agent(concat!("evergate-publish/", env!("CARGO_PKG_VERSION"))))
        .map_err(|error| format!("--server {server:?}: {error}"))?;
    let endpoint = endpoint
        .connect_timeout(CONNECT_MAX)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(interval)
        .keep_alive_timeout(timeout);
    if endpoint.uri().scheme_str() == Some("https") {
        return Ok(endpoint.connect_with_connector_lazy(Connector::new(dialer.client()?)));
    }
    Ok(endpoint.connect_lazy())
}

async fn publish_one(
    mut client: PublisherClient<Channel>,
    mut numbering: Numbering,
    draft: Draft,
    mut patience: Patience,
    output: &mut Output,
) -> Result<(), String> {
    let request: PublishRequest = numbering.request(draft)?;
    loop {
        let mut attempt = Request::new(request.clone());
        attempt.set_timeout(ANSWER_MAX);
        match client.publish(attempt).await {
            Ok(response) => return print(output, response.get_ref()),
            Err(status) => {
                let refusal = Refusal::of_call(&status);
                if refusal.retry_after.is_none() {
                    output.refused(&refusal.sentence);
                    return Ok(());
                }
                pause(&mut patience, &refusal, output).await?;
            }
        }
    }
}

/// Waits before the next attempt, or gives up.
async fn pause(patience: &mut Patience, refusal: &Refusal, output: &mut Output) -> Result<(), String> {
    let at_least = refusal.retry_after.unwrap_or_default();
    let Some(wait) = patience.failed(Instant::now(), at_least) else {
        return Err(format!("giving up: {}", refusal.sentence));
    };
    output.complain(&format!("{}; again in {:.1} s", refusal.sentence, wait.as_secs_f64()));
    tokio::time::sleep(wait).await;
    Ok(())
}

fn print(output: &mut Output, response: &PublishResponse) -> Result<(), String> {
    output.acknowledged(response).map_err(|error| format!("cannot print an acknowledgement: {error}"))
}

/// The lines that are still to come.
struct Lines {
    format: LineFormat,
    /// `None` at the end.
    input: Option<mpsc::Receiver<Line>>,
    /// Why the end came early.
    failure: Option<String>,
}

/// A run over the lines of standard input: one call after another, one at a time.
struct Publishing<'a> {
    client: PublisherClient<Channel>,
    pipeline: Pipeline,
    lines: Lines,
    patience: Patience,
    output: &'a mut Output,
}

/// How a call ended.
enum CallEnd {
    /// Everything is answered and nothing more will come.
    Done,
    /// Something is left, and another call may take it.
    Again(Refusal),
}

impl Publishing<'_> {
    async fn run(mut self) -> Result<(), String> {
        loop {
            // No call is opened before there is something to say on it.
            while self.pipeline.is_empty() {
                match self.lines.next().await {
                    Some(line) => self.take(line)?,
                    None => return self.lines.failure.map_or(Ok(()), Err),
                }
            }
            match self.call().await? {
                CallEnd::Done => return self.lines.failure.map_or(Ok(()), Err),
                CallEnd::Again(refusal) => {
                    self.pipeline.call_ended();
                    // A call that broke off between two events is no failure of any.
                    if !self.pipeline.is_empty() {
                        pause(&mut self.patience, &refusal, self.output).await?;
                    }
                }
            }
        }
    }

    /// One call, until there is nothing more to say on it.
    async fn call(&mut self) -> Result<CallEnd, String> {
        // Room for the whole window, so that sending never waits.
        let (requests, mut outgoing) = mpsc::channel(self.pipeline.window());
        self.send(&requests);
        let outgoing = futures_util::stream::poll_fn(move |context| outgoing.poll_recv(context));
        let opening = tokio::time::timeout(ANSWER_MAX, self.client.publish_stream(outgoing));
        let mut answers: Streaming<PublishStreamResponse> = match opening.await {
            Ok(Ok(response)) => response.into_inner(),
            Ok(Err(status)) => return broken(&status),
            Err(_) => return Ok(CallEnd::Again(no_answer())),
        };
        let mut refused_for_now = None;
        let mut waiting_since = Instant::now();
        loop {
            self.send(&requests);
            let awaits = self.pipeline.awaits_answer();
            if !awaits && let Some(refusal) = refused_for_now.take() {
                return Ok(CallEnd::Again(refusal));
            }
            if self.pipeline.is_empty() && self.lines.input.is_none() {
                return Ok(CallEnd::Done);
            }
            let reads = self.pipeline.has_room() && refused_for_now.is_none() && self.lines.input.is_some();
            tokio::select! {
                biased; // Answers first: they make the room that lines need.
                answer = answers.message() => {
                    waiting_since = Instant::now();
                    match answer {
                        Ok(Some(response)) => refused_for_now = self.hear(response)?.or(refused_for_now),
                        Ok(None) => return Ok(CallEnd::Again(ended())),
                        Err(status) => return broken(&status),
                    }
                }
                line = self.lines.next(), if reads => {
                    if !awaits {
                        waiting_since = Instant::now();
                    }
                    if let Some(line) = line {
                        self.take(line)?;
                    }
                }
                () = tokio::time::sleep_until((waiting_since + ANSWER_MAX).into()), if awaits => {
                    return Ok(CallEnd::Again(no_answer()));
                }
            }
        }
    }

    fn send(&mut self, requests: &mpsc::Sender<PublishStreamRequest>) {
        while let Some(request) = self.pipeline.next_request() {
            // It has room for the window. If it is closed, the call is over, and its end is the
            // next thing that is heard.
            let _ = requests.try_send(request);
        }
    }

    /// Takes a line into the pipeline, which has room.
    fn take(&mut self, (line, text): (u64, String)) -> Result<(), String> {
        match self.lines.format.read(&text) {
            Ok(Some(draft)) => {
                if self.pipeline.is_empty() {
                    // Time in which there was nothing to do is no time without progress.
                    self.patience.succeeded(Instant::now());
                }
                self.pipeline.push(line, draft)
            }
            Ok(None) => Ok(()),
            Err(why) => {
                self.output.refused(&format!("line {line}: {why}"));
                Ok(())
            }
        }
    }

    /// Takes an answer. Gives back a refusal that holds only for now.
    fn hear(&mut self, response: PublishStreamResponse) -> Result<Option<Refusal>, String> {
        match self.pipeline.answered(response) {
            Answered::Published(published) => {
                self.patience.succeeded(Instant::now());
                print(self.output, &published)?;
                Ok(None)
            }
            Answered::Refused { line, refusal } => {
                self.patience.succeeded(Instant::now());
                if is_for_all(refusal.code) {
                    return Err(refusal.sentence);
                }
                self.output.refused(&format!("line {line}: {}", refusal.sentence));
                Ok(None)
            }
            Answered::Later(refusal) => Ok(Some(refusal)),
            Answered::Unexpected => {
                Err("the server answered what it was not asked; is it of another version?".to_owned())
            }
        }
    }
}

impl Lines {
    /// The next line; `None` at the end, however it came. Cancel-safe.
    async fn next(&mut self) -> Option<(u64, String)> {
        match self.input.as_mut()?.recv().await {
            Some(Ok(line)) => return Some(line),
            Some(Err(why)) => self.failure = Some(why),
            None => {}
        }
        self.input = None;
        None
    }
}

/// Whether what is refused so is every event, not only this one.
fn is_for_all(code: Code) -> bool {
    match code {
        Code::NotFound | Code::PermissionDenied | Code::Unauthenticated | Code::Unimplemented => true,
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::InvalidArgument
        | Code::DeadlineExceeded
        | Code::AlreadyExists
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss => false,
    }
}

fn broken(status: &Status) -> Result<CallEnd, String> {
    let refusal = Refusal::of_call(status);
    if refusal.retry_after.is_some() { Ok(CallEnd::Again(refusal)) } else { Err(refusal.sentence) }
}

fn ended() -> Refusal {
    Refusal::of_call(&Status::unavailable("it ended the call"))
}

fn no_answer() -> Refusal {
    let message = format!("no answer within {} s", ANSWER_MAX.as_secs());
    Refusal::of_call(&Status::unavailable(message))
}

#[cfg(test)]
mod tests;
