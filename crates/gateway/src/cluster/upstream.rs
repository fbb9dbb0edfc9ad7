//! The edges of a region as data for a balancer: printed, or kept up to date in a file.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, ValueEnum};
use evergate_domain::RegionName;
use evergate_domain::cluster::{BalancerError, View, envoy_endpoints, nginx_upstream};

use super::args::ClusterArgs;
use super::call::Link;
use super::follow::Following;
use crate::cli::Exit;

/// Before a control node that cannot be asked is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// What is written, and where.
#[derive(Debug, Clone, Args)]
pub(super) struct UpstreamArgs {
    /// Whose edges
    #[arg(long)]
    region: RegionName,
    /// For whom
    #[arg(long = "for", value_enum)]
    balancer: Balancer,
    /// By what nginx tells clients apart
    #[arg(long, value_name = "VARIABLE", default_value = "$remote_addr")]
    key: String,
    /// Move it into place here, whole, instead of printing it
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Go on, and write the file anew whenever edges come, go or are drained
    #[arg(long, requires = "file")]
    follow: bool,
    /// Run this by the shell after each writing, such as "nginx -s reload"
    #[arg(long, value_name = "COMMAND", requires = "file")]
    then: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Balancer {
    /// An upstream block with a consistent hash
    Nginx,
    /// An endpoints file, which Envoy watches
    Envoy,
}

impl UpstreamArgs {
    fn text(&self, view: &View) -> Result<String, BalancerError> {
        match self.balancer {
            Balancer::Nginx => nginx_upstream(view, &self.region, &self.key),
            Balancer::Envoy => envoy_endpoints(view, &self.region).map(|file| format!("{file:#}\n")),
        }
    }

    fn put(&self, file: &Path, view: &View) -> Result<(), String> {
        let text = self.text(view).map_err(|error| error.to_string())?;
        replace(file, &text).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        let Some(command) = &self.then else { return Ok(()) };
        let ran = std::process::Command::new("sh").arg("-c").arg(command).status();
        match ran {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(format!("{command:?} ended with {status}")),
            Err(error) => Err(format!("{command:?} cannot be run: {error}")),
        }
    }
}

/// Writes it once, or for ever.
pub(super) async fn run(args: &ClusterArgs, upstream: &UpstreamArgs) -> Result<Exit, String> {
    let Some(file) = &upstream.file else {
        let view = Link::to(args).await?.view().await?;
        let text = upstream.text(&view).map_err(|error| error.to_string())?;
        // Nobody may be reading.
        let _ = std::io::stdout().lock().write_all(text.as_bytes());
        return Ok(Exit::Ok);
    };
    if !upstream.follow {
        let view = Link::to(args).await?.view().await?;
        return upstream.put(file, &view).map(|()| Exit::Ok);
    }
    // What is written stays, whatever becomes of control nodes: a balancer goes on by the last list.
    let mut written = None;
    loop {
        let Err(why) = follow(args, upstream, file, &mut written).await;
        let _ = writeln!(std::io::stderr().lock(), "evergate cluster: {why}; trying again");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn follow(
    args: &ClusterArgs,
    upstream: &UpstreamArgs,
    file: &Path,
    written: &mut Option<u64>,
) -> Result<std::convert::Infallible, String> {
    let mut following = Following::begin(&mut Link::to(args).await?).await?;
    loop {
        following.next().await?;
        let version = following.view().ring_version();
        if *written == Some(version) {
            continue;
        }
        match upstream.put(file, following.view()) {
            Ok(()) => *written = Some(version),
            // A region without an edge: the last list stands, for an empty one is none.
            Err(why) => drop(writeln!(std::io::stderr().lock(), "evergate cluster: {why}")),
        }
    }
}

/// In one step: whoever watches the file sees the old one or the new one.
fn replace(file: &Path, text: &str) -> std::io::Result<()> {
    let mut name = file.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.new", std::process::id()));
    let new = file.with_file_name(name);
    let written = fs::write(&new, text).and_then(|()| fs::rename(&new, file));
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}
