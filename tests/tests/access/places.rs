//! Where a token may be, and what becomes of it there: tickets, cookies, addresses, and the log output.

use evergate_tests::collector::{Collector, Manner, Span};
use evergate_tests::http1::{Request, call};
use evergate_tests::issuer::Issuer;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::subscription::Subscription;
use serde_json::{Value, json};

use crate::{EVENTS, bearer, guarded, guarded_with};

fn grants() -> Value {
    json!({ "subscribe": ["quote"] })
}

async fn ticket(server: &Evergate, token: &str) -> String {
    let answer = call(server.http(), bearer(Request::new("POST", "/v1/tickets"), token)).await;
    assert_eq!(answer.status(), 201, "{answer:?}");
    assert_eq!(answer.head.must("cache-control"), "no-store");
    let told = answer.json();
    assert_eq!(told["expires_in"], 60);
    told["ticket"].as_str().expect("a ticket").to_owned()
}

#[tokio::test]
async fn a_ticket_opens_a_stream_once() {
    let (issuer, server) = guarded().await;
    let token = issuer.token("alice", 600, &grants());
    let ticket = ticket(&server, &token).await;
    assert!(!token.contains(&ticket) && !ticket.contains('.'), "nothing of the token is in it: {ticket}");
    let target = format!("{EVENTS}?ticket={ticket}");
    Subscription::open(server.http(), &target).await.opened().await;
    call(server.http(), Request::get(&target)).await.problem(401);
    // Whatever the token does not grant the ticket does not either.
    let other = self::ticket(&server, &token).await;
    call(server.http(), Request::get(&format!("/v1/streams/secret/events?ticket={other}")))
        .await
        .problem(403);
    call(server.http(), Request::new("POST", "/v1/tickets")).await.problem(401);
    for wrong in ["", "x", "local~", "local~00000000000000000000000000000000", "elsewhere~00", "%0d%0aa:b"] {
        let answer = call(server.http(), Request::get(&format!("{EVENTS}?ticket={wrong}"))).await;
        answer.problem(401);
    }
    let both = bearer(Request::get(&format!("{EVENTS}?ticket={other}")), &token);
    call(server.http(), both).await.problem(401);
}

#[tokio::test]
async fn a_ticket_is_good_at_every_edge() {
    let issuer = Issuer::new("issuer");
    let options = |node: &str| issuer.guard(Options::memory()).set("node", node);
    let a = Evergate::start(options("a")).await;
    let b = Evergate::start(options("b").set("cluster.peers", &format!("a=http://{}", a.grpc()))).await;
    let ticket = ticket(&a, &issuer.token("alice", 600, &grants())).await;
    let target = format!("{EVENTS}?ticket={ticket}");
    Subscription::open(b.http(), &target).await.opened().await;
    for edge in [&a, &b] {
        call(edge.http(), Request::get(&target)).await.problem(401);
    }
}

#[tokio::test]
async fn an_address_holds_a_token_only_where_that_is_allowed() {
    let (issuer, server) = guarded().await;
    let token = issuer.token("alice", 600, &grants());
    let target = format!("{EVENTS}?access_token={token}");
    call(server.http(), Request::get(&target)).await.problem(401);
    let (issuer, server) = guarded_with(|options| options.set("access.query_token", "true")).await;
    let token = issuer.token("alice", 600, &grants());
    let target = format!("{EVENTS}?access_token={token}");
    Subscription::open(server.http(), &target).await.opened().await;
    // A publish has a header.
    let post = format!("/v1/streams/orders/events?access_token={token}");
    call(server.http(), Request::post(&post, "text/plain", "x")).await.problem(401);
}

#[tokio::test]
async fn a_cookie_counts_for_pages_that_may_bring_it() {
    let more = |options: Options| {
        options.set("access.cookie", "__Host-evergate").set("http.cors_origins", "https://app.example.com")
    };
    let (issuer, server) = guarded_with(more).await;
    let token = issuer.token("alice", 600, &grants());
    let get = || Request::get(EVENTS).header("Cookie", format!("theme=dark; __Host-evergate={token}"));
    for request in [
        get(),
        get().header("Sec-Fetch-Site", "same-origin"),
        get().header("Origin", "https://app.example.com").header("Sec-Fetch-Site", "cross-site"),
    ] {
        Subscription::request(server.http(), &request).await.opened().await;
    }
    for request in [
        get().header("Sec-Fetch-Site", "cross-site"),
        get().header("Sec-Fetch-Site", "same-site"),
        Request::get(EVENTS).header("Cookie", format!("evergate={token}")),
    ] {
        call(server.http(), request).await.problem(401);
    }
    let evil = get().header("Origin", "https://evil.example.com");
    call(server.http(), evil).await.problem(403);
}

/// Nothing that lets somebody in is written or sent anywhere, however much is.
#[tokio::test]
async fn tokens_tickets_and_secrets_are_in_no_log_no_metric_and_no_trace() {
    let collector = Collector::start(Manner::Takes).await;
    let more = |options: Options| {
        options
            .set("access.query_token", "true")
            .set("log_output.level", "trace")
            .set("telemetry.endpoint", &collector.url())
            .set("telemetry.sample_one_in", "1")
    };
    let (issuer, server) = guarded_with(more).await;
    let token = issuer.token("alice", 600, &grants());
    let forged = Issuer::new("forger").token("mallory", 600, &grants());
    let ticket = ticket(&server, &token).await;
    for target in [
        format!("{EVENTS}?access_token={token}"),
        format!("{EVENTS}?access_token={forged}"),
        format!("{EVENTS}?ticket={ticket}"),
        format!("{EVENTS}?ticket={ticket}"),
        format!("{EVENTS}?access_token={token}&key=%ff"),
    ] {
        let head = call(server.http(), Request::new("HEAD", &target)).await;
        let said = format!("{head:?}");
        assert!(!said.contains(&token) && !said.contains(&ticket), "{said}");
    }
    for token in [&token, &forged] {
        drop(call(server.http(), bearer(Request::new("HEAD", EVENTS), token)).await);
    }
    let metrics = call(server.admin(), Request::get("/metrics")).await;
    assert!(metrics.text().contains("evergate_access_denied_total"), "they were counted");
    let file = std::fs::read_to_string(issuer.file()).expect("the keys");
    let secret = file.split('"').find(|part| part.len() > 60).expect("the secret");
    // Streams by each of the three, whose spans come in the end.
    let by_ticket = self::ticket(&server, &token).await;
    for request in [
        bearer(Request::get(EVENTS), &token),
        Request::get(&format!("{EVENTS}?access_token={token}")),
        Request::get(&format!("{EVENTS}?ticket={by_ticket}")),
    ] {
        Subscription::request(server.http(), &request).await.opened().await;
    }
    let connects = |spans: &[Span]| spans.iter().filter(|span| span.name == "evergate.connect").count();
    let spans = collector.until(|spans| connects(spans) >= 3).await;
    let (output, metrics) = (server.output(), metrics.text().to_owned());
    let spans = format!("{spans:?}");
    assert!(output.contains("refused"), "it was logged: {output}");
    for said in [&output, &metrics, &spans] {
        for hidden in [&token, &forged, &ticket, &by_ticket, secret] {
            // Neither whole nor the part of it that matters.
            let end = &hidden[hidden.len() - 20..];
            assert!(!said.contains(end), "{end} of {hidden} is in it");
        }
    }
}
