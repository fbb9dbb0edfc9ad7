//! Traces, as a collector gets them from the real binary: what is a part of what, and that a collector that is
//! slow or away costs traces and nothing else.

mod collectors;
mod events;
mod streams;

use evergate_tests::collector::{Collector, Span};
use evergate_tests::process::Options;

/// Somebody's trace, kept.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";
/// Another one's, not kept.
const UNKEPT: &str = "00-11111111111111111111111111111111-2222222222222222-00";

fn kept() -> String {
    format!("00-{TRACE}-{PARENT}-01")
}

/// A process of this name that sends its traces there: those that are brought, and of others one in so many.
fn traced(options: Options, node: &str, collector: &str, one_in: &str) -> Options {
    options.set("node", node).set("telemetry.endpoint", collector).set("telemetry.sample_one_in", one_in)
}

/// Those of a name and a trace.
fn named<'s>(spans: &'s [Span], name: &str, trace: &str) -> Vec<&'s Span> {
    spans.iter().filter(|span| span.name == name && span.trace == trace).collect()
}

/// The one of a name and a trace, once it has come.
async fn one(collector: &Collector, name: &str, trace: &str) -> Span {
    let spans = collector.until(|spans| !named(spans, name, trace).is_empty()).await;
    let found = named(&spans, name, trace);
    assert_eq!(found.len(), 1, "{found:#?}");
    found[0].clone()
}
