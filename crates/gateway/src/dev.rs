//! `evergate dev`: a whole gateway in one process, from its first listener to its last flush.
//!
//! ```text
//!   admin ── log ── edge ── ready file ── ready      (each needs the one before)
//!     │       │       │         │
//!     └───────┴───────┴─────────┴── ended in the opposite order, in named phases
//! ```
//!
//! The admin pages come first and go last, so that a supervisor can follow the whole life.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use evergate_edge::{Edge, RunningEdge};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use crate::admin::{About, Admin};
use crate::cli::Exit;
use crate::config::{self, Config, LogChoice};
use crate::metrics::Metrics;
use crate::open_files;
use crate::readiness::{Readiness, Stage};
use crate::ready_file::{Addresses, ReadyFile};
use crate::shutdown::{Shutdown, Signals};
use crate::troubles::Troubles;
use crate::wiring::{self, Storage};

/// How long the parts may take that have nothing to wait for but themselves.
const BRIEF: Duration = Duration::from_secs(5);

/// Runs until a signal, or until a part fails.
pub(crate) async fn run(config: Config) -> anyhow::Result<Exit> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let descriptors = open_files::raise(config.http.connections_max.get());
    let mut gateway = tokio::select! {
        biased;
        signal = signals.next() => {
            info!(signal, "ended while starting");
            return Ok(Exit::Ok);
        }
        gateway = Gateway::start(&config, descriptors) => gateway?,
    };
    greet(&config, gateway.addresses);
    let drain = gateway.drain.clone();
    let failed = tokio::select! {
        biased;
        signal = signals.next() => {
            info!(signal, "shutting down");
            false
        }
        () = drain.cancelled() => {
            info!("asked to drain; shutting down");
            false
        }
        why = gateway.failed() => {
            error!(%why, "shutting down");
            true
        }
    };
    // A task of its own, so that a second signal can leave it behind: dropped here, it would wait
    // for the disk once more.
    let stopping = tokio::spawn(gateway.stop(config.shutdown));
    tokio::select! {
        biased;
        signal = signals.next() => {
            warn!(signal, "ended at once by a second signal");
            Ok(Exit::Failed)
        }
        clean = stopping => {
            info!(clean = clean.context("the shutdown failed")?, "ended");
            Ok(if failed { Exit::Failed } else { Exit::Ok })
        }
    }
}

/// Everything that runs, in the order in which it was started.
struct Gateway {
    readiness: Readiness,
    admin: JoinHandle<std::io::Result<()>>,
    stop_admin: CancellationToken,
    /// Cancelled when the admin pages are asked to end the process.
    drain: CancellationToken,
    /// Keeps the metrics' memory bounded until dropped.
    _metrics: AbortOnDropHandle<()>,
    storage: Storage,
    edge: RunningEdge,
    addresses: Addresses,
    ready_file: Option<ReadyFile>,
}

impl Gateway {
    /// Starts everything. A part that fails takes those before it with it.
    async fn start(config: &Config, descriptors: usize) -> anyhow::Result<Self> {
        let metrics = Metrics::start(&config.node, &config.region)?;
        let readiness = Readiness::default();
        let troubles = Troubles::default();
        let drain = CancellationToken::new();
        let about = About {
            drain: drain.clone(),
            node: config.node.clone(),
            region: config.region.clone(),
            readiness: readiness.clone(),
            troubles: troubles.clone(),
            metrics: metrics.clone(),
        };
        let admin = Admin::bind(config.admin_address, about)
            .await
            .with_context(|| format!("cannot listen on {} for the admin pages", config.admin_address))?;
        let admin_address = admin.address()?;
        let stop_admin = CancellationToken::new();
        let admin = tokio::spawn(admin.run(stop_admin.clone().cancelled_owned()));
        let keeper = metrics.clone();
        let keeper = AbortOnDropHandle::new(tokio::spawn(async move { keeper.keep_up().await }));

        let policies = Arc::new(wiring::policies(config));
        let storage = wiring::open_storage(config, Arc::clone(&policies)).await?;
        let Storage { log, cursors } = &storage;
        troubles.ask(log);
        let edge =
            Edge::bind(wiring::dev_edge(config, policies, descriptors), Arc::clone(log), Arc::clone(cursors))
                .await?;
        let addresses = Addresses { http: edge.http_addr(), grpc: edge.grpc_addr(), admin: admin_address };
        let edge = edge.start();
        metrics.before_each_page(edge.gauges());
        let runtime = tokio::runtime::Handle::current();
        metrics.before_each_page(move || {
            ::metrics::gauge!("evergate_runtime_tasks").set(runtime.metrics().num_alive_tasks() as f64);
        });
        let ready_file = match &config.ready_file {
            Some(path) => Some(
                ReadyFile::write(path, addresses)
                    .with_context(|| format!("cannot write the ready file {}", path.display()))?,
            ),
            None => None,
        };
        readiness.advance(Stage::Ready);
        info!(
            node = config.node,
            region = config.region,
            log = %config.log,
            http = %addresses.http,
            grpc = %addresses.grpc,
            admin = %addresses.admin,
            version = env!("CARGO_PKG_VERSION"),
            "ready"
        );
        Ok(Self {
            readiness,
            admin,
            stop_admin,
            drain,
            _metrics: keeper,
            storage,
            edge,
            addresses,
            ready_file,
        })
    }

    /// Why a part ended that should not have. Waits for as long as all is well.
    async fn failed(&mut self) -> String {
        tokio::select! {
            () = self.edge.failed() => "a part of the edge failed".to_owned(),
            ended = &mut self.admin => match ended {
                Ok(Ok(())) => "the admin pages ended".to_owned(),
                Ok(Err(error)) => format!("the admin pages failed: {error}"),
                Err(error) => format!("the admin pages failed: {error}"),
            },
        }
    }

    /// Ends everything, in phases. Tells whether each ended by itself.
    async fn stop(self, limits: config::Shutdown) -> bool {
        let Self { readiness, admin, stop_admin, _metrics, storage, edge, ready_file, .. } = self;
        let Storage { log, cursors } = storage;
        readiness.advance(Stage::Stopping);
        // Whoever waits for the file must not find a process that is leaving.
        drop(ready_file);
        if !limits.grace.is_zero() {
            info!(grace_ms = limits.grace.as_millis(), "still accepting, until balancers have noticed");
            tokio::time::sleep(limits.grace).await;
        }
        let mut shutdown = Shutdown::begin(limits.deadline);
        let held = || format!("{} streams, {} connections", edge.open_streams(), edge.open_connections());

        shutdown.phase("stop accepting", BRIEF, async { edge.stop_accepting() }, held).await;
        // After the last stream was told to go, clients need a moment to close.
        let window = limits.window(edge.open_streams());
        shutdown.phase("end streams", window + BRIEF, edge.end_streams(window), held).await;
        shutdown.phase("close the edge", BRIEF, edge.close(), || "tasks of the edge").await;
        shutdown.phase("close the cursor store", BRIEF, cursors.close(), || "cursors under way").await;
        let all = shutdown.remaining();
        shutdown.phase("flush and close the log", all, log.close(), || "appends under way").await;
        stop_admin.cancel();
        // It may be what failed, and then its end was heard already.
        let pages = async {
            if !admin.is_finished() {
                let _ = admin.await;
            }
        };
        shutdown.phase("close the admin pages", BRIEF, pages, || "requests under way").await;
        if !shutdown.is_clean() {
            // Dropped unclosed, a durable log waits for its disk, and the time for that is over.
            std::mem::forget(log);
        }
        shutdown.is_clean()
    }
}

/// Three lines for whoever started this by hand.
fn greet(config: &Config, addresses: Addresses) {
    let Addresses { http, grpc, admin } = addresses;
    let log = match &config.log {
        LogChoice::Memory => "its events are kept in memory".to_owned(),
        LogChoice::Disk(directory) => format!("its events are kept in {}", directory.display()),
        LogChoice::Redis(url) => format!("its events are kept in {url}"),
    };
    let lines = format!(
        "Evergate is ready: open http://{http}/ for a demo, http://{admin}/metrics for figures; {log}\n\
         receive:  curl -N http://{http}/v1/streams/demo/events\n\
         publish:  evergate publish --server http://{grpc} --stream demo hello\n"
    );
    // Nobody may be reading.
    let _ = std::io::stdout().lock().write_all(lines.as_bytes());
}
