//! The called side: what other nodes ask of this one.

use std::sync::Arc;

use evergate_proto::raft::v1 as pb;
use openraft::raft::{AppendEntriesRequest, AppendEntriesResponse, VoteRequest};
use tokio::sync::Semaphore;
use tonic::{Request, Response, Status, Streaming};

use super::SNAPSHOT_BYTES_MAX;
use super::acquaintance::{Me, Refusal};
use super::admission::{Admission, Caller, Stranger};
use crate::group::Leading;
use crate::raft::coding::{self, Malformed};
use crate::raft::types::{Image, Raft, Snapshot};

/// Batches that other nodes may have under way here.
const PROPOSALS_MAX: usize = 64;

/// Answers the calls of `evergate.raft.v1`.
pub(crate) struct Service {
    me: Arc<Me>,
    admission: Arc<Admission>,
    raft: Raft,
    leading: Leading,
    address: String,
    seeds: String,
    proposals: Semaphore,
    /// A snapshot is in memory while it comes, so one comes at a time.
    installing: Semaphore,
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        Self::failed_precondition(refusal.to_string())
    }
}

impl From<Stranger> for Status {
    fn from(stranger: Stranger) -> Self {
        Self::permission_denied(stranger.to_string())
    }
}

impl From<Malformed> for Status {
    fn from(malformed: Malformed) -> Self {
        Self::invalid_argument(malformed.to_string())
    }
}

/// The node has stopped, and why is in its own log; whether something was done is unknown.
fn stopped(error: impl std::fmt::Display) -> Status {
    Status::unavailable(format!("the node has stopped: {error}"))
}

impl Service {
    pub(crate) fn new(
        me: Arc<Me>,
        admission: Arc<Admission>,
        raft: Raft,
        leading: Leading,
        address: String,
        seeds: String,
    ) -> Self {
        Self {
            me,
            admission,
            raft,
            leading,
            address,
            seeds,
            proposals: Semaphore::new(PROPOSALS_MAX),
            installing: Semaphore::new(1),
        }
    }

    /// Whether the caller may speak for a node at all.
    fn admit<T>(&self, request: &Request<T>) -> Result<(), Status> {
        Ok(self.admission.admit(request.extensions().get::<Caller>())?)
    }

    fn hear(&self, from: Option<&pb::NodeInfo>, to: Option<&pb::Addressee>) -> Result<(), Status> {
        self.me.hear(from, to).map_err(|refusal| {
            tracing::debug!(%refusal, "a call was refused");
            Status::from(refusal)
        })
    }

    fn myself(&self) -> Option<pb::NodeInfo> {
        Some(self.me.info())
    }
}

#[tonic::async_trait]
impl pb::raft_server::Raft for Service {
    // Anybody may ask: it changes nothing, and whoever is about to join is no member yet.
    async fn greet(&self, request: Request<pb::GreetRequest>) -> Result<Response<pb::GreetResponse>, Status> {
        let from = request.into_inner().from;
        let anybody = pb::Addressee { id: self.me.id(), incarnation: 0 };
        self.hear(from.as_ref(), Some(&anybody))?;
        let initialised = self.raft.is_initialized().await.map_err(stopped)?;
        Ok(Response::new(pb::GreetResponse {
            from: self.myself(),
            address: self.address.clone(),
            initialised,
            seeds: self.seeds.clone(),
            members: self.me.members(),
        }))
    }

    async fn append(
        &self,
        request: Request<pb::AppendRequest>,
    ) -> Result<Response<pb::AppendResponse>, Status> {
        self.admit(&request)?;
        let request = request.into_inner();
        self.hear(request.from.as_ref(), request.to.as_ref())?;
        let entries: Result<Vec<_>, _> = request.entries.into_iter().map(coding::to_entry).collect();
        let append = AppendEntriesRequest {
            vote: coding::to_vote(request.vote.ok_or(Malformed("a vote"))?),
            prev_log_id: request.previous.map(coding::to_log_id),
            leader_commit: request.committed.map(coding::to_log_id),
            entries: entries?,
        };
        let result = match self.raft.append_entries(append).await.map_err(stopped)? {
            AppendEntriesResponse::Success => pb::append_response::Result::Done(pb::Done {}),
            AppendEntriesResponse::PartialSuccess(Some(last)) => {
                pb::append_response::Result::Partly(coding::from_log_id(&last))
            }
            AppendEntriesResponse::PartialSuccess(None) | AppendEntriesResponse::Conflict => {
                pb::append_response::Result::Conflict(pb::Conflict {})
            }
            AppendEntriesResponse::HigherVote(vote) => {
                pb::append_response::Result::Outvoted(coding::from_vote(&vote))
            }
        };
        Ok(Response::new(pb::AppendResponse { from: self.myself(), result: Some(result) }))
    }

    async fn vote(&self, request: Request<pb::VoteRequest>) -> Result<Response<pb::VoteResponse>, Status> {
        self.admit(&request)?;
        let request = request.into_inner();
        self.hear(request.from.as_ref(), request.to.as_ref())?;
        let vote = coding::to_vote(request.vote.ok_or(Malformed("a vote"))?);
        let asked = VoteRequest::new(vote, request.last.map(coding::to_log_id));
        let answer = self.raft.vote(asked).await.map_err(stopped)?;
        Ok(Response::new(pb::VoteResponse {
            from: self.myself(),
            vote: Some(coding::from_vote(&answer.vote)),
            granted: answer.vote_granted,
            last: answer.last_log_id.as_ref().map(coding::from_log_id),
        }))
    }

    async fn install(
        &self,
        request: Request<Streaming<pb::InstallRequest>>,
    ) -> Result<Response<pb::InstallResponse>, Status> {
        self.admit(&request)?;
        let mut parts = request.into_inner();
        let first = parts.message().await?.and_then(|first| first.part);
        let Some(pb::install_request::Part::Head(head)) = first else {
            return Err(Malformed("the head of a snapshot").into());
        };
        self.hear(head.from.as_ref(), head.to.as_ref())?;
        let _place = self
            .installing
            .try_acquire()
            .map_err(|_| Status::resource_exhausted("another snapshot is on its way"))?;
        let vote = coding::to_vote(head.vote.ok_or(Malformed("a vote"))?);
        let meta = head.meta.ok_or(Malformed("the head of a snapshot"))?;
        let format = meta.format;
        if format > self.me.format_read() {
            let known = self.me.format_read();
            let why = format!("the snapshot has format {format}, and this node reads formats up to {known}");
            return Err(Status::failed_precondition(why));
        }
        let meta = coding::to_meta(meta)?;
        if head.bytes > SNAPSHOT_BYTES_MAX {
            return Err(Status::invalid_argument(format!("a snapshot of {} bytes is too large", head.bytes)));
        }
        let mut bytes = Vec::new();
        while let Some(part) = parts.message().await? {
            let Some(pb::install_request::Part::Data(data)) = part.part else {
                return Err(Malformed("a part of a snapshot").into());
            };
            if (bytes.len() + data.len()) as u64 > head.bytes {
                return Err(Status::invalid_argument("the snapshot is longer than was said"));
            }
            bytes.extend_from_slice(&data);
        }
        if bytes.len() as u64 != head.bytes {
            return Err(Status::invalid_argument("the snapshot is shorter than was said"));
        }
        let image = Image { format, bytes: Arc::new(bytes) };
        let snapshot = Snapshot { meta, snapshot: Box::new(image) };
        let installed = self.raft.install_full_snapshot(vote, snapshot).await.map_err(stopped)?;
        let vote = Some(coding::from_vote(&installed.vote));
        Ok(Response::new(pb::InstallResponse { from: self.myself(), vote }))
    }

    async fn propose(
        &self,
        request: Request<pb::ProposeRequest>,
    ) -> Result<Response<pb::ProposeResponse>, Status> {
        self.admit(&request)?;
        let request = request.into_inner();
        self.hear(request.from.as_ref(), request.to.as_ref())?;
        let batch = request.batch.ok_or(Malformed("a batch"))?;
        let _place = self
            .proposals
            .try_acquire()
            .map_err(|_| Status::resource_exhausted("too many batches are under way"))?;
        let (answers, index) = self.leading.propose(batch).await?;
        Ok(Response::new(pb::ProposeResponse { from: self.myself(), answers, index }))
    }

    async fn read_index(
        &self,
        request: Request<pb::ReadIndexRequest>,
    ) -> Result<Response<pb::ReadIndexResponse>, Status> {
        self.admit(&request)?;
        let request = request.into_inner();
        self.hear(request.from.as_ref(), request.to.as_ref())?;
        let index = self.leading.read_index().await?;
        Ok(Response::new(pb::ReadIndexResponse { from: self.myself(), index }))
    }

    async fn change(
        &self,
        request: Request<pb::ChangeRequest>,
    ) -> Result<Response<pb::ChangeResponse>, Status> {
        self.admit(&request)?;
        let request = request.into_inner();
        self.hear(request.from.as_ref(), request.to.as_ref())?;
        self.leading.change(request.change.ok_or(Malformed("a change"))?).await?;
        Ok(Response::new(pb::ChangeResponse { from: self.myself() }))
    }
}
