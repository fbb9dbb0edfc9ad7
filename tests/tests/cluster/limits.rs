//! Rates that the cluster agrees on hold at every edge, before its own.

use evergate_proto::control::v1 as proto;
use evergate_tests::controls::{Controls, wait};
use evergate_tests::http1::{Request, Response, call};
use evergate_tests::process::{Evergate, Options};
use proto::admin_client::AdminClient;
use proto::command::What;

use crate::places::edge;

/// So many events that what is agreed on, one a second, takes long to give them back.
const BURST: usize = 30;
const CONFIGURED: u64 = 5_000;

/// Publishes as many events at once as are agreed on, in a client's name.
async fn publish(edge: &Evergate, from: u8) -> Response {
    let target = "/v1/streams/quote/events";
    let lines = "{\"data\":\"x\"}\n".repeat(BURST);
    let request = Request::post(target, "application/x-ndjson", lines);
    call(edge.http(), request.header("X-Forwarded-For", format!("192.0.2.{from}"))).await
}

fn limit(answer: &Response) -> u64 {
    answer.head.must("x-ratelimit-limit").parse().expect("a number")
}

/// What is agreed on is all that a client gets at once; the next is told so.
async fn agreed(edge: &Evergate, from: u8) {
    let first = publish(edge, from).await;
    assert_eq!((first.status(), limit(&first)), (200, BURST as u64));
    let above = publish(edge, from).await;
    assert_eq!(limit(&above), BURST as u64);
    let problem = above.problem(429);
    assert_eq!(problem["code"], "rate-limited");
}

fn refused(controls: &Controls, arguments: &[&str], why: &str) {
    let output = controls.ask(0, arguments);
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains(why), "{arguments:?}: {told}");
}

/// By whoever does not use the command.
async fn ask(controls: &Controls, what: What) -> tonic::Status {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", controls.address(0)));
    let channel = channel.expect("an address").connect().await.expect("it is there");
    let request = proto::ExecuteRequest { command: Some(proto::Command { what: Some(what) }) };
    let mut request = tonic::Request::new(request);
    let token = std::fs::read_to_string(controls.token()).expect("the folder is ours");
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("plain"));
    AdminClient::new(channel).execute(request).await.expect_err("it is refused")
}

#[tokio::test]
async fn a_limit_holds_until_it_is_removed_and_at_a_start_without_control_nodes() {
    let mut controls = Controls::start(1).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("policies");
    let options = edge(&controls, Options::memory(), "edge-a")
        .set("cluster.policies_file", path.to_str().expect("plain"))
        .set("limits.publishes_per_second", &CONFIGURED.to_string())
        .set("limits.publishes_burst", &CONFIGURED.to_string());
    let mut member = Evergate::start(options).await;
    let unbounded = Evergate::start(edge(&controls, Options::memory(), "edge-b")).await;
    let bytes = wait("what is kept", async || Some(std::fs::read(&path).ok()?.len())).await;
    assert_eq!(limit(&publish(&member, 1).await), CONFIGURED);
    let free = publish(&unbounded, 1).await;
    assert_eq!((free.status(), free.head.header("x-ratelimit-limit")), (200, None));

    let burst = BURST.to_string();
    let set = ["limit", "set", "publishes", "1", "--burst", &burst];
    controls.json(0, &set).expect("it is taken");
    for edge in [&member, &unbounded] {
        edge.writes("rates go by the limits of the cluster rates=1").await;
        agreed(edge, 2).await;
    }
    let told = controls.json(0, &["limit", "list"]).expect("it is told");
    let expected = serde_json::json!({ "limit": "publishes", "per_second": 1, "burst": BURST });
    assert_eq!(told["limits"], serde_json::json!([expected]));
    assert_eq!(controls.json(0, &["snapshot"]).expect("it is told")["limits"], told["limits"]);
    let table = String::from_utf8(controls.ask(0, &["limit"]).stdout).expect("text");
    assert!(table.starts_with("LIMIT") && table.contains("publishes"), "{table}");

    // What no edge goes by is no limit, whoever asks for it.
    refused(&controls, &["limit", "set", "acks", "1"], "stream_publishes");
    let unknown = proto::Limit { name: "acks".to_owned(), per_second: 1, burst: 1 };
    let status = ask(&controls, What::SetLimit(unknown)).await;
    assert_eq!(status.code(), tonic::Code::InvalidArgument);
    assert!(
        status.message().starts_with("no edge goes by a limit \"acks\"; there are publishes, "),
        "{status}"
    );
    refused(&controls, &["limit", "set", "publishes", "0"], "0");
    refused(&controls, &["limit", "remove", "publishes"], "write --yes");
    refused(&controls, &["limit", "remove", "calls", "--yes"], "there is no limit \"calls\"");

    // It is kept for a start at which no control node is there.
    wait("it is kept, too", async || (std::fs::read(&path).ok()?.len() > bytes).then_some(())).await;
    controls.kill(0);
    member.kill();
    member.restart().await;
    member.writes("that the cluster agreed on before the start streams=0 rates=1").await;
    agreed(&member, 3).await;

    controls.restart(0).await;
    member.writes("rates go by the limits of the cluster rates=1").await;
    controls.json(0, &["limit", "remove", "publishes", "--yes"]).expect("it is taken");
    for edge in [&member, &unbounded] {
        edge.writes("rates go by the limits of the cluster rates=0").await;
    }
    assert_eq!(limit(&publish(&member, 4).await), CONFIGURED, "as it is configured");
    assert_eq!(publish(&unbounded, 2).await.status(), 200, "though it had spent what was agreed on");
}
