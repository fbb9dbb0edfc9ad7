//! What a process tells of itself on its metrics page.

use std::time::{Duration, Instant};

use crate::PATIENCE;
use crate::http1::{Request, call};
use crate::process::Evergate;

/// The page, in Prometheus' text format.
pub async fn page(server: &Evergate) -> String {
    call(server.admin(), Request::get("/metrics")).await.text().to_owned()
}

/// The series of a metric whose labels hold all of these, each such as `link="read"`, with their values.
///
/// # Panics
/// If a value is no number.
pub fn series<'p>(page: &'p str, name: &str, labels: &[&str]) -> Vec<(&'p str, f64)> {
    let of_line = |line: &'p str| {
        let (series, value) = line.rsplit_once(' ')?;
        let (had, told) = series.split_once('{').unwrap_or((series, ""));
        let fits = had == name && labels.iter().all(|label| told.contains(label));
        fits.then(|| (told, value.parse().expect("a number")))
    };
    page.lines().filter_map(of_line).collect()
}

/// The first of those, whatever its labels; for metrics that have `node` and `region` alone.
#[must_use]
pub fn figure(page: &str, name: &str) -> Option<f64> {
    series(page, name, &[]).first().map(|(_, value)| *value)
}

/// The sum of those; 0 if there is none.
#[must_use]
pub fn value_on(page: &str, name: &str, label: &str) -> f64 {
    series(page, name, &[label]).iter().map(|(_, value)| value).sum()
}

/// The same on the page that the process shows now.
pub async fn metric(server: &Evergate, name: &str, label: &str) -> f64 {
    value_on(&page(server).await, name, label)
}

/// Waits until a metric has this value.
///
/// # Panics
/// If it has not within this time.
pub async fn until_metric(server: &Evergate, name: &str, label: &str, value: f64, within: Duration) {
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
///
/// # Panics
/// If it never is.
pub async fn until_counted(server: &Evergate, name: &str, label: &str) {
    let deadline = Instant::now() + PATIENCE;
    while metric(server, name, label).await < 1.0 {
        assert!(Instant::now() < deadline, "{name}{{{label}}} was never counted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
