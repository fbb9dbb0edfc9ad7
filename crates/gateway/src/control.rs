//! `evergate control`: a node of the control group, from its admin pages to its last word.
//!
//! ```text
//!   admin ── group ── ready file ── a leader, and caught up ── ready
//! ```
//! It is ready once, when it knows a leader and has what the group agreed on. That a leader is lost later
//! is no fault of this process: it is a trouble, named by `/readyz`.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use anyhow::Context;
use evergate_control::{Agreed, Group, Handle, Keeper, Status};
use evergate_domain::cluster::{Lease, Rings};
use evergate_member::Placement;
use evergate_tls::{Client, Refreshed, Server};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{error, info, warn};

use crate::admin::{About, Admin, Cluster, Entry, Journal, Viewers};
use crate::certificates::Certificates;
use crate::cli::Exit;
use crate::config::Config;
use crate::membership;
use crate::metrics::{From, Metrics};
use crate::readiness::{Readiness, Stage};
use crate::ready_file::{ControlAddresses, ReadyFile};
use crate::shutdown::{Shutdown, Signals};
use crate::troubles::Troubles;
use crate::wiring;

/// How long the parts may take that have nothing to wait for but themselves.
const BRIEF: Duration = Duration::from_secs(5);
/// How soon a certificate that was replaced is used.
const LOOK_AT_FILES: Duration = Duration::from_secs(10);
/// How far a node may be behind what it knows of to be taken for caught up.
const LAG_MAX: u64 = 100;

/// Runs until a signal, until it is asked to drain, or until the node can take part no more.
pub(crate) async fn run(config: Config) -> anyhow::Result<Exit> {
    let mut signals = Signals::listen().context("cannot listen for signals")?;
    let metrics = Metrics::start(&config.node, &config.region, &config.cluster.zone, From::Control)?;
    let readiness = Readiness::default();
    let troubles = Troubles::default();
    let drain = CancellationToken::new();
    let known = Arc::<OnceLock<Cluster>>::default();
    let journal = Journal::default();
    let about = About {
        drain: drain.clone(),
        node: config.node.clone(),
        region: config.region.clone(),
        readiness: readiness.clone(),
        troubles: troubles.clone(),
        certificates: Certificates::default(),
        metrics: metrics.clone(),
        revoker: Arc::default(),
        explainer: Arc::default(),
        viewer: Arc::default(),
        cluster: Arc::clone(&known),
        journal: journal.clone(),
        entry: Entry::of(config.admin_token_file.as_deref(), false, config.admin_address.ip())?,
        viewers: Viewers::default(),
    };
    let admin = Admin::bind(config.admin_address, None, about)
        .await
        .with_context(|| format!("cannot listen on {} for the admin pages", config.admin_address))?;
    let admin_address = admin.address()?;
    let stop_admin = CancellationToken::new();
    let mut admin = tokio::spawn(admin.run(CancellationToken::new(), stop_admin.clone().cancelled_owned()));
    let kept_up = metrics.clone();
    let keeper = AbortOnDropHandle::new(tokio::spawn(async move { kept_up.keep_up().await }));

    let address = config.control.address;
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot listen on {address} for control nodes"))?;
    let told = wiring::control(&config, listener.local_addr()?.port())?;
    if told.server.is_none() && !address.ip().is_loopback() {
        warn!(%address, "control nodes are believed without proof: whoever reaches this port can change everything");
    }
    let (cluster, id) = (told.settings.cluster.clone(), told.settings.id);
    let renewing = AbortOnDropHandle::new(tokio::spawn(renew(told.client.clone(), told.server.clone())));
    let mut group = Group::start(told.settings, Agreed::default(), told.client.clone()).await?;
    let (stop_leases, node) = (CancellationToken::new(), config.node.clone());
    let (leases, services) =
        Keeper::new(cluster.clone(), node, group.handle(), told.client, told.token, stop_leases.clone());
    let leases = tokio::spawn(leases.run());
    let addresses = ControlAddresses { control: listener.local_addr()?, admin: admin_address };
    group.serve(listener, told.server, services.routes);
    let handle = group.handle();
    troubles.ask(move || lost(&handle));
    metrics.before_each_page(gauges(group.handle()));
    let looked_at = group.handle();
    // Nobody else sets it.
    let _ = known.set(Cluster::new(move || {
        let view = looked_at.look(|machine, _| machine.state().view().clone());
        Arc::new(Placement::new(view, BTreeMap::new()))
    }));
    let journal = journal.keep(known, metrics.clone(), readiness.clone());
    let journal = AbortOnDropHandle::new(tokio::spawn(journal));
    let ready_file = config.ready_file.as_ref().map(|path| {
        ReadyFile::write(path, addresses)
            .with_context(|| format!("cannot write the ready file {}", path.display()))
    });
    let ready_file = ready_file.transpose()?;
    info!(cluster, id, control = %addresses.control, admin = %admin_address, version = env!("CARGO_PKG_VERSION"), "started");
    let follower = AbortOnDropHandle::new(tokio::spawn(follow(group.handle(), readiness.clone())));

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
        why = group.failed() => {
            error!(%why, "this control node takes no part any more; shutting down");
            true
        }
        ended = &mut admin => {
            error!(?ended, "the admin pages ended; shutting down");
            true
        }
    };
    readiness.advance(Stage::Stopping);
    drop(ready_file);
    drop(follower);
    let mut shutdown = Shutdown::begin(config.shutdown.deadline);
    stop_leases.cancel();
    let let_go = async {
        let _ = leases.await;
    };
    shutdown.phase("let go of leases", BRIEF, let_go, || "a turn").await;
    let all = shutdown.remaining();
    shutdown.phase("leave the control group", all, group.stop(), || "calls under way").await;
    stop_admin.cancel();
    let pages = async {
        if !admin.is_finished() {
            let _ = admin.await;
        }
    };
    shutdown.phase("close the admin pages", BRIEF, pages, || "requests under way").await;
    drop((keeper, journal, renewing));
    info!(clean = shutdown.is_clean(), "ended");
    Ok(if failed { Exit::Failed } else { Exit::Ok })
}

/// Looks at the files of certificates again and again.
async fn renew(client: Option<Client>, server: Option<Server>) {
    loop {
        tokio::time::sleep(LOOK_AT_FILES).await;
        let looks = [client.as_ref().map(Client::refresh), server.as_ref().map(Server::refresh)];
        for look in looks.into_iter().flatten() {
            match look {
                Refreshed::Unchanged => {}
                Refreshed::Renewed => info!("the control node's certificates were read anew"),
                Refreshed::Kept(error) => {
                    error!(%error, "the control node's new certificates do not work; it goes on with those it has");
                }
            }
        }
    }
}

/// Moves on to ready once there is a leader and this node has caught up; and tells of leaders.
async fn follow(mut handle: Handle<Agreed>, readiness: Readiness) {
    let mut status = handle.status();
    let mut leader = None;
    loop {
        if leader != Some(status.leader) {
            match status.leader {
                Some(leader) => info!(leader, term = status.term, "the control group has a leader"),
                None => info!(term = status.term, "the control group has no leader that this node knows"),
            }
            leader = Some(status.leader);
        }
        if is_ready(&status) {
            readiness.advance(Stage::Ready);
        }
        match handle.changed().await {
            Some(changed) => status = changed,
            None => return,
        }
    }
}

fn is_ready(status: &Status) -> bool {
    status.stopped.is_none()
        && status.leader.is_some()
        && status.last.saturating_sub(status.applied) <= LAG_MAX
}

/// Sets the gauges of what is agreed on, as it is known here, each time it is called.
fn gauges(handle: Handle<Agreed>) -> impl Fn() + Send + 'static {
    move || {
        // Looked at outside of the look, for which commands wait.
        let view = handle.look(|machine, _| machine.state().view().clone());
        metrics::gauge!("evergate_view_version").set(view.version() as f64);
        metrics::gauge!("evergate_ring_version").set(view.ring_version() as f64);
        membership::ring_digest(Rings::of(&view).digest().get());
        let count = |state: &'static str, is: &dyn Fn(&evergate_domain::cluster::Node) -> bool| {
            let nodes = view.nodes().values().filter(|node| is(node)).count();
            metrics::gauge!("evergate_cluster_nodes", "state" => state).set(nodes as f64);
        };
        count("here", &|node| node.lease == Lease::Held && !node.draining);
        count("draining", &|node| node.lease == Lease::Held && node.draining);
        count("lost", &|node| node.lease == Lease::Lost);
        let left = view.rebalance().map_or(0, |plan| plan.left.len());
        metrics::gauge!("evergate_cluster_rebalance_waits_for").set(left as f64);
        let waiting = view.drains().values().filter(|drain| !drain.running).count();
        metrics::gauge!("evergate_cluster_drains_waiting").set(waiting as f64);
    }
}

/// That nobody leads, as a trouble; and what is waited for, where there is no group yet.
fn lost(handle: &Handle<Agreed>) -> Vec<String> {
    if handle.is_cut_off() {
        return vec!["this control node leads, and has not heard from a majority of the group".to_owned()];
    }
    let unknown = || "the control group has no leader that this node knows".to_owned();
    match handle.status().leader {
        Some(_) => Vec::new(),
        None => vec![handle.waits_for().unwrap_or_else(unknown)],
    }
}
