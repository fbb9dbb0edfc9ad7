//! `evergate dev` and `evergate edge`: a gateway in one process, from its first listener to its last flush.
//!
//! ```text
//!   admin ── log ── edge ── ready file ── ready      (each needs the one before)
//!     │       │       │         │
//!     └───────┴───────┴─────────┴── ended in the opposite order, in named phases
//! ```
//!
//! The admin pages come first and go last, so that a supervisor can follow the whole life.

use std::io::Write;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use evergate_domain::AgreedLimits;
use evergate_edge::{BoundListeners, Edge, EdgeConfig, RunningEdge};
use evergate_member::Member;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use crate::admin::{About, Admin, Cluster, Entry, Journal, Viewers};
use crate::certificates::Certificates;
use crate::cli::Exit;
use crate::config::{self, Config, LogChoice};
use crate::geoip::Geoip;
use crate::keepsake::Keepsake;
use crate::membership;
use crate::metrics::{From, Metrics};
use crate::open_files;
use crate::readiness::{Readiness, Stage};
use crate::ready_file::{Addresses, ReadyFile};
use crate::rebalance;
use crate::shutdown::{Shutdown, Signals};
use crate::telemetry::Telemetry;
use crate::troubles::Troubles;
use crate::upgrade::{self, Confirmed, Listeners, Offer};
use crate::wiring::{self, Storage};

/// How long the parts may take that have nothing to wait for but themselves.
const BRIEF: Duration = Duration::from_secs(5);

/// What a process is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// Everything in one process, for whoever develops against it.
    Dev,
    /// One of several that share a log.
    Edge,
}

/// Runs until a signal, until a successor has taken over, or until a part fails.
/// Listeners that are `activated` were bound by whoever started the process.
pub(crate) async fn run(config: Config, role: Role, activated: Listeners) -> anyhow::Result<Exit> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let descriptors = open_files::raise(config.http.connections_max.get(), config.grpc.connections_max.get());
    let mut gateway = tokio::select! {
        biased;
        signal = signals.next() => {
            info!(signal, "ended while starting");
            return Ok(Exit::Ok);
        }
        gateway = Gateway::start(&config, role, descriptors, activated) => gateway?,
    };
    if role == Role::Dev {
        greet(&config, gateway.addresses);
    }
    let drain = gateway.drain.clone();
    let asked = gateway.member.as_ref().map(Member::asked_to_drain);
    let asked = async {
        match asked {
            Some(asked) => asked.await,
            None => std::future::pending().await,
        }
    };
    let mut offer = gateway.offer.take();
    let reason = tokio::select! {
        biased;
        signal = signals.next() => {
            info!(signal, "shutting down");
            Reason::Asked
        }
        successor = upgrade::taken_over(&mut offer) => {
            info!(pid = successor.pid, version = successor.version, "a successor took over; shutting down");
            Reason::Succeeded
        }
        () = drain.cancelled() => {
            info!("asked to drain; shutting down");
            Reason::Drained
        }
        () = asked => {
            info!("the cluster drains this node; shutting down");
            Reason::Drained
        }
        why = gateway.failed() => {
            error!(%why, "shutting down");
            Reason::Failed
        }
    };
    // It would keep the queues of listeners open that nobody serves.
    drop(offer);
    // A task of its own, so that a second signal can leave it behind: dropped here, it would wait
    // for the disk once more.
    let stopping = tokio::spawn(gateway.stop(config.shutdown, reason));
    let mut stopping = std::pin::pin!(stopping);
    // A supervisor sends its signal also to a process that it has asked to drain before.
    let mut impatient = reason == Reason::Asked;
    loop {
        tokio::select! {
            biased;
            signal = signals.next() => {
                if impatient {
                    warn!(signal, "ended at once by a second signal");
                    return Ok(Exit::Failed);
                }
                info!(signal, "shutting down already");
                impatient = true;
            }
            clean = &mut stopping => {
                info!(clean = clean.context("the shutdown failed")?, "ended");
                return Ok(if reason == Reason::Failed { Exit::Failed } else { Exit::Ok });
            }
        }
    }
}

/// Why a gateway ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reason {
    /// By a signal.
    Asked,
    /// Over the admin pages, or by the cluster.
    Drained,
    /// Another process serves on the same listeners.
    Succeeded,
    Failed,
}

/// Everything that runs, in the order in which it was started.
struct Gateway {
    readiness: Readiness,
    admin: JoinHandle<std::io::Result<()>>,
    leave_admin: CancellationToken,
    stop_admin: CancellationToken,
    /// Cancelled when the admin pages are asked to end the process.
    drain: CancellationToken,
    /// Keeps the metrics' memory bounded until dropped.
    _metrics: AbortOnDropHandle<()>,
    /// Writes down what happens until dropped.
    _journal: AbortOnDropHandle<()>,
    /// Has streams go by the cluster's policies until dropped.
    _heeding: Option<AbortOnDropHandle<()>>,
    /// Sends clients where the cluster wants them until dropped.
    _rebalancing: Option<AbortOnDropHandle<()>>,
    /// Reads the database of addresses anew until dropped.
    _geoip: Option<AbortOnDropHandle<()>>,
    /// Reads certificates anew until dropped.
    _renewal: Option<AbortOnDropHandle<()>>,
    telemetry: Telemetry,
    storage: Storage,
    edge: RunningEdge,
    /// In its cluster, if it belongs to one.
    member: Option<Member>,
    addresses: Addresses,
    ready_file: Option<ReadyFile>,
    /// What a successor is given, where one may come.
    offer: Option<Offer>,
}

impl Gateway {
    /// Starts everything. A part that fails takes those before it with it.
    async fn start(
        config: &Config,
        role: Role,
        descriptors: usize,
        activated: Listeners,
    ) -> anyhow::Result<Self> {
        // First, so that nothing is taken over that could not be served.
        let certificates = Certificates::load(config)?;
        let renewal = certificates.renewal()?;
        let (bound, predecessor) = upgrade::begin(config, activated).await?;
        let metrics = Metrics::start(&config.node, &config.region, &config.cluster.zone, from(&config.log))?;
        if config.access.is_some() {
            metrics.begin(From::Access);
        }
        if config.http.tls.is_some() || config.grpc.tls.is_some() {
            metrics.begin(From::Tls);
        }
        let readiness = Readiness::default();
        let troubles = Troubles::default();
        let drain = CancellationToken::new();
        let revoker = Arc::<OnceLock<_>>::default();
        let explainer = Arc::<OnceLock<_>>::default();
        let viewer = Arc::<OnceLock<_>>::default();
        let cluster = Arc::<OnceLock<Cluster>>::default();
        let journal = Journal::default();
        let token_file = config.admin_token_file.as_deref();
        let entry = Entry::of(token_file, role == Role::Dev, config.admin_address.ip())?;
        let about = About {
            drain: drain.clone(),
            revoker: Arc::clone(&revoker),
            explainer: Arc::clone(&explainer),
            viewer: Arc::clone(&viewer),
            cluster: Arc::clone(&cluster),
            journal: journal.clone(),
            entry,
            viewers: Viewers::default(),
            node: config.node.clone(),
            region: config.region.clone(),
            readiness: readiness.clone(),
            troubles: troubles.clone(),
            certificates: certificates.clone(),
            metrics: metrics.clone(),
        };
        let admin = Admin::bind(config.admin_address, bound.admin, about)
            .await
            .with_context(|| format!("cannot listen on {} for the admin pages", config.admin_address))?;
        let admin_address = admin.address()?;
        let mut listeners = Listeners { admin: Some(admin.listener()?), ..Listeners::default() };
        let (leave_admin, stop_admin) = (CancellationToken::new(), CancellationToken::new());
        let pages = admin.run(leave_admin.clone(), stop_admin.clone().cancelled_owned());
        // As long as a predecessor is ready, it answers for this address.
        let serve_admin = CancellationToken::new();
        if predecessor.is_none() {
            serve_admin.cancel();
        }
        let served = serve_admin.clone();
        let admin = tokio::spawn(async move {
            served.cancelled_owned().await;
            pages.await
        });
        let keeper = metrics.clone();
        let keeper = AbortOnDropHandle::new(tokio::spawn(async move { keeper.keep_up().await }));
        let journal = journal.keep(Arc::clone(&cluster), metrics.clone(), readiness.clone());
        let journal = AbortOnDropHandle::new(tokio::spawn(journal));
        let renewal = renewal.map(|renewal| AbortOnDropHandle::new(tokio::spawn(renewal.run())));
        metrics.before_each_page(certificates.gauges());

        let policies = Arc::new(wiring::policies(config));
        let limits = AgreedLimits::default();
        // Before anything is published, or kept for less long than was agreed on.
        let keepsake = Keepsake::of(config);
        if let Some(keepsake) = &keepsake {
            keepsake.recall(&policies.agreed, &limits);
        }
        let storage = wiring::open_storage(config, Arc::clone(&policies)).await?;
        let Storage { log, cursors } = &storage;
        let log_asked = Arc::clone(log);
        troubles.ask(move || log_asked.troubles());
        let (placement_told, placement) = watch::channel(Arc::default());
        let placement = (!config.cluster.control.is_empty()).then_some(placement);
        let heeding = placement.clone().map(|followed| {
            let (policies, limits) = (policies.agreed.clone(), limits.clone());
            let heeding = membership::heed(followed, policies, limits, keepsake.clone());
            AbortOnDropHandle::new(tokio::spawn(heeding))
        });
        let bound = BoundListeners { http: bound.http, grpc: bound.grpc };
        let access = wiring::access(config).await?;
        let telemetry = Telemetry::start(config)?;
        let told = wiring::edge(config, role, policies, descriptors, access, &certificates);
        let geoip = config.cluster.geoip_file.as_deref().map(Geoip::load).transpose()?;
        let geographer = wiring::geographer(config, geoip.clone());
        let mut told = EdgeConfig { placement: placement.clone(), geographer, agreed_limits: limits, ..told };
        telemetry.trace(&mut told);
        let geoip = geoip.map(|geoip| AbortOnDropHandle::new(tokio::spawn(geoip.keep_fresh())));
        let edge = Edge::bind(told, bound, Arc::clone(log), Arc::clone(cursors)).await?;
        let BoundListeners { http, grpc } = edge.listeners()?;
        listeners = Listeners { http, grpc, ..listeners };
        let addresses = Addresses { http: edge.http_addr(), grpc: edge.grpc_addr(), admin: admin_address };
        let edge = edge.start();
        // Nobody else sets it.
        let _ = revoker.set(edge.revoker());
        let _ = explainer.set(edge.explainer());
        let _ = viewer.set(edge.viewer());
        if config.access.is_none() && !addresses.http.ip().is_loopback() {
            warn!(http = %addresses.http, "anybody who reaches this may read and publish: access.mode is open");
        }
        metrics.before_each_page(edge.gauges());
        let deliveries = edge.deliveries();
        metrics.on_each_page(move |labels, format| {
            deliveries().map_or_else(String::new, |all| crate::metrics::deliveries(&all, labels, format))
        });
        metrics.before_each_page(gauges(&readiness, &troubles));
        let took_over = predecessor.is_some();
        if let Some(predecessor) = predecessor {
            match predecessor.confirm().await {
                Ok(Confirmed::Draining) => info!("the predecessor drains"),
                Ok(Confirmed::Gone) => info!("the predecessor is gone"),
                Err(error) => {
                    // It serves on; what came here meanwhile is answered and sent back to it.
                    give_back(edge, config.shutdown.drain).await;
                    return Err(error).context("the running process goes on, and this one ends");
                }
            }
        }
        // Not before: a predecessor that serves on is the node.
        let moves = placement.clone().map(|followed| (followed, edge.mover()));
        let member = placement.map(|followed| {
            metrics.begin(From::Cluster);
            metrics.before_each_page(membership::gauges(followed.clone()));
            let looked_at = followed.clone();
            let _ = cluster.set(Cluster::new(move || Arc::clone(&looked_at.borrow())));
            troubles.ask(move || membership::trouble(&followed.borrow()).into_iter().collect());
            membership::join(config, addresses, &certificates, placement_told, edge.load())
        });
        let member = member.transpose()?;
        let rebalancing = moves.zip(member.as_ref()).map(|((followed, mover), member)| {
            AbortOnDropHandle::new(tokio::spawn(rebalance::rebalance(followed, mover, member.voice())))
        });
        let offer = config.upgrade_socket.as_ref().map(|path| {
            Offer::at(path, listeners, config.log.to_string()).context("cannot wait for a successor")
        });
        let ready_file = config.ready_file.as_ref().map(|path| {
            ReadyFile::write(path, addresses)
                .with_context(|| format!("cannot write the ready file {}", path.display()))
        });
        let (offer, ready_file) = if took_over {
            (offer.and_then(or_without), ready_file.and_then(or_without))
        } else {
            (offer.transpose()?, ready_file.transpose()?)
        };
        readiness.advance(Stage::Ready);
        serve_admin.cancel();
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
            leave_admin,
            stop_admin,
            drain,
            _metrics: keeper,
            _journal: journal,
            _renewal: renewal,
            telemetry,
            _heeding: heeding,
            _rebalancing: rebalancing,
            _geoip: geoip,
            storage,
            edge,
            member,
            addresses,
            ready_file,
            offer,
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
    async fn stop(self, limits: config::Shutdown, reason: Reason) -> bool {
        let Self {
            readiness,
            admin,
            leave_admin,
            stop_admin,
            _metrics,
            _journal,
            _renewal,
            telemetry,
            _heeding,
            _rebalancing: rebalancing,
            _geoip,
            storage,
            edge,
            member,
            ready_file,
            ..
        } = self;
        // From now on everybody is sent away.
        drop(rebalancing);
        let Storage { log, cursors } = storage;
        // A successor has the node's name, and says for itself that it is there.
        let member = member.filter(|_| reason != Reason::Succeeded);
        if let Some(member) = &member {
            member.ending();
        }
        match reason {
            // The address is as ready as it was: who asks here still must not hear otherwise.
            Reason::Succeeded => leave_admin.cancel(),
            Reason::Asked | Reason::Drained | Reason::Failed => readiness.advance(Stage::Stopping),
        }
        // Whoever waits for the file must not find a process that is leaving.
        drop(ready_file);
        // Whoever comes after a successor took over is its client; and what failed serves nobody.
        if !limits.grace.is_zero() && matches!(reason, Reason::Asked | Reason::Drained) {
            info!(grace_ms = limits.grace.as_millis(), "still accepting, until balancers have noticed");
            tokio::time::sleep(limits.grace).await;
        }
        let mut shutdown = Shutdown::begin(limits.deadline);
        let held = || format!("{} streams, {} connections", edge.open_streams(), edge.open_connections());

        shutdown.phase("stop accepting", BRIEF, async { edge.stop_accepting() }, held).await;
        // After the last stream was told to go, clients need a moment to close.
        let wished = member.as_ref().map(|member| member.drain_window(edge.open_streams()));
        let window = limits.window(edge.open_streams(), wished.unwrap_or_default());
        // A stream that does not end must not take the time in which the rest is made safe.
        let patience = (window + BRIEF).min(shutdown.remaining().saturating_sub(limits.reserve()));
        shutdown.phase("end streams", patience, edge.end_streams(window), held).await;
        if let Some(member) = &member {
            member.drained();
        }
        let unwritten = || format!("{} kept places", edge.unwritten_places());
        shutdown.phase("write the kept places", BRIEF, edge.write_places(), unwritten).await;
        shutdown.phase("close the edge", BRIEF, edge.close(), || "tasks of the edge").await;
        if let Some(member) = member {
            shutdown.phase("leave the cluster", BRIEF, member.leave(), || "a goodbye").await;
        }
        shutdown.phase("close the cursor store", BRIEF, cursors.close(), || "cursors under way").await;
        let all = shutdown.remaining();
        shutdown.phase("flush and close the log", all, log.close(), || "appends under way").await;
        shutdown.phase("send the last spans", BRIEF, telemetry.finish(), || "spans").await;
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

/// Which log's figures there are.
fn from(log: &LogChoice) -> From {
    match log {
        LogChoice::Memory => From::Any,
        LogChoice::Disk(_) => From::Disk,
        LogChoice::Redis(_) => From::Redis,
    }
}

/// Sets the gauges of the process as a whole.
fn gauges(readiness: &Readiness, troubles: &Troubles) -> impl Fn() + Send + 'static {
    let runtime = tokio::runtime::Handle::current();
    let (readiness, troubles) = (readiness.clone(), troubles.clone());
    move || {
        let stage = readiness.stage();
        ::metrics::gauge!("evergate_ready").set(f64::from(u8::from(stage == Stage::Ready)));
        ::metrics::gauge!("evergate_draining").set(f64::from(u8::from(stage == Stage::Stopping)));
        ::metrics::gauge!("evergate_troubles").set(troubles.now().len() as f64);
        ::metrics::gauge!("evergate_runtime_tasks").set(runtime.metrics().num_alive_tasks() as f64);
    }
}

/// Whoever has taken over does without what it cannot have: nobody else is left to serve.
fn or_without<T>(made: anyhow::Result<T>) -> Option<T> {
    made.inspect_err(|why| error!(why = format!("{why:#}"), "serving without it")).ok()
}

/// Ends an edge whose listeners another process keeps.
async fn give_back(edge: RunningEdge, window: Duration) {
    edge.stop_accepting();
    if tokio::time::timeout(window + BRIEF, edge.end_streams(window)).await.is_err() {
        warn!(streams = edge.open_streams(), "streams are cut");
    }
    edge.close().await;
}

/// Three lines for whoever started this by hand.
fn greet(config: &Config, addresses: Addresses) {
    let Addresses { http, grpc, admin } = addresses;
    let log = match &config.log {
        LogChoice::Memory => "its events are kept in memory".to_owned(),
        LogChoice::Disk(directory) => format!("its events are kept in {}", directory.display()),
        LogChoice::Redis(url) => format!("its events are kept in {url}"),
    };
    let scheme = |secured: bool| if secured { "https" } else { "http" };
    let (web, rpc) = (scheme(config.http.tls.is_some()), scheme(config.grpc.tls.is_some()));
    let lines = format!(
        "Evergate is ready: open {web}://{http}/ for a demo, http://{admin}/admin for what goes on inside; {log}\n\
         receive:  curl -N {web}://{http}/v1/streams/demo/events\n\
         publish:  evergate publish --server {rpc}://{grpc} --stream demo hello\n"
    );
    // Nobody may be reading.
    let _ = std::io::stdout().lock().write_all(lines.as_bytes());
}
