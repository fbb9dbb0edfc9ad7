//! Who comes, how many, how fast, and whether they are still there.

mod connections;
mod leaks;
mod proxies;
mod publishers;
mod stalls;
mod streams;
mod vanished;

use std::time::{Duration, Instant};

use evergate_tests::PATIENCE;
use evergate_tests::http1::{Request, call};
use evergate_tests::process::Evergate;

/// What says how much a process holds.
pub(crate) const GAUGES: [&str; 5] = [
    "evergate_streams_open",
    "evergate_connections_open",
    "evergate_connections_parked",
    "evergate_streams_followed",
    "evergate_runtime_tasks",
];

/// The events of a stream.
pub(crate) fn events_of(stream: &str) -> String {
    format!("/v1/streams/{stream}/events")
}

/// The sum of a metric over all series whose labels hold `label`; 0 if there is none.
pub(crate) async fn metric(server: &Evergate, name: &str, label: &str) -> f64 {
    value_on(call(server.admin(), Request::get("/metrics")).await.text(), name, label)
}

/// The same on a page at hand.
pub(crate) fn value_on(page: &str, name: &str, label: &str) -> f64 {
    let of_line = |line: &str| {
        let (series, value) = line.rsplit_once(' ')?;
        let (had, labels) = series.split_once('{').unwrap_or((series, ""));
        (had == name && labels.contains(label)).then(|| value.parse::<f64>().expect("a number"))
    };
    page.lines().filter_map(of_line).sum()
}

/// Waits until a metric has this value.
pub(crate) async fn until_metric(server: &Evergate, name: &str, label: &str, value: f64, within: Duration) {
    let deadline = Instant::now() + within;
    loop {
        let now = metric(server, name, label).await;
        if (now - value).abs() < 0.5 {
            return;
        }
        assert!(Instant::now() < deadline, "{name}{{{label}}} is {now} and not {value} within {within:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Waits until something was counted at all.
pub(crate) async fn until_counted(server: &Evergate, name: &str, label: &str) {
    let deadline = Instant::now() + PATIENCE;
    while metric(server, name, label).await < 1.0 {
        assert!(Instant::now() < deadline, "{name}{{{label}}} was never counted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
