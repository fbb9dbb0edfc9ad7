//! The table of metrics, held against the sources and against what a process under traffic tells.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use evergate_tests::authority::{Authority, over_tls};
use evergate_tests::clients::{checkout, system};
use evergate_tests::controls::{Controls, wait};
use evergate_tests::figures::{self, figure};
use evergate_tests::http1::{Connection, Request, Response, Wire, call};
use evergate_tests::issuer::Issuer;
use evergate_tests::process::{Evergate, Options, binary};
use evergate_tests::publisher::{Event, Publisher};
use evergate_tests::redis::{Keeps, RedisServer};
use evergate_tests::subscription::Subscription;
use serde_json::json;

use crate::boards::{everything, limited};

/// One metric of the table.
#[derive(Debug)]
struct Row {
    kind: String,
    labels: BTreeSet<String>,
    /// The one part of a process that tells it, if not all do.
    only: Option<String>,
}

/// The table, as the binary prints it for programs.
fn table() -> BTreeMap<String, Row> {
    let printed = Command::new(binary()).args(["metrics", "--output", "json"]).output().expect("it starts");
    assert!(printed.status.success(), "{printed:?}");
    let rows: Vec<serde_json::Value> = serde_json::from_slice(&printed.stdout).expect("an array");
    let text = |value: &serde_json::Value| value.as_str().expect("a string").to_owned();
    rows.iter()
        .map(|row| {
            let labels = row["labels"].as_array().expect("a list").iter().map(text).collect();
            let only = row["of"].as_str().map(str::to_owned);
            (text(&row["name"]), Row { kind: text(&row["type"]), labels, only })
        })
        .collect()
}

/// What one page says: each metric's type, and the labels that its series have.
#[derive(Debug, Default)]
struct Page {
    kinds: BTreeMap<String, String>,
    helped: BTreeSet<String>,
    labels: BTreeMap<String, BTreeSet<String>>,
}

impl Page {
    fn read(text: &str) -> Self {
        let mut page = Self::default();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').expect("a name and a type");
                page.kinds.insert(name.to_owned(), kind.to_owned());
            } else if let Some(rest) = line.strip_prefix("# HELP ") {
                page.helped.insert(rest.split(' ').next().unwrap_or_default().to_owned());
            } else if !line.is_empty() {
                let series = line.rsplit_once(' ').expect("a series and a value").0;
                let (name, labels) = series.split_once('{').unwrap_or((series, ""));
                let name = page.family(name);
                let names = labels.trim_end_matches('}').split("\",").filter(|label| !label.is_empty());
                let names = names.map(|label| label.split('=').next().unwrap_or_default().to_owned());
                page.labels
                    .entry(name)
                    .or_default()
                    .extend(names.filter(|name| !matches!(name.as_str(), "le" | "node" | "region" | "zone")));
            }
        }
        page
    }

    /// The metric that a series belongs to.
    fn family(&self, series: &str) -> String {
        let of_histogram =
            ["_bucket", "_sum", "_count"].iter().find_map(|suffix| series.strip_suffix(suffix)).filter(
                |name| self.kinds.get(*name).is_some_and(|kind| kind == "histogram" || kind == "summary"),
            );
        of_histogram.unwrap_or(series).to_owned()
    }
}

/// Where the table and a process differ.
fn differences(table: &BTreeMap<String, Row>, page: &Page, parts: &[&str]) -> Vec<String> {
    let mut differences = Vec::new();
    for (name, row) in table {
        let expected = row.only.as_deref().is_none_or(|only| parts.contains(&only));
        match page.kinds.get(name) {
            None if expected => differences.push(format!("{name} is in the table and never told")),
            Some(_) if !expected => differences.push(format!("{name} is told without {:?}", row.only)),
            Some(kind) if *kind != row.kind => differences.push(format!("{name} is a {kind}")),
            None | Some(_) => {}
        }
        if expected && !page.helped.contains(name) {
            differences.push(format!("{name} has no help"));
        }
        let told = page.labels.get(name).cloned().unwrap_or_default();
        if page.kinds.contains_key(name) && told != row.labels {
            differences.push(format!("{name} has the labels {told:?}, and not {:?}", row.labels));
        }
    }
    let ours = page.kinds.keys().filter(|name| name.starts_with("evergate_"));
    let unknown = ours.filter(|name| !table.contains_key(*name));
    differences.extend(unknown.map(|name| format!("{name} is told and not in the table")));
    differences
}

async fn told_by(server: &Evergate) -> Page {
    everything(server).await;
    let answer = call(server.admin(), Request::get("/metrics")).await;
    assert_eq!(answer.status(), 200);
    let page = Page::read(answer.text());
    for name in ["process_resident_memory_bytes", "process_open_fds", "process_cpu_seconds_total"] {
        assert!(page.kinds.contains_key(name), "{name} is missing");
    }
    page
}

#[tokio::test]
async fn a_process_tells_what_the_table_says_and_nothing_else() {
    let table = table();
    for (log, options) in [("memory", Options::memory()), ("disk", Options::disk())] {
        let server = Evergate::start(limited(options)).await;
        let page = told_by(&server).await;
        assert_eq!(differences(&table, &page, &[log]), [""; 0], "with {log}");
    }
}

#[tokio::test]
async fn so_does_one_whose_log_is_in_redis() {
    let name = "so_does_one_whose_log_is_in_redis";
    let Some(redis) = RedisServer::start(name, Keeps::Everything).await else { return };
    let server = Evergate::start(limited(redis.options())).await;
    let page = told_by(&server).await;
    assert_eq!(differences(&table(), &page, &["redis"]), [""; 0]);
}

#[tokio::test]
async fn so_do_control_nodes_and_those_who_follow_them() {
    let table = table();
    let controls = Controls::start(1).await;
    let server = Evergate::start(controls.followed_by(limited(Options::memory()))).await;
    wait("the lease", async || {
        let page = call(server.admin(), Request::get("/metrics")).await;
        (figure(page.text(), "evergate_lease_held") == Some(1.0)).then_some(())
    })
    .await;
    let page = told_by(&server).await;
    assert_eq!(differences(&table, &page, &["memory", "cluster", "view"]), [""; 0]);

    let page = Page::read(controls.page(0, "/metrics").await.text());
    // Of a control node nothing is told that only those tell who serve.
    let own = |(name, row): (&String, &Row)| {
        let is_own = page.kinds.contains_key(name) || matches!(row.only.as_deref(), Some("control" | "view"));
        is_own.then(|| name.clone())
    };
    let own: BTreeSet<_> = table.iter().filter_map(own).collect();
    let of_control: BTreeMap<_, _> = table.into_iter().filter(|(name, _)| own.contains(name)).collect();
    assert!(of_control.len() < 30 && of_control.contains_key("evergate_raft_term"), "{own:?}");
    assert_eq!(differences(&of_control, &page, &["control", "view"]), [""; 0]);
}

#[tokio::test]
async fn so_does_one_that_speaks_tls_and_asks_for_tokens() {
    let authority = Authority::new();
    let shown = authority.sign("edge", &["localhost", "127.0.0.1"]);
    let issuer = Issuer::new("issuer");
    let options = over_tls(issuer.guard(limited(Options::memory())), &shown);
    let server = Evergate::start(options).await;
    let token = issuer.token("alice", 600, &json!({ "subscribe": ["*"], "client_id": "desk" }));
    let wire = authority.connect(server.http(), &["http/1.1"], None).await.expect("agreed");
    call_over(wire, "/v1/streams/secret/events").await.problem(401);
    // One too many for a client.
    let mut held = Vec::new();
    for stream in ["open", "news", "weather"] {
        let wire = authority.connect(server.http(), &["http/1.1"], None).await.expect("agreed");
        let mut connection = Connection::over(wire);
        let target = format!("/v1/streams/{stream}/events?client_id=desk");
        let asking = Request::get(&target).header("Authorization", format!("Bearer {token}"));
        connection.send(&asking).await;
        let mut subscription = Subscription::over(connection).await.expect("answered");
        let _ = subscription.next().await;
        held.push(subscription);
    }
    let page = Page::read(&figures::page(&server).await);
    assert_eq!(differences(&table(), &page, &["memory", "tls", "access"]), [""; 0]);
}

async fn call_over(wire: impl Wire + 'static, target: &str) -> Response {
    Connection::over(wire).call(&Request::get(target)).await
}

/// What a client names, brings or publishes is nobody's label: a page of figures goes to more people than the events.
#[tokio::test]
async fn nothing_that_a_client_chose_is_on_the_page() {
    let issuer = Issuer::new("issuer");
    let options = issuer.guard(limited(Options::memory()));
    let server = Evergate::start(options.set("access.anonymous_publish", "stream-of-theirs")).await;
    let told =
        ["stream-of-theirs", "key-of-theirs", "client-of-theirs", "subject-of-theirs", "data-of-theirs"];
    let [stream, key, client, subject, data] = told;
    let token = issuer.token(subject, 600, &json!({ "subscribe": ["*"], "client_id": client }));
    let bearer = format!("Bearer {token}");
    let ask = |target: &str| Request::get(target).header("Authorization", &bearer);
    let event = Event {
        key: key.to_owned(),
        r#type: "type-of-theirs".to_owned(),
        data: data.to_owned(),
        ..Event::default()
    };
    Publisher::connect(server.grpc()).await.publish(stream, event).await;
    let target = |rest: &str| format!("/v1/streams/{stream}{rest}/events?client_id={client}&from=earliest");
    let mut reader = Subscription::request(server.http(), &ask(&target(""))).await;
    reader.opened().await;
    assert_eq!(reader.data(1).await, [data]);
    // Refused for a limit, for a token and for a cursor.
    let mut held = vec![reader];
    for more in ["-2", "-3"] {
        let mut one_more = Subscription::request(server.http(), &ask(&target(more))).await;
        let _ = one_more.next().await;
        held.push(one_more);
    }
    call(server.http(), Request::get(&target("")).header("Authorization", "Bearer token-of-theirs"))
        .await
        .problem(401);
    call(server.http(), ask("/v1/streams/quote/events?from=cursor-of-theirs")).await.problem(400);
    let page = figures::page(&server).await;
    let of_theirs: Vec<_> = page.lines().filter(|line| line.contains("of-theirs")).collect();
    assert_eq!(of_theirs, [""; 0]);
    assert!(!page.contains(&token) && page.contains("evergate_access_denied_total{"), "{page}");
}

/// Prometheus' own judgement of the page: names, types, units and help.
#[tokio::test]
async fn promtool_finds_nothing_wrong_with_a_page() {
    let test = "promtool_finds_nothing_wrong_with_a_page";
    let Some(promtool) = system(test, &["promtool"]) else { return };
    let judged = |page: &str| {
        let mut child = Command::new(&promtool)
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("promtool starts");
        let mut input = child.stdin.take().expect("it was asked for");
        input.write_all(page.as_bytes()).expect("it reads");
        drop(input);
        let told = child.wait_with_output().expect("it ends");
        format!("{}{}", String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr))
    };
    let controls = Controls::start(1).await;
    let server = Evergate::start(controls.followed_by(limited(Options::disk()))).await;
    everything(&server).await;
    for page in [figures::page(&server).await, controls.page(0, "/metrics").await.text().to_owned()] {
        assert_eq!(judged(&page), "");
    }
    assert_ne!(judged("# TYPE a_total gauge\na_total 1\n"), "", "it does look");
}

#[test]
fn differences_are_found() {
    let row = |kind: &str, labels: &[&str], only: Option<&str>| Row {
        kind: kind.to_owned(),
        labels: labels.iter().map(|&label| label.to_owned()).collect(),
        only: only.map(str::to_owned),
    };
    let table = BTreeMap::from([
        ("evergate_a_total".to_owned(), row("counter", &["reason"], None)),
        ("evergate_b".to_owned(), row("gauge", &[], Some("redis"))),
        ("evergate_c_seconds".to_owned(), row("histogram", &[], None)),
    ]);
    let good = "# HELP evergate_a_total A.\n# TYPE evergate_a_total counter\nevergate_a_total{reason=\"x\"} 1\n\
                # HELP evergate_c_seconds C.\n# TYPE evergate_c_seconds histogram\n\
                evergate_c_seconds_bucket{le=\"1\"} 0\nevergate_c_seconds_count 0\n";
    assert_eq!(differences(&table, &Page::read(good), &["disk"]), [""; 0]);
    let found = differences(&table, &Page::read(good), &["redis"]);
    assert_eq!(found, ["evergate_b is in the table and never told", "evergate_b has no help"]);
    let other = good.replace("reason", "client").replace("# HELP evergate_c_seconds C.\n", "");
    let other = format!("{other}# TYPE evergate_d gauge\nevergate_d 1\n");
    let found = differences(&table, &Page::read(&other), &["disk"]);
    assert_eq!(
        found,
        [
            r#"evergate_a_total has the labels {"client"}, and not {"reason"}"#,
            "evergate_c_seconds has no help",
            "evergate_d is told and not in the table",
        ]
    );
}

/// The names of metrics that a file's program text holds, without its tests.
fn names_in(file: &Path, names: &mut BTreeSet<String>) {
    let text = fs::read_to_string(file).expect("readable");
    let text = text.split("#[cfg(test)]").next().unwrap_or_default();
    for rest in text.split("\"evergate_").skip(1) {
        let name = rest.split('"').next().unwrap_or_default();
        if name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            names.insert(format!("evergate_{name}"));
        }
    }
}

fn names_under(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("readable").path();
        if path.is_dir() {
            names_under(&path, names);
        } else if path.extension().is_some_and(|ending| ending == "rs") && !path.ends_with("catalogue.rs") {
            names_in(&path, names);
        }
    }
}

#[test]
fn every_metric_of_the_sources_is_in_the_table_and_the_other_way_round() {
    let mut told = BTreeSet::new();
    for entry in fs::read_dir(checkout().join("crates")).expect("there are crates") {
        names_under(&entry.expect("readable").path().join("src"), &mut told);
    }
    let table: BTreeSet<String> = table().into_keys().collect();
    let only = |a: &BTreeSet<String>, b: &BTreeSet<String>| a.difference(b).cloned().collect::<Vec<_>>();
    let rest = "crates/gateway/src/metrics/catalogue.rs describes every metric; \
                then: evergate metrics > docs/metrics.md";
    assert_eq!(only(&told, &table), [""; 0], "told and not described: {rest}");
    assert_eq!(only(&table, &told), [""; 0], "described and never told: {rest}");
}
