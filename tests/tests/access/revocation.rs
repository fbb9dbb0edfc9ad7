//! Tokens that are called back, on every edge.

use std::time::{Duration, Instant};

use evergate_tests::http1::{Request, Response, call};
use evergate_tests::issuer::Issuer;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::subscription::{End, Subscription};
use serde_json::{Value, json};

use crate::{EVENTS, bearer};

/// What is promised.
const EVERYWHERE_WITHIN: Duration = Duration::from_secs(5);

async fn revoke(server: &Evergate, what: &Value) -> Response {
    let request = Request::post("/revocations", "application/json", what.to_string());
    call(server.admin(), request.header("Evergate-Admin", "revoke")).await
}

#[tokio::test]
async fn whoever_is_called_back_is_out_on_every_edge_and_stays_out() {
    let issuer = Issuer::new("issuer");
    let options = |node: &str| issuer.guard(Options::memory()).set("node", node);
    let a = Evergate::start(options("a")).await;
    let peers = format!("a=http://{}", a.grpc());
    let mut b = Evergate::start(options("b").set("cluster.peers", &peers)).await;
    let grants = json!({ "subscribe": ["quote"], "publish": ["quote"] });
    let [alice, again, bob] = [("alice", 600), ("alice", 700), ("bob", 600)]
        .map(|(name, lasts)| issuer.token(name, lasts, &grants));
    let open = async |edge: &Evergate, token: &str| {
        let mut stream = Subscription::request(edge.http(), &bearer(Request::get(EVENTS), token)).await;
        stream.opened().await;
        stream
    };
    let (mut here, mut there) = (open(&a, &alice).await, open(&b, &alice).await);
    let (mut other, mut bobs) = (open(&b, &again).await, open(&b, &bob).await);

    let began = Instant::now();
    let answer = revoke(&a, &json!({ "token_id": "alice-600" })).await;
    assert_eq!(answer.status(), 202, "{answer:?}");
    for stream in [&mut here, &mut there] {
        let (frames, end) = stream.end().await;
        assert_eq!(frames.last().map(|last| last.json()["reason"].clone()), Some(json!("revoked")));
        assert_eq!(end, End::Clean);
        assert!(began.elapsed() < EVERYWHERE_WITHIN, "{:?}", began.elapsed());
    }
    for edge in [&a, &b] {
        let refused = call(edge.http(), bearer(Request::get(EVENTS), &alice)).await;
        refused.problem(401);
        let post = Request::post(EVENTS, "text/plain", "x");
        call(edge.http(), bearer(post, &alice)).await.problem(401);
    }
    // Its other token is another one, until all of it is called back.
    assert_eq!(other.next_within(Duration::from_millis(300)).await, None);
    let began = Instant::now();
    revoke(&a, &json!({ "subject": "alice", "for_s": 3600 })).await;
    assert_eq!(other.end().await.1, End::Clean);
    assert!(began.elapsed() < EVERYWHERE_WITHIN, "{:?}", began.elapsed());
    assert_eq!(bobs.next_within(Duration::from_millis(300)).await, None, "nobody else is touched");

    // An edge that starts anew hears of it from the others.
    b.kill();
    b.restart().await;
    let refused = async {
        while call(b.http(), bearer(Request::new("HEAD", EVENTS), &again)).await.status() != 401 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(EVERYWHERE_WITHIN, refused).await.expect("it was told");
}

#[tokio::test]
async fn calling_back_is_for_whoever_means_it() {
    let issuer = Issuer::new("issuer");
    let server = Evergate::start(issuer.guard(Options::memory())).await;
    let plain = Request::post("/revocations", "application/json", r#"{"subject":"a"}"#);
    call(server.admin(), plain).await.problem(403);
    for wrong in [json!({}), json!({ "subject": "a", "token_id": "b" }), json!({ "sub": "a" }), json!([])] {
        revoke(&server, &wrong).await.problem(400);
    }
    let open = Evergate::start(Options::memory()).await;
    revoke(&open, &json!({ "subject": "a" })).await.problem(409);
}
