//! Follows the view.

use std::sync::Arc;
use std::time::Duration;

use evergate_domain::NodeName;
use evergate_domain::cluster::{DeltaError, Load, View};
use evergate_proto::control::v1 as proto;
use proto::watch_response::What;
use tokio::sync::watch;
use tokio::time::Instant;
use tonic::Status;

use super::connect::connect;
use super::member::MemberSettings;
use super::placement::Placement;
use crate::{DecodeError, decode_delta, decode_view};

/// A control node that says nothing for so long is gone: it has something to say twice a second.
const SILENCE_MAX: Duration = Duration::from_secs(2);

/// A control node that knows no leader for so long may be cut off: another one is asked.
const LEADERLESS_MAX: Duration = Duration::from_secs(3);

/// Before another control node is asked: half of it and up to as much again, so that not all come at once.
const PAUSE: Duration = Duration::from_millis(200);

/// Keeps a placement up to date, for ever.
pub(super) struct Follower {
    settings: MemberSettings,
    told: watch::Sender<Arc<Placement>>,
    placement: Placement,
    /// What is here does not lead on: all of it is asked for.
    wants_whole: bool,
}

/// Why a stream was given up. None of it needs anybody: another control node is asked.
#[derive(Debug, thiserror::Error)]
enum FollowError {
    #[error("cannot connect")]
    Connect(#[from] tonic::transport::Error),
    #[error("{:?}: {}", _0.code(), _0.message())]
    Status(#[from] Status),
    #[error("nothing was said for {SILENCE_MAX:?}")]
    Silent,
    #[error("it ended")]
    Ended,
    #[error("it has known no leader for {LEADERLESS_MAX:?}")]
    Leaderless,
    #[error(transparent)]
    Malformed(#[from] DecodeError),
    #[error(transparent)]
    Delta(#[from] DeltaError),
}

impl Follower {
    pub(super) fn new(settings: MemberSettings, told: watch::Sender<Arc<Placement>>) -> Self {
        Self { settings, told, placement: Placement::default(), wants_whole: false }
    }

    pub(super) async fn run(mut self) {
        let controls = self.settings.controls.len();
        let mut at = fastrand::usize(..controls);
        loop {
            let Err(error) = self.follow(at).await;
            let address = &self.settings.controls[at];
            tracing::info!(%address, error = %chain(&error), "the view is followed at another control node");
            match error {
                FollowError::Malformed(_) | FollowError::Delta(_) => self.wants_whole = true,
                FollowError::Connect(_)
                | FollowError::Status(_)
                | FollowError::Silent
                | FollowError::Ended
                | FollowError::Leaderless => {}
            }
            at = (at + 1) % controls;
            tokio::time::sleep(PAUSE.mul_f64(0.5 + fastrand::f64())).await;
        }
    }

    async fn follow(&mut self, at: usize) -> Result<std::convert::Infallible, FollowError> {
        let mut client = connect(&self.settings.controls[at], self.settings.tls.as_ref()).await?;
        let (version, digest) = match self.wants_whole {
            true => (0, 0),
            false => (self.placement.view.version(), self.placement.view.digest().get()),
        };
        let request = proto::WatchRequest {
            cluster: self.settings.cluster.clone(),
            node: self.settings.node.name.to_string(),
            version,
            digest,
        };
        let asked = tokio::time::timeout(SILENCE_MAX, client.watch(request)).await;
        let mut messages = asked.map_err(|_| FollowError::Silent)??.into_inner();
        let mut led = Instant::now();
        loop {
            let message = tokio::time::timeout(SILENCE_MAX, messages.message()).await;
            let message = message.map_err(|_| FollowError::Silent)??.ok_or(FollowError::Ended)?;
            // A message of a kind that is not known here is a newer binary's, and says nothing.
            match message.what {
                Some(What::View(view)) => {
                    self.take(decode_view(&view)?);
                    self.wants_whole = false;
                }
                Some(What::Delta(delta)) => self.take(self.placement.view.follow(&decode_delta(&delta)?)?),
                Some(What::Loads(loads)) => self.take_loads(loads),
                Some(What::Alive(alive)) if alive.has_leader => {
                    led = Instant::now();
                    self.placement.heard = Some(led);
                    self.tell();
                }
                Some(What::Alive(_)) if led.elapsed() >= LEADERLESS_MAX => {
                    return Err(FollowError::Leaderless);
                }
                Some(What::Alive(_)) | None => {}
            }
        }
    }

    fn take(&mut self, view: View) {
        self.placement.take(view);
        self.placement.heard = Some(Instant::now());
        self.tell();
    }

    fn take_loads(&mut self, loads: proto::Loads) {
        let known = loads.loads.into_iter().filter_map(|load| {
            let (connections, arrivals_per_second) = (load.connections, load.arrivals_per_second);
            Some((NodeName::new(&load.node).ok()?, Load { connections, arrivals_per_second }))
        });
        self.placement.loads = known.collect();
        self.tell();
    }

    fn tell(&self) {
        self.told.send_replace(Arc::new(self.placement.clone()));
    }
}

/// An error with its sources: a transport's own words say little.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
