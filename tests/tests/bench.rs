//! `evergate bench` against a gateway: it tells what it did, and that something went wrong when it did.

use std::process::{Output, Stdio};
use std::time::Duration;

use evergate_tests::process::{Evergate, Options, binary};
use serde_json::Value;
use tokio::process::{Child, Command};

fn start(server: &Evergate, arguments: &[&str]) -> Child {
    Command::new(binary())
        .arg("bench")
        .arg(format!("http://{}", server.http()))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("starts")
}

async fn ended(child: Child) -> Output {
    let ended = tokio::time::timeout(Duration::from_secs(60), child.wait_with_output());
    ended.await.expect("it ends by itself").expect("runs")
}

fn report(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn counts<const N: usize>(of: &Value, names: [&str; N]) -> [u64; N] {
    names.map(|name| of[name].as_u64().unwrap_or_else(|| panic!("{name} in {of:#}")))
}

#[tokio::test]
async fn a_load_is_measured_and_every_delivery_counted() {
    let server = Evergate::start(Options::memory()).await;
    let pid = server.pid().to_string();
    let load = ["-n", "60", "--streams", "4", "--rate", "200", "--duration", "2", "--size", "100"];
    let output = ended(start(&server, &[&load[..], &["--pid", &pid, "--output", "json"]].concat())).await;
    let report = report(&output);
    assert!(output.status.success(), "{report:#}");
    assert_eq!(report["sound"], true);
    assert_eq!(counts(&report["subscribers"], ["wanted", "opened", "lost"]), [60, 60, 0]);
    // 15 subscribers and 100 events for each stream.
    assert_eq!(report["published"]["events"], 400);
    let delivered = &report["delivered"];
    let expected = [6_000, 6_000, 0, 0, 0];
    assert_eq!(
        counts(delivered, ["expected", "received", "lost", "repeated", "gaps"]),
        expected,
        "{report:#}"
    );
    let figure = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value} in {report:#}"));
    // The data, its framing, and now and then a heartbeat.
    assert!((110.0..400.0).contains(&figure(&delivered["bytes_each"])), "{report:#}");
    assert!(figure(&delivered["server_cpu_micros_each"]) > 0.0);
    let latency = &report["latency"];
    assert!(figure(&latency["p50_ms"]) > 0.0 && figure(&latency["p99_ms"]) >= figure(&latency["p50_ms"]));
    assert!(figure(&latency["max_ms"]) >= figure(&latency["p99_ms"]));
}

#[tokio::test]
async fn people_get_lines_and_no_server_figures_without_a_process() {
    let server = Evergate::start(Options::memory()).await;
    let output = ended(start(&server, &["-n", "3", "--rate", "20", "--duration", "1"])).await;
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success(), "{text}");
    for expected in
        ["subscribers 3 of 3 opened", "published   20 events", "delivered   60 of 60", "latency     p50"]
    {
        assert!(text.contains(expected), "{expected:?} is not in {text}");
    }
    assert!(!text.contains("server CPU"), "{text}");
}

#[tokio::test]
async fn a_gateway_that_goes_away_is_no_sound_run() {
    let mut server = Evergate::start(Options::memory()).await;
    let load = ["-n", "5", "--rate", "50", "--duration", "20", "--output", "json"];
    let child = start(&server, &load);
    // Not before everybody is there and something was published.
    let descriptors = server.descriptors();
    while server.descriptors() < descriptors + 6 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.kill();
    let output = ended(child).await;
    assert_eq!(output.status.code(), Some(1));
    let report = report(&output);
    assert_eq!(report["sound"], false);
    assert_eq!(counts(&report["subscribers"], ["opened", "lost"]), [5, 5], "{report:#}");
    assert!(report["error"].is_string(), "{report:#}");
}

#[tokio::test]
async fn a_mistaken_load_is_a_usage_error() {
    let server = Evergate::start(Options::memory()).await;
    let output = ended(start(&server, &["--rate", "0"])).await;
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("--rate 0"), "{output:?}");
}
