//! The one task that speaks with the collector.

use std::num::NonZeroUsize;
use std::time::Duration;

use opentelemetry::trace::{SpanContext, SpanId, SpanKind, Status, TraceFlags, TraceId, TraceState};
use opentelemetry::{InstrumentationScope, KeyValue};
use opentelemetry_otlp::{SpanExporter as OtlpExporter, WithExportConfig as _, WithTonicConfig as _};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanExporter as _, SpanLinks};
use tokio::sync::mpsc;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::sampling::Sampling;
use crate::span::{Attribute, Side, Span};
use crate::tracer::{SPANS, Tracer};

/// Spans sent together.
const BATCH_MAX: usize = 512;
/// How long the first of them waits for others.
const LINGER: Duration = Duration::from_millis(500);
/// How long the last ones are tried when the process ends.
const LAST: Duration = Duration::from_secs(1);

/// What tracing is told.
pub struct Settings {
    /// The way to the collector, which need not be there yet.
    pub collector: Channel,
    /// Which traces are kept.
    pub sampling: Sampling,
    /// Spans that may wait; beyond it they are dropped.
    pub queue_max: NonZeroUsize,
    /// How long a batch may take before it is given up.
    pub patience: Duration,
    /// What stands on every span: who this process is.
    pub about: Vec<(&'static str, String)>,
}

/// Tracing cannot begin. Only a mistake of the build or of the environment is told so; a collector that is
/// away is none.
#[derive(Debug, thiserror::Error)]
#[error("no exporter of traces can be made: {0}")]
pub struct StartError(String);

/// Sends spans to a collector, until it is told to stop.
pub struct Exporter {
    queue: mpsc::Receiver<Span>,
    otlp: OtlpExporter,
    scope: InstrumentationScope,
    patience: Duration,
    /// Whether the last batch failed, so that an outage is one line in the output.
    failing: bool,
}

/// Begins tracing. Nothing is sent before the exporter runs. Must be called within a runtime.
pub fn start(settings: Settings) -> Result<(Tracer, Exporter), StartError> {
    let Settings { collector, sampling, queue_max, patience, about } = settings;
    let mut otlp = OtlpExporter::builder()
        .with_tonic()
        .with_channel(collector)
        .with_timeout(patience)
        .build()
        .map_err(|error| StartError(error.to_string()))?;
    let about = about.into_iter().map(|(name, value)| KeyValue::new(name, value));
    otlp.set_resource(&Resource::builder_empty().with_attributes(about).build());
    let (sender, queue) = mpsc::channel(queue_max.get());
    let scope = InstrumentationScope::builder("evergate").with_version(env!("CARGO_PKG_VERSION")).build();
    Ok((Tracer::new(sampling, sender), Exporter { queue, otlp, scope, patience, failing: false }))
}

impl Exporter {
    /// Sends what comes. Told to stop, it tries once more what is waiting, for a moment, and gives up the rest.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut spans = Vec::with_capacity(BATCH_MAX);
        loop {
            let came = stop.run_until_cancelled(self.queue.recv_many(&mut spans, BATCH_MAX)).await;
            match came {
                Some(0) => return,
                Some(_) => {}
                None => break,
            }
            if spans.len() < BATCH_MAX {
                let _: Option<()> = stop.run_until_cancelled(sleep(LINGER)).await;
            }
            self.fill(&mut spans);
            self.send(&mut spans, &stop).await;
        }
        self.queue.close();
        self.fill(&mut spans);
        while !spans.is_empty() && self.send(&mut spans, &stop).await {
            self.fill(&mut spans);
        }
        while self.queue.try_recv().is_ok() {
            counted("failed", 1);
        }
    }

    /// Takes what is waiting, without waiting for it.
    fn fill(&mut self, spans: &mut Vec<Span>) {
        while spans.len() < BATCH_MAX
            && let Ok(span) = self.queue.try_recv()
        {
            spans.push(span);
        }
    }

    /// Sends a batch, and says whether the collector took it. Either way it is gone.
    async fn send(&mut self, spans: &mut Vec<Span>, stop: &CancellationToken) -> bool {
        let batch: Vec<_> = spans.drain(..).map(|span| data(span, &self.scope)).collect();
        let count = batch.len() as u64;
        let last = async {
            stop.cancelled().await;
            sleep(LAST).await;
        };
        let sent = tokio::select! {
            sent = timeout(self.patience, self.otlp.export(batch)) => match sent {
                Ok(sent) => sent.map_err(|error| error.to_string()),
                Err(_) => Err(format!("no answer within {:?}", self.patience)),
            },
            () = last => Err("the process ends".to_owned()),
        };
        counted(if sent.is_ok() { "exported" } else { "failed" }, count);
        match &sent {
            Ok(()) if self.failing => tracing::info!("the collector takes spans again"),
            Err(why) if !self.failing => {
                tracing::warn!(
                    why,
                    "the collector takes no spans; they are dropped, and nothing else is affected"
                );
            }
            Ok(()) | Err(_) => {}
        }
        self.failing = sent.is_err();
        sent.is_ok()
    }
}

fn counted(result: &'static str, spans: u64) {
    metrics::counter!(SPANS, "result" => result).increment(spans);
}

fn data(span: Span, scope: &InstrumentationScope) -> SpanData {
    let Span { name, side, own, parent, begun, ended, attributes, failure } = span;
    let (trace, id) = (TraceId::from_bytes(own.trace_id_bytes()), SpanId::from_bytes(own.span_id()));
    SpanData {
        span_context: SpanContext::new(trace, id, TraceFlags::SAMPLED, false, TraceState::default()),
        parent_span_id: parent.map_or(SpanId::INVALID, |parent| SpanId::from_bytes(parent.id)),
        parent_span_is_remote: parent.is_some_and(|parent| parent.remote),
        span_kind: match side {
            Side::Server => SpanKind::Server,
            Side::Producer => SpanKind::Producer,
            Side::Consumer => SpanKind::Consumer,
            Side::Internal => SpanKind::Internal,
        },
        name: name.into(),
        start_time: begun,
        // Another machine's clock may be ahead, and time here may be set back.
        end_time: ended.max(begun),
        attributes: attributes.into_iter().map(|(name, value)| attribute(name, value)).collect(),
        dropped_attributes_count: 0,
        events: SpanEvents::default(),
        links: SpanLinks::default(),
        status: failure.map_or(Status::Unset, |why| Status::Error { description: why.into() }),
        instrumentation_scope: scope.clone(),
    }
}

fn attribute(name: &'static str, value: Attribute) -> KeyValue {
    match value {
        Attribute::Text(text) => KeyValue::new(name, text.into_owned()),
        Attribute::Count(count) => KeyValue::new(name, i64::try_from(count).unwrap_or(i64::MAX)),
        Attribute::Switch(on) => KeyValue::new(name, on),
    }
}
