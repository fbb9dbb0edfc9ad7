//! `evergate.control.v1.Control`: watching, leases, and what control nodes tell the leader.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use evergate_domain::NodeName;
use evergate_domain::cluster::{Command, Digest, Load, beat_ms};
use evergate_member::decode_node;
use evergate_proto::control::v1 as proto;
use futures_util::{Stream, stream};
use proto::lease_request::{Hello, What};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Response, Status, Streaming};

use super::feed::Feed;
use super::keeper::Desk;
use super::lessees::{Lessees, Place};
use crate::agreement::{Agreement, agree};

/// A lease on which nothing comes for so long is ended; whether the node is lost is the leader's to say.
const SILENCE_MAX: Duration = Duration::from_secs(30);

/// The service of one control node.
#[derive(Clone)]
pub(super) struct ControlService<A> {
    pub(super) cluster: String,
    pub(super) group: A,
    pub(super) lessees: Lessees,
    pub(super) desk: Arc<Desk>,
    pub(super) stop: CancellationToken,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl<A: Agreement> proto::control_server::Control for ControlService<A> {
    type WatchStream = Answers<proto::WatchResponse>;
    type LeaseStream = Answers<proto::LeaseResponse>;

    async fn watch(
        &self,
        request: Request<proto::WatchRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let request = request.into_inner();
        self.same_cluster(&request.cluster)?;
        let (loads, stop) = (self.desk.loads(), self.stop.clone());
        let digest = Digest::new(request.digest);
        let feed = Feed::new(self.group.clone(), loads, stop, request.version, digest);
        let messages = stream::unfold(feed, |mut feed| async move { Some((Ok(feed.next().await?), feed)) });
        Ok(Response::new(Box::pin(messages)))
    }

    async fn lease(
        &self,
        request: Request<Streaming<proto::LeaseRequest>>,
    ) -> Result<Response<Self::LeaseStream>, Status> {
        // Answered at once: taking a node in has to be agreed on, which may need an election, and whoever waits
        // for it has to know that somebody is there.
        let begun = Turn::Hello(self.clone(), request.into_inner());
        let answers = stream::unfold(begun, |turn| async move {
            let next = match turn {
                Turn::Hello(service, said) => service.grant(said).await,
                Turn::Held(mut lease) => lease.next().await.map(|answer| (answer, lease)),
                Turn::Over => return None,
            };
            match next {
                Ok((answer, lease)) => Some((Ok(answer), Turn::Held(lease))),
                Err(End::Said) => None,
                Err(End::Broken(status)) => Some((Err(status), Turn::Over)),
            }
        });
        Ok(Response::new(Box::pin(answers)))
    }

    async fn report(
        &self,
        request: Request<proto::ReportRequest>,
    ) -> Result<Response<proto::ReportResponse>, Status> {
        let request = request.into_inner();
        self.same_cluster(&request.cluster)?;
        let settings = self.group.look(|machine| *machine.state().view().settings());
        let is_taken = self.desk.hear(&request.held, &settings);
        if !is_taken {
            return Err(Status::unavailable("this control node does not lead"));
        }
        let loads = (**self.desk.loads().borrow()).clone();
        Ok(Response::new(proto::ReportResponse { loads: Some(loads) }))
    }
}

impl<A: Agreement> ControlService<A> {
    fn same_cluster(&self, cluster: &str) -> Result<(), Status> {
        if cluster == self.cluster {
            return Ok(());
        }
        Err(Status::failed_precondition(format!(
            "this control node belongs to cluster {:?}, and the caller to {cluster:?}",
            self.cluster
        )))
    }

    /// Hears who it is that wants a lease, and grants it.
    async fn grant(
        self,
        mut said: Streaming<proto::LeaseRequest>,
    ) -> Result<(proto::LeaseResponse, Lease<A>), End> {
        let first = tokio::time::timeout(SILENCE_MAX, said.message()).await;
        let first = first.map_err(|_| End::Broken(Status::deadline_exceeded("a lease begins with hello")))?;
        let Some(What::Hello(hello)) = first.map_err(End::Broken)?.and_then(|first| first.what) else {
            return Err(End::Broken(Status::invalid_argument("a lease begins with hello")));
        };
        let (node, incarnation) = self.join(hello).await.map_err(End::Broken)?;
        let place = self.lessees.enter(node.clone(), incarnation);
        let Self { group, desk, stop, .. } = self;
        let lease = Lease { place, group, desk, stop, node, incarnation, said, disagreed: 0 };
        Ok((lease.heard(), lease))
    }

    /// Takes a node into the cluster, or tells it why not.
    async fn join(&self, hello: Hello) -> Result<(NodeName, u64), Status> {
        self.same_cluster(&hello.cluster)?;
        let node = hello.node.ok_or_else(|| Status::invalid_argument("hello says nothing of its node"))?;
        let node = decode_node(&node).map_err(|error| Status::invalid_argument(error.to_string()))?;
        let (name, incarnation) = (node.name.clone(), node.incarnation);
        let answer = agree(&self.group, &format!("lease of {name}"), Command::Join(Box::new(node))).await?;
        match answer.refusal {
            None => Ok((name, incarnation)),
            Some(refusal) => Err(Status::failed_precondition(refusal.message)),
        }
    }
}

/// A lease, from what is said over it to what is answered.
struct Lease<A> {
    place: Place,
    group: A,
    desk: Arc<Desk>,
    stop: CancellationToken,
    node: NodeName,
    incarnation: u64,
    said: Streaming<proto::LeaseRequest>,
    /// The version of the ring of which it was last told that the node has another one.
    disagreed: u64,
}

/// Where a stream of a lease stands.
enum Turn<A> {
    /// Nothing was heard yet.
    Hello(ControlService<A>, Streaming<proto::LeaseRequest>),
    Held(Lease<A>),
    /// It was told why it ends.
    Over,
}

/// How a lease ended.
enum End {
    /// As the node wished.
    Said,
    /// Otherwise.
    Broken(Status),
}

impl<A: Agreement> Lease<A> {
    /// Takes what is said until there is something to answer.
    async fn next(&mut self) -> Result<proto::LeaseResponse, End> {
        loop {
            let message = tokio::select! {
                biased;
                () = self.stop.cancelled() => return Err(self.broken("this control node ends")),
                () = self.place.ended() => return Err(self.broken("this control node does not hold the lease any more")),
                message = tokio::time::timeout(SILENCE_MAX, self.said.message()) => message,
            };
            let message = message.map_err(|_| self.broken("nothing was said for too long"))?;
            match message.map_err(End::Broken)?.and_then(|message| message.what) {
                Some(What::Beat(beat)) => {
                    self.place.beat(Load {
                        connections: beat.connections,
                        arrivals_per_second: beat.arrivals_per_second,
                    });
                    self.compare(beat.ring_version, Digest::new(beat.ring_digest));
                    return Ok(self.heard());
                }
                Some(What::Drained(_)) => {
                    let (node, incarnation) = (self.node.clone(), self.incarnation);
                    self.tell(Command::Drained { node, incarnation }).await?;
                }
                Some(What::Rebalanced(done)) => {
                    let (node, incarnation) = (self.node.clone(), self.incarnation);
                    self.tell(Command::Rebalanced { node, incarnation, plan: done.plan }).await?;
                }
                Some(What::Ending(_)) => {
                    let (node, incarnation) = (self.node.clone(), self.incarnation);
                    self.tell(Command::Ending { node, incarnation }).await?;
                }
                Some(What::Goodbye(_)) => {
                    let (node, incarnation) = (self.node.clone(), self.incarnation);
                    self.tell(Command::Leave { node, incarnation }).await?;
                    return Err(End::Said);
                }
                Some(What::Hello(_)) => return Err(End::Broken(Status::invalid_argument("a second hello"))),
                // The connection is gone, or the message is a newer binary's.
                None => return Err(End::Said),
            }
        }
    }

    /// Tells of a node that has another ring of the same version: the views are compared with each change, so one of the
    /// two makes something else of them.
    fn compare(&mut self, version: u64, there: Digest) {
        let is_now = self.group.look(|machine| machine.state().view().ring_version() == version);
        if version == 0 || version == self.disagreed || !is_now {
            return;
        }
        let view = || self.group.look(|machine| machine.state().view().clone());
        let Some(here) = self.desk.ring(version, view).filter(|here| *here != there) else { return };
        self.disagreed = version;
        metrics::counter!("evergate_ring_mismatches_total").increment(1);
        tracing::error!(
            node = %self.node, version, %here, %there,
            "a node places clients by another ring than this control node, made of the same view: one of the two is a release with a defect"
        );
    }

    fn heard(&self) -> proto::LeaseResponse {
        let beat_ms = self.group.look(|machine| beat_ms(machine.state().view().settings()));
        proto::LeaseResponse { beat_ms }
    }

    async fn tell(&self, command: Command) -> Result<(), End> {
        let answer =
            agree(&self.group, &format!("lease of {}", self.node), command).await.map_err(End::Broken)?;
        if let Some(refusal) = answer.refusal {
            tracing::info!(node = %self.node, why = refusal.message, "what a node said is not so any more");
        }
        Ok(())
    }

    fn broken(&self, why: &str) -> End {
        End::Broken(Status::unavailable(why))
    }
}
