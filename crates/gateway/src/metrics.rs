//! The metrics of this process: collected by the `metrics` facade, printed for Prometheus.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle, PrometheusRecorder};
use parking_lot::Mutex;

/// From a tenth of a millisecond, which a write to a local socket takes, to ten seconds, after which
/// nobody is waiting any more.
const SECONDS_BUCKETS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Histograms gather samples until they are asked for; without this, for as long as nobody asks.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

/// The collector of this process.
#[derive(Clone)]
pub(crate) struct Metrics {
    handle: PrometheusHandle,
    gauges: Arc<Mutex<Vec<Gauges>>>,
}

/// Sets gauges to what is so now.
type Gauges = Box<dyn Fn() + Send>;

impl Metrics {
    /// Installs the collector of this process. Once only.
    pub(crate) fn start(node: &str, region: &str) -> anyhow::Result<Self> {
        let recorder = recorder()?;
        let metrics = Self::of(&recorder);
        metrics::set_global_recorder(recorder).map_err(|error| anyhow::anyhow!("metrics: {error}"))?;
        metrics::describe_gauge!(
            "evergate_build_info",
            "Always 1; its labels say which build runs, and where."
        );
        metrics::gauge!(
            "evergate_build_info",
            "version" => env!("CARGO_PKG_VERSION"),
            "node" => node.to_owned(),
            "region" => region.to_owned(),
        )
        .set(1.0);
        Ok(metrics)
    }

    /// What this collector has collected.
    pub(crate) fn of(recorder: &PrometheusRecorder) -> Self {
        Self { handle: recorder.handle(), gauges: Arc::default() }
    }

    /// Has this called before each page: for gauges that are cheaper asked for than kept.
    pub(crate) fn before_each_page(&self, gauges: impl Fn() + Send + 'static) {
        self.gauges.lock().push(Box::new(gauges));
    }

    /// Everything collected, in the text format of Prometheus.
    pub(crate) fn render(&self) -> String {
        for gauges in &*self.gauges.lock() {
            gauges();
        }
        self.handle.render()
    }

    /// Keeps the memory of histograms bounded, until dropped.
    pub(crate) async fn keep_up(&self) {
        loop {
            tokio::time::sleep(UPKEEP_EVERY).await;
            self.handle.run_upkeep();
        }
    }
}

/// A collector that is not installed yet.
pub(crate) fn recorder() -> anyhow::Result<PrometheusRecorder> {
    Ok(PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS_BUCKETS)
        .context("metrics")?
        .build_recorder())
}
