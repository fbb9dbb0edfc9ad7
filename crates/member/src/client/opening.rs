//! Finds a control node that holds a lease.

use std::collections::VecDeque;
use std::time::Duration;

use evergate_proto::control::v1 as proto;
use proto::lease_request::{Hello, What};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_stream::wrappers::ReceiverStream;
use tonic::Streaming;

use super::connect::connect;
use super::follow::chain;
use super::lease::{LeaseError, judged};
use super::member::MemberSettings;
use crate::encode_node;

/// Messages that wait for the connection. A beat finds no place only if earlier ones have not left, and
/// then it would say nothing new.
const QUEUE: usize = 8;

/// Until a control node has said that it is there.
pub(super) const ANSWER_TIMEOUT: Duration = Duration::from_millis(1_200);

/// Until a control node has taken the node in, which has to be agreed on.
pub(super) const GRANT_TIMEOUT: Duration = Duration::from_secs(6);

/// A control node that has granted nothing for so long, a tenth of an ordinary lease, is not waited for alone:
/// one that stands still takes connections and never answers, and one that is cut off from a majority cannot grant
/// anything, and may not know it yet.
const ALONE: Duration = Duration::from_millis(300);

/// Control nodes that are asked at the same time: of seven, three may be cut off together.
const ASKED_MAX: usize = 4;

/// In what order control nodes are asked: the longer ago one failed, the sooner.
pub(super) struct Opening {
    settings: MemberSettings,
    order: Vec<usize>,
}

/// A stream to a control node that has granted a lease.
pub(super) struct Opened {
    /// Which of them.
    pub(super) at: usize,
    pub(super) say: mpsc::Sender<proto::LeaseRequest>,
    pub(super) answers: Streaming<proto::LeaseResponse>,
    /// Its first answer.
    pub(super) granted: proto::LeaseResponse,
}

impl Opening {
    pub(super) fn new(settings: MemberSettings) -> Self {
        let mut order: Vec<_> = (0..settings.controls.len()).collect();
        fastrand::shuffle(&mut order);
        Self { settings, order }
    }

    /// This one failed: all others are asked before it.
    pub(super) fn failed(&mut self, at: usize) {
        self.order.retain(|other| *other != at);
        self.order.push(at);
    }

    /// The first that grants a lease, of all of them; the failure of the last if none does. Whoever was asked
    /// before and is slower has failed.
    pub(super) async fn open(&mut self) -> Result<Opened, LeaseError> {
        let mut left: VecDeque<_> = self.order.iter().copied().collect();
        // Those that failed while others have yet to answer, which they may never do.
        let mut again = VecDeque::new();
        let mut asked = JoinSet::new();
        let mut waits = Vec::new();
        loop {
            if asked.len() < ASKED_MAX
                && let Some(at) = left.pop_front()
            {
                let settings = self.settings.clone();
                waits.push(at);
                asked.spawn(async move { (at, ask(&settings, at).await) });
            }
            let goes_on = asked.len() < ASKED_MAX && !(left.is_empty() && again.is_empty());
            tokio::select! {
                Some(answered) = asked.join_next() => {
                    let (at, answered) = answered.expect("an attempt neither panics nor is aborted here");
                    waits.retain(|other| *other != at);
                    match answered {
                        Ok(opened) => {
                            waits.into_iter().for_each(|slower| self.failed(slower));
                            return Ok(opened);
                        }
                        Err(error) => {
                            self.failed(at);
                            let is_last = asked.is_empty() && left.is_empty();
                            if is_last || matches!(error, LeaseError::Refused(_)) {
                                return Err(error);
                            }
                            again.push_back(at);
                            let address = &self.settings.controls[at];
                            tracing::info!(%address, error = %chain(&error), "another control node is asked for a lease");
                        }
                    }
                }
                () = tokio::time::sleep(ALONE), if goes_on => {
                    if left.is_empty() {
                        left.extend(again.pop_front());
                    }
                }
            }
        }
    }
}

/// Asks one of them.
async fn ask(settings: &MemberSettings, at: usize) -> Result<Opened, LeaseError> {
    let mut client = connect(&settings.controls[at], settings.tls.as_ref()).await?;
    let (say, said) = mpsc::channel(QUEUE);
    let (cluster, node) = (settings.cluster.clone(), Some(encode_node(&settings.node)));
    let hello = proto::LeaseRequest { what: Some(What::Hello(Hello { cluster, node })) };
    say.try_send(hello).expect("the queue is empty");
    let opening = client.lease(ReceiverStream::new(said));
    let opened = tokio::time::timeout(ANSWER_TIMEOUT, opening).await.map_err(|_| LeaseError::Mute)?;
    let mut answers = opened.map_err(judged)?.into_inner();
    let granted = tokio::time::timeout(GRANT_TIMEOUT, answers.message()).await;
    let granted = granted.map_err(|_| LeaseError::Silent)?.map_err(judged)?.ok_or(LeaseError::Ended)?;
    Ok(Opened { at, say, answers, granted })
}
