#![expect(clippy::unwrap_used, clippy::panic, reason = "a test may")]

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use evergate_domain::{AgreedLimits, StreamPolicies};
use evergate_eventlog::{AppendError, BackendError};
use futures_util::{Stream, StreamExt as _, stream};
use proto::publish_stream_response::Result as Outcome;
use proto::publisher_client::PublisherClient;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Code;
use tonic::transport::{Channel, Endpoint};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_types::StatusExt as _;

use super::*;
use crate::config::PublishLimits;
use crate::publish::ProducerBindings;
use crate::publish::testing::{self, LIMITS, TestLog, here};

const TRACE: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// Longer than anything here takes; a test that gets there has failed.
async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(30), future).await.expect("it never came")
}

/// A server on a port of its own.
struct Bench {
    log: Arc<TestLog>,
    address: SocketAddr,
    stop: CancellationToken,
    served: JoinHandle<Result<(), tonic::transport::Error>>,
}

impl Bench {
    async fn new() -> Self {
        Self::with(LIMITS, Duration::from_secs(60)).await
    }

    async fn with(limits: PublishLimits, grace: Duration) -> Self {
        let log = TestLog::new();
        let publisher = log.publisher(limits);
        Self::serving(log, publisher, grace).await
    }

    async fn serving(log: Arc<TestLog>, publisher: Publisher, grace: Duration) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let served = tokio::spawn(server::serve(
            Place {
                listener,
                tls: None,
                limits: crate::config::GrpcLimits {
                    connections_max: std::num::NonZeroUsize::new(100).unwrap(),
                    connections_per_address: None,
                    first_word_timeout: Duration::from_secs(5),
                },
            },
            publisher,
            Arc::default(),
            None,
            tonic::service::Routes::default(),
            stop.clone().cancelled_owned(),
            grace,
        ));
        Self { log, address, stop, served }
    }

    async fn channel(&self) -> Channel {
        Endpoint::new(format!("http://{}", self.address)).unwrap().connect().await.unwrap()
    }

    async fn client(&self) -> PublisherClient<Channel> {
        PublisherClient::new(self.channel().await)
    }

    async fn open(&self) -> OpenCall {
        let (requests, receiver) = mpsc::channel(1);
        let mut client = self.client().await;
        let response = soon(client.publish_stream(ReceiverStream::new(receiver))).await.unwrap();
        OpenCall { requests, answers: response.into_inner() }
    }
}

/// A `PublishStream` from the client's side.
struct OpenCall {
    requests: mpsc::Sender<proto::PublishStreamRequest>,
    answers: Streaming<proto::PublishStreamResponse>,
}

impl OpenCall {
    async fn send(&self, request: proto::PublishStreamRequest) {
        soon(self.requests.send(request)).await.unwrap();
    }

    /// The next answer: its correlation, and `Ok(duplicate)` or the code of the refusal.
    async fn answer(&mut self) -> (u64, Result<bool, Code>) {
        let answer = soon(self.answers.message()).await.unwrap().expect("an answer");
        brief(&answer)
    }

    async fn answers(&mut self, count: usize) -> Vec<(u64, Result<bool, Code>)> {
        let mut answers = Vec::new();
        for _ in 0..count {
            answers.push(self.answer().await);
        }
        answers
    }
}

fn brief(answer: &proto::PublishStreamResponse) -> (u64, Result<bool, Code>) {
    let outcome = match answer.result.as_ref().unwrap() {
        Outcome::Published(published) => Ok(published.duplicate),
        Outcome::Refused(refused) => Err(Code::from(refused.code)),
    };
    (answer.correlation, outcome)
}

fn event(data: &str) -> proto::Event {
    proto::Event { data: data.to_owned(), ..proto::Event::default() }
}

fn produced(seq: u64) -> proto::Event {
    proto::Event { producer: Some(proto::Producer { id: "p".to_owned(), seq }), ..event(&seq.to_string()) }
}

fn one(event: proto::Event) -> proto::PublishRequest {
    proto::PublishRequest { stream: "quote".to_owned(), event: Some(event), level: 0 }
}

fn many(events: Vec<proto::Event>) -> proto::PublishBatchRequest {
    proto::PublishBatchRequest { stream: "quote".to_owned(), events, level: 0 }
}

fn streamed(correlation: u64, stream: &str, event: proto::Event) -> proto::PublishStreamRequest {
    proto::PublishStreamRequest { stream: stream.to_owned(), event: Some(event), level: 0, correlation }
}

fn unavailable() -> AppendError {
    AppendError::Unavailable(BackendError::message("input/output error"))
}

#[tokio::test]
async fn an_event_is_published_once_however_often_it_is_sent() {
    let bench = Bench::new().await;
    let mut client = bench.client().await;
    let event = proto::Event { r#type: "trade".to_owned(), key: "AAPL".to_owned(), ..produced(7) };
    let first = soon(client.publish(one(event.clone()))).await.unwrap().into_inner();
    let again = soon(client.publish(one(event))).await.unwrap().into_inner();
    assert_eq!((first.duplicate, again.duplicate), (false, true));
    assert_eq!(first.offset, again.offset);
    let events = bench.log.events("quote").await;
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].offset.to_string(), first.offset);
    assert_eq!(events[0].key.as_ref().unwrap().as_str(), "AAPL");
    assert_eq!(events[0].kind.as_ref().unwrap().as_str(), "trade");
    assert_eq!(events[0].trace, None);
}

#[tokio::test]
async fn the_trace_of_the_call_is_for_events_that_have_none() {
    let bench = Bench::new().await;
    let mut client = bench.client().await;
    let own = TRACE.replace("4bf9", "0000");
    let mut request = Request::new(many(vec![
        event("a"),
        proto::Event { traceparent: own.clone(), ..event("b") },
        proto::Event { traceparent: "nonsense".to_owned(), ..event("c") },
    ]));
    request.metadata_mut().insert("traceparent", TRACE.parse().unwrap());
    soon(client.publish_batch(request)).await.unwrap();
    let traces: Vec<_> = bench
        .log
        .events("quote")
        .await
        .iter()
        .map(|event| event.trace.as_ref().unwrap().to_string())
        .collect();
    assert_eq!(traces, [TRACE, &own, TRACE]);
}

#[tokio::test]
async fn a_refusal_names_every_fault() {
    let bench = Bench::new().await;
    let mut client = bench.client().await;
    let bad = proto::PublishRequest {
        stream: "a b".to_owned(),
        event: Some(proto::Event {
            r#type: "evergate.gap".to_owned(),
            key: "a*".to_owned(),
            producer: Some(proto::Producer::default()),
            ..event(&"x".repeat(1001))
        }),
        level: 9,
    };
    let status = soon(client.publish(bad)).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let details = status.get_error_details();
    let fields: Vec<_> = details
        .bad_request()
        .unwrap()
        .field_violations
        .iter()
        .map(|violation| violation.field.as_str())
        .collect();
    assert_eq!(
        fields,
        [
            "level",
            "stream",
            "event.type",
            "event.key",
            "event.producer.id",
            "event.producer.seq",
            "event.data"
        ]
    );
    let info = details.error_info().unwrap();
    assert_eq!((info.reason.as_str(), info.domain.as_str()), ("BAD_REQUEST", "evergate"));

    let empty = proto::PublishRequest { stream: "quote".to_owned(), event: None, level: 0 };
    let status = soon(client.publish(empty)).await.unwrap_err();
    assert_eq!(status.message(), "event: is missing");
    assert!(bench.log.seen().batches.is_empty());
}

#[tokio::test]
async fn a_batch_is_stored_whole_or_not_at_all() {
    let bench = Bench::new().await;
    let mut client = bench.client().await;
    let taken = soon(client.publish_batch(many(vec![produced(4), produced(5)]))).await.unwrap().into_inner();
    let offsets: Vec<_> =
        bench.log.events("quote").await.iter().map(|event| event.offset.to_string()).collect();
    assert_eq!(taken.results.iter().map(|result| result.offset.clone()).collect::<Vec<_>>(), offsets);

    let malformed = many(vec![event("a"), proto::Event { key: "*".to_owned(), ..event("b") }]);
    let status = soon(client.publish_batch(malformed)).await.unwrap_err();
    assert!(status.message().starts_with("events[1].key: "), "{}", status.message());

    let too_old = soon(client.publish_batch(many(vec![event("a"), produced(1)]))).await.unwrap_err();
    assert_eq!(too_old.code(), Code::FailedPrecondition);
    let details = too_old.get_error_details();
    let violation = &details.precondition_failure().unwrap().violations[0];
    assert_eq!((violation.r#type.as_str(), violation.subject.as_str()), ("SEQUENCE_TOO_OLD", "producers/p"));

    let none = soon(client.publish_batch(many(Vec::new()))).await.unwrap_err();
    assert_eq!(none.code(), Code::InvalidArgument);
    let many_events = many((0..=LIMITS.batch_events_max).map(|_| event("")).collect());
    let status = soon(client.publish_batch(many_events)).await.unwrap_err();
    assert_eq!(
        (status.code(), status.message()),
        (Code::InvalidArgument, "events: 11 events, at most 10 are allowed")
    );
    assert_eq!(bench.log.data("quote").await, ["4", "5"]);
}

#[tokio::test]
async fn a_refusal_of_a_thousand_events_still_fits_into_header_fields() {
    let limits = PublishLimits { batch_events_max: 1000, batch_bytes_max: 1 << 20, ..LIMITS };
    let bench = Bench::with(limits, Duration::from_secs(60)).await;
    let mut client = bench.client().await;
    let bad =
        proto::Event { r#type: format!("evergate.{}", "x".repeat(119)), key: "k*".to_owned(), ..produced(0) };
    let status = soon(client.publish_batch(many(vec![bad; 1000]))).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.get_error_details().bad_request().unwrap().field_violations.len(), 16);
    assert!(status.message().ends_with(" more"), "{}", status.message());
}

#[tokio::test]
async fn a_message_beyond_all_measure_is_not_read() {
    let bench = Bench::new().await;
    let mut client = bench.client().await;
    // Moderately too large: told which limit it is.
    let status = soon(client.publish(one(event(&"x".repeat(8000))))).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    let status = soon(client.publish(one(event(&"x".repeat(50_000))))).await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange);
}

#[tokio::test]
async fn what_the_log_says_has_its_code_and_says_whether_to_retry() {
    let bench = Bench::new().await;
    let mut client = bench.client().await;
    for (error, code, delay) in [
        (AppendError::Full("/secret".to_owned()), Code::ResourceExhausted, 5),
        (unavailable(), Code::Unavailable, 1),
        (AppendError::Closed, Code::Unavailable, 1),
    ] {
        bench.log.fail_next(error);
        let status = soon(client.publish(one(event("a")))).await.unwrap_err();
        assert_eq!(status.code(), code);
        let delay = Some(Duration::from_secs(delay));
        assert_eq!(status.get_details_retry_info().unwrap().retry_delay, delay);
        assert!(!status.message().contains("secret"));
    }

    let demanding = proto::PublishRequest { level: proto::Level::Quorum.into(), ..one(event("a")) };
    let status = soon(client.publish(demanding)).await.unwrap_err();
    assert_eq!(status.code(), Code::FailedPrecondition);
    let details = status.get_error_details();
    let violation = &details.precondition_failure().unwrap().violations[0];
    assert_eq!(
        (violation.r#type.as_str(), violation.subject.as_str()),
        ("LEVEL_UNAVAILABLE", "streams/quote")
    );
    assert!(details.retry_info().is_none());
    let modest = proto::PublishRequest { level: proto::Level::Home.into(), ..one(event("a")) };
    soon(client.publish(modest)).await.unwrap();
}

#[tokio::test]
async fn a_stream_that_does_not_exist_is_not_created() {
    let log = TestLog::new();
    let closed = StreamPolicies { closed: true, ..testing::open() };
    let publisher = Publisher::new(
        log.clone(),
        Arc::new(closed),
        LIMITS,
        &AgreedLimits::default(),
        ProducerBindings::default(),
        evergate_telemetry::Tracer::off(),
        Arc::default(),
    );
    let bench = Bench::serving(log, publisher, Duration::from_secs(60)).await;
    let status = soon(bench.client().await.publish(one(event("a")))).await.unwrap_err();
    assert_eq!((status.code(), status.message()), (Code::NotFound, "there is no such stream"));
    let mut call = bench.open().await;
    call.send(streamed(1, "quote", event("a"))).await;
    assert_eq!(call.answer().await, (1, Err(Code::NotFound)));
}

#[tokio::test]
async fn answers_come_in_the_order_of_the_requests_and_refusals_end_nothing() {
    let bench = Bench::new().await;
    let mut call = bench.open().await;
    bench.log.hold();
    call.send(streamed(10, "quote", event("a"))).await;
    bench.log.until(|appends| appends.under_way.len() == 1).await;
    call.send(streamed(11, "a b", event("b"))).await;
    call.send(streamed(12, "news", event("c"))).await;
    call.send(streamed(13, "quote", event(&"x".repeat(1001)))).await;
    call.send(streamed(14, "quote", event("d"))).await;
    // Another stream does not wait for the first.
    bench.log.until(|appends| appends.under_way.len() == 2).await;
    bench.log.release_all();
    let bad = Err(Code::InvalidArgument);
    assert_eq!(
        call.answers(5).await,
        [(10, Ok(false)), (11, bad), (12, Ok(false)), (13, bad), (14, Ok(false))]
    );
    assert_eq!(bench.log.data("quote").await, ["a", "d"]);

    drop(call.requests);
    assert!(soon(call.answers.message()).await.unwrap().is_none(), "a half-closed call ends well");
}

#[tokio::test]
async fn a_refusal_in_a_stream_says_what_a_status_would() {
    let bench = Bench::new().await;
    let mut call = bench.open().await;
    call.send(streamed(1, "quote", proto::Event { key: "*".to_owned(), ..event("a") })).await;
    bench.log.fail_next(AppendError::Full(String::new()));
    call.send(streamed(2, "quote", event("b"))).await;
    let mut refused = Vec::new();
    for _ in 0..2 {
        match soon(call.answers.message()).await.unwrap().unwrap().result.unwrap() {
            Outcome::Refused(why) => refused.push(why),
            Outcome::Published(published) => panic!("{published:?}"),
        }
    }
    assert_eq!((refused[0].field.as_str(), refused[0].retry_after_ms), ("event.key", 0));
    assert!(refused[0].message.starts_with("event.key: key holds '*'"), "{}", refused[0].message);
    assert_eq!((refused[1].field.as_str(), refused[1].retry_after_ms), ("", 5000));
    assert_eq!(Code::from(refused[1].code), Code::ResourceExhausted);
}

#[tokio::test]
async fn what_gathers_behind_an_append_goes_together_and_a_refused_event_refuses_itself_alone() {
    let bench = Bench::new().await;
    soon(bench.client().await.publish(one(produced(5)))).await.unwrap();
    let mut call = bench.open().await;
    bench.log.hold();
    call.send(streamed(0, "quote", event("first"))).await;
    bench.log.until(|appends| !appends.under_way.is_empty()).await;
    for (correlation, event) in [
        (1, event("x")),
        (2, produced(6)),
        // Never seen and below 5, so the log cannot tell whether it is new.
        (3, produced(2)),
        (4, produced(3)),
        (5, produced(7)),
        (6, produced(5)),
    ] {
        call.send(streamed(correlation, "quote", event)).await;
    }
    // The eighth place of the window: when this one was read, all before it were.
    call.send(streamed(7, "news", event("marker"))).await;
    bench.log.until(|appends| appends.under_way.len() == 2).await;
    bench.log.release_all();
    let too_old = Err(Code::FailedPrecondition);
    assert_eq!(
        call.answers(8).await,
        [
            (0, Ok(false)),
            (1, Ok(false)),
            (2, Ok(false)),
            (3, too_old),
            (4, too_old),
            (5, Ok(false)),
            (6, Ok(true)),
            (7, Ok(false))
        ]
    );
    assert_eq!(bench.log.data("quote").await, ["5", "first", "x", "6", "7"]);
    let batches: Vec<_> = bench.log.seen().batches;
    let quote: Vec<_> =
        batches.iter().filter(|(name, _)| name.as_str() == "quote").map(|(_, data)| data.join(" ")).collect();
    assert_eq!(quote, ["5", "first", "x 6 2 3 7 5", "x 6", "2", "3 7 5", "3", "7 5"]);
}

#[tokio::test]
async fn a_failure_of_the_log_is_repeated_from_the_event_that_failed() {
    let bench = Bench::new().await;
    let mut call = bench.open().await;
    bench.log.fail_next(unavailable());
    bench.log.hold();
    call.send(streamed(1, "quote", produced(1))).await;
    bench.log.until(|appends| !appends.under_way.is_empty()).await;
    call.send(streamed(2, "quote", produced(2))).await;
    call.send(streamed(3, "news", event("marker"))).await;
    bench.log.until(|appends| appends.under_way.len() == 2).await;
    bench.log.release_all();
    let later = Err(Code::Unavailable);
    // Had 2 been taken, 1 could never be repeated.
    assert_eq!(call.answers(3).await, [(1, later), (2, later), (3, Ok(false))]);
    for (correlation, seq) in [(4, 1), (5, 2), (6, 3)] {
        call.send(streamed(correlation, "quote", produced(seq))).await;
    }
    assert_eq!(call.answers(3).await, [(4, Ok(false)), (5, Ok(false)), (6, Ok(false))]);
    assert_eq!(bench.log.data("quote").await, ["1", "2", "3"]);
}

#[tokio::test]
async fn whatever_has_no_answer_may_be_repeated_on_another_call() {
    let bench = Bench::new().await;
    let mut call = bench.open().await;
    for seq in 1..=3 {
        call.send(streamed(seq, "quote", produced(seq))).await;
    }
    assert_eq!(call.answer().await, (1, Ok(false)));
    bench.log.until(|appends| appends.batches.iter().flat_map(|(_, data)| data).count() == 3).await;
    // The client never sees the answers to 2 and 3.
    drop(call);
    let mut call = bench.open().await;
    for seq in 2..=4 {
        call.send(streamed(seq, "quote", produced(seq))).await;
    }
    assert_eq!(call.answers(3).await, [(2, Ok(true)), (3, Ok(true)), (4, Ok(false))]);
    assert_eq!(bench.log.data("quote").await, ["1", "2", "3", "4"]);
}

#[tokio::test]
async fn no_more_than_a_window_is_under_way() {
    const REQUESTS: usize = 200;
    let bench = Bench::new().await;
    bench.log.hold();
    let mut client = bench.client().await;
    // A stream for each, so that each is an append of its own as soon as it was read.
    let requests = stream::iter((0..REQUESTS as u64).map(|n| streamed(n, &format!("s{n}"), event("a"))));
    let mut answers = soon(client.publish_stream(requests)).await.unwrap().into_inner();
    for n in 0..REQUESTS {
        let open = (REQUESTS - n).min(LIMITS.stream_window);
        bench.log.until(|appends| appends.under_way.len() == open).await;
        bench.log.release(1);
        let answer = soon(answers.message()).await.unwrap().unwrap();
        assert_eq!(brief(&answer), (n as u64, Ok(false)));
    }
    assert_eq!(bench.log.seen().peak, LIMITS.stream_window);
}

/// Requests without end, and how many of them were taken.
fn endless(
    data: &str,
) -> (
    impl Stream<Item = Result<proto::PublishStreamRequest, Status>> + Unpin + Send + 'static,
    Arc<AtomicUsize>,
) {
    let taken = Arc::new(AtomicUsize::new(0));
    let event = event(data);
    let requests = stream::iter(0..).map({
        let taken = Arc::clone(&taken);
        move |n| {
            taken.fetch_add(1, Ordering::SeqCst);
            Ok(streamed(n, "quote", event.clone()))
        }
    });
    (requests, taken)
}

/// Lets everything run until nothing can: on one thread and without I/O, each task that can go on
/// does so whenever this one yields.
async fn settle() {
    for _ in 0..1000 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn answers_that_nobody_takes_count_against_the_window() {
    let log = TestLog::new();
    let (requests, taken) = endless("a");
    let mut answers = call::open(log.publisher(LIMITS), here(), requests, None, CancellationToken::new());
    settle().await;
    assert_eq!(taken.load(Ordering::SeqCst), LIMITS.stream_window);
    for n in 0..3 {
        let answer = answers.next().await.unwrap().unwrap();
        assert_eq!(brief(&answer), (n, Ok(false)));
    }
    settle().await;
    assert_eq!(taken.load(Ordering::SeqCst), LIMITS.stream_window + 3);
    // Of what is there already, as much goes to the log together as fits.
    assert_eq!(log.seen().batches[0].1.len(), LIMITS.stream_window);
}

#[tokio::test]
async fn bytes_count_against_the_window_too() {
    let log = TestLog::new();
    log.hold();
    let limits = PublishLimits { stream_window: 1000, ..LIMITS };
    let (requests, taken) = endless(&"x".repeat(1000));
    let _answers = call::open(log.publisher(limits), here(), requests, None, CancellationToken::new());
    settle().await;
    // Two batches of 4,000 bytes.
    assert_eq!(taken.load(Ordering::SeqCst), 8);
}

#[tokio::test]
async fn too_many_producers_that_must_go_back_end_the_call() {
    let log = TestLog::new();
    let limits = PublishLimits { stream_window: 2, ..LIMITS };
    let requests = stream::iter(0..).map(|n| {
        let producer = Some(proto::Producer { id: n.to_string(), seq: 1 });
        Ok(streamed(n, "quote", proto::Event { producer, ..event("a") }))
    });
    for _ in 0..5 {
        log.fail_next(unavailable());
    }
    let answers = call::open(log.publisher(limits), here(), requests, None, CancellationToken::new());
    let mut answers: Vec<_> = soon(answers.collect::<Vec<_>>()).await;
    let end = answers.pop().unwrap().unwrap_err();
    assert_eq!(end.code(), Code::Unavailable);
    for (n, answer) in answers.iter().enumerate() {
        assert_eq!(brief(answer.as_ref().unwrap()), (n as u64, Err(Code::Unavailable)));
    }
    assert!(log.data("quote").await.is_empty());
}

#[tokio::test]
async fn a_call_ends_with_its_client() {
    let bench = Bench::new().await;
    let call = bench.open().await;
    bench.log.hold();
    call.send(streamed(1, "quote", event("a"))).await;
    bench.log.until(|appends| !appends.under_way.is_empty()).await;
    drop(call);
    // The append is dropped with the task that waited for it.
    soon(bench.log.until(|appends| appends.under_way.is_empty())).await;
}

#[tokio::test]
async fn a_call_that_waits_for_the_log_holds_up_no_other_on_its_connection() {
    let bench = Bench::new().await;
    bench.log.hold();
    let channel = bench.channel().await;
    let (sent, mut seen) = watch::channel(0);
    let data = "x".repeat(1000);
    let requests = stream::iter(0..).map(move |n| {
        sent.send_replace(n);
        streamed(n, "quote", event(&data))
    });
    let mut client = PublisherClient::new(channel.clone());
    let _answers = soon(client.publish_stream(requests)).await.unwrap();
    // As much as the server takes of one call without reading it.
    soon(seen.wait_for(|sent| *sent > 100)).await.unwrap();
    let request = HealthCheckRequest { service: String::new() };
    let health = soon(HealthClient::new(channel).check(request)).await.unwrap().into_inner();
    assert_eq!(health.status(), ServingStatus::Serving);
}

#[tokio::test]
async fn on_shutdown_what_was_read_is_still_answered() {
    let bench = Bench::new().await;
    let mut call = bench.open().await;
    bench.log.hold();
    call.send(streamed(1, "quote", event("a"))).await;
    bench.log.until(|appends| !appends.under_way.is_empty()).await;
    call.send(streamed(2, "quote", event("b"))).await;
    call.send(streamed(3, "news", event("marker"))).await;
    bench.log.until(|appends| appends.under_way.len() == 2).await;
    bench.stop.cancel();
    bench.log.release_all();
    assert_eq!(call.answers(3).await, [(1, Ok(false)), (2, Ok(false)), (3, Ok(false))]);
    let end = soon(call.answers.message()).await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable);
    assert_eq!(end.message(), "the server is shutting down");
    soon(bench.served).await.unwrap().unwrap();
    assert_eq!(bench.log.data("quote").await, ["a", "b"]);
}

#[tokio::test]
async fn shutdown_waits_for_nobody_beyond_its_grace() {
    let bench = Bench::with(LIMITS, Duration::from_millis(20)).await;
    let mut call = bench.open().await;
    bench.log.hold();
    call.send(streamed(1, "quote", event("a"))).await;
    bench.log.until(|appends| !appends.under_way.is_empty()).await;
    bench.stop.cancel();
    soon(bench.served).await.unwrap().unwrap();
    assert!(soon(call.answers.message()).await.is_err());
    soon(bench.log.until(|appends| appends.under_way.is_empty())).await;
}

#[tokio::test]
async fn a_server_that_is_dropped_leaves_no_connection_behind() {
    let bench = Bench::new().await;
    let mut call = bench.open().await;
    bench.served.abort();
    assert!(soon(call.answers.message()).await.is_err());
}

#[tokio::test]
async fn health_says_when_it_is_over_and_lets_its_watchers_go() {
    let bench = Bench::new().await;
    let mut client = HealthClient::new(bench.channel().await);
    for service in ["", "evergate.publish.v1.Publisher"] {
        let request = HealthCheckRequest { service: service.to_owned() };
        let health = soon(client.check(request)).await.unwrap().into_inner();
        assert_eq!(health.status(), ServingStatus::Serving);
    }
    let request = HealthCheckRequest { service: String::new() };
    let mut watch = soon(client.watch(request)).await.unwrap().into_inner();
    assert_eq!(soon(watch.message()).await.unwrap().unwrap().status(), ServingStatus::Serving);
    bench.stop.cancel();
    assert_eq!(soon(watch.message()).await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(soon(watch.message()).await.unwrap().is_none());
    soon(bench.served).await.unwrap().unwrap();
}

#[tokio::test]
async fn reflection_lists_the_services_in_both_of_its_versions() {
    const SERVICES: [&str; 2] = ["evergate.publish.v1.Publisher", "grpc.health.v1.Health"];
    let bench = Bench::new().await;
    macro_rules! services {
        ($version:ident) => {{
            use tonic_reflection::pb::$version::ServerReflectionRequest;
            use tonic_reflection::pb::$version::server_reflection_client::ServerReflectionClient;
            use tonic_reflection::pb::$version::server_reflection_request::MessageRequest;
            use tonic_reflection::pb::$version::server_reflection_response::MessageResponse;
            let request = ServerReflectionRequest {
                host: String::new(),
                message_request: Some(MessageRequest::ListServices(String::new())),
            };
            let mut client = ServerReflectionClient::new(bench.channel().await);
            let response = soon(client.server_reflection_info(stream::iter([request]))).await.unwrap();
            let answer = soon(response.into_inner().message()).await.unwrap().unwrap();
            let Some(MessageResponse::ListServicesResponse(list)) = answer.message_response else {
                panic!("{answer:?}")
            };
            list.service.into_iter().map(|service| service.name).collect::<Vec<_>>()
        }};
    }
    for services in [services!(v1), services!(v1alpha)] {
        for service in SERVICES {
            assert!(services.iter().any(|name| name == service), "{service} is not among {services:?}");
        }
    }
}
