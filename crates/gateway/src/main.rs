//! The `evergate` binary: reads the configuration, wires the roles, owns the shutdown.
//!
//! In reading order: [`cli`] says what can be asked, [`config`] what can be set; [`node`] runs a
//! gateway in this process, [`control`] a node of the control group; [`publish`] and [`tail`] are its
//! clients, [`doctor`] examines the way to it, and [`bench`] measures it. Nothing below this crate reads
//! the environment, a file of settings or the command line.

mod cli;
mod config;

mod admin;
mod admin_client;
mod certificates;
mod cluster;
mod control;
mod drain;
mod geoip;
mod keepsake;
mod keys;
mod logging;
mod membership;
mod memory;
mod metrics;
mod node;
mod open_files;
mod readiness;
mod ready_file;
mod rebalance;
mod shutdown;
mod telemetry;
mod upgrade;
mod wiring;

mod bench;
mod dial;
mod doctor;
mod explain;
mod printable;
mod publish;
mod tail;
mod troubles;

use std::future::Future;
use std::io::{self, Write};
use std::process::ExitCode;

use anyhow::Context;
use tokio::runtime::{Builder, Runtime};

use cli::{Cli, Command, ConfigCommand, Exit, Format, MetricsArgs, SettingsArgs};
use config::{Config, Defaults};
use node::Role;

/// Many small records live long among short-lived buffers of eight kilobytes; jemalloc keeps the two
/// apart, which halves what an idle subscriber costs.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    match Cli::read(std::env::args_os()) {
        Ok(cli) => run(cli.command).into(),
        Err(error) => {
            // Help and version are no errors, and clap knows which goes where.
            let _ = error.print();
            if error.exit_code() == 0 { Exit::Ok } else { Exit::Usage }.into()
        }
    }
}

fn run(command: Command) -> Exit {
    match command {
        Command::Dev(settings) => start(&settings, Defaults::Dev, Role::Dev),
        Command::Edge(settings) => start(&settings, Defaults::General, Role::Edge),
        Command::Control(settings) => match load(&settings, Defaults::General) {
            Ok(config) => told(serve_control(config)),
            Err(exit) => exit,
        },
        Command::Publish(args) => told(block_on(publish::run(args))),
        Command::Drain(args) => told(block_on(drain::run(args))),
        Command::Tail(args) => told(block_on(tail::run(args))),
        Command::Explain(args) => told(block_on(explain::run(args))),
        Command::Cluster(args) => told(block_on(cluster::run(args))),
        Command::Doctor(args) => told(block_on(doctor::run(args))),
        Command::Bench(args) => told(on_threads(bench::run(args))),
        Command::Config(ConfigCommand::Check(settings)) => match load(&settings, Defaults::General) {
            Ok(_) => printed("configuration is valid\n"),
            Err(exit) => exit,
        },
        Command::Config(ConfigCommand::Reference) => printed(&config::reference()),
        Command::Metrics(MetricsArgs { output: Format::Markdown }) => printed(&metrics::reference()),
        Command::Metrics(MetricsArgs { output: Format::Json }) => printed(&metrics::json()),
    }
}

/// Runs a role, if its configuration is in order.
fn start(settings: &SettingsArgs, defaults: Defaults, role: Role) -> Exit {
    match load(settings, defaults) {
        Ok(config) => told(serve(config, role)),
        Err(exit) => exit,
    }
}

/// Runs a gateway until it is told to end.
fn serve(config: Config, role: Role) -> anyhow::Result<Exit> {
    logging::start(&config.log_output)?;
    // Before there are threads, as it changes the environment.
    let activated = upgrade::activated()?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(config.runtime_threads.resolve().get())
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    finish(runtime, node::run(config, role, activated))?
}

/// Runs a control node until it is told to end.
fn serve_control(config: Config) -> anyhow::Result<Exit> {
    logging::start(&config.log_output)?;
    let runtime = Builder::new_multi_thread()
        .worker_threads(config.runtime_threads.resolve().get())
        .enable_all()
        .build()
        .context("cannot start the runtime")?;
    finish(runtime, control::run(config))?
}

/// Runs a client, for which one thread is enough.
fn block_on(work: impl Future<Output = Exit>) -> anyhow::Result<Exit> {
    let runtime = Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    finish(runtime, work)
}

/// Runs a client that is many at once.
fn on_threads(work: impl Future<Output = Exit>) -> anyhow::Result<Exit> {
    let runtime = Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    finish(runtime, work)
}

fn finish<T>(runtime: Runtime, work: impl Future<Output = T>) -> anyhow::Result<T> {
    let result = runtime.block_on(work);
    // Not waiting for what blocks in the system, such as a name that is being resolved.
    runtime.shutdown_background();
    Ok(result)
}

/// Proves the configuration, or prints every mistake.
fn load(settings: &SettingsArgs, defaults: Defaults) -> Result<Config, Exit> {
    settings.load(defaults, std::env::vars_os()).map_err(|error| {
        complain(&error.to_string());
        Exit::Usage
    })
}

fn told(result: anyhow::Result<Exit>) -> Exit {
    result.unwrap_or_else(|error| {
        complain(&format!("evergate: {error:#}"));
        Exit::Failed
    })
}

fn printed(text: &str) -> Exit {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Ok(()) => Exit::Ok,
        // Whoever read it has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Exit::Ok,
        Err(_) => Exit::Failed,
    }
}

fn complain(text: &str) {
    // With standard error closed there is nobody to tell.
    let _ = writeln!(io::stderr().lock(), "{text}");
}
