//! Structured logs on standard error, for people or for a collector.

use anyhow::Context;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::FmtSpan;

use crate::config::{LogFormat, LogOutput};

/// Starts the log output of this process. Once only.
pub(crate) fn start(output: &LogOutput) -> anyhow::Result<()> {
    // The configuration has parsed it already; it keeps the text because a filter cannot be copied.
    // What the Raft library tells at `info` is for whoever works on it. Named by the operator, it counts
    // as it is named: the last word about a module is the one that holds.
    let directives = format!("openraft=error,openraft::replication=off,{}", output.directives);
    let filter = EnvFilter::builder().parse(&directives).context("log_output.level")?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_span_events(FmtSpan::NONE);
    match output.format {
        LogFormat::Text => {
            let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
            builder.with_ansi(colours).try_init()
        }
        LogFormat::Json => builder.json().flatten_event(true).with_current_span(false).try_init(),
    }
    .map_err(|error| anyhow::anyhow!("log output: {error}"))
}
