//! The metrics of this process: collected by the `metrics` facade, printed for Prometheus.
//!
//! [`catalogue`] is the table of them; [`reference`] makes a page of it.

mod catalogue;
mod deliveries;
mod figure;
pub(crate) mod openmetrics;
mod reference;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use metrics::SharedString;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use metrics_process::Collector;
use parking_lot::Mutex;

use catalogue::FIGURES;
use figure::{Figure, Kind};

pub(crate) use deliveries::deliveries;
pub(crate) use figure::From;
pub(crate) use reference::{json, reference};

/// From a tenth of a millisecond, which a write to a local socket takes, to ten seconds, after which
/// nobody is waiting any more.
const SECONDS_BUCKETS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// For what rides together: from one by one to the largest batch there is.
const COUNT_BUCKETS: [f64; 11] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0];
/// Histograms gather samples until they are asked for; without this, for as long as nobody asks.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// The collector of this process.
#[derive(Clone)]
pub(crate) struct Metrics {
    handle: PrometheusHandle,
    gauges: Arc<Mutex<Vec<Gauges>>>,
    pages: Arc<Mutex<Vec<Page>>>,
    /// The labels of every series, as they are written: `node="a",region="b",zone="c"`.
    labels: Arc<str>,
}

/// Sets gauges to what is so now.
type Gauges = Box<dyn Fn() + Send>;

/// Writes what the collector cannot hold. Given the labels of every series, and for which format.
type Page = Box<dyn Fn(&str, Format) -> String + Send>;

/// How a page is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    /// The text format of Prometheus.
    Text,
    /// OpenMetrics, which has exemplars.
    Open,
}

impl Metrics {
    /// Installs the collector of this process, with the figures that one of its kind tells. Once only.
    pub(crate) fn start(node: &str, region: &str, zone: &str, from: From) -> anyhow::Result<Self> {
        let own = [("node", node), ("region", region), ("zone", zone)];
        let builder =
            own.into_iter().fold(builder()?, |builder, (name, value)| builder.add_global_label(name, value));
        let recorder = builder.build_recorder();
        let mut metrics = Self::of(&recorder);
        metrics.labels = deliveries::labels(&own).into();
        metrics::set_global_recorder(recorder).map_err(|error| anyhow::anyhow!("metrics: {error}"))?;
        metrics.begin(from);
        let process = Collector::default();
        process.describe();
        metrics.before_each_page(move || process.collect());
        metrics::gauge!("evergate_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
        Ok(metrics)
    }

    /// Gives the figures that such a part tells their help and their zero.
    pub(crate) fn begin(&self, from: From) {
        let own = FIGURES.iter().filter(|figure| figure.from.is_told(from));
        own.filter(|figure| figure.name != deliveries::SECONDS).for_each(begin);
    }

    /// What this collector has collected.
    pub(crate) fn of(recorder: &PrometheusRecorder) -> Self {
        Self { handle: recorder.handle(), gauges: Arc::default(), pages: Arc::default(), labels: "".into() }
    }

    /// Has this called before each page: for gauges that are cheaper asked for than kept.
    pub(crate) fn before_each_page(&self, gauges: impl Fn() + Send + 'static) {
        self.gauges.lock().push(Box::new(gauges));
    }

    /// Everything collected.
    pub(crate) fn render(&self, format: Format) -> String {
        // Held for the page: what two of them ask for at the same time must not be mixed.
        let gauges = self.gauges.lock();
        gauges.iter().for_each(|gauges| gauges());
        let mut page = self.handle.render();
        drop(gauges);
        for more in &*self.pages.lock() {
            page.push_str(&more(&self.labels, format));
        }
        match format {
            Format::Text => page,
            Format::Open => openmetrics::page(&page),
        }
    }

    /// How high the counters of this name stand, by their `reason`. Nothing else is asked or set anew for it.
    pub(crate) fn counts(&self, name: &str) -> BTreeMap<String, u64> {
        let page = self.handle.render();
        let lines = page.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
        let counts = lines.filter_map(|rest| {
            let (labels, value) = rest.rsplit_once(' ')?;
            let reason = labels.split_once("reason=\"")?.1.split('"').next()?;
            Some((reason.to_owned(), value.parse().ok()?))
        });
        counts.collect()
    }

    /// Has this written on each page, behind what was collected.
    pub(crate) fn on_each_page(&self, page: impl Fn(&str, Format) -> String + Send + 'static) {
        self.pages.lock().push(Box::new(page));
    }

    /// Keeps the memory of histograms bounded, until dropped.
    pub(crate) async fn keep_up(&self) {
        loop {
            tokio::time::sleep(UPKEEP_EVERY).await;
            self.handle.run_upkeep();
        }
    }
}

/// Gives a metric its help, and every series that is known beforehand its zero: one that appeared only
/// with its first event would show no rise for it.
fn begin(figure: &'static Figure) {
    let labels = figure.series().into_iter().map(|series| {
        series
            .into_iter()
            .map(|(name, value)| metrics::Label::from_static_parts(name, value))
            .collect::<Vec<_>>()
    });
    let help = SharedString::const_str(figure.means);
    match figure.kind {
        Kind::Counter => {
            metrics::describe_counter!(figure.name, help);
            labels.for_each(|labels| metrics::counter!(figure.name, labels).increment(0));
        }
        Kind::Gauge => {
            metrics::describe_gauge!(figure.name, help);
            labels.for_each(|labels| metrics::gauge!(figure.name, labels).set(0.0));
        }
        Kind::Histogram => {
            metrics::describe_histogram!(figure.name, help);
            labels.for_each(|labels| drop(metrics::histogram!(figure.name, labels)));
        }
    }
}

/// How a collector is to count.
fn builder() -> anyhow::Result<PrometheusBuilder> {
    PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Suffix("_events".to_owned()), &COUNT_BUCKETS)
        })
        .and_then(|builder| {
            builder.set_buckets_for_metric(Matcher::Suffix("_batches".to_owned()), &COUNT_BUCKETS)
        })
        .context("metrics")
}

/// A collector that is not installed yet.
#[cfg(test)]
pub(crate) fn recorder() -> anyhow::Result<PrometheusRecorder> {
    Ok(builder()?.build_recorder())
}
