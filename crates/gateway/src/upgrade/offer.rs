//! The running process's side: it waits for a successor and hands over its listeners.

use std::os::fd::AsFd as _;
use std::path::Path;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tracing::{info, warn};

use super::listeners::Listeners;
use super::message::{FromPredecessor, FromSuccessor, judge};
use super::place::{Place, PlaceError};
use super::wire::{Wire, WireError};

/// How long a successor may take to say who it is, or to take an answer.
const WORD_MAX: Duration = Duration::from_secs(5);

/// How long a successor may take to start.
const START_MAX: Duration = Duration::from_secs(60);

/// A rest after the system had no descriptor for a successor.
const REST: Duration = Duration::from_millis(100);

/// The listeners of this process, for whoever comes and proves to be its successor. Holds second handles
/// on them: drop it before they are to be closed.
#[derive(Debug)]
pub(crate) struct Offer {
    listener: UnixListener,
    listeners: Listeners,
    log: String,
    /// How long a successor may take to start.
    start_max: Duration,
    _place: Place,
}

/// Who has taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Successor {
    pub pid: u32,
    pub version: String,
}

/// Why nobody took over.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Wire(#[from] WireError),
    #[error("{0}")]
    Refused(String),
}

impl Offer {
    /// Waits at `path` from here on.
    pub(crate) fn at(path: &Path, listeners: Listeners, log: String) -> Result<Self, PlaceError> {
        let (place, listener) = Place::bind(path)?;
        Ok(Self { listener, listeners, log, start_max: START_MAX, _place: place })
    }

    /// Waits until a successor serves. One that fails before that is named in the log, and changes
    /// nothing. They come one at a time; the next one waits until this one is done.
    pub(crate) async fn taken(&mut self) -> Successor {
        loop {
            let stream = match self.listener.accept().await {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "a successor cannot be heard");
                    tokio::time::sleep(REST).await;
                    continue;
                }
            };
            match self.hand_over(stream).await {
                Ok(successor) => return successor,
                Err(why) => warn!(%why, "no successor took over; this process goes on"),
            }
        }
    }

    async fn hand_over(&self, stream: UnixStream) -> Result<Successor, Failure> {
        let wire = Wire::over(stream)?;
        let handed = self.converse(&wire).await;
        if let Err(failure) = &handed {
            // So that a successor which still lives knows that this process does, too.
            let refused = FromPredecessor::Refused { why: failure.to_string() };
            let _ = wire.say(&refused, &[], WORD_MAX).await;
        }
        handed
    }

    async fn converse(&self, wire: &Wire) -> Result<Successor, Failure> {
        let successor = match wire.hear(WORD_MAX).await?.0 {
            FromSuccessor::Hello { protocol, version, pid, log } => {
                judge(protocol, &log, &self.log).map_err(|why| Failure::Refused(why.to_string()))?;
                Successor { pid, version }
            }
            FromSuccessor::Ready => return Err(WireError::Garbled.into()),
        };
        let (names, descriptors): (Vec<String>, Vec<_>) =
            self.listeners.named().map(|(name, listener)| (name.to_owned(), listener.as_fd())).unzip();
        wire.say(&FromPredecessor::Listeners { names }, &descriptors, WORD_MAX).await?;
        info!(pid = successor.pid, version = successor.version, "a successor is starting");
        match wire.hear(self.start_max).await?.0 {
            FromSuccessor::Ready => {}
            FromSuccessor::Hello { .. } => return Err(WireError::Garbled.into()),
        }
        wire.say(&FromPredecessor::Draining, &[], WORD_MAX).await?;
        Ok(successor)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::net::TcpListener;

    use super::super::message::PROTOCOL;
    use super::super::predecessor::{Confirmed, Predecessor};
    use super::*;

    const LOG: &str = "redis://h:1";

    fn offer(folder: &tempfile::TempDir) -> Offer {
        let http = Some(TcpListener::bind("127.0.0.1:0").unwrap());
        let listeners = Listeners { http, ..Listeners::default() };
        Offer::at(&folder.path().join("u"), listeners, LOG.to_owned()).unwrap()
    }

    async fn found(folder: &tempfile::TempDir) -> (Predecessor, Listeners) {
        Predecessor::find(&folder.path().join("u"), LOG).await.unwrap().unwrap()
    }

    #[tokio::test]
    async fn both_agree_and_the_listener_is_the_same() {
        let folder = tempfile::tempdir().unwrap();
        let mut offer = offer(&folder);
        let address = offer.listeners.http.as_ref().unwrap().local_addr().unwrap();
        let succeeding = async {
            let (predecessor, listeners) = found(&folder).await;
            assert_eq!(listeners.http.unwrap().local_addr().unwrap(), address);
            assert!(listeners.grpc.is_none() && listeners.admin.is_none());
            predecessor.confirm().await.unwrap()
        };
        let (successor, confirmed) = tokio::join!(offer.taken(), succeeding);
        assert_eq!(successor.pid, std::process::id());
        assert_eq!(confirmed, Confirmed::Draining);
    }

    #[tokio::test]
    async fn a_successor_that_is_too_late_is_told_so() {
        let folder = tempfile::tempdir().unwrap();
        let mut offer = Offer { start_max: Duration::from_millis(10), ..offer(&folder) };
        let idling = async {
            let wire = Wire::over(UnixStream::connect(folder.path().join("u")).await.unwrap()).unwrap();
            let version = String::new();
            let hello = FromSuccessor::Hello { protocol: PROTOCOL, version, pid: 1, log: LOG.to_owned() };
            wire.say(&hello, &[], WORD_MAX).await.unwrap();
            let (answer, sockets) = wire.hear::<FromPredecessor>(WORD_MAX).await.unwrap();
            assert_eq!(answer, FromPredecessor::Listeners { names: vec!["http".to_owned()] });
            assert_eq!(sockets.len(), 1);
            wire.hear::<FromPredecessor>(WORD_MAX).await.unwrap().0
        };
        let told = tokio::select! {
            successor = offer.taken() => panic!("{successor:?}"),
            told = idling => told,
        };
        let why = "the other process said nothing within 10ms".to_owned();
        assert_eq!(told, FromPredecessor::Refused { why });
    }

    #[tokio::test]
    async fn a_process_that_ends_meanwhile_leaves_its_successor_the_only_one() {
        let folder = tempfile::tempdir().unwrap();
        let mut offer = offer(&folder);
        let (predecessor, _listeners) = tokio::select! {
            successor = offer.taken() => panic!("{successor:?}"),
            found = found(&folder) => found,
        };
        drop(offer);
        assert_eq!(predecessor.confirm().await.unwrap(), Confirmed::Gone);
        assert!(!folder.path().join("u").exists());
    }

    #[tokio::test]
    async fn a_place_that_another_has_taken_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let old = offer(&folder);
        let new = offer(&folder);
        drop(old);
        assert!(folder.path().join("u").exists());
        drop(new);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
        assert!(Predecessor::find(&folder.path().join("u"), LOG).await.unwrap().is_none());
    }
}
