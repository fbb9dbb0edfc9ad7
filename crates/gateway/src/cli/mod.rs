//! The command line: what can be asked of the binary, and how it answers to its caller.

mod exit;
mod settings;

use std::ffi::OsString;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::bench::BenchArgs;
use crate::cluster::ClusterArgs;
use crate::doctor::DoctorArgs;
use crate::drain::DrainArgs;
use crate::explain::ExplainArgs;
use crate::publish::PublishArgs;
use crate::tail::TailArgs;

pub(crate) use exit::Exit;
pub(crate) use settings::SettingsArgs;

/// Server-Sent Events: publish over gRPC, receive over plain SSE, and lose nothing unsignalled.
#[derive(Debug, Parser)]
#[command(name = "evergate", version, after_help = EXIT_CODES, propagate_version = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

const EXIT_CODES: &str = "\
Exit codes: 0 all went well; 1 a failure at run time; 2 a mistake in the command line or the
configuration.";

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything in one process, with an embedded log and a demo page
    Dev(SettingsArgs),
    /// Run one process of several: streams and publishes, with the log that is configured, and no demo page
    Edge(SettingsArgs),
    /// Run a control node: one of the group that agrees on what the cluster does
    Control(SettingsArgs),
    /// Publish one event, or one for each line of standard input
    Publish(PublishArgs),
    /// Follow one stream or several, resuming after every cut
    Tail(TailArgs),
    /// Look at a cluster, and have it changed
    Cluster(ClusterArgs),
    /// Examine the way from a subscriber to the gateway: what proxies do to the stream, and how to mend it
    Doctor(DoctorArgs),
    /// Say why a client did or did not get an event, as far as an edge can know it
    Explain(ExplainArgs),
    /// Put a load on a gateway: how late events arrive, whether all do, and what they cost
    Bench(BenchArgs),
    /// End a running process in order: readiness, streams, then itself
    Drain(DrainArgs),
    /// Check the configuration, or print its reference
    #[command(subcommand)]
    Config(ConfigCommand),
    /// Print the reference of all metrics, as Markdown or JSON
    Metrics(MetricsArgs),
}

#[derive(Debug, Args)]
pub(crate) struct MetricsArgs {
    /// For people, or for programs
    #[arg(long, value_enum, default_value_t = Format::Markdown)]
    pub output: Format,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Format {
    Markdown,
    Json,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read file, environment and flags, and print every mistake with its place
    Check(SettingsArgs),
    /// Print the reference of all settings as Markdown
    Reference,
}

impl Cli {
    /// Parses the arguments; help, version and mistakes are printed by the caller.
    pub(crate) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::try_parse_from(arguments)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use clap::CommandFactory;

    use super::*;

    fn read(line: &str) -> Result<Cli, clap::Error> {
        Cli::read(line.split(' ').map(OsString::from))
    }

    #[test]
    fn the_command_line_agrees_with_itself() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_mistake_is_a_usage_error_and_help_is_not() {
        for (line, code) in [
            ("evergate", 2),
            ("evergate serve", 2),
            ("evergate dev --htpp 1", 2),
            ("evergate dev --http", 2),
            ("evergate dev --http a --http b", 2),
            ("evergate config", 2),
            ("evergate tail", 2),
            ("evergate publish", 2),
            ("evergate doctor", 2),
            ("evergate bench --subscribers 0", 2),
            ("evergate doctor http://h --listen-only --publish-to http://h", 2),
            ("evergate --help", 0),
            ("evergate dev --help", 0),
            ("evergate --version", 0),
        ] {
            assert_eq!(read(line).unwrap_err().exit_code(), code, "{line}");
        }
    }

    #[test]
    fn settings_are_taken_by_whatever_runs_and_by_config_check() {
        for line in [
            "evergate edge --http 127.0.0.1:0 --log memory --set sse.heartbeat=1s --set node=a",
            "evergate dev --http 127.0.0.1:0 --log memory --set sse.heartbeat=1s --set node=a",
            "evergate control --http 127.0.0.1:0 --log memory --set control.id=1 --set node=a",
            "evergate config check --http 127.0.0.1:0 --log memory --set sse.heartbeat=1s --set node=a",
        ] {
            let settings = match read(line).unwrap().command {
                Command::Dev(settings)
                | Command::Control(settings)
                | Command::Edge(settings)
                | Command::Config(ConfigCommand::Check(settings)) => settings,
                other @ (Command::Publish(_)
                | Command::Tail(_)
                | Command::Cluster(_)
                | Command::Doctor(_)
                | Command::Bench(_)
                | Command::Drain(_)
                | Command::Explain(_)
                | Command::Metrics(_)
                | Command::Config(_)) => {
                    panic!("{other:?}")
                }
            };
            assert_eq!(settings.flags().len(), 4, "{settings:?}");
        }
    }
}
