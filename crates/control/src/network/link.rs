//! The calling side: one node's words for another.

use std::collections::{HashMap, HashSet};
use std::error::Error;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use evergate_proto::raft::v1 as pb;
use evergate_proto::raft::v1::raft_client::RaftClient;
use openraft::error::{Fatal, RPCError, RaftError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use parking_lot::Mutex;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};

use super::acquaintance::{Me, Refusal};
use super::connect::{ConnectError, Connector};
use super::{MESSAGE_BYTES_MAX, PEER_TIMEOUT, SNAPSHOT_BYTES_MAX};
use crate::raft::coding;
use crate::raft::types::{Image, Member, NodeId, Snapshot, Types, Vote};

/// Time before a peer that could not be reached is tried again.
const BACKOFF: Duration = Duration::from_millis(250);
/// What goes into one message of a snapshot.
const PART_BYTES: usize = 256 << 10;
/// Connections are kept for so many addresses; then all are let go of, and the used ones made anew.
const ADDRESSES_MAX: usize = 64;
/// A peer that does not answer a PING, sent this often, within `PEER_TIMEOUT` is dead.
const KEEP_ALIVE: Duration = Duration::from_secs(2);

/// Why another node did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Nothing was done, because the two do not belong together.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// Nothing was done.
    #[error("{} says: {why}", who(*target))]
    Declined { target: NodeId, why: String },
    /// Nothing was sent.
    #[error("{} cannot be reached at {address}: {why}", who(*target))]
    Unreachable { target: NodeId, address: String, why: String },
    /// Whether anything was done is unknown.
    #[error("{} did not answer: {why}", who(*target))]
    Unknown { target: NodeId, why: String },
    /// It answered something that no node says.
    #[error("{} answered nonsense: {what}", who(*target))]
    Nonsense { target: NodeId, what: &'static str },
}

/// Somebody, who may not be known.
fn who(id: NodeId) -> String {
    if id == 0 { "the node".to_owned() } else { format!("node {id}") }
}

/// The connections to all others.
pub(crate) struct Links {
    me: Arc<Me>,
    connector: Connector,
    channels: Mutex<HashMap<Way, Channel>>,
    /// Whose last call failed, so that it is logged when that changes; Raft makes links all the time.
    away: Mutex<HashSet<NodeId>>,
}

/// Where a connection goes, and what for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Way {
    address: String,
    /// What the node there proves to be by TLS, if that is not in the address.
    host: Option<String>,
    lane: Lane,
}

/// A snapshot on its way holds up no heartbeat, so it has a connection of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Lane {
    Log,
    Bulk,
}

/// One node's way to another.
pub(crate) struct Link {
    links: Arc<Links>,
    target: NodeId,
    member: Member,
}

impl Links {
    pub(crate) fn new(me: Arc<Me>, connector: Connector) -> Arc<Self> {
        Arc::new(Self { me, connector, channels: Mutex::default(), away: Mutex::default() })
    }

    pub(crate) fn to(self: &Arc<Self>, target: NodeId, member: &Member) -> Link {
        Link { links: Arc::clone(self), target, member: member.clone() }
    }

    /// Asks whoever is at an address who it is; by TLS it has to prove to be `host`, if that is given.
    pub(crate) async fn greet(
        &self,
        address: &str,
        host: Option<&str>,
        within: Duration,
    ) -> Result<pb::GreetResponse, CallError> {
        let request = pb::GreetRequest { from: Some(self.me.info()) };
        let way = Way { address: address.to_owned(), host: host.map(str::to_owned), lane: Lane::Log };
        let mut client = self.client(way)?;
        let answer = client.greet(timed(request, within)).await;
        let answer = answer.map_err(|status| failed(0, address, &status))?.into_inner();
        let nobody = pb::NodeInfo::default();
        self.me.judge(answer.from.as_ref().unwrap_or(&nobody))?;
        Ok(answer)
    }

    fn client(&self, way: Way) -> Result<RaftClient<Channel>, CallError> {
        let channel = self.channel(way)?;
        Ok(RaftClient::new(channel)
            .max_decoding_message_size(MESSAGE_BYTES_MAX)
            .max_encoding_message_size(MESSAGE_BYTES_MAX))
    }

    fn channel(&self, way: Way) -> Result<Channel, CallError> {
        let mut channels = self.channels.lock();
        if let Some(channel) = channels.get(&way) {
            return Ok(channel.clone());
        }
        let address = &way.address;
        // The connector speaks TLS where that is wanted, so it is no matter of the address.
        let endpoint = Endpoint::from_shared(format!("http://{address}")).map_err(|error| {
            let why = format!("it is no address: {error}");
            CallError::Unreachable { target: 0, address: address.clone(), why }
        })?;
        let channel = endpoint
            .http2_keep_alive_interval(KEEP_ALIVE)
            .keep_alive_timeout(PEER_TIMEOUT)
            .keep_alive_while_idle(true)
            .connect_with_connector_lazy(self.connector.to(way.host.clone()));
        if channels.len() >= ADDRESSES_MAX {
            channels.clear();
        }
        channels.insert(way, channel.clone());
        Ok(channel)
    }
}

/// The peer, too, is to give up what nobody waits for any more.
fn timed<T>(message: T, within: Duration) -> Request<T> {
    let mut request = Request::new(message);
    request.set_timeout(within);
    request
}

fn failed(target: NodeId, address: &str, status: &Status) -> CallError {
    match status.code() {
        Code::FailedPrecondition
        | Code::InvalidArgument
        | Code::ResourceExhausted
        | Code::PermissionDenied => CallError::Declined { target, why: status.message().to_owned() },
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::DeadlineExceeded
        | Code::NotFound
        | Code::AlreadyExists
        | Code::Aborted
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::Internal
        | Code::Unavailable
        | Code::DataLoss
        | Code::Unauthenticated => match never_sent(status) {
            Some(why) => CallError::Unreachable { target, address: address.to_owned(), why },
            None => CallError::Unknown { target, why: status.message().to_owned() },
        },
    }
}

/// Why there was no connection, if there was none.
fn never_sent(status: &Status) -> Option<String> {
    let mut source = status.source();
    while let Some(error) = source {
        if let Some(error) = error.downcast_ref::<ConnectError>() {
            return Some(match error.source() {
                Some(cause) => format!("{error}: {cause}"),
                None => error.to_string(),
            });
        }
        source = error.source();
    }
    None
}

impl Link {
    fn addressee(&self) -> pb::Addressee {
        pb::Addressee { id: self.target, incarnation: self.member.incarnation }
    }

    fn client(&self, lane: Lane) -> Result<RaftClient<Channel>, CallError> {
        self.links.client(Way { address: self.member.address.clone(), host: None, lane })
    }

    fn failed(&self, status: &Status) -> CallError {
        failed(self.target, &self.member.address, status)
    }

    fn believe(&self, from: Option<&pb::NodeInfo>) -> Result<(), CallError> {
        Ok(self.links.me.believe(from, &self.addressee())?)
    }

    /// Hands commands to a leader. One answer each.
    pub(crate) async fn propose(
        &self,
        batch: pb::Batch,
        within: Duration,
    ) -> Result<(Vec<Vec<u8>>, u64), CallError> {
        let count = batch.commands.len();
        let request = pb::ProposeRequest {
            from: Some(self.links.me.info()),
            to: Some(self.addressee()),
            batch: Some(batch),
        };
        let answer = self.client(Lane::Log)?.propose(timed(request, within)).await;
        let answer = answer.map_err(|status| self.failed(&status))?.into_inner();
        self.believe(answer.from.as_ref())?;
        if answer.answers.len() != count {
            return Err(CallError::Nonsense {
                target: self.target,
                what: "another number of answers than commands",
            });
        }
        Ok((answer.answers, answer.index))
    }

    /// Asks a leader how far a node has to be to read what the leader would.
    pub(crate) async fn read_index(&self, within: Duration) -> Result<u64, CallError> {
        let request = pb::ReadIndexRequest { from: Some(self.links.me.info()), to: Some(self.addressee()) };
        let answer = self.client(Lane::Log)?.read_index(timed(request, within)).await;
        let answer = answer.map_err(|status| self.failed(&status))?.into_inner();
        self.believe(answer.from.as_ref())?;
        Ok(answer.index)
    }

    /// Asks a leader for a change of members.
    pub(crate) async fn change(
        &self,
        change: pb::change_request::Change,
        within: Duration,
    ) -> Result<(), CallError> {
        let request = pb::ChangeRequest {
            from: Some(self.links.me.info()),
            to: Some(self.addressee()),
            change: Some(change),
        };
        let answer = self.client(Lane::Log)?.change(timed(request, within)).await;
        let answer = answer.map_err(|status| self.failed(&status))?.into_inner();
        self.believe(answer.from.as_ref())
    }

    async fn append(
        &self,
        rpc: AppendEntriesRequest<Types>,
        within: Duration,
    ) -> Result<AppendEntriesResponse<NodeId>, CallError> {
        let request = pb::AppendRequest {
            from: Some(self.links.me.info()),
            to: Some(self.addressee()),
            vote: Some(coding::from_vote(&rpc.vote)),
            previous: rpc.prev_log_id.as_ref().map(coding::from_log_id),
            committed: rpc.leader_commit.as_ref().map(coding::from_log_id),
            entries: rpc.entries.into_iter().map(coding::from_entry).collect(),
        };
        let answer = self.client(Lane::Log)?.append(timed(request, within)).await;
        let answer = answer.map_err(|status| self.failed(&status))?.into_inner();
        self.believe(answer.from.as_ref())?;
        match answer.result {
            Some(pb::append_response::Result::Done(_)) => Ok(AppendEntriesResponse::Success),
            Some(pb::append_response::Result::Partly(last)) => {
                Ok(AppendEntriesResponse::PartialSuccess(Some(coding::to_log_id(last))))
            }
            Some(pb::append_response::Result::Conflict(_)) => Ok(AppendEntriesResponse::Conflict),
            Some(pb::append_response::Result::Outvoted(vote)) => {
                Ok(AppendEntriesResponse::HigherVote(coding::to_vote(vote)))
            }
            None => Err(CallError::Nonsense { target: self.target, what: "no result" }),
        }
    }

    async fn request_vote(
        &self,
        rpc: VoteRequest<NodeId>,
        within: Duration,
    ) -> Result<VoteResponse<NodeId>, CallError> {
        let request = pb::VoteRequest {
            from: Some(self.links.me.info()),
            to: Some(self.addressee()),
            vote: Some(coding::from_vote(&rpc.vote)),
            last: rpc.last_log_id.as_ref().map(coding::from_log_id),
        };
        let answer = self.client(Lane::Log)?.vote(timed(request, within)).await;
        let answer = answer.map_err(|status| self.failed(&status))?.into_inner();
        self.believe(answer.from.as_ref())?;
        let vote = answer.vote.ok_or(CallError::Nonsense { target: self.target, what: "no vote" })?;
        let last = answer.last.map(coding::to_log_id);
        Ok(VoteResponse::new(coding::to_vote(vote), last, answer.granted))
    }

    async fn install(
        &self,
        vote: Vote,
        snapshot: Snapshot,
        within: Duration,
    ) -> Result<SnapshotResponse<NodeId>, CallError> {
        let Image { format, bytes } = *snapshot.snapshot;
        if bytes.len() as u64 > SNAPSHOT_BYTES_MAX {
            let why = format!("the snapshot has {} bytes, and {SNAPSHOT_BYTES_MAX} may be sent", bytes.len());
            return Err(CallError::Declined { target: self.target, why });
        }
        let head = pb::InstallHead {
            from: Some(self.links.me.info()),
            to: Some(self.addressee()),
            vote: Some(coding::from_vote(&vote)),
            meta: Some(coding::from_meta(&snapshot.meta, format)),
            bytes: bytes.len() as u64,
        };
        let head = std::iter::once(pb::install_request::Part::Head(head));
        let starts = (0..bytes.len()).step_by(PART_BYTES);
        let parts = starts.map(move |start| {
            let end = (start + PART_BYTES).min(bytes.len());
            pb::install_request::Part::Data(bytes[start..end].to_vec())
        });
        let parts = head.chain(parts).map(|part| pb::InstallRequest { part: Some(part) });
        let answer = self.client(Lane::Bulk)?.install(timed(tokio_stream::iter(parts), within)).await;
        let answer = answer.map_err(|status| self.failed(&status))?.into_inner();
        self.believe(answer.from.as_ref())?;
        let vote = answer.vote.ok_or(CallError::Nonsense { target: self.target, what: "no vote" })?;
        Ok(SnapshotResponse::new(coding::to_vote(vote)))
    }

    /// Says when the peer goes away, and when it is back.
    fn note<T>(&self, result: &Result<T, CallError>) {
        let changed = {
            let mut away = self.links.away.lock();
            if away.len() >= ADDRESSES_MAX {
                away.clear();
            }
            if result.is_err() { away.insert(self.target) } else { away.remove(&self.target) }
        };
        if !changed {
            return;
        }
        let (node, address) = (self.target, &self.member.address);
        match result {
            Ok(_) => tracing::info!(node, address, "a control node answers again"),
            Err(error) => tracing::warn!(node, address, %error, "a control node takes no part"),
        }
    }
}

/// Raft tries again by itself, after a pause whatever the reason was.
type Rpc<T> = Result<T, RPCError<NodeId, Member, RaftError<NodeId>>>;

#[expect(clippy::result_large_err, reason = "openraft's own type")]
fn rpc<T>(result: Result<T, CallError>) -> Rpc<T> {
    result.map_err(|error| RPCError::Unreachable(Unreachable::new(&error)))
}

impl RaftNetwork<Types> for Link {
    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Rpc<AppendEntriesResponse<NodeId>> {
        let result = self.append(request, option.hard_ttl()).await;
        self.note(&result);
        rpc(result)
    }

    async fn vote(&mut self, request: VoteRequest<NodeId>, option: RPCOption) -> Rpc<VoteResponse<NodeId>> {
        let result = self.request_vote(request, option.hard_ttl()).await;
        self.note(&result);
        rpc(result)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<NodeId>, StreamingError<Types, Fatal<NodeId>>> {
        tokio::select! {
            closed = cancel => Err(StreamingError::Closed(closed)),
            result = self.install(vote, snapshot, option.hard_ttl()) => {
                self.note(&result);
                result.map_err(|error| StreamingError::Unreachable(Unreachable::new(&error)))
            }
        }
    }

    fn backoff(&self) -> Backoff {
        Backoff::new(std::iter::repeat(BACKOFF))
    }
}

/// What Raft makes its links with.
pub(crate) struct Factory(pub(crate) Arc<Links>);

impl RaftNetworkFactory<Types> for Factory {
    type Network = Link;

    async fn new_client(&mut self, target: NodeId, member: &Member) -> Link {
        self.0.to(target, member)
    }
}
