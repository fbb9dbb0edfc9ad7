//! What was given for a token, or begun with it, when the token is called back or runs out: tickets, and calls of
//! publishers that go on.

use std::time::Duration;

use evergate_proto::publish::v1::PublishStreamResponse;
use evergate_proto::publish::v1::publish_stream_response::Result as Outcome;
use evergate_proto::publish::v1::publisher_client::PublisherClient;
use evergate_tests::PATIENCE;
use evergate_tests::http1::{Request, call};
use evergate_tests::issuer::now;
use evergate_tests::process::Evergate;
use evergate_tests::publisher::{PublishStreamRequest, channel, event, refused, request};
use evergate_tests::subscription::Subscription;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use crate::{EVENTS, bearer, guarded};

async fn ticket(server: &Evergate, token: &str) -> String {
    let answer = call(server.http(), bearer(Request::new("POST", "/v1/tickets"), token)).await;
    assert_eq!(answer.status(), 201, "{answer:?}");
    answer.json()["ticket"].as_str().expect("a ticket").to_owned()
}

async fn revoke(server: &Evergate, what: &Value) {
    let asked = Request::post("/revocations", "application/json", what.to_string());
    let answer = call(server.admin(), asked.header("Evergate-Admin", "revoke")).await;
    assert_eq!(answer.status(), 202, "{answer:?}");
}

fn with(ticket: &str) -> Request {
    Request::get(&format!("{EVENTS}?ticket={ticket}"))
}

#[tokio::test]
async fn a_ticket_is_worth_no_more_than_its_token() {
    let (issuer, server) = guarded().await;
    let grants = json!({ "subscribe": ["quote"] });
    let (by_id, by_name) = (issuer.token("alice", 600, &grants), issuer.token("bob", 600, &grants));
    let tickets = [ticket(&server, &by_id).await, ticket(&server, &by_name).await];
    let other = ticket(&server, &issuer.token("carol", 600, &grants)).await;
    revoke(&server, &json!({ "token_id": "alice-600" })).await;
    revoke(&server, &json!({ "subject": "bob" })).await;
    for ticket in &tickets {
        call(server.http(), with(ticket)).await.problem(401);
    }
    Subscription::request(server.http(), &with(&other)).await.opened().await;

    // A ticket lasts a minute, and its token two seconds.
    let token = issuer.sign(&json!({ "sub": "dave", "exp": now() + 2, "evergate": grants }));
    let [used, late] = [ticket(&server, &token).await, ticket(&server, &token).await];
    Subscription::request(server.http(), &with(&used)).await.opened().await;
    tokio::time::sleep(Duration::from_millis(2_100)).await;
    call(server.http(), with(&late)).await.problem(401);
}

/// A `PublishStream` call with a token.
struct Publishing {
    events: mpsc::Sender<PublishStreamRequest>,
    answers: Streaming<PublishStreamResponse>,
    sent: u64,
}

impl Publishing {
    async fn begin(server: &Evergate, token: &str) -> Self {
        let mut client = PublisherClient::new(channel(server.grpc()).await.expect("it listens"));
        let (events, waiting) = mpsc::channel(1);
        let mut opening = tonic::Request::new(ReceiverStream::new(waiting));
        opening.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("plain"));
        let answers = client.publish_stream(opening).await.expect("the call is taken").into_inner();
        Self { events, answers, sent: 0 }
    }

    async fn publish(&mut self) -> PublishStreamResponse {
        self.sent += 1;
        self.events.send(request("quote", self.sent, event("x"))).await.expect("the call goes on");
        let answer = tokio::time::timeout(PATIENCE, self.answers.message()).await.expect("an answer in time");
        let answer = answer.expect("the call goes on").expect("an answer for each");
        assert_eq!(answer.correlation, self.sent);
        answer
    }
}

fn is_published(answer: &PublishStreamResponse) -> bool {
    matches!(answer.result, Some(Outcome::Published(_)))
}

#[tokio::test]
async fn a_publisher_s_call_is_worth_no_more_than_its_token() {
    let (issuer, server) = guarded().await;
    let grants = json!({ "publish": ["quote"] });
    let short = issuer.sign(&json!({ "sub": "short", "exp": now() + 3, "evergate": grants }));
    let mut of_short = Publishing::begin(&server, &short).await;
    let mut of_revoked = Publishing::begin(&server, &issuer.token("revoked", 600, &grants)).await;
    let mut of_other = Publishing::begin(&server, &issuer.token("other", 600, &grants)).await;
    for call in [&mut of_short, &mut of_revoked, &mut of_other] {
        let answer = call.publish().await;
        assert!(is_published(&answer), "{answer:?}");
    }
    revoke(&server, &json!({ "subject": "revoked" })).await;
    tokio::time::sleep(Duration::from_millis(3_100)).await;
    for call in [&mut of_short, &mut of_revoked] {
        // Each time, and not once.
        for _ in 0..2 {
            let answer = call.publish().await;
            assert_eq!(refused(&answer).code, i32::from(Code::Unauthenticated), "{answer:?}");
        }
    }
    let answer = of_other.publish().await;
    assert!(is_published(&answer), "{answer:?}");
    // Four in all: nothing of what was refused is in the log.
    let token = issuer.token("reader", 600, &json!({ "subscribe": ["quote"] }));
    let target = format!("{EVENTS}?from=earliest");
    let mut stream = Subscription::request(server.http(), &bearer(Request::get(&target), &token)).await;
    stream.opened().await;
    assert_eq!(stream.data(4).await.len(), 4);
    assert_eq!(stream.next_within(Duration::from_millis(300)).await, None, "and no more");
}
