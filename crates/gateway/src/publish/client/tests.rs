//! Against a server of our own that remembers sequences and fails as it is told to.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::VecDeque;
use std::pin::Pin;
use std::sync::{Arc, Mutex};

use evergate_domain::{ProducerId, StreamName};
use evergate_proto::publish::v1::publish_stream_response::Result as Answer;
use evergate_proto::publish::v1::publisher_server::{Publisher, PublisherServer};
use evergate_proto::publish::v1::{Event, PublishBatchRequest, PublishBatchResponse, Refused};
use futures_util::{Stream, StreamExt};
use tonic::Response;

use super::*;
use crate::publish::args::{Format, Style};

/// What the server does with the next event it gets.
#[derive(Debug, Clone, Copy)]
enum Fate {
    Take,
    RefuseForNow,
    RefuseForGood,
    /// Takes the event and breaks the call off instead of answering.
    TakeAndBreak,
}

/// A log of one stream that tells a repeated event from a new one.
#[derive(Debug, Default)]
struct Server {
    fates: VecDeque<Fate>,
    log: Vec<(u64, String)>,
    calls: usize,
}

#[derive(Debug, Clone, Default)]
struct Shared(Arc<Mutex<Server>>);

impl Shared {
    fn take(&self, event: Event) -> Result<Answer, Status> {
        let mut server = self.0.lock().unwrap();
        let seq = event.producer.unwrap().seq;
        let fate = server.fates.pop_front().unwrap_or(Fate::Take);
        let refused = |code: Code, retry_after_ms| Refused {
            code: code.into(),
            message: "no".to_owned(),
            field: String::new(),
            retry_after_ms,
        };
        match fate {
            Fate::RefuseForNow => return Ok(Answer::Refused(refused(Code::Unavailable, 1))),
            Fate::RefuseForGood => return Ok(Answer::Refused(refused(Code::InvalidArgument, 0))),
            Fate::Take | Fate::TakeAndBreak => {}
        }
        let known = server.log.iter().position(|(known, _)| *known == seq);
        if known.is_none() {
            server.log.push((seq, event.data));
        }
        if matches!(fate, Fate::TakeAndBreak) {
            return Err(Status::unavailable("broken off"));
        }
        let offset = format!("1-{}", known.map_or(server.log.len(), |index| index + 1));
        Ok(Answer::Published(PublishResponse { offset, duplicate: known.is_some() }))
    }
}

#[tonic::async_trait]
impl Publisher for Shared {
    type PublishStreamStream = Pin<Box<dyn Stream<Item = Result<PublishStreamResponse, Status>> + Send>>;

    async fn publish(&self, request: Request<PublishRequest>) -> Result<Response<PublishResponse>, Status> {
        self.0.lock().unwrap().calls += 1;
        match self.take(request.into_inner().event.unwrap())? {
            Answer::Published(published) => Ok(Response::new(published)),
            Answer::Refused(refused) => Err(Status::new(Code::from_i32(refused.code), refused.message)),
        }
    }

    async fn publish_batch(
        &self,
        _: Request<PublishBatchRequest>,
    ) -> Result<Response<PublishBatchResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn publish_stream(
        &self,
        request: Request<Streaming<PublishStreamRequest>>,
    ) -> Result<Response<Self::PublishStreamStream>, Status> {
        self.0.lock().unwrap().calls += 1;
        let shared = self.clone();
        let answers = request.into_inner().map(move |request| {
            let PublishStreamRequest { event, correlation, .. } = request?;
            let result = Some(shared.take(event.unwrap())?);
            Ok(PublishStreamResponse { correlation, result })
        });
        // A call that is broken off is over.
        let answers = answers.scan(false, |over, answer| {
            let next = (!*over).then_some(answer);
            *over |= matches!(next, Some(Err(_)));
            std::future::ready(next)
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// A text that a test can read after the output wrote it.
#[derive(Debug, Clone, Default)]
struct Written(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Written {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl Written {
    fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

/// A run of the client against a server.
struct Ran {
    result: Result<(), String>,
    printed: String,
    complaints: String,
    server: Shared,
}

async fn serve(shared: Shared) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let incoming = futures_util::stream::unfold(listener, |listener| async move {
        let accepted = listener.accept().await.map(|(socket, _)| socket);
        Some((accepted, listener))
    });
    let server = tonic::transport::Server::builder().add_service(PublisherServer::new(shared));
    // Ends with the test's runtime.
    tokio::spawn(server.serve_with_incoming(incoming));
    format!("http://{address}")
}

async fn run(fates: &[Fate], lines: Option<&[&str]>, window: usize) -> Ran {
    let server = Shared::default();
    server.0.lock().unwrap().fates = fates.iter().copied().collect();
    let address = serve(server.clone()).await;
    let (printed, complaints) = (Written::default(), Written::default());
    let style = Style { format: Format::Text, quiet: false };
    let mut output = Output::to(style, Box::new(printed.clone()), Box::new(complaints.clone()));
    let client = PublisherClient::new(channel(&address, &dialer()).unwrap());
    let patience = Patience::new(Duration::from_secs(30), 7, Instant::now());
    let numbering = Numbering {
        stream: StreamName::new("quote").unwrap(),
        producer: ProducerId::new("p").unwrap(),
        next_seq: 1,
    };
    let result = match lines {
        None => {
            let draft = Draft { data: "one".to_owned(), kind: None, key: None };
            publish_one(client, numbering, draft, patience, &mut output).await
        }
        Some(lines) => {
            let (sender, input) = mpsc::channel(lines.len().max(1));
            for (number, line) in (1..).zip(lines) {
                sender.try_send(Ok((number, (*line).to_owned()))).unwrap();
            }
            drop(sender);
            let format = LineFormat::Plain { kind: None, key: None };
            let lines = Lines { format, input: Some(input), failure: None };
            let pipeline = Pipeline::new(numbering, window);
            Publishing { client, pipeline, lines, patience, output: &mut output }.run().await
        }
    };
    Ran { result, printed: printed.text(), complaints: complaints.text(), server }
}

impl Ran {
    fn log(&self) -> Vec<String> {
        self.server.0.lock().unwrap().log.iter().map(|(_, data)| data.clone()).collect()
    }

    fn calls(&self) -> usize {
        self.server.0.lock().unwrap().calls
    }
}

#[tokio::test]
async fn one_event_is_repeated_until_the_server_takes_it_once() {
    let ran = run(&[Fate::RefuseForNow, Fate::TakeAndBreak], None, 1).await;
    assert_eq!(ran.result, Ok(()));
    assert_eq!(ran.printed, "1-1 duplicate\n");
    assert_eq!(ran.log(), ["one"]);
    assert_eq!(ran.calls(), 3);
}

#[tokio::test]
async fn one_event_that_is_refused_for_good_is_not_repeated() {
    let ran = run(&[Fate::RefuseForGood], None, 1).await;
    assert_eq!((ran.printed.as_str(), ran.calls()), ("", 1));
    assert_eq!(ran.complaints, "evergate publish: the event is not valid: no\n");
}

#[tokio::test]
async fn lines_go_through_one_call_in_order() {
    let ran = run(&[], Some(&["a", "b", "c", "d", "e"]), 2).await;
    assert_eq!(ran.result, Ok(()));
    assert_eq!(ran.printed, "1-1\n1-2\n1-3\n1-4\n1-5\n");
    assert_eq!(ran.log(), ["a", "b", "c", "d", "e"]);
    assert_eq!(ran.calls(), 1);
}

#[tokio::test]
async fn a_call_that_breaks_off_costs_no_event_and_doubles_none() {
    let fates = [Fate::Take, Fate::TakeAndBreak, Fate::TakeAndBreak];
    let ran = run(&fates, Some(&["a", "b", "c", "d"]), 3).await;
    assert_eq!(ran.result, Ok(()));
    // The second call finds the event that the first had taken, and breaks off in its turn.
    assert_eq!(ran.printed, "1-1\n1-2 duplicate\n1-3\n1-4\n");
    assert_eq!(ran.log(), ["a", "b", "c", "d"]);
    assert_eq!(ran.calls(), 3);
}

#[tokio::test]
async fn a_refusal_for_now_is_waited_out() {
    // With a window of one nothing can be under way behind it.
    let ran = run(&[Fate::Take, Fate::RefuseForNow], Some(&["a", "b", "c"]), 1).await;
    assert_eq!(ran.result, Ok(()));
    assert_eq!(ran.log(), ["a", "b", "c"]);
    assert_eq!(ran.calls(), 2);
    assert!(ran.complaints.contains("the server is not available: no; again in 0.1 s"), "{}", ran.complaints);
}

#[tokio::test]
async fn a_refusal_for_good_names_the_line_and_the_rest_goes_on() {
    let ran = run(&[Fate::Take, Fate::RefuseForGood], Some(&["a", "b", "c"]), 2).await;
    assert_eq!(ran.result, Ok(()));
    assert_eq!(ran.log(), ["a", "c"]);
    assert_eq!(ran.complaints, "evergate publish: line 2: the event is not valid: no\n");
}

#[tokio::test]
async fn no_input_is_no_call() {
    let ran = run(&[], Some(&[]), 2).await;
    assert_eq!((ran.result.clone(), ran.calls()), (Ok(()), 0));
}

#[tokio::test(start_paused = true)]
async fn a_server_that_stays_away_is_given_up_with_its_reason() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let complaints = Written::default();
    let style = Style { format: Format::Text, quiet: false };
    let mut output = Output::to(style, Box::new(Written::default()), Box::new(complaints.clone()));
    let plan = Plan {
        server: format!("http://{address}"),
        stream: StreamName::new("quote").unwrap(),
        producer: ProducerId::new("p").unwrap(),
        first_seq: 1,
        window: 1,
        give_up: Duration::from_millis(1),
        what: What::One(Draft { data: String::new(), kind: None, key: None }),
    };
    let why = publish(plan, &dialer(), &mut output).await.unwrap_err();
    assert!(why.starts_with("giving up: the server is not available: "), "{why}");
    assert!(why.contains("Connection refused"), "{why}");
}

fn dialer() -> Dialer {
    crate::dial::TlsArgs::default().dialer(&[evergate_tls::Protocol::Http2]).unwrap()
}
