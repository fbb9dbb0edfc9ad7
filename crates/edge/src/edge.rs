//! The edge as a component: bound, running, ending in phases.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use evergate_access::{Full, Revocation, Revoked};
use evergate_domain::cluster::Load;
use evergate_eventlog::{CursorStore, EventLog};
use evergate_fanout::{Deliveries, Engine, Hub};
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use crate::access::{self, Gate};
use crate::calls::{Owner, Service};
use crate::config::{EdgeConfig, SocketOptions};
use crate::cursors::{Keeper, Reason};
use crate::explain::Explainer;
use crate::http::Context;
use crate::http::server::Server;
use crate::memory::{Budget, Level, MemoryLimit, Shortage, Step};
use crate::mover::Mover;
use crate::publish::{self, Publisher};
use crate::viewer::Viewer;

/// How often within a ping interval it is looked for leases that have run out.
const SWEEPS: u32 = 4;

/// How often it is looked whose tokens run out.
const WATCH_INTERVAL: Duration = Duration::from_millis(500);

/// How often other edges are asked what was called back.
const REVOCATIONS_INTERVAL: Duration = Duration::from_secs(2);

/// How often it is looked how much memory is left.
const MEMORY_INTERVAL: Duration = Duration::from_millis(250);

/// How often it is looked how long clients are to wait that are cut.
const RETRIES_INTERVAL: Duration = Duration::from_secs(1);

/// How often idle streams are trimmed.
const TRIM_INTERVAL: Duration = Duration::from_secs(30);

/// Why an edge could not start.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address} for {what}")]
pub struct BindError {
    /// What was to be served there.
    pub what: &'static str,
    /// The address.
    pub address: SocketAddr,
    /// What the system said.
    #[source]
    pub source: io::Error,
}

/// Listeners of an edge that are bound already, such as those of the process before this one. What
/// waits in their queues is served, and lost only when the last process that holds them lets go.
#[derive(Debug, Default)]
pub struct BoundListeners {
    /// For HTTP.
    pub http: Option<std::net::TcpListener>,
    /// For gRPC.
    pub grpc: Option<std::net::TcpListener>,
}

/// An edge whose addresses are bound and that serves nobody yet.
pub struct Edge {
    config: EdgeConfig,
    log: Arc<dyn EventLog>,
    cursors: Arc<dyn CursorStore>,
    http: TcpListener,
    grpc: TcpListener,
}

impl Edge {
    /// Binds the edge's addresses, those that are not bound already.
    pub async fn bind(
        config: EdgeConfig,
        bound: BoundListeners,
        log: Arc<dyn EventLog>,
        cursors: Arc<dyn CursorStore>,
    ) -> Result<Self, BindError> {
        let http = listen("HTTP", config.http, bound.http, config.sockets)?;
        let grpc = listen("gRPC", config.grpc, bound.grpc, SocketOptions::default())?;
        Ok(Self { config, log, cursors, http, grpc })
    }

    /// Where HTTP is served, the port being the real one.
    #[must_use]
    pub fn http_addr(&self) -> SocketAddr {
        self.http.local_addr().unwrap_or(self.config.http)
    }

    /// Where gRPC is served, the port being the real one.
    #[must_use]
    pub fn grpc_addr(&self) -> SocketAddr {
        self.grpc.local_addr().unwrap_or(self.config.grpc)
    }

    /// Second handles on the listeners. As long as one is held, the queues stay open.
    pub fn listeners(&self) -> io::Result<BoundListeners> {
        let again = |listener: &TcpListener| -> io::Result<std::net::TcpListener> {
            let handle: OwnedFd = listener.as_fd().try_clone_to_owned()?;
            Ok(handle.into())
        };
        Ok(BoundListeners { http: Some(again(&self.http)?), grpc: Some(again(&self.grpc)?) })
    }

    /// Begins to serve.
    #[must_use]
    pub fn start(self) -> RunningEdge {
        let hub = Hub::new(Arc::clone(&self.log), self.config.hub.clone());
        let policies = Arc::clone(&self.config.policies);
        let log = Arc::downgrade(&self.log);
        let shortage = Arc::<Shortage>::default();
        let publisher = Publisher::new(
            Arc::clone(&self.log),
            policies,
            self.config.publish,
            &self.config.agreed_limits,
            self.config.producers.clone(),
            self.config.tracer.clone(),
            Arc::clone(&shortage),
        );
        let engine = Engine::start(&hub, self.config.shards);
        // Those of streams that have gone wait beside those of the streams that are open.
        let waiting_max = self.config.connections.streams_max * 2;
        let cursors = Keeper::new(self.cursors, engine.clone(), waiting_max);
        let flush_every = self.config.hub.trail_interval;
        let context =
            Context::new(self.config, hub.clone(), engine, publisher.clone(), Arc::clone(&cursors), shortage);
        let proxies = Arc::new(context.config.proxies.clone());
        let server = Arc::new(Server::new());
        let stop_grpc = CancellationToken::new();
        let stop_chores = CancellationToken::new();
        let ended = CancellationToken::new();

        let http = tokio::spawn({
            let (server, context, listener) = (Arc::clone(&server), Arc::clone(&context), self.http);
            let ended = ended.clone().drop_guard();
            async move {
                let _ended = ended;
                server.run(listener, context).await;
            }
        });
        let grpc = tokio::spawn({
            let (listener, stop) = (self.grpc, stop_grpc.clone());
            let tls = context.config.grpc_tls.clone();
            let limits = context.config.grpc_connections;
            let of_cluster_only = tls.as_ref().is_some_and(|tls| tls.cluster.is_some());
            let gate = context.gate.clone();
            let owner = Owner::new(Arc::clone(&context.streams), gate.clone());
            let besides = Routes::new(Service::server(owner, of_cluster_only));
            let place = publish::Place { listener, tls, limits };
            let ended = ended.clone().drop_guard();
            async move {
                let _ended = ended;
                let served =
                    publish::serve_grpc(place, publisher, proxies, gate, besides, stop.cancelled_owned());
                if let Err(error) = served.await {
                    tracing::error!(%error, "the gRPC server failed");
                }
            }
        });
        let trim = tokio::spawn({
            let (log, stop) = (self.log, stop_chores.clone());
            let ended = ended.clone().drop_guard();
            async move {
                let _ended = ended;
                let _: Option<()> = stop.run_until_cancelled(trim(log)).await;
            }
        });
        let flush = tokio::spawn({
            let stop = stop_chores.clone();
            let ended = ended.clone().drop_guard();
            async move {
                let _ended = ended;
                cursors.run(flush_every, &stop).await;
            }
        });
        let lapse = tokio::spawn({
            let (context, stop) = (Arc::clone(&context), stop_chores.clone());
            let ended = ended.clone().drop_guard();
            async move {
                let _ended = ended;
                let _: Option<()> = stop.run_until_cancelled(lapse(&context)).await;
            }
        });
        let keys = tokio::spawn({
            let (context, stop) = (Arc::clone(&context), stop_chores.clone());
            let ended = ended.clone().drop_guard();
            async move {
                let _ended = ended;
                match &context.gate {
                    Some(gate) => gate.keyring().run(&stop).await,
                    None => stop.cancelled().await,
                }
            }
        });
        let watch = tokio::spawn({
            let (context, stop) = (Arc::clone(&context), stop_chores.clone());
            let ended = ended.clone().drop_guard();
            async move {
                let _ended = ended;
                let both = async { tokio::join!(watch(&context), hear_of_revocations(&context)) };
                let _: Option<((), ())> = stop.run_until_cancelled(both).await;
            }
        });
        let spare = tokio::spawn({
            let (context, stop) = (Arc::clone(&context), stop_chores.clone());
            let ended = ended.clone().drop_guard();
            async move {
                let _ended = ended;
                let _: Option<()> = stop.run_until_cancelled(spare_memory(&context)).await;
            }
        });
        let retries = tokio::spawn({
            let (context, stop) = (Arc::clone(&context), stop_chores.clone());
            let ended = ended.clone().drop_guard();
            async move {
                let _ended = ended;
                let _: Option<()> = stop.run_until_cancelled(tell_retries(&context)).await;
            }
        });
        let tasks = [http, grpc, trim, flush, lapse, keys, watch, spare, retries];
        RunningEdge { context, log, hub, server, stop_grpc, stop_chores, ended, tasks }
    }
}

/// Connections that may wait to be accepted. The system has a bound of its own (`somaxconn`); the
/// usual 1,024 makes a storm of reconnects lose SYNs, each of which costs its client a second.
const BACKLOG: u32 = 65_535;

fn listen(
    what: &'static str,
    address: SocketAddr,
    bound: Option<std::net::TcpListener>,
    options: SocketOptions,
) -> Result<TcpListener, BindError> {
    let listening = || {
        let listener = if let Some(bound) = bound {
            bound.set_nonblocking(true)?;
            TcpListener::from_std(bound)?
        } else {
            let socket = if address.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
            socket.set_reuseaddr(true)?;
            socket.set_reuseport(options.share_port)?;
            socket.bind(address)?;
            socket.listen(BACKLOG)?
        };
        if let Some(congestion) = options.congestion {
            // Whatever is accepted has it from here.
            SockRef::from(&listener).set_tcp_congestion(congestion.as_bytes())?;
        }
        Ok(listener)
    };
    listening().map_err(|source| BindError { what, address, source })
}

async fn trim(log: Arc<dyn EventLog>) {
    let mut every = tokio::time::interval(TRIM_INTERVAL);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        if let Err(error) = log.trim().await {
            tracing::warn!(%error, "could not apply retention");
        }
    }
}

/// Ends the streams whose leases have run out, for ever: one task for all, whose work grows with the
/// leased ones only.
async fn lapse(context: &Context) {
    let ping_interval = context.config.sse.ping_interval;
    let mut every = tokio::time::interval(ping_interval / SWEEPS);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let lapsed = context.streams.lapsed(ping_interval);
        for dismissal in &lapsed {
            dismissal.dismiss(Reason::LeaseExpired);
        }
        if !lapsed.is_empty() {
            context.engine.look_for_cuts();
        }
    }
}

/// Looks every moment whose tokens run out: one task for all, whose work grows with those that are due.
async fn watch(context: &Context) {
    let mut every = tokio::time::interval(WATCH_INTERVAL);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        if context.streams.tick(access::now()) {
            context.engine.look_for_cuts();
        }
    }
}

/// Keeps the wait of clients that are cut at what would be needed now, and has them told from time to time: one that is
/// cut with its edge knows only what it was told before.
async fn tell_retries(context: &Context) {
    let every = |period| {
        let mut every = tokio::time::interval(period);
        every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        every
    };
    let (mut look, mut tell) = (every(RETRIES_INTERVAL), every(context.config.sse.retry_refresh));
    loop {
        tokio::select! {
            _ = look.tick() => {
                context.size_retries();
            }
            _ = tell.tick() => {
                // Or what is about to be said would be said once more.
                context.size_retries();
                context.hub.retries().tell();
            }
        }
    }
}

/// Looks how much memory is left, and does what has to be done about it.
async fn spare_memory(context: &Context) {
    let MemoryLimit { bytes_max, gauge } = &context.config.memory;
    metrics::gauge!("evergate_memory_limit_bytes").set(bytes_max.map_or(0.0, |bytes| bytes.get() as f64));
    let mut budget = bytes_max.map(Budget::new);
    let mut before = Level::Enough;
    let mut every = tokio::time::interval(MEMORY_INTERVAL);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let Some(used) = gauge.used() else { continue };
        metrics::gauge!("evergate_memory_used_bytes").set(used as f64);
        let (Some(budget), Some(bytes_max)) = (&mut budget, bytes_max) else { continue };
        let Step { level, end } = budget.step(used, context.streams.len());
        context.shortage.set(level, bytes_max.get().saturating_sub(used));
        if level != before {
            match level {
                Level::Enough => tracing::info!(used, "there is enough memory again"),
                Level::Short | Level::Shedding => tracing::warn!(used, ?level, "memory is short"),
                Level::Exhausted => tracing::error!(used, "memory is short: nothing is published"),
            }
            context.hub.spare(level >= Level::Short);
            metrics::gauge!("evergate_memory_short").set(f64::from(level as u8));
            before = level;
        }
        if end > 0 && context.streams.shed(end) {
            context.engine.look_for_cuts();
        }
    }
}

/// Asks the other edges what was called back there, and ends here what it concerns.
async fn hear_of_revocations(context: &Context) {
    let Some(gate) = &context.gate else { return std::future::pending().await };
    let mut every = tokio::time::interval(REVOCATIONS_INTERVAL);
    every.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let mut news = false;
        for revocation in context.calls.revocations().await {
            match gate.revoke(revocation) {
                Ok(new) => news |= new,
                Err(error) => tracing::error!(%error, "a revocation of another edge is not heeded here"),
            }
        }
        if news {
            end_revoked(context, gate);
        }
    }
}

fn end_revoked(context: &Context, gate: &Gate) {
    if context.streams.end_revoked(|principal| gate.is_revoked(principal)) {
        context.engine.look_for_cuts();
    }
}

/// Calls tokens back. Cheap to clone; keeps nothing alive.
#[derive(Clone)]
pub struct Revoker(Weak<Context>);

/// Why nothing was called back.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// Nobody is asked for a token here, or the edge has ended.
    #[error("there are no tokens here to be called back")]
    NoTokens,
    /// There is no room for another; a retry helps when one has run out.
    #[error(transparent)]
    Full(#[from] Full),
}

impl Revoker {
    /// Calls back a token, or all of a subject, for so long: streams end at once here, and on every other
    /// edge that has this one among its peers within a few seconds.
    pub fn revoke(&self, revoked: Revoked<'_>, lasts: Duration) -> Result<(), RevokeError> {
        let context = self.0.upgrade().ok_or(RevokeError::NoTokens)?;
        let gate = context.gate.as_ref().ok_or(RevokeError::NoTokens)?;
        let until = access::now().saturating_add(lasts.as_secs());
        gate.revoke(Revocation::new(revoked, until))?;
        end_revoked(&context, gate);
        Ok(())
    }
}

/// A serving edge. It ends in this order: [`stop_accepting`](Self::stop_accepting),
/// [`end_streams`](Self::end_streams), [`write_places`](Self::write_places), [`close`](Self::close).
pub struct RunningEdge {
    context: Arc<Context>,
    log: Weak<dyn EventLog>,
    hub: Hub,
    server: Arc<Server>,
    stop_grpc: CancellationToken,
    stop_chores: CancellationToken,
    /// Set as soon as one of the tasks has ended, in whatever way.
    ended: CancellationToken,
    tasks: [JoinHandle<()>; 9],
}

impl RunningEdge {
    /// Waits until a part of the edge has ended, which before [`stop_accepting`](Self::stop_accepting)
    /// means that it failed. Cancel-safe.
    pub async fn failed(&self) {
        self.ended.cancelled().await;
    }

    /// Takes no more connections, streams or publishes by gRPC; what is under way goes on.
    pub fn stop_accepting(&self) {
        self.context.stop();
        self.server.accept.cancel();
        self.stop_grpc.cancel();
    }

    /// Ends every stream at a random moment of the window, each with `evergate.goaway` and a `retry:`
    /// of its own, and lets other connections finish. Returns when none is left; cancel-safe.
    pub async fn end_streams(&self, window: Duration) {
        self.context.size_retries();
        self.hub.stop(window);
        self.server.ends.drain.cancel();
        self.server.closed().await;
        self.context.engine.emptied().await;
    }

    /// Ends everything that is left, at once, and waits for it. The log and the cursor store are
    /// their owner's to close.
    pub async fn close(self) {
        self.stop_accepting();
        self.server.ends.kill.cancel();
        self.hub.stop(Duration::ZERO);
        self.context.engine.kill();
        self.stop_chores.cancel();
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task of the edge failed");
            }
        }
        self.server.closed().await;
        self.context.engine.emptied().await;
        self.hub.stopped().await;
    }

    /// Writes the kept places that moved; streams that still run may move more. Returns when they are
    /// written or cannot be; [`unwritten_places`](Self::unwritten_places) tells.
    pub async fn write_places(&self) {
        self.context.cursors.flush().await;
    }

    /// How many kept places have moved and are not written.
    #[must_use]
    pub fn unwritten_places(&self) -> usize {
        self.context.cursors.waiting()
    }

    /// Sets the gauges of what is open now, each time it is called. Keeps nothing alive.
    pub fn gauges(&self) -> impl Fn() + Send + Sync + use<> {
        let (context, server) = (Arc::downgrade(&self.context), Arc::downgrade(&self.server));
        move || {
            let (Some(context), Some(server)) = (context.upgrade(), server.upgrade()) else { return };
            let parked = context.engine.parked();
            metrics::gauge!("evergate_connections_open").set((server.open() + parked) as f64);
            metrics::gauge!("evergate_connections_max").set(context.config.connections.places() as f64);
            metrics::gauge!("evergate_connections_parked").set(parked as f64);
            metrics::gauge!("evergate_streams_leased").set(context.streams.leased() as f64);
            metrics::gauge!("evergate_streams_with_token").set(context.streams.watched() as f64);
            metrics::gauge!("evergate_streams_followed").set(context.hub.feeds() as f64);
        }
    }

    /// Tells, each time it is called, how loaded the edge is, and how many clients came each second since it
    /// was called before. Keeps nothing alive.
    pub fn load(&self) -> impl Fn() -> Load + Send + Sync + use<> {
        let context = Arc::downgrade(&self.context);
        let before = Mutex::new((Instant::now(), 0));
        move || {
            let Some(context) = context.upgrade() else { return Load::default() };
            let (now, arrived) = (Instant::now(), context.affinity.arrived());
            let (then, had) = std::mem::replace(&mut *before.lock(), (now, arrived));
            // Two calls at once would divide by next to nothing.
            let seconds = now.saturating_duration_since(then).as_secs_f64().max(0.05);
            Load {
                connections: u32::try_from(context.streams.len()).unwrap_or(u32::MAX),
                arrivals_per_second: ((arrived - had) as f64 / seconds) as u32,
            }
        }
    }

    /// Sends clients to the edges they belong to.
    #[must_use]
    pub fn mover(&self) -> Mover {
        Mover::new(Arc::downgrade(&self.context))
    }

    /// Calls tokens back.
    #[must_use]
    pub fn revoker(&self) -> Revoker {
        Revoker(Arc::downgrade(&self.context))
    }

    /// Answers why a client did or did not get an event.
    #[must_use]
    pub fn explainer(&self) -> Explainer {
        Explainer::new(Arc::downgrade(&self.context), Weak::clone(&self.log))
    }

    /// Looks at streams.
    #[must_use]
    pub fn viewer(&self) -> Viewer {
        Viewer::new(Arc::downgrade(&self.context), Weak::clone(&self.log))
    }

    /// What was written to subscribers so far, each time it is called; `None` once the edge is gone.
    /// Keeps nothing alive.
    pub fn deliveries(&self) -> impl Fn() -> Option<Deliveries> + Send + Sync + use<> {
        let context = Arc::downgrade(&self.context);
        move || context.upgrade().map(|context| context.engine.deliveries())
    }

    /// How many event streams are open.
    #[must_use]
    pub fn open_streams(&self) -> usize {
        self.context.streams.len()
    }

    /// How many HTTP connections are open.
    #[must_use]
    pub fn open_connections(&self) -> usize {
        self.server.open() + self.context.engine.parked()
    }
}
