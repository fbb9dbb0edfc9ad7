//! A node of the group, from the opening of its folder to its end.

use std::sync::Arc;
use std::time::Duration;

use evergate_proto::raft::v1::raft_server::RaftServer;
use openraft::{Config, SnapshotPolicy};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tonic::service::Routes;

use super::acquaint::acquaint;
use super::error::StartError;
use super::founding::{Waiting, found};
use super::handle::Handle;
use super::leading::Leading;
use super::meter::measure;
use super::proposer::{Proposer, QUEUE, Room};
use super::settings::{COMMAND_BYTES_MAX, GroupSettings, Seeds};
use crate::machine::Machine;
use crate::network::{Admission, Connector, Factory, Links, MESSAGE_BYTES_MAX, Me, Service, serve};
use crate::raft::types::Raft;
use crate::store::{Folder, LogStore, Shared};

/// Entries that one message brings at the most; their bytes have a limit of their own.
const APPEND_ENTRIES_MAX: u64 = 256;
/// How long a snapshot may take on its way.
const INSTALL_TIMEOUT: Duration = Duration::from_secs(120);

/// A node that takes part, until it is [stopped](Self::stop). One that is only dropped goes on for as long
/// as its runtime does.
pub struct Group<M> {
    raft: Raft,
    handle: Handle<M>,
    me: Arc<Me>,
    admission: Arc<Admission>,
    settings: GroupSettings,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl<M: Machine> Group<M> {
    /// Opens the folder and takes part from then on, as soon as it is [`served`](Self::serve). `machine`
    /// is as it is before any command.
    pub async fn start(
        settings: GroupSettings,
        machine: M,
        tls: Option<evergate_tls::Client>,
    ) -> Result<Self, StartError> {
        let config = configure(&settings)?;
        let (log, shared) = open(&settings, machine).await?;
        let id = settings.id;
        let me = Arc::new(Me::new(log.clone(), shared.snapshots().clone(), M::FORMAT_READ));
        let links = Links::new(Arc::clone(&me), Connector::new(tls));
        let raft = Raft::new(id, Arc::new(config), Factory(Arc::clone(&links)), log, shared.store());
        let raft = raft.await.map_err(|error| StartError::Raft(error.to_string()))?;
        // Once it answers, its metrics say who the members are. Why it does not is told by those who need it.
        let _ = raft.is_initialized().await;
        me.watch(raft.metrics());
        let admission = Admission::new(Arc::clone(&me), settings.identities.clone(), &settings.seeds);
        let admission = Arc::new(admission);

        let timing = &settings.timing;
        let leading = Leading::new(raft.clone(), Arc::clone(&links), timing, M::FORMAT_READ);
        let (queue, proposals) = mpsc::channel(QUEUE);
        let proposer = Proposer {
            proposals,
            leading: leading.clone(),
            links: Arc::clone(&links),
            metrics: raft.metrics(),
            format_of: M::format_of,
        };
        let stop = CancellationToken::new();
        let mut tasks = JoinSet::new();
        let ended = |work| stop.clone().run_until_cancelled_owned(work);
        tasks.spawn(discard(ended(Box::pin(proposer.run()) as Work)));
        tasks.spawn(discard(ended(Box::pin(measure(raft.metrics(), timing.election_max)))));
        let (seeds, waiting) = (settings.seeds.clone(), Waiting::default());
        let founding = found(raft.clone(), Arc::clone(&links), id, seeds, waiting.clone());
        tasks.spawn(discard(ended(Box::pin(founding))));
        let acquainting = acquaint(Arc::clone(&admission), Arc::clone(&links));
        tasks.spawn(discard(ended(Box::pin(acquainting))));
        let handle = Handle {
            shared,
            proposals: queue,
            room: Room::default(),
            leading,
            waiting,
            links,
            metrics: raft.metrics(),
            command_bytes_max: settings.command_bytes_max,
            patience: timing.propose,
        };
        Ok(Self { raft, handle, me, admission, settings, stop, tasks })
    }

    /// A hold on the group.
    pub fn handle(&self) -> Handle<M> {
        self.handle.clone()
    }

    /// Serves the other nodes on a listener, with what is served `besides`, until the node is stopped.
    pub fn serve(&mut self, listener: TcpListener, tls: Option<evergate_tls::Server>, besides: Routes) {
        let service = Service::new(
            Arc::clone(&self.me),
            Arc::clone(&self.admission),
            self.raft.clone(),
            self.handle.leading.clone(),
            self.settings.address.clone(),
            self.settings.seeds.text(),
        );
        let service = RaftServer::new(service)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX);
        let serving = serve(listener, tls, besides.add_service(service), self.stop.clone());
        self.tasks.spawn(async move {
            if let Err(error) = serving.await {
                tracing::error!(%error, "the listener for control nodes failed");
            }
        });
    }

    /// Waits until the node can take part no more, and says why: its disk is full, for one. The others go
    /// on without it.
    pub async fn failed(&mut self) -> String {
        let failed = self.handle.metrics.wait_for(|metrics| metrics.running_state.is_err()).await;
        let why = failed.ok().and_then(|metrics| Some(metrics.running_state.as_ref().err()?.to_string()));
        why.unwrap_or_else(|| "it ended by itself".to_owned())
    }

    /// Ends the node in order: what is under way is answered, or left unknown; all that was promised is on
    /// the disk anyway.
    pub async fn stop(mut self) {
        // A candidate that is about to go does not disturb the others.
        self.raft.runtime_config().elect(false);
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
        if let Err(error) = self.raft.shutdown().await {
            tracing::error!(%error, "the control node did not end in order");
        }
    }
}

type Work = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

async fn discard(work: impl Future<Output = Option<()>> + Send) {
    work.await;
}

async fn open<M: Machine>(
    settings: &GroupSettings,
    machine: M,
) -> Result<(LogStore, Arc<Shared<M>>), StartError> {
    let (dir, cluster, id) = (settings.dir.clone(), settings.cluster.clone(), settings.id);
    let opening = tokio::task::spawn_blocking(move || {
        let folder = Arc::new(Folder::open(&dir)?);
        let log = LogStore::open(&folder, &cluster, id, M::FORMAT_READ)?;
        let purged = log.purged().map_err(|error| folder_error(&folder, &error))?;
        let shared = Shared::open(&folder, machine, purged)?;
        Ok((log, shared))
    });
    opening.await.unwrap_or_else(|error| Err(StartError::Raft(error.to_string())))
}

fn folder_error(folder: &Folder, error: &redb::Error) -> StartError {
    StartError::Raft(format!("the log in {}: {error}", folder.dir().display()))
}

/// What openraft is told; and whether all of it can be.
fn configure(settings: &GroupSettings) -> Result<Config, StartError> {
    let wrong = |why: &str| StartError::Settings(why.to_owned());
    if settings.id == 0 {
        return Err(wrong("the id of a control node is 1 or more"));
    }
    if settings.cluster.is_empty() {
        return Err(wrong("a cluster has a name"));
    }
    if settings.command_bytes_max == 0 || settings.command_bytes_max > COMMAND_BYTES_MAX {
        return Err(StartError::Settings(format!(
            "a command has 1 to {COMMAND_BYTES_MAX} bytes at the most"
        )));
    }
    match &settings.seeds {
        Seeds::Listed(peers) if !peers.contains_key(&settings.id) => {
            let id = settings.id;
            return Err(StartError::Settings(format!("node {id} is none of the peers it is told of")));
        }
        Seeds::Listed(peers) if peers.contains_key(&0) => {
            return Err(wrong("the id of a control node is 1 or more"));
        }
        Seeds::Named { nodes: 0, .. } => return Err(wrong("a group has one node or more")),
        Seeds::Listed(_) | Seeds::Named { .. } | Seeds::Nobody => {}
    }
    let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let entries = settings.snapshot_entries.max(1);
    let config = Config {
        cluster_name: settings.cluster.clone(),
        heartbeat_interval: millis(settings.timing.heartbeat).max(1),
        election_timeout_min: millis(settings.timing.election_min),
        election_timeout_max: millis(settings.timing.election_max),
        install_snapshot_timeout: millis(INSTALL_TIMEOUT),
        max_payload_entries: APPEND_ENTRIES_MAX,
        snapshot_policy: SnapshotPolicy::LogsSinceLast(entries),
        // Behind it a member gets the snapshot; what it may still need of the log is kept for it.
        replication_lag_threshold: entries.saturating_mul(2),
        max_in_snapshot_log_to_keep: entries,
        ..Config::default()
    };
    config.validate().map_err(|error| StartError::Settings(error.to_string()))
}
