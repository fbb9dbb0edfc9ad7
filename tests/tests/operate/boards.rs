//! The dashboards: how they are made, and that every query of theirs finds something in a real
//! Prometheus which scrapes real processes under traffic.

use std::collections::BTreeSet;
use std::fs;
use std::process::Command;

use evergate_tests::authority::{Authority, over_tls};
use evergate_tests::clients::{checkout, pinned};
use evergate_tests::controls::Controls;
use evergate_tests::http1::{Connection, Request, call};
use evergate_tests::issuer::Issuer;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::redis::{Keeps, RedisServer};
use evergate_tests::subscription::Subscription;
use serde_json::Value;
use tokio::sync::Notify;

use crate::prometheus::Prometheus;

/// The committed dashboards, by file name.
fn boards() -> Vec<(String, Value)> {
    let folder = checkout().join("helm/evergate/dashboards");
    let mut boards: Vec<_> = fs::read_dir(folder)
        .expect("the chart has dashboards")
        .map(|entry| {
            let path = entry.expect("readable").path();
            let text = fs::read_to_string(&path).expect("readable");
            let name = path.file_name().expect("a file").to_string_lossy().into_owned();
            (name, serde_json::from_str(&text).expect("JSON"))
        })
        .collect();
    boards.sort_by(|a, b| a.0.cmp(&b.0));
    assert!(boards.len() >= 8, "only {} boards", boards.len());
    boards
}

/// A board's panels, but for the headings.
fn panels(board: &Value) -> Vec<&Value> {
    let panels = board["panels"].as_array().expect("panels");
    panels.iter().filter(|panel| panel["type"] != "row").collect()
}

/// Every query of every board, and where it stands; as Grafana would send it.
fn queries() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for (name, board) in boards() {
        for panel in panels(&board) {
            for target in panel["targets"].as_array().expect("targets") {
                let place = format!("{name}: {}", panel["title"].as_str().unwrap_or_default());
                let query = target["expr"].as_str().expect("a query");
                queries.push((place, as_sent(query)));
            }
        }
        for variable in board["templating"]["list"].as_array().expect("variables") {
            if variable["type"] == "query" {
                let asked = variable["query"]["query"].as_str().expect("a query");
                let series = asked.trim_start_matches("label_values(").split(", ").next().unwrap_or_default();
                queries.push((format!("{name}: ${}", variable["name"]), as_sent(series)));
            }
        }
        // What an annotation is made of. That it marks only a moment is another matter: most have none.
        for query in annotations(&board) {
            let series = query.split(" unless ").next().unwrap_or_default().trim_end_matches(" > 0");
            queries.push((format!("{name}: an annotation"), series.to_owned()));
        }
    }
    queries
}

/// What can be chosen at the top of every board, beside the source of the data.
const CHOICES: [&str; 5] = ["job", "region", "zone", "instance", "node"];

/// A query as Grafana would send it, with everything chosen.
fn as_sent(query: &str) -> String {
    let query = query.replace("$__rate_interval", "5s");
    CHOICES.iter().fold(query, |query, name| query.replace(&format!("${name}"), ".+"))
}

fn annotations(board: &Value) -> Vec<String> {
    let list = board["annotations"]["list"].as_array().expect("annotations");
    list.iter().map(|annotation| as_sent(annotation["expr"].as_str().expect("a query"))).collect()
}

#[test]
fn the_committed_boards_are_what_the_script_writes() {
    let Some(pinned) = pinned("the_committed_boards_are_what_the_script_writes") else { return };
    let folder = tempfile::tempdir().expect("a folder can be made");
    let script = checkout().join("scripts/monitoring/dashboards.py");
    let made = Command::new(&pinned.python).arg(script).arg(folder.path()).status().expect("Python starts");
    assert!(made.success());
    for (name, board) in boards() {
        let written = fs::read_to_string(folder.path().join(&name)).unwrap_or_default();
        let written: Value = serde_json::from_str(&written).unwrap_or_default();
        assert!(written == board, "{name} is out of date: run scripts/monitoring/dashboards.py");
    }
}

/// Faults of one board against what all of them keep to.
fn faults(name: &str, board: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    let mut fault = |what: String| faults.push(format!("{name}: {what}"));
    for key in ["uid", "title", "description"] {
        if board[key].as_str().is_none_or(str::is_empty) {
            fault(format!("has no {key}"));
        }
    }
    if board["editable"] != false {
        fault("may be edited in Grafana, and would drift from its file".to_owned());
    }
    let variables: Vec<_> =
        board["templating"]["list"].as_array().into_iter().flatten().map(|v| v["name"].clone()).collect();
    if variables != ["datasource", "job", "region", "zone", "instance", "node"] {
        fault(format!("has the variables {variables:?}"));
    }
    for variable in board["templating"]["list"].as_array().into_iter().flatten().skip(1) {
        let asks = (&variable["multi"], &variable["includeAll"], &variable["allValue"], &variable["refresh"]);
        if asks != (&true.into(), &true.into(), &".+".into(), &2.into()) {
            fault(format!("{} is no choice of several, or is not looked up anew", variable["name"]));
        }
    }
    let mut ids = BTreeSet::new();
    for panel in board["panels"].as_array().into_iter().flatten() {
        if !ids.insert(panel["id"].as_u64()) {
            fault(format!("the id {} is there twice", panel["id"]));
        }
    }
    for panel in panels(board) {
        let title = panel["title"].as_str().unwrap_or_default();
        if title.is_empty() || panel["description"].as_str().is_none_or(str::is_empty) {
            fault(format!("the panel {title:?} does not say what it shows"));
        }
        if panel["fieldConfig"]["defaults"]["unit"].as_str().is_none_or(str::is_empty) {
            fault(format!("{title} has no unit"));
        }
        for target in panel["targets"].as_array().into_iter().flatten() {
            let query = target["expr"].as_str().unwrap_or_default();
            if query.contains("rate(") && !query.contains("$__rate_interval") {
                fault(format!("{title} has a rate over a fixed time"));
            }
            if target["datasource"]["uid"] != "${datasource}" {
                fault(format!("{title} has a source of its own"));
            }
        }
    }
    faults
}

#[test]
fn every_board_keeps_to_the_conventions() {
    let boards = boards();
    let uids: BTreeSet<_> = boards.iter().map(|(_, board)| board["uid"].to_string()).collect();
    assert_eq!(uids.len(), boards.len(), "two boards have the same uid");
    let found: Vec<_> = boards.iter().flat_map(|(name, board)| faults(name, board)).collect();
    assert_eq!(found, [""; 0]);

    let (_, mut spoiled) = boards.into_iter().next().expect("there is one");
    spoiled["editable"] = Value::Bool(true);
    spoiled["panels"][1]["description"] = Value::Null;
    spoiled["panels"][1]["targets"][0]["expr"] = "sum(rate(x_total[5m]))".into();
    spoiled["templating"]["list"][1]["multi"] = Value::Bool(false);
    assert_eq!(faults("spoiled", &spoiled).len(), 4);
}

/// Keeps processes busy in every way that a board has a picture of, until told to stop.
async fn traffic(servers: [&Evergate; 2], stop: &Notify) {
    let work = async {
        loop {
            for server in servers {
                everything(server).await;
            }
        }
    };
    tokio::select! {
        () = stop.notified() => {}
        () = work => {}
    }
}

/// One round of what subscribers and publishers do, and of what goes wrong.
pub(crate) async fn everything(server: &Evergate) {
    let target = |stream: &str, rest: &str| format!("/v1/streams/{stream}/events{rest}");
    let mut reader = Subscription::open(server.http(), &target("quote", "")).await;
    reader.opened().await;
    let batch = "{\"data\":\"one\"}\n{\"data\":\"two\"}\n";
    let posted = Request::post(&target("quote", ""), "application/x-ndjson", batch);
    assert_eq!(call(server.http(), posted).await.status(), 200);
    Publisher::connect(server.grpc()).await.publish("quote", event("by gRPC")).await;
    let cursor = reader.events(3).await[0].must_id().to_owned();
    // Refused: an event without data.
    let wrong = Request::post(&target("quote", ""), "application/json", "{}");
    assert_eq!(call(server.http(), wrong).await.status(), 400);
    // One goes on exactly; one comes from a history that never was.
    Subscription::resume(server.http(), &target("quote", ""), &cursor).await.opened().await;
    Subscription::resume(server.http(), &target("quote", ""), "1-1").await.opened().await;
    // The second takes the place of the first, and of the next two one is too many.
    let mut held = Vec::new();
    for stream in ["quote", "quote", "news", "weather"] {
        let mut subscription =
            Subscription::open(server.http(), &target(stream, "?client_id=desk&lease=1")).await;
        let _ = subscription.next().await;
        held.push(subscription);
    }
}

/// So few streams for a client that one too many comes.
pub(crate) fn limited(options: Options) -> Options {
    options.set("limits.streams_per_client", "2")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_query_of_every_board_finds_something() {
    let test = "every_query_of_every_board_finds_something";
    let Some(redis) = RedisServer::start(test, Keeps::Everything).await else { return };
    let controls = Controls::start(1).await;
    let of_cluster = |options| controls.followed_by(limited(options));
    let disk = Evergate::start(of_cluster(Options::disk()).set("node", "edge-disk")).await;
    let shared = Evergate::start(of_cluster(redis.options()).set("node", "edge-redis")).await;
    // One that asks for tokens, over TLS.
    let (authority, issuer) = (Authority::new(), Issuer::new("issuer"));
    let shown = authority.sign("edge", &["localhost", "127.0.0.1"]);
    let guarded = Options::memory().set("node", "edge-guarded").set("memory.bytes_max", "2GiB");
    let guarded = Evergate::start(over_tls(issuer.guard(guarded), &shown)).await;
    let wire = authority.connect(guarded.http(), &["http/1.1"], None).await.expect("agreed");
    Connection::over(wire).call(&Request::get("/v1/streams/quote/events")).await.problem(401);
    let targets = [disk.admin(), shared.admin(), controls.admin(0), guarded.admin()];
    let Some(prometheus) = Prometheus::start(test, &targets).await else { return };
    let stop = Notify::new();
    let looking = async {
        let empty = prometheus.empty_after_patience(&queries()).await;
        stop.notify_one();
        empty
    };
    let (empty, ()) = tokio::join!(looking, traffic([&disk, &shared], &stop));
    assert_eq!(empty, [""; 0], "these find nothing");

    for (_, board) in boards() {
        for query in annotations(&board) {
            // It fails if it cannot be understood.
            prometheus.query(&query).await;
        }
    }

    // The rules run in it too: every recording rule has told something, and no rule has failed.
    let groups = prometheus.ask("/api/v1/rules").await;
    for rule in groups["groups"]
        .as_array()
        .expect("groups")
        .iter()
        .flat_map(|g| g["rules"].as_array().expect("rules"))
    {
        assert_eq!(rule["health"], "ok", "{rule}");
    }
    let text = fs::read_to_string(checkout().join("helm/evergate/rules/evergate.yaml")).expect("readable");
    let recorded: Vec<_> = text
        .split("- record: ")
        .skip(1)
        .map(|rule| {
            let slo = rule.split_once("slo: ").expect("each is of a level").1;
            let slo = slo.split('}').next().unwrap_or_default();
            format!("{}{{slo=\"{slo}\"}}", rule.lines().next().unwrap_or_default())
        })
        .collect();
    assert_eq!(recorded.len(), 21, "seven windows of three levels: {recorded:?}");
    for query in recorded {
        assert!(!prometheus.query(&query).await.is_empty(), "{query} is not recorded");
    }
}
