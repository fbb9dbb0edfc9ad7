//! Holds a lease.

use std::sync::Arc;
use std::time::Duration;

use evergate_domain::cluster::Load;
use evergate_proto::control::v1 as proto;
use proto::lease_request::{Beat, Drained, Ending, Goodbye, Rebalanced, What};
use tokio::sync::watch;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tonic::{Code, Status};

use super::follow::chain;
use super::member::{MemberSettings, Signals};
use super::opening::{ANSWER_TIMEOUT, GRANT_TIMEOUT, Opened, Opening};
use super::placement::Placement;

/// Whatever a control node says.
const BEAT_MS_MIN: u32 = 20;

/// Before another control node is asked: half of it and up to as much again.
const PAUSE: Duration = Duration::from_millis(200);

/// Before the next attempt of a node that was refused, which a person has to mend.
const REFUSED_PAUSE: Duration = Duration::from_secs(5);

/// Says that the node is there, until it leaves.
pub(super) struct Holder {
    settings: MemberSettings,
    signals: Arc<Signals>,
    placement: watch::Receiver<Arc<Placement>>,
    load: Box<dyn Fn() -> Load + Send + Sync>,
}

/// Why a stream was given up.
#[derive(Debug, thiserror::Error)]
pub(super) enum LeaseError {
    #[error("cannot connect")]
    Connect(#[from] tonic::transport::Error),
    #[error("{:?}: {}", _0.code(), _0.message())]
    Status(#[from] Status),
    #[error("it did not answer within {ANSWER_TIMEOUT:?}")]
    Mute,
    #[error("it granted nothing within {GRANT_TIMEOUT:?}")]
    Silent,
    #[error("it heard no beat for {0:?}")]
    Unheard(Duration),
    #[error("it ended")]
    Ended,
    #[error("{0}")]
    Refused(String),
}

impl Holder {
    pub(super) fn new(
        settings: MemberSettings,
        signals: Arc<Signals>,
        placement: watch::Receiver<Arc<Placement>>,
        load: Box<dyn Fn() -> Load + Send + Sync>,
    ) -> Self {
        Self { settings, signals, placement, load }
    }

    /// Returns once the node has left.
    pub(super) async fn run(self) {
        let mut opening = Opening::new(self.settings.clone());
        let leaving = self.signals.leaving.clone();
        loop {
            let error = match opening.open().await {
                Err(error) => error,
                Ok(opened) => {
                    let at = opened.at;
                    match self.hold(opened).await {
                        Ok(()) => return,
                        Err(error) => {
                            let address = &self.settings.controls[at];
                            tracing::info!(%address, error = %chain(&error), "the lease ended");
                            opening.failed(at);
                            error
                        }
                    }
                }
            };
            let pause = match &error {
                LeaseError::Refused(why) => {
                    tracing::error!(why, "the cluster refuses this node");
                    REFUSED_PAUSE
                }
                LeaseError::Connect(_)
                | LeaseError::Status(_)
                | LeaseError::Mute
                | LeaseError::Silent
                | LeaseError::Unheard(_)
                | LeaseError::Ended => {
                    tracing::info!(error = %chain(&error), "the lease is asked for again");
                    PAUSE
                }
            };
            metrics::gauge!("evergate_lease_held").set(0.0);
            if leaving.is_cancelled() {
                return;
            }
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64())).await;
        }
    }

    async fn hold(&self, opened: Opened) -> Result<(), LeaseError> {
        let Opened { at, say, mut answers, granted } = opened;
        let mut beat_ms = granted.beat_ms.max(BEAT_MS_MIN);
        metrics::gauge!("evergate_lease_held").set(1.0);
        tracing::info!(address = %self.settings.controls[at], beat_ms, "the lease is held");
        let mut beats = beats_every(beat_ms);
        let mut heard = Instant::now();
        let (mut has_left, mut is_ending) = (false, false);
        let mut rebalanced = self.signals.rebalanced.subscribe();
        loop {
            tokio::select! {
                biased;
                answer = answers.message() => match answer {
                    Ok(Some(answer)) => {
                        heard = Instant::now();
                        let now_ms = answer.beat_ms.max(BEAT_MS_MIN);
                        if now_ms != beat_ms {
                            beat_ms = now_ms;
                            beats = beats_every(beat_ms);
                        }
                    }
                    Ok(None) if has_left => return Ok(()),
                    Ok(None) => return Err(LeaseError::Ended),
                    Err(status) => return Err(status.into()),
                },
                () = self.signals.leaving.cancelled(), if !has_left => {
                    has_left = true;
                    say.send(message(What::Goodbye(Goodbye {}))).await.map_err(|_| LeaseError::Ended)?;
                }
                () = self.signals.ending.cancelled(), if !is_ending => {
                    is_ending = true;
                    say.send(message(What::Ending(Ending {}))).await.map_err(|_| LeaseError::Ended)?;
                }
                () = self.signals.drained.notified() => {
                    say.send(message(What::Drained(Drained {}))).await.map_err(|_| LeaseError::Ended)?;
                }
                Ok(()) = rebalanced.changed(), if !has_left => {
                    let plan = *rebalanced.borrow_and_update();
                    say.send(message(What::Rebalanced(Rebalanced { plan }))).await.map_err(|_| LeaseError::Ended)?;
                }
                // A control node that stands still holds no lease: whoever waited for the connection to break
                // would be taken for lost before.
                () = tokio::time::sleep_until(heard + silence_max(beat_ms)), if !has_left => {
                    return Err(LeaseError::Unheard(silence_max(beat_ms)));
                }
                _ = beats.tick(), if !has_left => {
                    // What finds no place is no loss: those before it say the same.
                    let _ = say.try_send(message(What::Beat(self.beat())));
                }
            }
        }
    }
}

impl Holder {
    fn beat(&self) -> Beat {
        let Load { connections, arrivals_per_second } = (self.load)();
        let placement = Arc::clone(&self.placement.borrow());
        let (ring_version, ring_digest) =
            placement.rings_in_use().map_or((0, 0), |rings| (rings.version(), rings.digest().get()));
        Beat { connections, arrivals_per_second, ring_version, ring_digest }
    }
}

/// Whether a person has to mend what a control node says.
pub(super) fn judged(status: Status) -> LeaseError {
    let needs_a_person = matches!(
        status.code(),
        Code::FailedPrecondition | Code::InvalidArgument | Code::Unauthenticated | Code::PermissionDenied
    );
    if needs_a_person { LeaseError::Refused(status.message().to_owned()) } else { LeaseError::Status(status) }
}

fn beats_every(beat_ms: u32) -> Interval {
    let mut beats = tokio::time::interval(Duration::from_millis(beat_ms.into()));
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beats
}

/// A lease lasts ten beats, and nearly eight of them pass until a node is lost: in the rest another control
/// node has to be found.
fn silence_max(beat_ms: u32) -> Duration {
    Duration::from_millis(beat_ms.into()) * 3
}

fn message(what: What) -> proto::LeaseRequest {
    proto::LeaseRequest { what: Some(what) }
}
