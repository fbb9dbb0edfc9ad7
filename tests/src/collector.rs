//! A collector of traces: a server of OTLP over gRPC, made of the protocol's own generated code.
//!
//! Not the OpenTelemetry Collector, which is no package here; what it would be sent is the same.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_stream::wrappers::TcpListenerStream;
use tonic::transport::Server;
use tonic::{Request, Response, Status};

use crate::PATIENCE;

/// A collector that is there. Gone when it is dropped.
#[derive(Debug)]
pub struct Collector {
    address: SocketAddr,
    spans: watch::Receiver<Vec<Span>>,
    calls: watch::Receiver<usize>,
    serving: JoinHandle<()>,
}

/// What a collector does with what it gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Takes it.
    Takes,
    /// Reads it and never answers.
    Stalls,
}

/// A span, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// What happened.
    pub name: String,
    /// In hexadecimal, like the other ids.
    pub trace: String,
    /// Its own.
    pub id: String,
    /// The one that it is a part of; empty if there is none.
    pub parent: String,
    /// The `traceparent` flags of its kind.
    pub remote_parent: bool,
    /// `SERVER` and so on, by its number.
    pub kind: i32,
    /// Nanoseconds since 1970.
    pub begun: u64,
    /// The same.
    pub ended: u64,
    /// Why it failed, if it did.
    pub failure: Option<String>,
    /// What else it says, in words.
    pub attributes: BTreeMap<String, String>,
    /// Who made it.
    pub about: BTreeMap<String, String>,
}

impl Span {
    /// An attribute that must be there.
    #[must_use]
    pub fn says(&self, name: &str) -> &str {
        self.attributes.get(name).unwrap_or_else(|| panic!("{name} is missing: {self:?}"))
    }

    /// The node that made it.
    #[must_use]
    pub fn node(&self) -> &str {
        self.about.get("service.instance.id").map_or("", String::as_str)
    }
}

struct Taking {
    manner: Manner,
    spans: watch::Sender<Vec<Span>>,
    calls: Arc<watch::Sender<usize>>,
}

#[tonic::async_trait]
impl TraceService for Taking {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.calls.send_modify(|calls| *calls += 1);
        if self.manner == Manner::Stalls {
            std::future::pending::<()>().await;
        }
        let mut came = Vec::new();
        for of_process in request.into_inner().resource_spans {
            let about = of_process.resource.map(|resource| words(resource.attributes)).unwrap_or_default();
            for span in of_process.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                let status = span.status.unwrap_or_default();
                came.push(Span {
                    name: span.name,
                    trace: hex(&span.trace_id),
                    id: hex(&span.span_id),
                    parent: hex(&span.parent_span_id),
                    remote_parent: span.flags & 0x200 != 0,
                    kind: span.kind,
                    begun: span.start_time_unix_nano,
                    ended: span.end_time_unix_nano,
                    failure: (status.code == 2).then_some(status.message),
                    attributes: words(span.attributes),
                    about: about.clone(),
                });
            }
        }
        self.spans.send_modify(|spans| spans.append(&mut came));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

impl Collector {
    /// One at a port of the system's choice.
    pub async fn start(manner: Manner) -> Self {
        Self::start_at((Ipv4Addr::LOCALHOST, 0).into(), manner).await
    }

    /// One at this address.
    pub async fn start_at(address: SocketAddr, manner: Manner) -> Self {
        let listener = TcpListener::bind(address).await.expect("the address is free");
        let address = listener.local_addr().expect("it is bound");
        let (sender, spans) = watch::channel(Vec::new());
        let (counting, calls) = watch::channel(0);
        let taking = Taking { manner, spans: sender, calls: Arc::new(counting) };
        let serving = tokio::spawn(async move {
            let server = Server::builder().add_service(TraceServiceServer::new(taking));
            server.serve_with_incoming(TcpListenerStream::new(listener)).await.expect("it serves");
        });
        Self { address, spans, calls, serving }
    }

    /// Its address, as the product is told it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Waits until so many batches came, answered or not.
    pub async fn called(&self, times: usize) {
        let mut calls = self.calls.clone();
        let called = tokio::time::timeout(PATIENCE, calls.wait_for(|calls| *calls >= times)).await;
        called.expect("the collector is called").expect("it serves");
    }

    /// Waits until what came is enough, and returns all of it.
    ///
    /// # Panics
    /// If it never is.
    pub async fn until(&self, enough: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        let mut spans = self.spans.clone();
        let came = tokio::time::timeout(PATIENCE, spans.wait_for(|spans| enough(spans))).await;
        match came {
            Ok(spans) => spans.expect("it serves").clone(),
            Err(_) => panic!("not enough came: {:#?}", self.spans.borrow()),
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn words(attributes: Vec<KeyValue>) -> BTreeMap<String, String> {
    attributes.into_iter().map(|KeyValue { key, value, .. }| (key, word(value))).collect()
}

fn word(value: Option<AnyValue>) -> String {
    match value.and_then(|value| value.value) {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(on)) => on.to_string(),
        other => format!("{other:?}"),
    }
}
