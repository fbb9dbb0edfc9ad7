//! Traces of this process: begun as configured, sent until the end.

use std::time::Duration;

use anyhow::Context as _;
use evergate_edge::EdgeConfig;
use evergate_telemetry::{Brought, Exporter, Sampling, Settings, Tracer};
use evergate_tls::{Client, ClientSettings, Connector, Protocol, Roots};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tonic::transport::{Channel, Endpoint};

use crate::config::{self, Config};

/// Whoever has not answered by then is away.
const CONNECT: Duration = Duration::from_secs(5);

/// The tracer of this process, and the task that sends what it takes.
pub(crate) struct Telemetry {
    pub tracer: Tracer,
    exporter: Option<(CancellationToken, AbortOnDropHandle<()>)>,
}

impl Telemetry {
    /// As configured; without a collector nothing runs.
    pub(crate) fn start(config: &Config) -> anyhow::Result<Self> {
        let Some(telemetry) = &config.telemetry else {
            return Ok(Self { tracer: Tracer::off(), exporter: None });
        };
        let settings = Settings {
            collector: channel(telemetry).context("telemetry.endpoint")?,
            sampling: Sampling {
                one_in: telemetry.sample_one_in,
                brought: if telemetry.resample { Brought::Resample } else { Brought::Follow },
            },
            queue_max: telemetry.queue_spans,
            patience: telemetry.export_timeout,
            about: about(&config.node, telemetry),
        };
        let (tracer, exporter) = evergate_telemetry::start(settings)?;
        Ok(Self { tracer, exporter: Some(run(exporter)) })
    }

    /// Has an edge traced.
    pub(crate) fn trace(&self, edge: &mut EdgeConfig) {
        edge.tracer = self.tracer.clone();
        edge.hub.tracer = self.tracer.clone();
    }

    /// Sends what is waiting, if the collector takes it soon.
    pub(crate) async fn finish(self) {
        let Some((stop, running)) = self.exporter else { return };
        stop.cancel();
        if let Err(error) = running.await {
            tracing::error!(%error, "the exporter of traces failed");
        }
    }
}

/// Who this process is, and where, as far as it was told.
fn about(node: &str, telemetry: &config::Telemetry) -> Vec<(&'static str, String)> {
    let places = [("cloud.region", &telemetry.region), ("cloud.availability_zone", &telemetry.zone)];
    let places = places.into_iter().filter_map(|(name, place)| Some((name, place.clone()?)));
    [
        ("service.name", "evergate".to_owned()),
        ("service.version", env!("CARGO_PKG_VERSION").to_owned()),
        ("service.instance.id", node.to_owned()),
    ]
    .into_iter()
    .chain(places)
    .collect()
}

fn run(exporter: Exporter) -> (CancellationToken, AbortOnDropHandle<()>) {
    let stop = CancellationToken::new();
    let running = tokio::spawn(exporter.run(stop.clone()));
    (stop, AbortOnDropHandle::new(running))
}

/// Connects with the first batch, and again whenever it has to.
fn channel(telemetry: &config::Telemetry) -> anyhow::Result<Channel> {
    let endpoint = Endpoint::from(telemetry.endpoint.clone()).connect_timeout(CONNECT);
    if telemetry.endpoint.scheme_str() != Some("https") {
        return Ok(endpoint.connect_lazy());
    }
    let client = Client::load(ClientSettings {
        roots: telemetry.ca_file.clone().map_or(Roots::System, Roots::SystemAnd),
        identity: None,
        protocols: vec![Protocol::Http2],
        handshake_timeout: CONNECT,
    })?;
    Ok(endpoint.connect_with_connector_lazy(Connector::new(client)))
}
